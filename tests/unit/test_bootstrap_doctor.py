import json
import socket
import sqlite3
from pathlib import Path

import pytest

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import doctor, files, ports
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /mnt/lab nfs4 rw 0 0
tmpfs /mnt/lab/fast tmpfs rw 0 0
server:/more /mnt/with\\040space fuse.sshfs rw 0 0
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    loaded = configurations.load({"LABMGR_HOME": str(tmp_path)})
    files.make_folders(loaded)
    return loaded


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/db", "ext4"),
        ("/mnt/lab/db", "nfs4"),
        ("/mnt/lab/fast/db", "tmpfs"),
        ("/mnt/laboratory", "ext4"),
        ("/mnt/with space/db", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert doctor.file_system_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "lustre", "gpfs", "9p", "fuse.sshfs"])
def test_sqlite_on_a_network_file_system_fails(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(doctor, "file_system_of", lambda path, mounts: kind)
    finding = next(doctor.database(configuration))
    assert finding.state == "fail"
    assert "PostgreSQL" in finding.remedy


@pytest.mark.parametrize(("mode", "state"), [("wal", "ok"), ("delete", "fail")])
def test_wal_is_looked_up_in_the_database_itself(configuration: Configuration, mode: str, state: str) -> None:
    assert configuration.sqlite_path
    connection = sqlite3.connect(configuration.sqlite_path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE something (id INTEGER)")
    connection.close()
    _, finding = doctor.database(configuration)
    assert finding.state == state


def test_a_secret_that_others_can_read_fails(configuration: Configuration) -> None:
    files.make_secrets(configuration)
    assert [finding.state for finding in doctor.secrets(configuration)] == ["ok"]
    (configuration.secrets / "secret_key").chmod(0o644)
    (finding,) = doctor.secrets(configuration)
    assert finding.state == "fail"
    assert finding.remedy.startswith("chmod go=")


def test_a_missing_environment_is_no_failure_before_the_first_start(configuration: Configuration) -> None:
    findings = list(doctor.packages(configuration))
    assert [finding.state for finding in findings] == ["warn", "warn"]
    assert "./lab setup" in findings[0].remedy


def test_a_taken_port_names_its_owner_and_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        configuration = configurations.load({"LABMGR_HOME": str(tmp_path), "LABMGR_PORT": str(number)})
        with pytest.raises(LabError, match=f"Port {number}, .*process [0-9]+ .*LABMGR_PORT=") as caught:
            ports.require_free(configuration)
        assert caught.value.code == 2
        assert doctor.run(configuration, as_json=True) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [found["name"] for found in findings if found["state"] == "fail"] == ["ports"]


def test_a_free_port_is_free() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        number = held.getsockname()[1]
    assert ports.why_not("127.0.0.1", number) == ""
