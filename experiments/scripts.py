"""`command.sh`: a shell script that repeats a run where it ran, without labmgr."""

import shlex
from collections.abc import Mapping, Sequence

_MATTERS = (  # of a job's environment: what moves its results or its speed
    "CUDA_DEVICE_ORDER",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "VLLM_NO_USAGE_STATS",
)


def command_sh(
    *,
    argv: Sequence[str],
    env: Mapping[str, str],
    also: Sequence[str] = (),
    code_folder: str | None = None,
    folder: str = ".",
) -> str:
    """The script's text. It runs in its own folder, or in `folder` beneath it, which it makes.

    `also` names what else of the environment matters. `code_folder`, beneath the script's folder, is where Python
    finds the modules that were copied for the run.
    """
    lines = [
        "#!/bin/sh",
        "# Repeats this run without labmgr; what it writes goes to the folder repeat.",
        "set -eu",
    ]
    lines.append('cd "$(dirname "$0")"')
    lines += [f"export {name}={shlex.quote(env[name])}" for name in (*_MATTERS, *also) if name in env]
    if "CUDA_VISIBLE_DEVICES" in env:
        seen = shlex.quote(env["CUDA_VISIBLE_DEVICES"]) if env["CUDA_VISIBLE_DEVICES"] else ""
        lines.append(f"export CUDA_VISIBLE_DEVICES=${{CUDA_VISIBLE_DEVICES-{seen}}}")
    if code_folder is not None:
        lines.append(f'export PYTHONPATH="$PWD/{code_folder}"')
    if folder != ".":
        lines.append(f"mkdir -p {shlex.quote(folder)} && cd {shlex.quote(folder)}")
    return "\n".join([*lines, f"exec {shlex.join(argv)}", ""])
