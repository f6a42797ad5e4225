#!/usr/bin/env python3
"""Bugs that are planted on purpose, each in a throwaway copy of the tree: does the checker find them?

`tests/faults/planted.py [NAME ...]` runs a short campaign for each and tells what was found. A checker that finds none of
them would be worth nothing. The product knows nothing of this.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.campaign import Campaign, run  # noqa: E402
from tests.faults.findings import Finding, Rule  # noqa: E402
from tests.faults.workload import LONG_SECONDS  # noqa: E402
from tests.lab import copy_of_the_repository  # noqa: E402

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Bug:
    name: str
    told: str
    file: str
    right: str  # what the file says
    wrong: str  # what it says in the copy
    found_by: Rule
    only: tuple[str, ...]  # the faults that bring it out
    faults: int = 6
    gap_seconds: float = 2.0
    long_seconds: tuple[float, float] = LONG_SECONDS


BUGS = (
    Bug(
        name="strays_live",
        told="what is left of a job whose supervisor died is not killed",
        file="scheduler/launchers/local.py",
        right="unkillable = _kill_strays(job_id, control_dir, lost.leader) if same_boot else ()",
        wrong="unkillable = ()",
        found_by=Rule.ORPHAN,
        only=("kill_supervisor",),
    ),
    Bug(
        name="nobody_adopts",
        told="a restarted agent does not look at the jobs of the one before",
        file="scheduler/agent.py",
        right="        for charge in watching.open_jobs(self._node):\n            self._adopt(charge)\n",
        wrong="",
        found_by=Rule.LOST,
        only=("kill_node",),
        faults=2,
    ),
    Bug(
        name="launched_twice",
        told="a restarted agent takes running jobs for lost, and leaves their trees alone",
        file="scheduler/agent.py",
        right="        adoption = self._launcher.adopt(\n",
        wrong="        if was_launched and not self._node.is_simulated:\n"
        "            return losing.take(job=job, message='gone', now=timezone.now()) and None\n"
        "        adoption = self._launcher.adopt(\n",
        found_by=Rule.DOUBLED,
        only=("kill_node",),
        faults=2,
        long_seconds=(40.0, 50.0),  # longer than a killed worker is away
    ),
    Bug(
        name="device_kept",
        told="the devices of a job whose supervisor died are not given back",
        file="scheduler/ending.py",
        right="    for node_id in sorted({end.job.node_id for end in ending}):\n",
        wrong="    ending = [end for end in ending if not end.record or end.record.ending != 'supervisor_lost']\n"
        "    for node_id in sorted({end.job.node_id for end in ending}):\n",
        found_by=Rule.LEAKED,
        only=("kill_supervisor",),
    ),
    Bug(
        name="not_counted",
        told="devices are given away without being counted",
        file="scheduler/applying.py",
        right='available.filter(pk__in=whole, allocated_mib=0).update(allocated_mib=F("memory_mib"))',
        wrong="len(whole)",
        found_by=Rule.OVER_GIVEN,
        only=("kill_supervisor",),
        faults=3,
    ),
    Bug(
        name="believed",
        told="a run whose supervisor died is believed to have succeeded",
        file="scheduler/programs/base.py",
        right="    if run.cancelled:\n        return failed(FinishReason.CANCELLED_BY_USER)\n",
        wrong="    if record.ending is Ending.SUPERVISOR_LOST:\n        return succeeded()\n",
        found_by=Rule.LOST,
        only=("kill_supervisor",),
    ),
    Bug(
        name="waiting_taken",
        told="the reaper takes the runs that are to wait for their node, too",
        file="scheduler/reaper.py",
        right="jobs.filter(experiment__on_node_lost=Experiment.OnNodeLost.REQUEUE)",
        wrong="jobs",
        found_by=Rule.NODE_LOSS,
        only=("lose_second",),
        faults=1,
    ),
    Bug(
        name="slow_to_adopt",
        told="a restarted agent takes fifteen seconds before it looks",
        file="scheduler/agent.py",
        right="        self._node = inventory.record(self._reading)\n        self._session.open()\n",
        wrong="        time.sleep(15)\n"
        "        self._node = inventory.record(self._reading)\n        self._session.open()\n",
        found_by=Rule.SLOW,
        only=("kill_node",),
        faults=1,
    ),
)


def found(bug: Bug, folder: Path) -> list[Finding]:
    """What the checker finds in a campaign over a tree with the bug."""
    checkout = copy_of_the_repository(folder / "checkout")
    plant(bug, checkout)
    campaign = Campaign(
        seed=1,
        faults=bug.faults,
        gap_seconds=bug.gap_seconds,
        only=bug.only,
        long_seconds=bug.long_seconds,
        patience_seconds=20.0,
    )
    _, findings = run(campaign, folder, checkout=checkout)
    return findings


def plant(bug: Bug, checkout: Path) -> None:
    path = checkout / bug.file
    text = path.read_text()
    assert text.count(bug.right) == 1, f"{bug.file} has changed: {bug.name} cannot be planted"
    path.write_text(text.replace(bug.right, bug.wrong))


def main(names: Sequence[str]) -> int:
    missed = 0
    for bug in [bug for bug in BUGS if not names or bug.name in names]:
        folder = Path(tempfile.mkdtemp(prefix="planted-", dir="/tmp"))
        findings = found(bug, folder)
        is_found = any(finding.rule is bug.found_by for finding in findings)
        missed += not is_found
        sys.stdout.write(f"{bug.name}: {'found' if is_found else 'MISSED'}, {bug.told}\n")
        shown = sorted(findings, key=lambda finding: finding.rule is not bug.found_by)[:SHOWN]
        sys.stdout.writelines(f"    {finding}\n" for finding in shown)
        sys.stdout.flush()
        shutil.rmtree(folder)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
