"""Where everything lies and what services are told: computed once, from the environment, without touching the disk."""

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from labmgr.bootstrap.output import LabError

REPOSITORY = Path(__file__).resolve().parents[2]
SOCKET_PATH_BYTES = 107  # what fits into sockaddr_un, less the closing zero
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LISTENING = ("LABMGR_BIND", "LABMGR_PORT", "LABMGR_FLOWER_PORT")
UNWANTED = (  # what the caller's shell may hold and services must not
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONDONTWRITEBYTECODE",
    "VIRTUAL_ENV",
    "DJANGO_SETTINGS_MODULE",
    "LABMGR_SERVICE",
    "LABMGR_JOB_ID",
)


@dataclass(frozen=True)
class Configuration:
    repository: Path
    home: Path
    control_env: Path
    control_env_is_named: bool  # by LABMGR_CONTROL_ENV: then it is used, and never installed into
    ml_python: Path
    ml_python_is_named: bool  # likewise by LABMGR_ML_PYTHON
    bind: str
    port: int
    flower_port: int
    node_name: str
    has_gpu: bool
    redis_is_embedded: bool
    socket_folder: Path  # the home's run folder, or a short one under /tmp where that path is too long
    environment: Mapping[str, str]  # for manage.py and the services

    @property
    def control_python(self) -> Path:
        return self.control_env / "bin" / "python"

    @property
    def ml_env(self) -> Path:
        return self.ml_python.parent.parent

    @property
    def run_folder(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def redis_socket(self) -> Path:
        return Path(self.environment["LABMGR_REDIS_SOCKET"])

    @property
    def sqlite_path(self) -> Path | None:
        """The database's file, or None where it is a server."""
        url = self.environment["DATABASE_URL"]
        return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None

    @property
    def web_url(self) -> str:
        return f"http://{reachable(self.bind)}:{self.port}"

    @property
    def flower_url(self) -> str:
        return f"http://{reachable(self.bind)}:{self.flower_port}"

    @property
    def listening(self) -> dict[str, str]:
        return {name: self.environment[name] for name in LISTENING}

    @property
    def folders(self) -> tuple[Path, ...]:
        names = ("env", "db", "redis", "logs", "run", "runs", "control", "datasets", "models", "cache")
        return (self.home, *(self.home / name for name in names))


def reachable(address: str) -> str:
    """The host part of a URL that reaches what is bound there from this machine."""
    if address in ("0.0.0.0", "::", ""):
        return "[::1]" if address == "::" else "127.0.0.1"
    return f"[{address}]" if ":" in address else address


def load(environ: Mapping[str, str] = os.environ) -> Configuration:
    repository = REPOSITORY
    home = _path(environ, "LABMGR_HOME", repository / "var")
    socket_folder = _socket_folder(home)
    control_env = _path(environ, "LABMGR_CONTROL_ENV", home / "env" / "control")
    ml_python = _path(environ, "LABMGR_ML_PYTHON", home / "env" / "ml" / "bin" / "python")
    bind = environ.get("LABMGR_BIND") or "127.0.0.1"
    port = _port(environ, "LABMGR_PORT", 8000)
    flower_port = _port(environ, "LABMGR_FLOWER_PORT", 5555)
    if port == flower_port:
        raise LabError(
            f"LABMGR_PORT and LABMGR_FLOWER_PORT are both {port}; give one of them another number."
        )
    node_name = environ.get("LABMGR_NODE_NAME") or node_name_of(socket.gethostname())
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", node_name):
        raise LabError(
            f"LABMGR_NODE_NAME={node_name!r} is no node name; use small letters, digits and hyphens."
        )
    values = _values(environ, home=home, socket_folder=socket_folder) | {
        "LABMGR_BIND": bind,
        "LABMGR_PORT": str(port),
        "LABMGR_FLOWER_PORT": str(flower_port),
        "LABMGR_FLOWER_URL": environ.get("LABMGR_FLOWER_URL") or f"http://{reachable(bind)}:{flower_port}/",
        "LABMGR_NODE_NAME": node_name,
        "LABMGR_CONTROL_ENV": str(control_env),
        "LABMGR_ML_PYTHON": str(ml_python),
    }
    return Configuration(
        repository=repository,
        home=home,
        control_env=control_env,
        control_env_is_named=bool(environ.get("LABMGR_CONTROL_ENV"))
        and control_env != home / "env" / "control",
        ml_python=ml_python,
        ml_python_is_named=bool(environ.get("LABMGR_ML_PYTHON")) and ml_python != home / "env/ml/bin/python",
        bind=bind,
        port=port,
        flower_port=flower_port,
        node_name=node_name,
        has_gpu=Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None,
        redis_is_embedded=values["REDIS_URL"] == _socket_url(values["LABMGR_REDIS_SOCKET"]),
        socket_folder=socket_folder,
        environment=_environment(environ, values, repository=repository, control_env=control_env),
    )


def _environment(
    environ: Mapping[str, str], values: dict[str, str], *, repository: Path, control_env: Path
) -> dict[str, str]:
    """What services and manage.py are given: the caller's environment, and every value above made explicit."""
    home = Path(values["LABMGR_HOME"])
    inherited = {name: value for name, value in environ.items() if name not in UNWANTED}
    if values["LABMGR_BIND"] not in LOOPBACK and not environ.get("LABMGR_ALLOWED_HOSTS"):
        hosts = {"localhost", "127.0.0.1", "[::1]", socket.gethostname(), reachable(values["LABMGR_BIND"])}
        inherited["LABMGR_ALLOWED_HOSTS"] = ",".join(sorted(hosts))
    return {
        **inherited,
        **values,
        "PATH": _path_with(control_env / "bin", environ.get("PATH") or os.defpath),
        "PYTHONPATH": str(repository),
        "PYTHONUNBUFFERED": "1",
        # Otherwise Python would write beside the sources, and so outside the home directory.
        "PYTHONPYCACHEPREFIX": str(home / "cache" / "python"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "DJANGO_SETTINGS_MODULE": "labmgr.settings",
    }


def node_name_of(hostname: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", hostname.split(".")[0].lower()).strip("-")
    return name or "node"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _values(environ: Mapping[str, str], *, home: Path, socket_folder: Path) -> dict[str, str]:
    redis_socket = str(_path(environ, "LABMGR_REDIS_SOCKET", socket_folder / "redis.sock"))
    return {
        "LABMGR_HOME": str(home),
        "DATABASE_URL": environ.get("DATABASE_URL") or f"sqlite:///{home}/db/labmgr.sqlite3",
        "REDIS_URL": environ.get("REDIS_URL") or _socket_url(redis_socket),
        "LABMGR_REDIS_SOCKET": redis_socket,
        "LABMGR_SOCKET_DIR": str(socket_folder),
        "LABMGR_CPU_SLOTS": environ.get("LABMGR_CPU_SLOTS") or str(cores()),
        "LABMGR_RUN_ROOT": str(_path(environ, "LABMGR_RUN_ROOT", home / "runs")),
        "LABMGR_DATASET_ROOTS": environ.get("LABMGR_DATASET_ROOTS") or str(home / "datasets"),
        "LABMGR_MODEL_ROOTS": environ.get("LABMGR_MODEL_ROOTS") or str(home / "models"),
        "LABMGR_RECIPE_ROOTS": environ.get("LABMGR_RECIPE_ROOTS") or str(home / "recipes"),
        "DJANGO_SECRET_KEY_FILE": environ.get("DJANGO_SECRET_KEY_FILE")
        or str(home / "secrets" / "secret_key"),
    }


def _path_with(first: Path, rest: str) -> str:
    return os.pathsep.join([str(first), *(part for part in rest.split(os.pathsep) if part != str(first))])


def _socket_url(path: str) -> str:
    return f"redis+socket://{quote(path)}?virtual_host=0"


def _path(environ: Mapping[str, str], name: str, default: Path) -> Path:
    raw = environ.get(name)
    return Path(os.path.abspath(Path(raw).expanduser())) if raw else default  # noqa: PTH100  (keeps links)


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    raw = environ.get(name) or str(default)
    if not raw.isdigit() or not 1 <= int(raw) <= 65535:
        raise LabError(f"{name}={raw!r} is not a port; give a whole number from 1 to 65535, or unset it.")
    return int(raw)


def _socket_folder(home: Path) -> Path:
    longest = len(os.fsencode(home / "run" / "launcher-0123456789.sock"))
    if longest <= SOCKET_PATH_BYTES:
        return home / "run"
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path("/tmp") / f"labmgr-{os.getuid()}-{digest}"
