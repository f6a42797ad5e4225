"""What a fine-tune or a probe measured, whether it came to its end or not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.conditions import Metric
from experiments.parsers import torchtune as parser
from experiments.parsers.torchtune_times import Times, times
from experiments.specs import FinetuneSpec, Measurement
from scheduler.launchers.base import ExitRecord
from scheduler.paths import JobPaths
from scheduler.programs.base import read_head, usage

LAST_STEPS = 20  # the final loss is their mean
_MIB_A_GIB = 1024


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run whose process tree is gone, with what is known of it."""

    spec: FinetuneSpec
    paths: JobPaths
    record: ExitRecord
    metrics: parser.Metrics | None
    on_gpu: bool
    succeeded: bool = False
    checkpoint_mib: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this job ran from the beginning of the run to its end."""
        return self.succeeded and not (self.metrics and self.metrics.earlier_steps)


def measurements(run: Finished) -> tuple[Measurement, ...]:
    """All but the loss, which only a whole fine-tune has.

    What a job took that did not begin the run, or did not end it, is a bound on what all of it takes; its steps are as
    good as any.
    """
    return (
        *usage(run.record, run.paths.log, is_bound=not run.is_whole),
        *_device_memory(run),
        *_after_init(run),
        *_times(run),
        *_disk(run),
    )


def final_loss(metrics: parser.Metrics) -> Measurement:
    last = metrics.all_steps[-LAST_STEPS:]
    return Measurement(
        metric=Metric.FINAL_LOSS,
        value=sum(record.loss for record in last) / len(last),
        unit="nats",
        source_file=str(metrics.path),
        source_line=last[-1].line,
    )


def steps_per_epoch(spec: FinetuneSpec, metrics: parser.Metrics) -> int | None:
    """As planned; of a packed dataset, as taken."""
    if spec.steps_per_epoch:
        return spec.steps_per_epoch
    last = metrics.steps[-1].step if metrics.steps else 0
    return last // spec.epochs if last and last % spec.epochs == 0 else None


def _times(run: Finished) -> Iterator[Measurement]:
    if run.metrics is None:
        return
    found = times(
        run.metrics.steps,
        run.metrics.validations,
        steps_per_epoch=steps_per_epoch(run.spec, run.metrics),
        started_at=run.record.started_at,
        ended_at=run.record.ended_at if run.succeeded else None,
    )
    for metric, value in _named(found).items():
        if value is not None:
            yield _measured(metric, value, "s", run.metrics.path)


def _named(found: Times) -> dict[Metric, float | None]:
    return {
        Metric.SECONDS_PER_STEP: found.seconds_per_step,
        Metric.STARTUP_SECONDS: found.startup_seconds,
        Metric.VALIDATION_SECONDS: found.validation_seconds,
        Metric.CHECKPOINT_SECONDS: found.checkpoint_seconds,
    }


def _device_memory(run: Finished) -> Iterator[Measurement]:
    """On a CPU the device's memory is the host's."""
    bound = not run.is_whole
    if not run.on_gpu:
        if run.record.peak_rss_mib is not None:
            peak = float(run.record.peak_rss_mib)
            yield _measured(Metric.PEAK_DEVICE_MEMORY_MIB, peak, "MiB", run.paths.log, is_bound=bound)
        return
    steps = run.metrics.steps if run.metrics else ()
    reserved = [step.peak_memory_reserved_gib for step in steps if step.peak_memory_reserved_gib is not None]
    if run.metrics and reserved:
        peak = max(reserved) * _MIB_A_GIB
        yield _measured(Metric.PEAK_DEVICE_MEMORY_MIB, peak, "MiB", run.metrics.path, is_bound=bound)


def _after_init(run: Finished) -> Iterator[Measurement]:
    found = parser.parse_memory_after_init_mib(read_head(run.paths.log))
    if found is not None:
        yield _measured(Metric.MEMORY_AFTER_INIT_MIB, found, "MiB", run.paths.log)


def _disk(run: Finished) -> Iterator[Measurement]:
    if run.succeeded and run.checkpoint_mib is not None:
        yield _measured(Metric.CHECKPOINT_DISK_MIB, run.checkpoint_mib, "MiB", run.paths.output)


def _measured(
    metric: Metric, value: float, unit: str, source: Path, *, is_bound: bool = False
) -> Measurement:
    return Measurement(metric=metric, value=value, unit=unit, source_file=str(source), is_bound=is_bound)
