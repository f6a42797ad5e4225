"""The two virtual environments: made once, remade when what they are made from changes, picked up when interrupted."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from labmgr.bootstrap import files, pip, processes
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, Progress

MARKER = ".labmgr-installed.json"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CONTROL_GB, ML_CPU_GB, ML_CUDA_GB = 0.5, 4.0, 15.0


def control(configuration: Configuration, progress: Progress) -> None:
    _ensure_control(
        configuration, progress, configuration.repository / "requirements.txt", "control environment"
    )


def for_tests(configuration: Configuration, progress: Progress) -> None:
    _ensure_control(
        configuration, progress, configuration.repository / "tests/requirements.txt", "test packages"
    )


def _ensure_control(configuration: Configuration, progress: Progress, requirements: Path, name: str) -> None:
    python = configuration.control_python
    if configuration.control_env_is_named:
        _check_named("LABMGR_CONTROL_ENV", python, requirements)
        return
    if is_done(configuration.control_env, name, [requirements]) and python.exists():
        return
    with progress.step(f"{name} (pip)", installing=True):
        if pip.missing(python, requirements):
            files.require_space(configuration.control_env, CONTROL_GB, purpose=f"the {name}")
            make_venv(configuration.control_env)
            log = configuration.logs / f"pip-{name.replace(' ', '-')}.log"
            # Not compiled: services keep their bytecode in the home directory, and of what they import only.
            pip.install(python, ["--no-compile", "-r", str(requirements)], log=log, progress=progress)
        mark_done(configuration.control_env, name, [requirements])


def ml(configuration: Configuration, progress: Progress) -> None:
    requirements = ml_requirements(configuration)
    if configuration.ml_python_is_named:
        if not os.access(configuration.ml_python, os.X_OK):
            raise LabError(
                f"LABMGR_ML_PYTHON={configuration.ml_python} is no Python that can be run; correct or unset it."
            )
        return
    shim = configuration.repository / "scheduler/runtimes/vllm/shim.py"
    sources = [requirements] if configuration.has_gpu else [requirements, shim]
    if is_done(configuration.ml_env, "ML environment", sources) and configuration.ml_python.exists():
        return
    with progress.step("ML environment: torch, torchtune, vLLM (pip)", installing=True):
        if pip.missing(configuration.ml_python, requirements):
            _install_ml(configuration, requirements, progress)
        if not configuration.has_gpu:
            run_quietly([configuration.ml_python, "-B", shim], "The vLLM shim failed")
        _check_torch(configuration)
        mark_done(configuration.ml_env, "ML environment", sources)


def ml_requirements(configuration: Configuration) -> Path:
    kind = "cuda" if configuration.has_gpu else "cpu"
    return configuration.repository / f"scheduler/runtimes/requirements-{kind}.txt"


def _install_ml(configuration: Configuration, requirements: Path, progress: Progress) -> None:
    gigabytes = ML_CUDA_GB if configuration.has_gpu else ML_CPU_GB
    files.require_space(configuration.ml_env, gigabytes, purpose="the ML environment")
    make_venv(configuration.ml_env)
    arguments = ["-r", str(requirements)]
    if not configuration.has_gpu:
        # The CPU build of vLLM asks for another torch than torchtune; the file pins the set that works.
        arguments = ["--no-deps", *arguments, *torch_index(os.environ.get("LABMGR_TORCH_INDEX_URL"))]
    pip.install(configuration.ml_python, arguments, log=configuration.logs / "pip-ml.log", progress=progress)


def torch_index(named: str | None) -> list[str]:
    """Where CPU builds of torch are; nothing where only pip's own configuration can know."""
    if named:
        return ["--extra-index-url", named]
    try:
        urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=3).close()
    except (urllib.error.URLError, OSError):
        return []
    return ["--extra-index-url", TORCH_CPU_INDEX]


def _check_torch(configuration: Configuration) -> None:
    done = subprocess.run(
        [configuration.ml_python, "-c", "import torch"],
        capture_output=True,
        text=True,
        cwd=configuration.home,
    )
    if done.returncode:
        raise LabError(
            "torch was installed and cannot be imported: "
            f"{done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}. "
            "On a machine without a GPU it must be a CPU build: name an index that has one in LABMGR_TORCH_INDEX_URL, "
            f"remove {configuration.ml_env}, and run the same command again."
        )


def _check_named(variable: str, python: Path, requirements: Path) -> None:
    """An environment that was handed to us is not ours to change."""
    if lacking := pip.missing(python, requirements):
        more = f" (and {len(lacking) - 3} more)" if len(lacking) > 3 else ""
        raise LabError(
            f"The environment named by {variable} does not fit: {'; '.join(lacking[:3])}{more}. "
            f"Run: {python} -m pip install -r {requirements}"
        )


def make_venv(folder: Path) -> None:
    """A virtual environment with a pip that starts; one that was interrupted is made again."""
    python = folder / "bin" / "python"
    if python.exists() and _pip_starts(python):
        return
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True)
    if done.returncode == 0:
        return
    output = done.stdout + done.stderr
    shutil.rmtree(folder, ignore_errors=True)
    if "ensurepip" in output:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise LabError(
            f"This Python cannot make virtual environments: its ensurepip is missing. Have python{version}-venv "
            "installed (Debian, Ubuntu), or use another Python, then run the same command again."
        )
    raise LabError(f"Making the virtual environment {folder} failed: {output.strip()[-300:]}")


def _pip_starts(python: Path) -> bool:
    done = subprocess.run([python, "-m", "pip", "--version"], capture_output=True)
    return done.returncode == 0


def run_quietly(command: list[str | Path], failure: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LabError(
            f"{failure} (exit code {done.returncode}):\n{(done.stdout + done.stderr).strip()[-800:]}"
        )
    return done.stdout


def fingerprint(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        if not source.exists():
            raise LabError(
                f"{source} is missing; this checkout is not whole. Restore it (git checkout {source.name})."
            )
        digest.update(source.read_bytes())
    return digest.hexdigest()


def is_done(env: Path, name: str, sources: Iterable[Path]) -> bool:
    return _marks(env).get(name) == fingerprint(sources)


def mark_done(env: Path, name: str, sources: Iterable[Path]) -> None:
    marks = _marks(env) | {name: fingerprint(sources)}
    processes.write_atomically(env / MARKER, json.dumps(marks, indent=1))


def _marks(env: Path) -> dict[str, str]:
    try:
        marks = json.loads((env / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}
