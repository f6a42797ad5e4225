"""Cells of the lab's own commands, and of simulated runs."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from experiments.documents import ExperimentDocument, InvalidDocument, Problem
from experiments.specs import CommandSpec


def command_spec(document: ExperimentDocument, levels: Mapping[str, Any]) -> CommandSpec:
    """Raises InvalidDocument."""
    assert document.command is not None
    texts = {factor: str(level) for factor, level in levels.items()}
    argv = tuple(_filled_in(part, texts) for part in document.command.argv)
    return CommandSpec(argv=argv, env=document.command.env, expected_files=document.command.expected_files)


def _filled_in(part: str, texts: Mapping[str, str]) -> str:
    """`{factor}` replaced by its level; nothing else of Python's format language, which reaches far."""
    known = f"Use {{factor}} for one of {sorted(texts)}, and {{{{ and }}}} for braces."
    try:
        pieces = list(Formatter().parse(part))
    except ValueError as error:
        raise InvalidDocument([Problem("command.argv", f"{part!r:.200}: {error}.", known)]) from error
    for _, name, spec, conversion in pieces:
        if name is not None and (name not in texts or spec or conversion):
            raise InvalidDocument([Problem("command.argv", f"It names what is no factor: {name!r}.", known)])
    return "".join(literal + (texts[name] if name is not None else "") for literal, name, _, _ in pieces)
