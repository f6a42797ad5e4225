from pathlib import Path

import pytest

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import files
from labmgr.bootstrap.output import LabError


def test_everything_lies_below_the_home_directory(tmp_path: Path) -> None:
    configuration = configurations.load({"LABMGR_HOME": str(tmp_path)})
    assert configuration.control_env == tmp_path / "env" / "control"
    assert configuration.ml_python == tmp_path / "env" / "ml" / "bin" / "python"
    assert configuration.sqlite_path == tmp_path / "db" / "labmgr.sqlite3"
    assert configuration.redis_socket == tmp_path / "run" / "redis.sock"
    assert configuration.redis_is_embedded
    assert configuration.bind == "127.0.0.1"


def test_services_that_inherit_our_values_come_to_the_same_configuration(tmp_path: Path) -> None:
    configuration = configurations.load({"LABMGR_HOME": str(tmp_path), "LABMGR_PORT": "8123"})
    assert configurations.load(configuration.environment) == configuration


def test_servers_that_are_named_replace_the_embedded_ones(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://lab@db/lab", "REDIS_URL": "redis://:secret@cache:6379/0"}
    configuration = configurations.load({"LABMGR_HOME": str(tmp_path), **given})
    assert not configuration.redis_is_embedded
    assert configuration.sqlite_path is None
    assert configuration.environment["REDIS_URL"] == given["REDIS_URL"]


@pytest.mark.parametrize("port", ["0", "65536", "web", "80.5"])
def test_a_bad_port_is_named(port: str) -> None:
    with pytest.raises(LabError, match=rf"LABMGR_PORT='{port}' is not a port"):
        configurations.load({"LABMGR_PORT": port})


def test_two_services_cannot_have_one_port() -> None:
    with pytest.raises(LabError, match="both 8100"):
        configurations.load({"LABMGR_PORT": "8100", "LABMGR_FLOWER_PORT": "8100"})


def test_a_host_name_becomes_a_node_name() -> None:
    assert configurations.node_name_of("GPU_Box.Lab.example.org") == "gpu-box"
    assert configurations.node_name_of("___") == "node"


def test_a_bad_node_name_is_refused() -> None:
    with pytest.raises(LabError, match="no node name"):
        configurations.load({"LABMGR_NODE_NAME": "gpu box"})


def test_sockets_move_to_a_private_folder_where_the_path_is_too_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ("long" * 30)
    configuration = configurations.load({"LABMGR_HOME": str(home)})
    assert len(str(configuration.redis_socket)) < 60
    try:
        files.make_folders(configuration)
        assert configuration.socket_folder.stat().st_mode & 0o777 == 0o700
        assert str(configuration.socket_folder) in capsys.readouterr().err
        configuration.socket_folder.chmod(0o755)
        with pytest.raises(LabError, match="open to others"):
            files.make_folders(configuration)
    finally:
        configuration.socket_folder.rmdir()


def test_what_is_bound_for_others_may_be_asked_for_by_that_name(tmp_path: Path) -> None:
    configuration = configurations.load({"LABMGR_HOME": str(tmp_path), "LABMGR_BIND": "192.0.2.7"})
    assert "192.0.2.7" in configuration.environment["LABMGR_ALLOWED_HOSTS"].split(",")
    assert configuration.web_url == "http://192.0.2.7:8000"


def test_the_callers_python_settings_do_not_reach_services(tmp_path: Path) -> None:
    given = {
        "LABMGR_HOME": str(tmp_path),
        "PYTHONHOME": "/nowhere",
        "VIRTUAL_ENV": "/other",
        "LABMGR_JOB_ID": "3",
    }
    environment = configurations.load(given).environment
    assert not {"PYTHONHOME", "VIRTUAL_ENV", "LABMGR_JOB_ID"} & set(environment)


def test_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    configuration = configurations.load({"LABMGR_HOME": str(tmp_path)})
    files.make_folders(configuration)
    first = files.secret(configuration, "flower_password")
    assert files.secret(configuration, "flower_password") == first
    assert (configuration.secrets / "flower_password").stat().st_mode & 0o777 == 0o600
    assert configuration.secrets.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="LABMGR_HOME"):
        files.make_folders(configurations.load({"LABMGR_HOME": str(tmp_path / "file" / "home")}))


def test_a_large_log_is_rotated_and_the_oldest_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOG_BYTES", 3)
    log = tmp_path / "web.log"
    for text in ("first", "second", "third", "fourth"):
        files.rotate(log)
        log.write_text(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web.log", "web.log.1", "web.log.2"]
    assert (tmp_path / "web.log.1").read_text() == "third"
