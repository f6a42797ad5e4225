"""Where everything of a job lies. All paths of jobs come from here."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class JobPaths:
    directory: Path  # the job's own: configuration, log, results
    control: Path  # records of its supervisor, outside what the job writes

    @property
    def log(self) -> Path:
        return self.directory / "output.log"

    @property
    def output(self) -> Path:
        return self.directory / "output"

    @property
    def scratch(self) -> Path:
        return self.directory / "tmp"

    @property
    def cancelled(self) -> Path:
        """A file named after a run's id here asks a shared engine to leave that run out."""
        return self.directory / "cancelled"

    def result(self, run_id: int) -> Path:
        return self.directory / "results" / str(run_id)


def fence_file(*, control_root: Path, node: str) -> Path:
    """Until when the jobs of a node may run (launchers.fence)."""
    return control_root / f"{node}.fence"


def job_paths(
    *, run_root: Path, control_root: Path, experiment: str, title: str, job_id: int, placed_at: datetime
) -> JobPaths:
    """Never those of another job, also not of one that had this id in a database that was replaced since."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", title)[:60]
    unique = f"{job_id:06d}-{placed_at.astimezone(UTC):%Y%m%dT%H%M%S}"
    return JobPaths(run_root / experiment / f"{unique}-{slug}", control_root / unique)
