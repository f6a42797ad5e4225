"""The conditions that the sources of a fact tell: its log, and the configuration that lies beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.parsers import torchtune_settings
from experiments.parsers.torchtune_log import Segment
from experiments.parsers.torchtune_settings import BadConfiguration, Settings
from experiments.prior.facts import Start
from experiments.prior.files import Found, chunks

_NOTHING = Settings({})


@dataclass
class Told:
    """What is told of one start, and what is wrong with how it is told."""

    conditions: dict[str, Any]
    validates: bool = False  # the time of its steps has validation in it
    problems: list[str] = field(default_factory=list)


def told_of(start: Start, found: Found) -> Told:
    """What a log printed of itself comes first; a file beside it that differs from it is of another run."""
    told = Told({})
    printed = _printed(start.segment, found, told)
    beside = _beside(found.configuration, start.segment, told)
    if differing := sorted(_differing(printed.conditions, beside.conditions)):
        names = ", ".join(differing)
        told.problems.append(
            f"{found.configuration} is not used for {found.path}, which was printed with another {names}."
        )
        beside = _NOTHING
    told.conditions = {**beside.conditions, **printed.conditions}
    told.validates = printed.validates or beside.validates
    told.conditions |= _of_steps(start.segment, told)
    return told


def _printed(segment: Segment | None, found: Found, told: Told) -> Settings:
    if segment is None or not segment.configuration:
        return _NOTHING
    try:
        return torchtune_settings.read(segment.configuration, recipe_class=segment.recipe_class)
    except BadConfiguration as error:
        where = f"{found.path} line {segment.configuration_line}"
        told.problems.append(f"The configuration printed in {where} says nothing: {error}.")
        return _NOTHING


def _beside(file: Path | None, segment: Segment | None, told: Told) -> Settings:
    if file is None:
        return _NOTHING
    try:
        text = _text(file)
        return torchtune_settings.read(text, recipe_class=segment.recipe_class if segment else "")
    except (OSError, BadConfiguration) as error:
        told.problems.append(f"{file} says nothing: {error}.")
        return _NOTHING


def _text(file: Path) -> str:
    held = b""
    for chunk in chunks(file):
        held += chunk
        if len(held) > torchtune_settings.MAX_CONFIG_BYTES:
            raise BadConfiguration(f"it has more than {torchtune_settings.MAX_CONFIG_BYTES:,} bytes")
    return held.decode("utf-8", "replace")


def _differing(printed: Mapping[str, Any], beside: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in beside.items() if name in printed and printed[name] != value)


def _of_steps(segment: Segment | None, told: Told) -> dict[str, Any]:
    """A file's rows are what is trained on, unless they are packed, or some of them are another file's."""
    if segment is None:
        return {}
    steps = {"steps_per_epoch": segment.steps_per_epoch} if segment.steps_per_epoch else {}
    counts = segment.rows is not None and told.conditions.get("packed") is False and not told.validates
    return {**steps, **({"rows": segment.rows} if counts else {})}
