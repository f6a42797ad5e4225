"""What the ledger tells: which programs ran, from when to when, seen from nowhere but themselves."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.history import Sign


@dataclass(frozen=True, kw_only=True)
class Execution:
    key: str
    job: int
    pid: int
    began_at: float
    last_sign_at: float
    is_whole: bool  # it came to its own end

    def overlaps(self, other: "Execution") -> bool:
        return self.began_at <= other.last_sign_at and other.began_at <= self.last_sign_at

    def __str__(self) -> str:
        return f"{self.key} in job {self.job} as process {self.pid} from {self.began_at:.1f} to {self.last_sign_at:.1f}"


def executions(signs: Iterable[Sign]) -> list[Execution]:
    """One a process, in the order in which they began. A process that was killed ended with its last sign."""
    by_process: dict[tuple[str, int, int], list[Sign]] = defaultdict(list)
    for sign in signs:
        by_process[sign.key, sign.job, sign.pid].append(sign)
    found = [
        Execution(
            key=key,
            job=job,
            pid=pid,
            began_at=min(sign.at for sign in told),
            last_sign_at=max(sign.at for sign in told),
            is_whole=any(sign.kind == "end" for sign in told),
        )
        for (key, job, pid), told in by_process.items()
    ]
    return sorted(found, key=lambda execution: execution.began_at)


def by_key(found: Iterable[Execution]) -> dict[str, list[Execution]]:
    grouped: dict[str, list[Execution]] = defaultdict(list)
    for execution in found:
        grouped[execution.key].append(execution)
    return grouped
