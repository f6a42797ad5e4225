"""Whether a fine-tune that was launched before may go on after a whole epoch of an earlier job, and what it is told.

Only a job that did the same counts: the same configuration but for its folders, the same model, data and versions.
What is whole of what it left is found out by the new job itself (runtimes/torchtune/takeover.py), which takes minutes
for large models.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments import torchtune_command
from experiments.beneath import open_beneath
from experiments.recipes import Recipe
from experiments.specs import FinetuneSpec
from scheduler.programs.base import PlacedJob
from scheduler.programs.reproduction import ENVIRONMENT

REQUEST = "resume.json"
RECORD = "resumed.json"  # in the output folder: what was taken over, or why nothing was
_MODULES = frozenset({"resuming.py", "takeover.py", "validation.py"})
_MAX_BYTES = 1024 * 1024
_MAX_TOLD = 1000


@dataclass(frozen=True, kw_only=True)
class Resumption:
    earlier: tuple[Path, ...] = ()  # directories of jobs that did the same, the newest first
    doubts: tuple[str, ...] = ()  # of those that are passed over

    @property
    def modules(self) -> frozenset[str]:
        return _MODULES if self.earlier else frozenset()

    def arguments(self, begins_anew: tuple[str, ...]) -> tuple[str, ...]:
        if not self.earlier:
            return begins_anew
        python = begins_anew[0]
        return (python, f"{torchtune_command.CODE}/resuming.py", "--config", torchtune_command.CONFIG)

    def files(self, job: PlacedJob, spec: FinetuneSpec) -> dict[Path, str]:
        if not self.earlier:
            record = {job.paths.output / RECORD: json.dumps({"source": None, "doubts": self.doubts})}
            return record if self.doubts else {}
        request = {
            "recipe": spec.recipe,
            "output": str(job.paths.output),
            "epochs": spec.epochs,
            "steps_per_epoch": spec.steps_per_epoch,
            "keep_all": spec.keep in ("all", "best"),
            "earlier": [str(directory) for directory in self.earlier],
            "doubts": list(self.doubts),
        }
        return {job.paths.directory / REQUEST: json.dumps(request, indent=1)}


def config_text(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False)


def resumption(*, job: PlacedJob, recipe: Recipe, config: Mapping[str, Any], environment: str) -> Resumption:
    """Nothing for a first launch, a probe, or a single epoch."""
    run = job.runs[0]
    if not isinstance(run.spec, FinetuneSpec) or run.spec.epochs < 2:
        return Resumption()
    if run.earlier_directories and (refusal := _refusal(run.spec, recipe)):
        return Resumption(doubts=(refusal,))
    doubts = {path: _difference(path, config, environment) for path in run.earlier_directories}
    return Resumption(
        earlier=tuple(path for path, doubt in doubts.items() if not doubt),
        doubts=tuple(f"{path.name}: {doubt}" for path, doubt in doubts.items() if doubt),
    )


def told(job: PlacedJob) -> str:
    """What became of it, for people; empty for a run that was launched once."""
    try:
        found = _read(job.paths.directory, job.paths.output / RECORD)
        doubts = " ".join(str(doubt) for doubt in found["doubts"])[:_MAX_TOLD]
        if found["source"] is None:
            return f"It was launched before and began anew. {doubts}".strip()
        count = int(found["epochs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    epochs = "1 whole epoch" if count == 1 else f"{count} whole epochs"
    return f"It went on after {epochs} of {Path(str(found['source'])).name}. {doubts}".strip()


def _refusal(spec: FinetuneSpec, recipe: Recipe) -> str:
    if recipe.is_own:
        return "What a lab's own recipe saves is not known."
    if recipe.devices == "many":
        return "A fine-tune on several devices is not gone on with."
    return "" if spec.steps_per_epoch else "Its steps an epoch are not known before it has run."


def _difference(directory: Path, config: Mapping[str, Any], environment: str) -> str:
    """Why what an earlier job left is of no use; empty where it did the same."""
    try:
        if _text(directory, directory / torchtune_command.CONFIG) != _as_in(directory, config):
            return "its configuration was another."
        before = _read(directory, directory / ENVIRONMENT)
    except (OSError, ValueError, RecursionError):
        return "it left no configuration that can be read."
    now = json.loads(environment)
    changed = [key for key in now if key != "python" and before.get(key) != now[key]]
    return f"it had other {' and '.join(changed)}." if changed else ""


def _as_in(directory: Path, config: Mapping[str, Any]) -> str:
    """The configuration as it is written for a job with this directory."""
    output = directory / "output"
    folders = {
        "output_dir": str(output),
        "checkpointer": {**config["checkpointer"], "output_dir": str(output)},
        "metric_logger": {**config["metric_logger"], "log_dir": str(output / "logs")},
    }
    return config_text({**config, **folders})


def _read(directory: Path, path: Path) -> dict[str, Any]:
    found = json.loads(_text(directory, path))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}.")
    return found


def _text(directory: Path, path: Path) -> str:
    """Of a job's own files, which may be anything."""
    with open_beneath(directory, path) as file:
        return file.read(_MAX_BYTES).decode("utf-8")
