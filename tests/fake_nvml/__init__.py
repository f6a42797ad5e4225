"""A fake libnvidia-ml.so.1, compiled by the tests that need it: what stands behind the real binding."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "nvml.c"
SONAME = "libnvidia-ml.so.1"
GPU_IS_LOST, NOT_SUPPORTED, UNKNOWN, NO_DRIVER, MISMATCH = 15, 3, 999, 9, 18


def build(folder: Path, *flags: str) -> Path:
    """The library, in a folder for LD_LIBRARY_PATH. Without a compiler the tests fail, and do not pass unseen."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    assert compiler, "No C compiler: apt-get install gcc libc6-dev, as root."
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / SONAME
    command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{SONAME}", *flags, "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return library


class Inventory:
    """The text that the fake library reads; it appears whole or not at all."""

    def __init__(self, path: Path, *, gpus: int = 1) -> None:
        self.path = path
        self.lines = [gpu(index) for index in range(gpus)]
        self.write()

    def write(self, *more: str) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_text("\n".join([*self.lines, *more]) + "\n")
        temporary.replace(self.path)


def gpu(
    index: int, *, total: int = 81559, used: int = 4, utilisation: int = 0, ecc: int = 0, mig: int = 0
) -> str:
    return f"gpu GPU-{index} {total} {used} 600 {utilisation} 34 70500 {ecc} {mig}"
