"""GPUs by the real binding over the fake library, loaded into this process for one test."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from scheduler.inventory import nvml
from tests import fake_nvml
from tests.fake_nvml import Inventory


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(fake_nvml.build(tmp_path_factory.mktemp("libnvml"))))


@pytest.fixture
def gpus(nvml_library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inventory]:
    """A machine of two GPUs, until a test writes another inventory."""
    monkeypatch.setattr(pynvml, "nvmlLib", nvml_library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    inventory = Inventory(tmp_path / "gpus", gpus=2)
    monkeypatch.setenv("FAKE_NVML", str(inventory.path))
    nvml.begin_anew()
    yield inventory
    nvml.begin_anew()
