"""The storm itself, a short one, and one that finds a bug which was planted on purpose.

A long storm, and every planted bug, are one command each: tests/faults/campaign.py and tests/faults/planted.py.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import planted
from tests.faults.campaign import Campaign, run
from tests.faults.planted import BUGS, Bug
from tests.faults.report import report
from tests.lab import REPOSITORY

FAULTS = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since the path of a unix socket may not be long."""
    path = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_storm_of_200_faults_loses_and_doubles_nothing(folder: Path) -> None:
    campaign = Campaign(seed=1, faults=FAULTS, gap_seconds=0.75)
    campaign.write(folder)
    history, findings = run(campaign, folder)
    assert findings == [], report(history, findings)
    assert len(history.faults) == FAULTS
    assert len({fault.kind for fault in history.faults}) >= 20


def test_a_planted_bug_is_found(folder: Path) -> None:
    bug = next(bug for bug in BUGS if bug.name == "strays_live")
    assert any(finding.rule is bug.found_by for finding in planted.found(bug, folder))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_can_still_be_planted(bug: Bug, tmp_path: Path) -> None:
    target = tmp_path / bug.file
    target.parent.mkdir(parents=True)
    shutil.copy2(REPOSITORY / bug.file, target)
    planted.plant(bug, tmp_path)
    compile(target.read_text(), bug.file, "exec")
