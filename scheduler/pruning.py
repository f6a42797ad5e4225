"""Checkpoints of finished fine-tunes that may go, to make room."""

from pathlib import Path

from experiments import kept
from experiments.models import Experiment, Run
from experiments.specs import FinetuneSpec
from experiments.states import RunKind, RunState
from scheduler.programs import checkpoints
from scheduler.programs.checkpoints import Keep

_MIB = 1024 * 1024


class Busy(Exception):
    """A run of the experiment may still read what would be removed."""


def prune(*, experiment: Experiment, keep: Keep) -> float:
    """Remove what `keep` does not keep of every succeeded fine-tune; returns the MiB that it freed. Raises Busy.

    The epoch that a run kept, and that its evaluation read, is the one that stays.
    """
    runs = Run.objects.filter(cell__experiment=experiment)
    if not experiment.is_draft and runs.unfinished().exists():
        raise Busy(f"Experiment {experiment.name!r} has runs that have not ended; wait, or cancel it.")
    attempts = Run.every.filter(cell__experiment=experiment)
    succeeded = attempts.filter(kind=RunKind.FINETUNE, state=RunState.SUCCEEDED).exclude(directory="")
    return sum(_pruned(run, keep) for run in succeeded)


def _pruned(run: Run, keep: Keep) -> float:
    spec, directory = run.parsed_spec, Path(run.directory)
    assert isinstance(spec, FinetuneSpec)  # of the runs that were chosen
    noted = kept.read(directory, epochs=spec.epochs)
    if noted is None:
        return 0.0
    before = _size_mib(directory)
    checkpoints.prune(directory, keep=keep, kept_epoch=noted.epoch)
    return before - _size_mib(directory)


def _size_mib(directory: Path) -> float:
    files = (path for path in (directory / "output").rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.lstat().st_size for path in files) / _MIB
