"""Did a fine-tune or a probe succeed? torchtune exits with 0 in cases where it trained nothing, so its files decide."""

import json
from dataclasses import replace
from pathlib import Path

from experiments import kept
from experiments.parsers import torchtune as parser
from experiments.specs import FinetuneSpec, ProbeSpec
from experiments.states import FinishReason
from scheduler.launchers.base import Ending
from scheduler.paths import JobPaths
from scheduler.programs import checkpoints
from scheduler.programs.base import CarriedRun, Verdict, ended_by_us, failed, killed, read_tail, succeeded
from scheduler.programs.torchtune_measurements import Finished, final_loss, measurements, steps_per_epoch

_MEASURED_ENDINGS = (
    Ending.EXITED,
    Ending.TIMED_OUT,
    Ending.CANCELLED,
    Ending.NODE_LOST,
)  # of the others nobody knows the times


def verdict(run: CarriedRun, finished: Finished) -> Verdict:
    """On a run whose tree is gone. Where it succeeded, only the checkpoints that its spec keeps are left."""
    failure = ended_by_us(run, finished.record) or _failure(finished)
    if failure is not None:
        measured = measurements(finished) if finished.record.ending in _MEASURED_ENDINGS else ()
        return replace(failure, measurements=measured)
    return _success(run, finished)


def lack(run: CarriedRun, spec: FinetuneSpec, paths: JobPaths) -> str:
    """What a run that succeeded has not any more, in a sentence; the epoch that was kept is the one that counts."""
    metrics = parser.read(paths.output)
    if metrics is None or not metrics.steps:
        return f"{paths.output} has no metrics file with steps."
    if steps := _lack_of_steps(spec, metrics):
        return steps
    if isinstance(run.spec, ProbeSpec):
        return ""
    return _lack_of_files(spec, paths.output / f"epoch_{_kept_epoch(spec, paths, metrics)}")


def _failure(finished: Finished) -> Verdict | None:
    record, metrics = finished.record, finished.metrics
    if record.signal is not None or record.exit_code != 0:
        return _crash(finished)
    if metrics is None or not metrics.steps:
        return failed(FinishReason.TRAINED_NOTHING, _divergence(metrics) if metrics else "")
    missing = _lack_of_steps(finished.spec, metrics)
    return failed(FinishReason.RESULT_INCOMPLETE, missing) if missing else None


def _crash(finished: Finished) -> Verdict:
    record = finished.record
    found = parser.classify_error(read_tail(finished.paths.log))
    if found and (record.signal is None or found[0] is FinishReason.OUT_OF_MEMORY):
        return failed(*found)
    return killed(record) or failed(FinishReason.EXIT_CODE, f"Exit code {record.exit_code}.")


def _success(run: CarriedRun, finished: Finished) -> Verdict:
    """Unless the result is not there."""
    if isinstance(run.spec, ProbeSpec):
        return _of_probe(finished)
    spec, directory = finished.spec, finished.paths.directory
    assert finished.metrics is not None  # else it failed
    epoch = _kept_epoch(spec, finished.paths, finished.metrics)
    if missing := _lack_of_files(spec, finished.paths.output / f"epoch_{epoch}"):
        return failed(FinishReason.RESULT_INCOMPLETE, missing, measurements(finished))
    noted = kept.read(directory, epochs=spec.epochs) or kept.write(directory, epoch=epoch)
    checkpoints.prune(directory, keep=spec.keep, kept_epoch=noted.epoch)
    whole = replace(finished, succeeded=True, checkpoint_mib=noted.checkpoint_mib)
    return succeeded((*measurements(whole), final_loss(finished.metrics)))


def _of_probe(finished: Finished) -> Verdict:
    """Nothing builds on what it trained, so nothing of it stays."""
    directory = finished.paths.directory
    noted = kept.read(directory, epochs=1) or kept.write(directory, epoch=0)
    checkpoints.prune(directory, keep="none", kept_epoch=noted.epoch)
    return succeeded(measurements(replace(finished, succeeded=True, checkpoint_mib=noted.checkpoint_mib)))


def _kept_epoch(spec: FinetuneSpec, paths: JobPaths, metrics: parser.Metrics) -> int:
    written = kept.read(paths.directory, epochs=spec.epochs)
    if written is not None:
        return written.epoch
    losses = checkpoints.losses_at_ends(metrics.all_validations, steps_per_epoch(spec, metrics))
    return checkpoints.choose_epoch(keep=spec.keep, epochs=spec.epochs, val_losses=losses)


def _lack_of_steps(spec: FinetuneSpec, metrics: parser.Metrics) -> str:
    expected = spec.epochs * spec.steps_per_epoch if spec.steps_per_epoch else None
    last = metrics.steps[-1].step
    if metrics.diverged_at is not None:
        return _divergence(metrics)
    if expected is not None and last != expected:
        return f"{last} of {expected} steps are in its metrics file."
    taken = len(metrics.earlier_steps)
    if taken and metrics.steps[0].step != taken + 1:
        return f"It took over {taken} steps, and its own begin with step {metrics.steps[0].step}."
    return ""


def _divergence(metrics: parser.Metrics) -> str:
    if metrics.diverged_at is None:
        return ""
    return f"Its loss is no number from step {metrics.diverged_at} on: lower the learning rate."


def _lack_of_files(spec: FinetuneSpec, folder: Path) -> str:
    wanted = _whole_weights(folder) if spec.method == "full" else kept.ADAPTER_FILES
    missing = [name for name in wanted if not (folder / name).is_file()]
    return f"{folder} lacks {', '.join(missing)}." if missing else ""


def _whole_weights(folder: Path) -> list[str]:
    """What vLLM loads: the configuration, and every file of the index that torchtune writes beside the weights."""
    index = "model.safetensors.index.json"
    try:
        named = set(json.loads((folder / index).read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ["config.json", index]
    return ["config.json", *sorted(named)]
