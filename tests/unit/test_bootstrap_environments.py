import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import environments, files, pip
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, Progress

QUIET = Progress(quiet=True)


class Installs(list[list[str]]):
    """What pip would have been asked to install."""


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> Installs:
    made = Installs()

    def make_venv(folder: Path) -> None:
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").touch()

    monkeypatch.setattr(environments, "make_venv", make_venv)
    monkeypatch.setattr(pip, "missing", lambda python, requirements: ["everything"])
    monkeypatch.setattr(pip, "install", lambda python, arguments, **_: made.append(arguments))
    return made


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setattr(configurations, "REPOSITORY", tmp_path / "repository")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "requirements.txt").write_text("django==5.2\n")
    return configurations.load({"LABMGR_HOME": str(tmp_path / "home")})


def test_a_second_call_installs_nothing(configuration: Configuration, installs: Installs) -> None:
    environments.control(configuration, QUIET)
    environments.control(configuration, QUIET)
    assert len(installs) == 1


def test_a_changed_requirements_file_installs_again(configuration: Configuration, installs: Installs) -> None:
    environments.control(configuration, QUIET)
    (configuration.repository / "requirements.txt").write_text("django==5.2.1\n")
    environments.control(configuration, QUIET)
    assert len(installs) == 2


def test_an_interrupted_installation_is_done_again(
    configuration: Configuration, installs: Installs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pip, "install", interrupted)
        environments.control(configuration, QUIET)
    environments.control(configuration, QUIET)
    assert len(installs) == 1


def test_an_environment_that_fits_already_is_adopted(
    configuration: Configuration, installs: Installs, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments.make_venv(configuration.control_env)
    monkeypatch.setattr(pip, "missing", lambda python, requirements: [])
    environments.control(configuration, QUIET)
    assert installs == []
    assert environments.is_done(
        configuration.control_env, "control environment", [configuration.repository / "requirements.txt"]
    )


def test_an_environment_that_was_handed_to_us_is_never_installed_into(
    tmp_path: Path, configuration: Configuration, installs: Installs
) -> None:
    named = configurations.load(
        {"LABMGR_HOME": str(tmp_path), "LABMGR_CONTROL_ENV": str(tmp_path / "theirs")}
    )
    with pytest.raises(
        LabError, match="LABMGR_CONTROL_ENV does not fit: everything. Run: .* -m pip install -r"
    ):
        environments.control(named, QUIET)
    assert installs == []


def test_too_little_disk_is_told_before_anything_is_made(
    configuration: Configuration, installs: Installs, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=100_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LabError, match=r"Too little disk: .* needs 0.5 GB in .*, and 0.1 GB are free"):
        environments.control(configuration, QUIET)
    assert installs == []
    assert not configuration.control_env.exists()


def test_a_file_that_is_missing_from_the_checkout_is_told(configuration: Configuration) -> None:
    (configuration.repository / "requirements.txt").unlink()
    with pytest.raises(LabError, match="not whole"):
        environments.control(configuration, QUIET)


def test_the_index_that_a_person_names_is_where_torch_comes_from() -> None:
    assert environments.torch_index("https://example.org/cpu") == [
        "--extra-index-url",
        "https://example.org/cpu",
    ]


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:  # bound and not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_no_network_is_a_sentence(tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "1")
    arguments = [
        "--index-url",
        f"http://127.0.0.1:{closed_port}/simple",
        "--proxy",
        "",
        "no-such-package==1.0",
    ]
    with pytest.raises(LabError, match="No network: pip cannot reach the package index") as caught:
        pip.install(Path(sys.executable), arguments, log=tmp_path / "pip.log", progress=QUIET)
    assert caught.value.code != 0
    assert "run the same command again" in str(caught.value)


class Failure(NamedTuple):
    output: str
    sentence: str


@pytest.mark.parametrize(
    "failure",
    [
        Failure("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full"),
        Failure(
            "Failed to establish a new connection\nERROR: No matching distribution found for x==1",
            "No network",
        ),
        Failure("ERROR: No matching distribution found for torch==9.9", "has no torch==9.9 for this Python"),
        Failure("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        Failure("something new", "could not install"),
    ],
)
def test_pips_words_become_a_sentence(failure: Failure) -> None:
    assert failure.sentence in pip.explain(failure.output)


def test_what_differs_from_the_pins_is_named(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        "# comment\npytest==0.1  # why\nno-such-package==2.0\n"
        'only-for-the-old==1.0; python_version < "3.11"\nand-the-new==1.0; python_version >= "3.11"\n'
    )
    found = pip.missing(Path(sys.executable), requirements)
    assert [line.split()[0] for line in found] == ["pytest", "no-such-package", "and-the-new"]
    assert "instead of 0.1" in found[0]
    assert pip.missing(tmp_path / "python", requirements)


def test_two_labs_wait_for_each_other(tmp_path: Path) -> None:
    lock = tmp_path / "run" / "setup.lock"
    with files.only_one(lock, doing="setting up"):
        assert files.is_locked(lock)
    assert not files.is_locked(lock)
