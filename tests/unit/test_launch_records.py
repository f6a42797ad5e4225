import os
from pathlib import Path

import pytest

from scheduler.launchers import records
from scheduler.launchers.base import Ending, ExitRecord, LaunchRequest
from scheduler.launchers.process_tree import Process


def make_request(folder: Path) -> LaunchRequest:
    return LaunchRequest(
        job_id=7,
        argv=("python", "-c", "print('é')", "\udcff"),
        env={"TOKEN": "secret", "ODD": "\udcff"},
        cwd=folder,
        log_path=folder / "log",
        control_dir=folder / "control",
        limit_seconds=60.0,
    )


def make_exit(job_id: int = 7) -> ExitRecord:
    return ExitRecord(
        job_id=job_id,
        ending=Ending.TIMED_OUT,
        exit_code=None,
        signal=9,
        started_at=1.5,
        ended_at=2.5,
        peak_rss_mib=10,
        cpu_seconds=0.25,
        unkillable_pids=(4, 5),
        message="Ran longer than its limit of 1 s.",
    )


def test_every_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    watched = records.SupervisorRecord(
        supervisor=Process(10, 20), boot_id="boot", started_at=1.5, leader=Process(11, 21)
    )
    records.write_launch(request)
    records.write_supervisor(request.control_dir, watched)
    records.write_exit(request.control_dir, make_exit())
    assert records.read_launch(request.control_dir) == request
    assert records.read_supervisor(request.control_dir) == watched
    assert records.read_exit(request.control_dir) == make_exit()


def test_what_was_not_written_is_none(tmp_path: Path) -> None:
    assert records.read_launch(tmp_path) is None
    assert records.read_supervisor(tmp_path) is None
    assert records.read_exit(tmp_path / "nowhere") is None


def test_the_environment_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        records.write_launch(make_request(tmp_path))
    finally:
        os.umask(before)
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "control" / records.LAUNCH).stat().st_mode & 0o777 == 0o600


def test_nothing_but_the_record_is_left_of_writing_it(tmp_path: Path) -> None:
    records.write_exit(tmp_path, make_exit())
    assert [path.name for path in tmp_path.iterdir()] == [records.EXIT]


def test_how_a_job_ended_is_never_overwritten(tmp_path: Path) -> None:
    records.write_exit(tmp_path, make_exit())
    with pytest.raises(FileExistsError, match="written once"):
        records.write_exit(tmp_path, make_exit(job_id=8))
    assert records.read_exit(tmp_path) == make_exit()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"ending": "new"}'])
def test_an_unreadable_record_is_an_error_that_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / records.EXIT).write_text(text)
    with pytest.raises(records.RecordError, match=str(tmp_path / records.EXIT)):
        records.read_exit(tmp_path)


def test_paths_are_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records.write_launch(make_request(Path()))
    read = records.read_launch(tmp_path / "control")
    assert read and (read.cwd, read.log_path) == (tmp_path, tmp_path / "log")


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    assert records.lock_is_free(tmp_path)
    held = records.take_lock(tmp_path)
    assert held is not None
    assert not records.lock_is_free(tmp_path)
    assert records.take_lock(tmp_path) is None
    os.close(held)
    assert records.lock_is_free(tmp_path)


def test_replacing_the_supervisors_record_does_not_lose_the_lock(tmp_path: Path) -> None:
    held = records.take_lock(tmp_path)
    assert held is not None
    record = records.SupervisorRecord(supervisor=Process(10, 20), boot_id="boot", started_at=1.5)
    records.write_supervisor(tmp_path, record)
    records.write_supervisor(tmp_path, record)
    assert not records.lock_is_free(tmp_path)
    os.close(held)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_launch_without_a_real_limit_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ValueError, match="limit_seconds"):
        LaunchRequest(
            job_id=7,
            argv=("true",),
            env={},
            cwd=tmp_path,
            log_path=tmp_path / "log",
            control_dir=tmp_path,
            limit_seconds=limit,
        )


def test_a_launch_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty argv"):
        LaunchRequest(
            job_id=7, argv=(), env={}, cwd=tmp_path, log_path=tmp_path, control_dir=tmp_path, limit_seconds=1
        )
