import json
import os
import resource
import signal
from pathlib import Path

import pytest

from scheduler.launchers import records, spares
from scheduler.launchers.base import Ending
from scheduler.launchers.local import LocalLauncher
from tests.integration.launching import (  # noqa: F401 - fixtures are used by another name
    MakeRequest,
    await_death,
    ending,
    endings,
    fifo_fixture,
    launcher_fixture,
    make_fixture,
    open_files,
    program,
    run,
    spares_of,
    supervisor_of,
)

FD_SETSIZE = 1024  # what select() can look at


@pytest.fixture(name="ready")
def ready_fixture(launcher: LocalLauncher, make: MakeRequest) -> LocalLauncher:
    """One that has launched a job before, so that spares wait for the next."""
    run(launcher, make("true", job_id=1000))
    spares_of(launcher)
    return launcher


def test_a_job_on_a_spare_starts_as_one_whose_supervisor_was_forked_for_it(
    launcher: LocalLauncher, make: MakeRequest
) -> None:
    def report() -> dict[str, object]:
        request = make(*program("report.py"), job_id=len(reports))
        run(launcher, request)
        told: dict[str, object] = json.loads(request.log_path.read_text())
        told["status"] = [line for line in str(told["status"]).splitlines() if line.startswith("Sig")]
        return told

    reports: list[dict[str, object]] = []
    reports.append(report())
    waiting = spares_of(launcher)
    reports.append(report())
    assert supervisor_of(make("true", job_id=0)) not in waiting
    assert supervisor_of(make("true", job_id=1)) in waiting
    forked, spared = ({**told, "env": _without_marks(told)} for told in reports)
    assert spared == forked


def _without_marks(report: dict[str, object]) -> dict[str, str]:
    env = report["env"]
    assert isinstance(env, dict)
    assert (env["LABMGR_JOB_ID"], Path(env["LABMGR_CONTROL_DIR"]).name) in {("0", "0"), ("1", "1")}
    return {name: value for name, value in env.items() if not name.startswith("LABMGR_")}


def test_a_job_on_a_spare_is_cancelled_with_its_tree(
    ready: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make(*program("stubborn_family.py", fifo, "stay"))
    ready.submit(request)
    grandchild = int(fifo.read_text())
    ready.cancel(job_id=7)
    assert ending(ready).ending is Ending.CANCELLED
    assert not Path(f"/proc/{grandchild}").exists()


def test_a_supervisor_that_was_a_spare_leads_its_own_session(
    ready: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    request = make("cat", str(fifo))
    ready.submit(request)
    supervisor = supervisor_of(request).pid
    assert os.getsid(supervisor) == supervisor
    fifo.write_text("")
    assert ending(ready).exit_code == 0


def test_more_jobs_than_spares_start_side_by_side_and_keep_no_pipe(
    ready: LocalLauncher, make: MakeRequest, fifo: Path
) -> None:
    requests = [make("cat", str(fifo), job_id=number) for number in range(spares.COUNT + 2)]
    assert ready.submit_all(requests) == {}
    assert not [file for request in requests for file in open_files(request) if file.startswith("pipe:")]
    for request in requests:
        ready.cancel(job_id=request.job_id)
    assert {record.ending for record in endings(ready, count=len(requests))} == {Ending.CANCELLED}


def test_spares_end_with_a_resident_launcher_that_is_killed(ready: LocalLauncher) -> None:
    waiting = spares_of(ready)
    assert ready.resident_pid
    os.kill(ready.resident_pid, signal.SIGKILL)
    for spare in waiting:
        await_death(spare)


def test_spares_end_when_the_launcher_is_closed(ready: LocalLauncher) -> None:
    waiting = spares_of(ready)
    ready.close()
    for spare in waiting:
        await_death(spare)


def test_spares_are_forked_also_where_descriptors_have_large_numbers(
    launcher: LocalLauncher, make: MakeRequest
) -> None:
    """As in a worker with many connections, whose number of the socket the resident launcher takes over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(FD_SETSIZE)]
    try:
        assert run(launcher, make("true")).exit_code == 0
        assert spares_of(launcher)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_spares_that_died_are_replaced_and_no_job_is_given_to_them(
    ready: LocalLauncher, make: MakeRequest, number: signal.Signals
) -> None:
    waiting = spares_of(ready)
    for spare in waiting:
        os.kill(spare.pid, number)
        await_death(spare)
    record = run(ready, make("true"))
    assert (record.ending, record.exit_code) == (Ending.EXITED, 0)
    assert not set(spares_of(ready)) & set(waiting)


def test_a_control_directory_that_is_gone_is_refused_by_a_spare(
    ready: LocalLauncher, make: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "write_launch", lambda request: request.control_dir.mkdir(parents=True))
    refused = ready.submit_all([make("true")])
    assert "holds no launch.json" in str(refused[7])
