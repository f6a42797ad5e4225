"""pip, quietly: its words go to a log, and a failure becomes a sentence that says what to do."""

import re
import subprocess
import time
from pathlib import Path

from labmgr.bootstrap.files import last_lines
from labmgr.bootstrap.output import LabError, Progress

# Compares what is installed with what a requirements file pins; prints what differs. Runs in that environment.
MISSING = r"""
import re, sys
from importlib.metadata import PackageNotFoundError, version
def applies(marker):
    found = re.fullmatch(r'python_version (<|>=) "(\d+)\.(\d+)"', marker.strip())
    if not found:
        return True
    wanted = (int(found[2]), int(found[3]))
    return sys.version_info[:2] < wanted if found[1] == "<" else sys.version_info[:2] >= wanted
for line in open(sys.argv[1], encoding="utf-8"):
    pin, _, marker = line.split("#")[0].strip().partition(";")
    if "==" not in pin or (marker and not applies(marker)):
        continue
    name, wanted = (part.strip() for part in pin.split("=="))
    try:
        found = version(name.partition("[")[0])
    except PackageNotFoundError:
        print(f"{name} {wanted} is not installed")
        continue
    if found != wanted and found.partition("+")[0] != wanted:
        print(f"{name} is {found} instead of {wanted}")
"""

# Order matters: without a network, pip also says that there is no such package.
CAUSES = (
    (
        r"No space left on device|Disk quota exceeded",
        "The disk is full. Free some space, or name a place on another disk in LABMGR_HOME",
    ),
    (
        r"NewConnectionError|Failed to establish a new connection|Temporary failure in name resolution"
        r"|Name or service not known|ConnectTimeout|ReadTimeout|Read timed out|Connection refused|ProxyError"
        r"|Network is unreachable|ConnectionResetError|Cannot connect to proxy|Connection to \S+ timed out",
        "No network: pip cannot reach the package index. Check the connection (and HTTPS_PROXY or pip's index-url "
        "where you need them)",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED",
        "pip does not trust the package index's certificate. Name your certificates in PIP_CERT",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "The package index has no {what} for this Python and machine, or was not reached. Use an index that has it (pip's "
        "index-url, or LABMGR_TORCH_INDEX_URL for torch), or another Python (3.11 and 3.12 are known to work)",
    ),
    (
        r"Permission denied",
        "pip may not write there. Give the environment's folder to your user",
    ),
)


def missing(python: Path, requirements: Path) -> list[str]:
    """How the environment differs from the pins; one entry too when it has no usable Python."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", MISSING, requirements], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{python} cannot be started: {error}"]
    return (
        done.stdout.splitlines()
        if done.returncode == 0
        else [f"{python} fails: {done.stderr.strip()[-200:]}"]
    )


def install(python: Path, arguments: list[str], *, log: Path, progress: Progress) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    with log.open("w") as file:
        process = subprocess.Popen([*command, *arguments], stdout=file, stderr=subprocess.STDOUT)
        try:
            _follow(process, log, progress)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise LabError(
            f"{explain(log.read_text(errors='replace'))}, then run the same command again. pip's last lines ({log}):\n"
            f"{last_lines(log, 6)}"
        )


def _follow(process: subprocess.Popen[bytes], log: Path, progress: Progress) -> None:
    started = time.monotonic()
    while True:
        try:
            process.wait(timeout=0.5)
            return
        except subprocess.TimeoutExpired:
            names = re.findall(
                r"^(?:Collecting|  Downloading) (\S+)|^(Installing) ", log.read_text(errors="replace"), re.M
            )
            now = next(filter(None, names[-1]), "") if names else ""
            progress.live(f"{time.monotonic() - started:.0f} s  pip: {now}")


def explain(output: str) -> str:
    for pattern, sentence in CAUSES:
        if found := re.search(pattern, output):
            return sentence.format(**found.groupdict())
    return "pip could not install what is needed. Look at its last lines below, mend that"
