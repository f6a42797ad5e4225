"""The experiment document: one schema for files, API and admin. Unknown keys are errors, with the nearest known one."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_INTEGER = 2**31 - 1  # what a column of every database holds
RESERVED_NAMES = frozenset({"plan"})  # /api/v1/experiments/plan/ is a call

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
PositiveInt = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
NaturalInt = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Level = str | int | float | bool


@dataclass(frozen=True)
class Problem:
    """What is wrong with a document: where, what, and what to do."""

    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} {self.remedy}".strip()


class InvalidDocument(Exception):
    """The document cannot be planned; nothing was stored."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DatasetFile(_Strict):
    path: str
    format: Literal["json_splits", "json", "jsonl"] = "json_splits"
    input_column: str = "input"
    output_column: str = "output"
    system_prompt: str | None = None


class GeneratorCall(BaseModel):
    """A data set that labmgr makes; the other keys are the generator's own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    generator: str


class TrainingSettings(_Strict):
    """What a fine-tune can be told. Defaults are a template, not a recommendation."""

    lora_rank: PositiveInt = 64
    lora_alpha: PositiveInt | None = Field(None, description="Twice the rank, if not given.")
    batch_size: PositiveInt = 4
    gradient_accumulation_steps: PositiveInt = 1
    epochs: PositiveInt = 1
    max_steps_per_epoch: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-4
    max_seq_len: PositiveInt = 512
    packed: bool = False
    seed: NaturalInt = 0
    recipe: str = "lora_finetune_single_device"
    torchtune: dict[str, Any] = Field(
        default_factory=dict, description="Dotted keys of the recipe's configuration."
    )


class Evaluation(_Strict):
    split: str = "test"
    scorers: Annotated[tuple[Literal["exact_match"], ...], Field(min_length=1)] = ("exact_match",)
    max_tokens: PositiveInt = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    limit: PositiveInt | None = None


class Limits(_Strict):
    timeout_seconds: PositiveInt = 24 * 3600


class Needs(_Strict):
    """What each run takes of a node."""

    devices: PositiveInt = 1
    device_memory_mib: PositiveInt | None = Field(
        None, description="A share of each device; else whole devices."
    )
    host_memory_mib: NaturalInt = 0
    cpu_threads: PositiveInt = 1


class Command(_Strict):
    """A lab's own program. `{factor}` in an argument is replaced by the cell's level."""

    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    env: dict[str, str] = Field(default_factory=dict)
    expected_files: tuple[str, ...] = ()


class Simulated(_Strict):
    duration_seconds: Annotated[float, Field(gt=0)]


class ExperimentDocument(_Strict):
    name: Name
    question: str = ""
    dataset: GeneratorCall | DatasetFile | str | None = None
    factors: dict[str, Annotated[tuple[Level, ...], Field(min_length=1)]] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)
    control: bool = False
    evaluation: Evaluation | None = None
    command: Command | None = None
    simulated: Simulated | None = None
    resources: Needs = Field(default_factory=Needs)
    limits: Limits = Field(default_factory=Limits)
    max_parallel: PositiveInt = 2
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    evaluation_hold_seconds: NaturalInt = 900
    on_node_lost: Literal["wait", "requeue"] = "wait"

    @model_validator(mode="after")
    def _is_about_one_thing(self) -> "ExperimentDocument":
        if self.name in RESERVED_NAMES:
            raise ValueError(f"the name {self.name!r} is reserved")
        given = [name for name in ("dataset", "command", "simulated") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of dataset, command and simulated must be given, not {given or 'none'}"
            )
        if self.control and self.evaluation is None:
            raise ValueError(
                "a control is the base model evaluated as it is, so control: true needs an evaluation"
            )
        return self


def load(text: str) -> dict[str, Any]:
    """The mapping in a YAML or JSON text. Raises InvalidDocument."""
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        raise _refused("", f"The document is larger than {MAX_DOCUMENT_BYTES} bytes.", "Shorten it.")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _refused("", f"It is not YAML: {error}.", "Correct the line named.") from error
    except RecursionError as error:
        raise _refused("", "It is nested too deeply.", "Flatten it.") from error
    if not isinstance(data, dict):
        raise _refused("", "It is not a mapping of keys to values.", "Begin with `name: ...`.")
    return storable(data)


def storable(data: dict[str, Any]) -> dict[str, Any]:
    """YAML knows anchors that grow without end, dates, infinities and NULs; the database's JSON does not.

    Returns the mapping unchanged. Raises InvalidDocument.
    """
    size = 0
    for node in _nodes(data):
        size += len(node) if isinstance(node, str) else 1
        if size > MAX_DOCUMENT_BYTES:
            raise _refused("", "It is too large once its anchors are written out.", "Shorten it.")
        if isinstance(node, str) and "\0" in node:
            raise _refused("", "It contains a NUL character.", "Remove it.")
    try:
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        message = f"It has a value that JSON cannot hold: {error}."
        raise _refused("", message, "Write it as text or a number.") from error
    return data


def parse(data: Mapping[str, Any]) -> ExperimentDocument:
    """Check a mapping against the schema. Raises InvalidDocument with every problem found."""
    try:
        document = ExperimentDocument.model_validate(dict(data))
    except ValidationError as error:
        raise InvalidDocument([_problem(detail, ExperimentDocument) for detail in error.errors()]) from error
    if document.dataset is not None:
        _check_training_keys(document)
    return document


def training_settings(document: ExperimentDocument, levels: Mapping[str, Any]) -> TrainingSettings:
    """The settings of one cell: fixed ones, then the levels of its factors. Raises InvalidDocument."""
    merged = {key: value for key, value in {**document.fixed, **levels}.items() if key != "model"}
    try:
        return TrainingSettings.model_validate(merged)
    except ValidationError as error:
        problems = [_problem(detail, TrainingSettings, prefix="fixed") for detail in error.errors()]
        raise InvalidDocument(problems) from error


def nearest(word: str, known: list[str]) -> str:
    """A remedy that names the nearest known word, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."


def _check_training_keys(document: ExperimentDocument) -> None:
    known = [*TrainingSettings.model_fields, "model"]
    problems = [
        Problem(f"{place}.{key}", f"Unknown setting {key!r}.", nearest(key, known))
        for place, keys in (("factors", document.factors), ("fixed", document.fixed))
        for key in keys
        if key not in known
    ]
    doubled = sorted(set(document.factors) & set(document.fixed))
    problems += [
        Problem(f"fixed.{key}", f"{key!r} is a factor, too.", "Keep one of the two.") for key in doubled
    ]
    if "model" not in {*document.factors, *document.fixed}:
        problems.append(Problem("factors.model", "No model is named.", "Add factors: {model: [...]}."))
    if problems:
        raise InvalidDocument(problems)


def _problem(detail: Any, schema: type[BaseModel], prefix: str = "") -> Problem:
    location = [str(part) for part in detail["loc"]]
    path = ".".join([prefix, *location] if prefix else location)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(schema, location[:-1])
        return Problem(path, f"Unknown key {location[-1]!r}.", nearest(location[-1], known))
    return Problem(path, f"{detail['msg']} (given: {detail['input']!r:.100}).", "Correct the value.")


def _known_keys(schema: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        field = schema.model_fields.get(part)
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not models:
            continue
        schema = models[0]
    return list(schema.model_fields)


def _nodes(value: Any, depth: int = 0) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise _refused("", "It is nested too deeply, or an anchor contains itself.", "Flatten it.")
    yield value
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _nodes(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item, depth + 1)


def _refused(path: str, message: str, remedy: str) -> InvalidDocument:
    return InvalidDocument([Problem(path, message, remedy)])
