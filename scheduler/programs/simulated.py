"""Runs that take simulated devices for a while and do nothing."""

from collections.abc import Mapping

from scheduler.launchers.base import ExitRecord
from scheduler.paths import JobPaths
from scheduler.programs.base import (
    CarriedRun,
    Command,
    PlacedJob,
    Surroundings,
    Verdict,
    ended_by_us,
    succeeded,
)


class Simulated:
    def prepare(self, job: PlacedJob, surroundings: Surroundings) -> Command:
        return Command(argv=("simulated",), env={}, has_files=False)

    def settled(self, job: PlacedJob) -> Mapping[int, Verdict]:
        return {}

    def lack(self, run: CarriedRun, paths: JobPaths) -> str:
        return ""

    def verify(self, job: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
        return {run.run_id: ended_by_us(run, record) or succeeded() for run in job.runs}
