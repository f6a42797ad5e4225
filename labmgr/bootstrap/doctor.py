"""What is missing or wrong, and how to mend it. Looks only; changes nothing."""

import json
import os
import re
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from labmgr.bootstrap import environments, gate, health, pip, ports
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.files import GIGABYTE
from labmgr.bootstrap.output import LabError, say

NETWORK_FILE_SYSTEMS = re.compile(
    r"nfs\d?|cifs|smb3|smbfs|lustre|gpfs|beegfs|ceph|glusterfs|afs|9p|pvfs2|orangefs|fuse\.(sshfs|glusterfs|ceph.*|s3fs|gcsfuse|juicefs)"
)
NVML = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"
OPEN_FILES = 1024


@dataclass(frozen=True)
class Finding:
    name: str
    state: str  # ok, warn or fail
    message: str
    remedy: str = ""


def run(configuration: Configuration, *, as_json: bool) -> int:
    findings = [finding for check in CHECKS for finding in check(configuration)]
    if as_json:
        say(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            say(f"{finding.state:<5} {finding.name:<22} {finding.message}")
            if finding.remedy:
                say(f"{'':<28} -> {finding.remedy}")
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def python_version(configuration: Configuration) -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.platform != "linux":
        yield Finding(
            "Python", "fail", f"{version} on {sys.platform}", "labmgr runs on Linux only; use one, or WSL 2."
        )
    elif sys.version_info >= (3, 13):
        remedy = "If the ML environment does not install, use 3.11 or 3.12."
        yield Finding("Python", "warn", f"{version}; torchtune and vLLM are tried with 3.11 and 3.12", remedy)
    else:
        yield Finding("Python", "ok", version)


def packages(configuration: Configuration) -> Iterator[Finding]:
    control = configuration.repository / "requirements.txt"
    yield _environment("control environment", configuration.control_python, control, "./lab setup --no-ml")
    if configuration.ml_python_is_named:
        yield _imports("ML environment", configuration.ml_python, "torch, torchtune, vllm")
        return
    requirements = environments.ml_requirements(configuration)
    yield _environment("ML environment", configuration.ml_python, requirements, "./lab setup")


def _environment(name: str, python: Path, requirements: Path, remedy: str) -> Finding:
    if not python.exists():
        return Finding(
            name,
            "warn",
            f"not there yet ({python})",
            f"{remedy} makes it; ./lab up and ./lab demo do so too.",
        )
    lacking = pip.missing(python, requirements)
    if lacking:
        return Finding(
            name, "fail", f"{'; '.join(lacking[:3])} ({len(lacking)} in all)", f"{remedy} installs it."
        )
    return Finding(name, "ok", f"as pinned in {requirements.name} ({python})")


def _imports(name: str, python: Path, modules: str) -> Finding:
    done = _output(
        [
            python,
            "-B",
            "-c",
            f"import importlib.util as u; print([m for m in '{modules}'.split(', ') if not u.find_spec(m)])",
        ]
    )
    if done == "[]":
        return Finding(name, "ok", f"{modules} are in {python}, which LABMGR_ML_PYTHON names")
    return Finding(
        name,
        "fail",
        f"{python} lacks {done or 'everything'}",
        "Install them there, or unset LABMGR_ML_PYTHON.",
    )


def disk(configuration: Configuration) -> Iterator[Finding]:
    existing = next(folder for folder in (configuration.home, *configuration.home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / GIGABYTE
    needed = environments.ML_CUDA_GB if configuration.has_gpu else environments.ML_CPU_GB
    if configuration.ml_python.exists():
        needed = environments.CONTROL_GB
    if free < needed:
        remedy = f"Free some ({needed:g} GB are needed), or name a place on another disk in LABMGR_HOME."
        yield Finding("disk", "fail", f"{free:.1f} GB free in {existing}", remedy)
    else:
        yield Finding("disk", "ok", f"{free:.1f} GB free in {existing}")
    if not os.access(existing, os.W_OK):
        yield Finding(
            "home", "fail", f"{existing} cannot be written", "Give it to your user, or set LABMGR_HOME."
        )


def port(configuration: Configuration) -> Iterator[Finding]:
    if health.is_up(configuration):
        address = health.as_it_runs(configuration).web_url
        yield Finding("ports", "ok", f"in use by this labmgr, which is up: {address}")
        return
    try:
        ports.require_free(configuration)
    except LabError as error:
        problem, _, remedy = str(error).partition(". ")
        yield Finding("ports", "fail", problem, remedy)
    else:
        yield Finding("ports", "ok", f"{configuration.port} and {configuration.flower_port} are free")


def gpus(configuration: Configuration) -> Iterator[Finding]:
    if not configuration.control_python.exists():
        return
    number = _output([configuration.control_python, "-B", "-c", NVML])
    if number.isdigit():
        yield Finding("NVML", "ok", f"{number} GPUs")
    elif configuration.has_gpu:
        remedy = "Have the administrator look at nvidia-smi (driver, /dev/nvidia*, container runtime)."
        yield Finding("NVML", "fail", "there is an NVIDIA driver, but NVML does not answer", remedy)
    else:
        slots = configuration.environment["LABMGR_CPU_SLOTS"]
        yield Finding("NVML", "ok", f"no GPU here; {slots} CPU slots are used (LABMGR_CPU_SLOTS)")


def database(configuration: Configuration) -> Iterator[Finding]:
    path = configuration.sqlite_path
    if path is None:
        yield Finding("database", "ok", "a server, named by DATABASE_URL")
        return
    kind = file_system_of(path, Path("/proc/mounts").read_text())
    if NETWORK_FILE_SYSTEMS.fullmatch(kind):
        remedy = "Put LABMGR_HOME on a local disk, or use PostgreSQL (DATABASE_URL); runs may stay (LABMGR_RUN_ROOT)."
        yield Finding(
            "database place",
            "fail",
            f"{path} is on {kind}; SQLite loses data on network file systems",
            remedy,
        )
    else:
        yield Finding("database place", "ok", f"{path} is on {kind or 'a local file system'}")
    if path.exists():
        yield _journal(path)


def _journal(path: Path) -> Finding:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding(
            "database",
            "fail",
            f"{path} cannot be read: {error}",
            "Restore it, or move it away: a new one is made.",
        )
    if mode == "wal":
        return Finding("database", "ok", "SQLite in WAL mode")
    return Finding(
        "database",
        "fail",
        f"SQLite in {mode} mode instead of WAL",
        "Run ./lab stop, then ./lab up, which sets it.",
    )


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds the path, by the longest mount point above it."""
    best, kind = "", ""
    resolved = str(path.resolve())
    for line in mounts.splitlines():
        _, point, found, *_ = line.split()
        point = point.replace("\\040", " ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def machine(configuration: Configuration) -> Iterator[Finding]:
    shared = shutil.disk_usage("/dev/shm").total / 2**20 if Path("/dev/shm").exists() else 0.0
    if shared < 64:
        remedy = "torch workers need it: in a container, start it with --shm-size=1g (needs whoever runs it)."
        yield Finding("/dev/shm", "warn", f"{shared:.0f} MiB", remedy)
    else:
        yield Finding("/dev/shm", "ok", f"{shared:,.0f} MiB")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    state = "ok" if soft >= OPEN_FILES else "warn"
    yield Finding(
        "open files", state, f"{soft} (at most {hard})", "" if state == "ok" else f"ulimit -n {OPEN_FILES}"
    )
    year = time.gmtime().tm_year
    built = time.gmtime((configuration.repository / "requirements.txt").stat().st_mtime).tm_year
    if year < built:
        yield Finding(
            "clock", "fail", f"it is set to {year}", "Set the clock (timedatectl set-ntp true, as root)."
        )
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def secrets(configuration: Configuration) -> Iterator[Finding]:
    folder = configuration.secrets
    paths = [folder, *folder.glob("*")] if folder.exists() else []
    loose = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in loose:
        yield Finding("secrets", "fail", f"{path} can be read by others", f"chmod go= {path}")
    if paths and not loose:
        yield Finding("secrets", "ok", "readable by you alone")


def root(configuration: Configuration) -> Iterator[Finding]:
    try:
        browser = gate.chromium_path()
    except LabError as error:
        yield Finding("browser", "fail", str(error))
        return
    if browser:
        yield Finding("browser", "ok", f"{browser}, for the browser tests")
    else:
        remedy = "apt-get install chromium, as root; only ./lab test wants it."
        yield Finding("browser", "warn", "no Chromium for the browser tests", remedy)
    yield Finding("root", "ok", "nothing needs root, except installing Chromium for the tests")


def _output(command: list[str | Path]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


CHECKS: tuple[Callable[[Configuration], Iterator[Finding]], ...] = (
    python_version,
    packages,
    disk,
    port,
    gpus,
    database,
    machine,
    secrets,
    root,
)
