import json
from argparse import ArgumentParser
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from labmgr.replay import in_memory
from labmgr.replay.report import RecordedLaunch, Report, errors, report
from labmgr.replay.servers import ServerError
from labmgr.replay.session import ReplayError, replay
from labmgr.replay.workload import ReplayJob, WorkloadError, read

SHOWN_ERRORS = 10


class Command(BaseCommand):
    help = (
        "Send a workload through a throwaway database, broker and workers with simulated devices, and report."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workload", type=Path, help="CSV; see docs/running.md for its columns.")
        parser.add_argument("--devices", type=int, required=True, help="Simulated devices in each pool.")
        parser.add_argument("--pools", type=int, help="As many as the file names, if left out.")
        parser.add_argument("--postgres", action="store_true", help="On PostgreSQL with fsync, not SQLite.")
        parser.add_argument("--in-memory", action="store_true", help="By place() alone, in simulated time.")
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *, workload: Path, devices: int, as_json: bool, **options: Any) -> None:
        if not 1 <= devices <= 99_999:
            raise CommandError(f"--devices {devices} is not a number from 1 to 99999.")
        try:
            jobs = read(workload, devices=devices)
            launches = self._launches(workload, jobs, devices, options)
        except (WorkloadError, ServerError, ReplayError) as error:
            raise CommandError(str(error)) from error
        found = report(jobs=jobs, launches=launches, devices=devices)
        for sentence in list(errors(jobs, launches))[:SHOWN_ERRORS]:
            self.stderr.write(sentence)
        self.stdout.write(json.dumps(found.to_json()) if as_json else _told(found))

    def _launches(
        self, workload: Path, jobs: tuple[ReplayJob, ...], devices: int, options: dict[str, Any]
    ) -> list[RecordedLaunch]:
        pools = _pools(jobs, options["pools"])
        if options["in_memory"]:
            return in_memory.play(jobs, devices=devices)
        launches = replay(workload, devices=devices, pools=pools, on_postgres=options["postgres"])
        used = getrusage(RUSAGE_CHILDREN)
        self.stderr.write(f"All processes together took {used.ru_utime + used.ru_stime:.1f} s of CPU.")
        return launches


def _pools(jobs: tuple[ReplayJob, ...], count: int | None) -> list[str]:
    """Those that the file names, and as many more as were asked for, which stay idle."""
    named = sorted({job.pool for job in jobs})
    count = len(named) if count is None else count
    if count < len(named):
        raise CommandError(f"--pools {count} is less than the {len(named)} pools that the file names.")
    return [*named, *(f"idle-{number}" for number in range(count - len(named)))]


def _told(found: Report) -> str:
    waits = ", ".join(f"{wait:.2f} s for {n}" for n, wait in found.mean_wait_seconds.items())
    gaps = found.idle_gap_seconds
    return "\n".join(
        [
            f"{found.jobs} jobs on simulated devices in {found.makespan_seconds} s "
            f"(no schedule can be below {found.lower_bound_seconds} s); the last started at {found.last_start_seconds} s.",
            f"Mean wait by devices: {waits}.",
            f"A device idle between two jobs: p50 {gaps['p50']} s, p99 {gaps['p99']} s.",
            f"{found.starts_per_second} starts a second; {found.lost} lost, {found.doubled} doubled, {found.errors} errors.",
        ]
    )
