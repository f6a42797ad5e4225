"""Adapters that are there already, for cells that only evaluate one."""

import json
from pathlib import Path

from django.conf import settings

from experiments import kept
from experiments.documents import Problem
from experiments.layout import Adapter
from experiments.models import Run
from experiments.specs import FinetuneSpec
from experiments.states import RunKind, RunState
from experiments.verification import VerificationError, resolve_under

MAX_CONFIG_BYTES = 1024 * 1024
MAX_RANK = 65_536


class AdapterNotFound(Exception):
    """An adapter that a document names cannot be used."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def find_adapter(named: str) -> Adapter:
    """An adapter by the name or id of the fine-tune that made it, or by its folder. Raises AdapterNotFound."""
    folder = _of_run(named) or _under_roots(named)
    missing = [
        name for name in kept.ADAPTER_FILES if not (folder / name).is_file() or (folder / name).is_symlink()
    ]
    if missing:
        raise _refused(
            f"{folder} lacks {', '.join(missing)}.", "Name a folder in PEFT's layout, without links."
        )
    return Adapter(path=str(folder), rank=_rank(folder))


def _of_run(named: str) -> Path | None:
    run = _run_named(named)
    if run is None:
        return None
    spec = run.parsed_spec
    if not isinstance(spec, FinetuneSpec) or spec.method == "full":
        raise _refused(
            f"Run {named!r} is a full fine-tune and made no adapter.", "Name one that made an adapter."
        )
    return kept.result_directory(Path(run.directory), epochs=spec.epochs)


def _run_named(named: str) -> Run | None:
    attempts = Run.every.filter(kind=RunKind.FINETUNE, state=RunState.SUCCEEDED).exclude(directory="")
    if named.isdigit() and len(named) < 19:
        return attempts.filter(pk=int(named)).first()
    runs = attempts.current()
    experiment, _, name = named.partition("/")
    found = list(runs.filter(name=named)[:2]) or list(
        runs.filter(cell__experiment__name=experiment, name=name)[:2]
    )
    if len(found) > 1:
        raise _refused(
            f"Several experiments have a fine-tune {named!r}.", f"Name it EXPERIMENT/{named}, or by its id."
        )
    return next(iter(found), None)


def _under_roots(named: str) -> Path:
    try:
        return resolve_under(named, [settings.RUN_ROOT, *settings.MODEL_ROOTS])
    except VerificationError as error:
        remedy = "Name a fine-tune that has succeeded, or a folder under the run root or a model root."
        raise _refused(error.message, remedy) from error


def _rank(folder: Path) -> int:
    config = folder / "adapter_config.json"
    try:
        if config.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        rank = json.loads(config.read_text())["r"]
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 < rank <= MAX_RANK:
            raise ValueError(f"r is {rank!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(
            f"{config} does not tell the adapter's rank: {error!r}.", "Save the adapter again."
        ) from error
    return rank


def _refused(message: str, remedy: str) -> AdapterNotFound:
    return AdapterNotFound(Problem("cells.adapter", message, remedy))
