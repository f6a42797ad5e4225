"""GPUs as NVML shows them now. It counts in PCI order, whatever CUDA_VISIBLE_DEVICES says: address them by UUID.

What a driver does not tell, for want of the function or of support, is None. What it answers with an error is a GPU
that failed, with NVML's words. Not covered: MIG instances (a GPU in MIG mode is only told to be so), memory that a GPU
shares with its host, Xid events, vGPU.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

_MIB = 1024 * 1024
_NO_GPU_HERE = {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}
_SICK = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}
_COMPUTING = (
    pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
    pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
)
_DRAWING = (
    pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
    pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2,
)
_TRIES = 3
_T = TypeVar("_T")

_lock = threading.RLock()  # the agent looks before a launch, the lookout now and then
_process = 0  # the one that initialised NVML: a fork inherits nothing that it could use


@dataclass(frozen=True, kw_only=True)
class GpuProcess:
    pid: int  # in the namespace of whoever asks, or of the host: that is the driver's choice
    memory_mib: int | None  # None where the driver does not tell


@dataclass(frozen=True, kw_only=True)
class Gpu:
    index: int
    uuid: str
    model_name: str
    memory_mib: int
    used_mib: int
    utilisation_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    uncorrected_errors: int | None = None  # of its memory, since the driver was loaded
    is_mig: bool = False
    processes: tuple[GpuProcess, ...] | None = None  # None where the driver does not list them


@dataclass(frozen=True, kw_only=True)
class FailedGpu:
    """It is there and does not answer; `uuid` is empty where not even that can be read."""

    index: int
    uuid: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Gpus:
    gpus: tuple[Gpu, ...] = ()
    failed: tuple[FailedGpu, ...] = ()
    problem: str = ""  # NVML itself does not answer
    is_absent: bool = False  # and that is because no driver is there


def read() -> Gpus:
    """All GPUs; never raises for what NVML says."""
    return _read(lambda: [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())])


def processes_on(uuids: Iterable[str]) -> Gpus:
    """Of these GPUs what a launch must know: their memory, and who uses it. It is the part that is quick."""
    return _read(lambda: [_used(uuid) for uuid in uuids])


def begin_anew() -> None:
    """Let the next reading count the GPUs again."""
    _close()


def _read(look: Callable[[], list[Gpu | FailedGpu]]) -> Gpus:
    try:
        with _session():
            found = look()
    except pynvml.NVMLError as error:
        return Gpus(problem=_words(error), is_absent=error.value in _NO_GPU_HERE)
    gpus = tuple(gpu for gpu in found if isinstance(gpu, Gpu))
    failed = tuple(gpu for gpu in found if isinstance(gpu, FailedGpu))
    if failed:
        _close()  # NVML counts GPUs when it is initialised: only then is one seen that came back
    return Gpus(gpus=gpus, failed=failed)


@contextmanager
def _session() -> Iterator[None]:
    """NVML stays initialised: the first client of an idle GPU without persistence mode waits for seconds."""
    global _process
    with _lock:
        if _process != os.getpid():
            pynvml.nvmlInit()
            _process = os.getpid()
        try:
            yield
        except pynvml.NVMLError:
            _close()
            raise


def _close() -> None:
    global _process
    with _lock:
        if _process == os.getpid():
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
        _process = 0


def _gpu(index: int) -> Gpu | FailedGpu:
    uuid = ""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        return _told(index, uuid, handle)
    except pynvml.NVMLError as error:
        return FailedGpu(index=index, uuid=uuid, message=_words(error))


def _used(uuid: str) -> Gpu | FailedGpu:
    index = 0
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        index = pynvml.nvmlDeviceGetIndex(handle)
        memory = _memory(handle)
        return Gpu(
            index=index,
            uuid=uuid,
            model_name="",
            memory_mib=memory.total // _MIB,
            used_mib=memory.used // _MIB,
            processes=_processes(handle),
        )
    except pynvml.NVMLError as error:
        return FailedGpu(index=index, uuid=uuid, message=_words(error))


def _told(index: int, uuid: str, handle: Any) -> Gpu:
    memory = _memory(handle)
    utilisation = _figure(pynvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _figure(pynvml.nvmlDeviceGetPowerUsage, handle)
    mig = _figure(pynvml.nvmlDeviceGetMigMode, handle)
    return Gpu(
        index=index,
        uuid=uuid,
        model_name=pynvml.nvmlDeviceGetName(handle),
        memory_mib=memory.total // _MIB,
        used_mib=memory.used // _MIB,
        utilisation_percent=None if utilisation is None else utilisation.gpu,
        temperature_celsius=_figure(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        uncorrected_errors=_uncorrected_errors(handle),
        is_mig=bool(mig and mig[0]),
        processes=_processes(handle),
    )


def _memory(handle: Any) -> Any:
    """Version 2 tells what is used without what the driver keeps for itself."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value in _SICK:
            raise
    return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _uncorrected_errors(handle: Any) -> int | None:
    kind, since = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    return _figure(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind, since)


def _processes(handle: Any) -> tuple[GpuProcess, ...] | None:
    """What computes and what draws; a process that does both counts once, with the larger figure."""
    lists = [_listed(functions, handle) for functions in (_COMPUTING, _DRAWING)]
    if all(found is None for found in lists):
        return None
    memory: dict[int, int | None] = {}
    for process in (process for found in lists for process in found or []):
        told = None if process.usedGpuMemory is None else process.usedGpuMemory // _MIB
        before = memory.get(process.pid, 0)
        memory[process.pid] = None if told is None or before is None else max(told, before)
    return tuple(GpuProcess(pid=pid, memory_mib=mib) for pid, mib in sorted(memory.items()))


def _listed(functions: Iterable[Callable[..., list[Any]]], handle: Any) -> list[Any] | None:
    """By the newest function that this driver has."""
    for function in functions:
        for _ in range(_TRIES):
            try:
                return function(handle)
            except pynvml.NVMLError as error:
                if error.value in _SICK:
                    raise
                if error.value != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:  # more started than there was room for
                    break
    return None


def _figure(function: Callable[..., _T], *arguments: Any) -> _T | None:
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _SICK:
            raise
        return None


def _words(error: Any) -> str:
    return f"NVML says: {error}"
