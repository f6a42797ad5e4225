"""A lab's own program, a simulated one, and the environment and the paths of all of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.specs import CommandSpec, SimulatedSpec
from experiments.states import REASONS, FinishReason
from scheduler.launchers.base import Ending
from scheduler.paths import JobPaths, job_paths
from scheduler.programs.base import Verdict
from scheduler.programs.command import OwnCommand
from scheduler.programs.environment import job_environment, ml_versions
from scheduler.programs.simulated import Simulated
from tests.unit.jobs import GPU, carried, job_of, record, surroundings

PLACED_AT = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def verdict(folder: Path, *expected: str, cancelled: bool = False, **ended: object) -> Verdict:
    spec = CommandSpec(argv=("true",), expected_files=expected)
    return OwnCommand().verify(job_of(folder, carried(spec, cancelled=cancelled)), record(**ended))[7]


def test_an_argument_list_is_handed_on_as_it_is(tmp_path: Path) -> None:
    argv = ("sh", "-c", "echo {x} {{}} {0!r:>9} $HOME; :", "")
    command = OwnCommand().prepare(job_of(tmp_path, carried(CommandSpec(argv=argv))), surroundings(tmp_path))
    assert command.argv == argv


def test_a_commands_own_environment_does_not_replace_what_it_was_granted(tmp_path: Path) -> None:
    spec = CommandSpec(argv=("true",), env={"MINE": "1", "CUDA_VISIBLE_DEVICES": "0,1", "HOME": "/root"})
    job = job_of(tmp_path, carried(spec), devices=(GPU,))
    env = OwnCommand().prepare(job, surroundings(tmp_path)).env
    assert (env["MINE"], env["CUDA_VISIBLE_DEVICES"]) == ("1", GPU.uuid)
    assert env["HOME"] == str(job.paths.directory)


def test_a_command_succeeds_when_its_expected_files_are_there(tmp_path: Path) -> None:
    assert verdict(tmp_path).outcome.succeeded
    (tmp_path / "job" / "out.txt").touch()
    found = verdict(tmp_path, "out.txt")
    assert found.outcome.succeeded
    assert {m.metric for m in found.measurements} == {"job_seconds", "peak_host_memory_mib"}


@pytest.mark.parametrize(
    ("ended", "reason", "told"),
    [
        ({}, FinishReason.RESULT_INCOMPLETE, "Not written: out.txt."),
        ({"exit_code": 3}, FinishReason.EXIT_CODE, "Exit code 3."),
        ({"exit_code": None, "signal": 9}, FinishReason.KILLED, "Signal 9."),
        ({"ending": Ending.TIMED_OUT}, FinishReason.TIMED_OUT, ""),
        ({"ending": Ending.CANCELLED}, FinishReason.STOPPED, ""),
        ({"ending": Ending.CANCELLED, "cancelled": True}, FinishReason.CANCELLED_BY_USER, ""),
        ({"ending": Ending.SUPERVISOR_LOST}, FinishReason.SUPERVISOR_LOST, ""),
        ({"ending": Ending.LAUNCH_FAILED, "message": "No file."}, FinishReason.LAUNCH_FAILED, "No file."),
    ],
)
def test_a_command_that_did_not_succeed_says_why(
    tmp_path: Path, ended: dict[str, object], reason: FinishReason, told: str
) -> None:
    outcome = verdict(tmp_path, "out.txt", **ended).outcome  # type: ignore[arg-type]
    assert (outcome.succeeded, outcome.reason) == (False, reason)
    assert outcome.message == f"{REASONS[reason].sentence} {told}".strip()


def test_a_folder_in_the_place_of_an_expected_file_is_not_that_file(tmp_path: Path) -> None:
    (tmp_path / "job" / "out").mkdir(parents=True)
    assert not verdict(tmp_path, "out").outcome.succeeded


def test_a_simulated_run_succeeds_unless_it_was_ended(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(SimulatedSpec(duration_seconds=1)))
    assert Simulated().verify(job, record())[7].outcome.succeeded
    late = Simulated().verify(job, record(ending=Ending.TIMED_OUT))[7].outcome
    assert late.reason == FinishReason.TIMED_OUT


def test_a_job_inherits_an_allow_list_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = (
        "SECRET_KEY",
        "DATABASE_URL",
        "REDIS_URL",
        "LABMGR_HOME",
        "AWS_SECRET_ACCESS_KEY",
        "PYTHONPATH",
    )
    for name in (*secrets, "PATH"):
        monkeypatch.setenv(name, "hidden" if name != "PATH" else "/bin")
    env = job_environment(job_of(tmp_path, carried(CommandSpec(argv=("true",)))), surroundings(tmp_path))
    assert env["PATH"] == "/bin"
    assert "hidden" not in env.values()
    assert not set(secrets) & set(env)


def test_a_job_writes_its_caches_beneath_our_folders_and_downloads_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(CommandSpec(argv=("true",))))
    env = job_environment(job, surroundings(tmp_path))
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        assert Path(env[name]).is_relative_to(tmp_path)
    assert (env["HF_HUB_OFFLINE"], env["OMP_NUM_THREADS"]) == ("1", "2")


def test_a_job_without_a_gpu_sees_none(tmp_path: Path) -> None:
    job = job_of(tmp_path, carried(CommandSpec(argv=("true",))))
    assert job_environment(job, surroundings(tmp_path))["CUDA_VISIBLE_DEVICES"] == ""


def test_versions_are_read_without_starting_the_ml_environment(tmp_path: Path) -> None:
    for name, version in (("torch", "2.13.0"), ("requests", "2.0")):
        folder = tmp_path / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    assert ml_versions(tmp_path / "bin" / "python") == {"torch": "2.13.0"}
    assert ml_versions(tmp_path / "nowhere" / "bin" / "python") == {}


@pytest.mark.parametrize("title", ["../../etc/passwd", "a/b c", "x" * 300, "..", "é\n"])
def test_no_title_leads_out_of_its_experiments_folder(tmp_path: Path, title: str) -> None:
    paths = _paths(tmp_path, title=title)
    assert paths.directory.resolve().parent == (tmp_path / "runs" / "e").resolve()
    assert len(paths.directory.name) < 100


def test_every_job_has_its_own_folder_and_control_lies_outside_of_it(tmp_path: Path) -> None:
    first, second, of_another_database = (
        _paths(tmp_path, job_id=1),
        _paths(tmp_path, job_id=2),
        _paths(tmp_path, job_id=1, placed_at=PLACED_AT + timedelta(days=1)),
    )
    assert len({paths.directory for paths in (first, second, of_another_database)}) == 3
    assert len({paths.control for paths in (first, second, of_another_database)}) == 3
    assert not first.control.is_relative_to(tmp_path / "runs")
    for path in (first.log, first.output, first.scratch, first.cancelled, first.result(3)):
        assert path.is_relative_to(first.directory)


def _paths(folder: Path, *, title: str = "t", job_id: int = 7, placed_at: datetime = PLACED_AT) -> JobPaths:
    return job_paths(
        run_root=folder / "runs",
        control_root=folder / "control",
        experiment="e",
        title=title,
        job_id=job_id,
        placed_at=placed_at,
    )
