"""A lab's own program."""

from collections.abc import Mapping

from experiments.scripts import command_sh
from experiments.specs import CommandSpec
from experiments.states import FinishReason
from scheduler.launchers.base import ExitRecord
from scheduler.paths import JobPaths
from scheduler.programs.base import (
    CarriedRun,
    Command,
    PlacedJob,
    Surroundings,
    Verdict,
    ended_by_us,
    failed,
    killed,
    succeeded,
    usage,
)
from scheduler.programs.environment import job_environment
from scheduler.programs.reproduction import COMMAND


class OwnCommand:
    def prepare(self, job: PlacedJob, surroundings: Surroundings) -> Command:
        spec = job.runs[0].spec
        assert isinstance(spec, CommandSpec)
        env = {**spec.env, **job_environment(job, surroundings)}
        script = job.paths.directory / COMMAND
        text = command_sh(argv=spec.argv, env=env, also=tuple(spec.env), folder="repeat")
        return Command(argv=spec.argv, env=env, files={script: text}, executables=frozenset({script}))

    def settled(self, job: PlacedJob) -> Mapping[int, Verdict]:
        return {}

    def verify(self, job: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
        run = job.runs[0]
        assert isinstance(run.spec, CommandSpec)
        return {run.run_id: ended_by_us(run, record) or killed(record) or _verdict(job, run.spec, record)}

    def lack(self, run: CarriedRun, paths: JobPaths) -> str:
        assert isinstance(run.spec, CommandSpec)
        if not paths.directory.is_dir():
            return f"{paths.directory} is not there."
        missing = _missing(paths, run.spec)
        return f"{paths.directory} lacks {', '.join(missing)}." if missing else ""


def _verdict(job: PlacedJob, spec: CommandSpec, record: ExitRecord) -> Verdict:
    if record.exit_code != 0:
        bounds = usage(record, job.paths.log, is_bound=True)
        return failed(FinishReason.EXIT_CODE, f"Exit code {record.exit_code}.", bounds)
    measured = usage(record, job.paths.log)
    missing = _missing(job.paths, spec)
    if missing:
        return failed(FinishReason.RESULT_INCOMPLETE, f"Not written: {', '.join(missing)}.", measured)
    return succeeded(measured)


def _missing(paths: JobPaths, spec: CommandSpec) -> list[str]:
    return [name for name in spec.expected_files if not (paths.directory / name).is_file()]
