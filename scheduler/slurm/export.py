"""A stored plan as batch scripts."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from experiments import fleet
from experiments.conditions import Metric
from experiments.durations import slurm_time
from experiments.estimation import SECONDS
from experiments.figures import Figure, Grade
from experiments.fleet import DeviceKind
from experiments.models import Estimate, Experiment, Run
from experiments.specs import EvaluateSpec, FinetuneSpec, ProbeSpec
from experiments.states import RunKind
from scheduler.paths import JobPaths
from scheduler.programs import PROGRAMS
from scheduler.programs.base import CarriedRun, GrantedDevice, PlacedJob
from scheduler.slurm import scripts
from scheduler.slurm.scripts import SlurmRun
from scheduler.watching import surroundings

BATCHED = (FinetuneSpec, ProbeSpec, EvaluateSpec)
_SLURMS_OWN = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # it says which devices a job has


def write(*, experiment: Experiment, folder: Path) -> list[Path]:
    """Write one script a run, and one that submits them all; returns what was written. Raises OSError."""
    runs = list(_runs(experiment, folder.resolve()))
    texts = scripts.files(slurm for slurm, _ in runs)
    for _, more in runs:
        texts |= more
    texts[folder.resolve() / scripts.SUBMIT] = scripts.submit_script(slurm for slurm, _ in runs)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.name in (scripts.SCRIPT, scripts.SUBMIT):
            path.chmod(0o755)
    return sorted(texts)


def paths_below(folder: Path, run: Run) -> JobPaths:
    directory = folder / run.name.replace("/", "-")
    return JobPaths(directory, directory / "control")


def spec_hash(run: Run) -> str:
    """By which results are known to be of what is planned now."""
    return hashlib.sha256(json.dumps(run.spec, sort_keys=True).encode()).hexdigest()


def placed(run: Run, paths: JobPaths, folder: Path, target: DeviceKind | None) -> PlacedJob:
    """The run as its program sees it, on devices that Slurm will name."""
    before = run.depends_on
    device = GrantedDevice(
        kind=target.kind if target else "gpu",  # a lab that has none of its own exports for Slurm's
        uuid="",
        model_name=target.name if target else "",
        memory_mib=target.memory_mib if target else 0,
    )
    carried = CarriedRun(
        run_id=run.pk,
        name=run.name,
        spec=run.parsed_spec,
        builds_on_spec=before.parsed_spec if before else None,
        builds_on_directory=paths_below(folder, before).directory if before else None,
    )
    return PlacedJob(
        job_id=0,
        title=run.name,
        paths=paths,
        runs=(carried,),
        devices=(device,) * run.devices,
        cpu_threads=run.cpu_threads,
    )


def _runs(experiment: Experiment, folder: Path) -> Iterator[tuple[SlurmRun, Mapping[Path, str]]]:
    target = fleet.schedule().fleet().target
    chosen = Run.objects.filter(cell__experiment=experiment).select_related("depends_on").order_by("pk")
    for run in chosen.prefetch_related("estimates"):
        if not isinstance(run.parsed_spec, BATCHED):
            continue
        paths = paths_below(folder, run)
        command = PROGRAMS[RunKind(run.kind)].prepare(placed(run, paths, folder, target), surroundings())
        figures = {estimate.metric: _figure(estimate) for estimate in run.estimates.all()}
        env = {name: value for name, value in command.env.items() if name not in _SLURMS_OWN}
        yield (
            SlurmRun(
                name=run.name,
                directory=paths.directory,
                argv=command.argv,
                env=env,
                time=slurm_time(figures[SECONDS]) if SECONDS in figures else None,
                memory_mib=_memory_mib(run, figures),
                gpus=0 if target and not target.on_gpu else run.devices,
                cpus=run.cpu_threads,
                after=run.depends_on.name if run.depends_on else None,
                marker={
                    "experiment": experiment.name,
                    "run": run.name,
                    "kind": run.kind,
                    "spec": spec_hash(run),
                },
            ),
            command.files,
        )


def _memory_mib(run: Run, figures: Mapping[str, Figure]) -> int | None:
    if run.host_memory_mib:
        return run.host_memory_mib
    known = figures.get(Metric.PEAK_HOST_MEMORY_MIB)
    if known is None or known.value is None:
        return None
    return math.ceil(known.high if known.high is not None else 1.2 * known.value)


def _figure(estimate: Estimate) -> Figure:
    return replace(
        Figure(value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n),
        grade=Grade(estimate.grade),
    )
