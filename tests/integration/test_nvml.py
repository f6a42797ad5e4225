"""The real reading code, in a process of its own, over a fake libnvidia-ml.so.1: what a driver says, and does not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import fake_nvml
from tests.fake_nvml import Inventory
from tests.lab import REPOSITORY

READ = """
import dataclasses, importlib.util, json, sys
spec = importlib.util.spec_from_file_location("nvml", "scheduler/inventory/nvml.py")  # the file alone needs no Django
nvml = sys.modules["nvml"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(nvml)
print(json.dumps(dataclasses.asdict(nvml.read())))
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    for name, flags in {
        "new": (),
        "old": ("-DOLD_DRIVER",),
        "bare": ("-DOLD_DRIVER", "-DNO_PROCESSES"),
    }.items():
        fake_nvml.build(folder / name, *flags)
    return folder


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path / "inventory", gpus=8)


def read(library: Path, inventory: Inventory | None, **environment: str) -> dict[str, Any]:
    named = {"FAKE_NVML": str(inventory.path)} if inventory else {}
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env={**os.environ, "LD_LIBRARY_PATH": str(library), **named, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_eight_gpus_are_read_by_uuid_with_all_that_a_driver_tells(
    libraries: Path, inventory: Inventory
) -> None:
    inventory.write("compute 3 41 12000", "graphics 3 41 12000", "graphics 3 42 4", "compute 3 43 -1")
    told = read(libraries / "new", inventory)
    assert [gpu["uuid"] for gpu in told["gpus"]] == [f"GPU-{index}" for index in range(8)]
    assert told["gpus"][3] == {
        "index": 3,
        "uuid": "GPU-3",
        "model_name": "NVIDIA H100 80GB HBM3",
        "memory_mib": 81559,
        "used_mib": 4,
        "utilisation_percent": 0,
        "temperature_celsius": 34,
        "power_watts": 70.5,
        "uncorrected_errors": 0,
        "is_mig": False,
        "processes": [
            {"pid": 41, "memory_mib": 12000},
            {"pid": 42, "memory_mib": 4},
            {"pid": 43, "memory_mib": None},
        ],
    }
    assert (told["failed"], told["problem"]) == ([], "")


def test_our_own_cuda_visible_devices_changes_nothing(libraries: Path, inventory: Inventory) -> None:
    told = read(
        libraries / "new", inventory, CUDA_VISIBLE_DEVICES="7,0,GPU-3", CUDA_DEVICE_ORDER="FASTEST_FIRST"
    )
    assert [(gpu["index"], gpu["uuid"]) for gpu in told["gpus"]] == [(n, f"GPU-{n}") for n in range(8)]


def test_an_old_driver_is_read_by_its_old_functions(libraries: Path, inventory: Inventory) -> None:
    inventory.write("compute 0 41 12000")
    first = read(libraries / "old", inventory)["gpus"][0]
    assert first["used_mib"] == 604  # its memory figure has what the driver keeps for itself in it
    assert first["processes"] == [{"pid": 41, "memory_mib": 12000}]
    assert first["is_mig"] is False


def test_a_driver_without_process_lists_says_nothing_of_processes(
    libraries: Path, inventory: Inventory
) -> None:
    inventory.write("compute 0 41 12000")
    told = read(libraries / "bare", inventory)
    assert (told["gpus"][0]["processes"], told["failed"]) == (None, [])


@pytest.mark.parametrize("code", [fake_nvml.NOT_SUPPORTED, fake_nvml.UNKNOWN])
def test_a_figure_that_a_gpu_does_not_tell_is_left_out(
    libraries: Path, inventory: Inventory, code: int
) -> None:
    what = ("utilisation", "temperature", "power", "ecc", "mig", "processes")
    inventory.write(*(f"fail 0 {figure} {code}" for figure in what))
    told = read(libraries / "new", inventory)
    first = told["gpus"][0]
    names = ("utilisation_percent", "temperature_celsius", "power_watts", "uncorrected_errors", "processes")
    assert [first[name] for name in names] == [None] * 5
    assert (first["memory_mib"], told["failed"]) == (81559, [])


@pytest.mark.parametrize("what", ["handle", "uuid", "memory", "power", "processes"])
def test_a_lost_gpu_is_told_apart_and_the_others_are_read(
    libraries: Path, inventory: Inventory, what: str
) -> None:
    inventory.write(f"fail 2 {what} {fake_nvml.GPU_IS_LOST}")
    told = read(libraries / "new", inventory)
    assert [gpu["index"] for gpu in told["gpus"]] == [0, 1, 3, 4, 5, 6, 7]
    uuid = "" if what in ("handle", "uuid") else "GPU-2"
    assert told["failed"] == [{"index": 2, "uuid": uuid, "message": "NVML says: GPU is lost"}]


def test_memory_that_cannot_be_read_fails_a_gpu(libraries: Path, inventory: Inventory) -> None:
    inventory.write(f"fail 2 memory {fake_nvml.UNKNOWN}")
    told = read(libraries / "new", inventory)
    assert [(gpu["index"], gpu["message"]) for gpu in told["failed"]] == [(2, "NVML says: Unknown Error")]


def test_a_machine_without_a_driver_is_told_from_one_with_a_broken_driver(
    libraries: Path, inventory: Inventory
) -> None:
    assert read(libraries / "new", None)["is_absent"] is True
    inventory.write(f"init {fake_nvml.NO_DRIVER}")
    assert read(libraries / "new", inventory)["is_absent"] is True
    inventory.write(f"init {fake_nvml.MISMATCH}")
    told = read(libraries / "new", inventory)
    assert (told["is_absent"], told["gpus"]) == (False, [])
    assert "version mismatch" in told["problem"]
