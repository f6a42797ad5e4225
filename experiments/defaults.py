"""The lab's defaults: one documented file, experiments/defaults.yaml or the lab's own."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SHIPPED = Path(__file__).resolve().parent / "defaults.yaml"
MAX_FILE_BYTES = 64 * 1024

_PLAIN = ("lora_rank", "gradient_accumulation_steps", "learning_rate", "max_seq_len", "packed", "epochs")

_Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]


class BadDefaults(Exception):
    """The lab's file of defaults cannot be used; the message says why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BySize(_Strict):
    value: _Count
    below: Annotated[float, Field(gt=0)] | None = (
        None  # parameters of the model; None takes all that are left
    )


class Defaults(_Strict):
    lora_rank: _Count
    lora_alpha_over_rank: _Count
    gradient_accumulation_steps: _Count
    learning_rate: Annotated[float, Field(strict=True, gt=0, lt=1)]
    max_seq_len: _Count
    packed: Annotated[bool, Field(strict=True)]
    epochs: _Count
    train_fraction: Annotated[float, Field(gt=0, lt=1)]
    batch_size: Annotated[tuple[BySize, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _speaks_for_every_size(self) -> "Defaults":
        *bounds, last = [math.inf if size.below is None else size.below for size in self.batch_size]
        if last != math.inf or math.inf in bounds or bounds != sorted(bounds):
            raise ValueError(
                "`below` of batch_size has to grow from line to line, and the last line has none"
            )
        return self

    def settings(self, parameter_count: int | None) -> dict[str, Any]:
        """Of a fine-tune of a model with so many parameters; None for one whose size is not known."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return plain | {"batch_size": self._batch_size(parameter_count)}

    def _batch_size(self, parameter_count: int | None) -> int:
        if parameter_count is None:
            return self.batch_size[-1].value
        fitting = (size for size in self.batch_size if size.below is None or parameter_count < size.below)
        return next(fitting, self.batch_size[-1]).value


def load(file: Path = SHIPPED) -> Defaults:
    """Raises BadDefaults."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise BadDefaults(f"{file} is larger than {MAX_FILE_BYTES} bytes; shorten it.")
        return Defaults.model_validate(yaml.safe_load(file.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadDefaults(f"{file}, {where}: {first['msg']}; compare it with {SHIPPED}.") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadDefaults(f"{file} cannot be read: {error}.") from error


def used(said: Iterable[Mapping[str, Any]], taken: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence on the defaults that cells took. `said` is what the document says of each, `taken` what it has."""
    values: dict[str, list[Any]] = {}
    for told, settings in zip(said, taken, strict=True):
        for name, value in settings.items():
            if name not in told and value not in values.setdefault(name, []):
                values[name].append(value)
    parts = [f"{name} {' or '.join(map(str, found))}" for name, found in values.items() if found]
    return (
        [f"Not said, and taken from the template, which is not a recommendation: {', '.join(parts)}."]
        if parts
        else []
    )
