"""Slurm on one machine without systemd: its daemons in a folder of their own, with a key of their own.

The jobs are one array, which is how many alike are handed to Slurm. Each takes one of eight generic resources, which Slurm
calls GPUs; so the device of a job is the one that Slurm tells it, as on a real machine.
"""

import os
import pwd
import secrets
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.queue_peers.base import (
    Outcome,
    PeerError,
    Work,
    lacking,
    running,
    wait_for,
    wait_until_done,
)
from tests.benchmarks.queue_peers.leftovers import nothing_left
from tests.benchmarks.queue_peers.recorder import now
from tests.lab import free_port

CONFIGURATION = """
ClusterName=idlegap
SlurmctldHost={host}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} Gres=gpu:{slots} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
TUNED = """
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
"""
JOB = """#!/bin/sh
exec {program} {record} {seconds} "$SLURM_ARRAY_TASK_ID" "$CUDA_VISIBLE_DEVICES"
"""
NULL_DEVICE = os.makedev(1, 3)


class Slurm:
    def __init__(self, *, tuned: bool) -> None:
        self.name = "Slurm, tuned" if tuned else "Slurm"
        self.queue_on_disk = "files, saved within 5 s"
        self._settings = CONFIGURATION + (TUNED if tuned else "")

    def missing(self) -> str | None:
        if os.getuid():
            return "it needs root, for the files of the devices that it gives out"
        programs = ("slurmctld", "slurmd", "sbatch", "scancel", "munged")
        return lacking(programs, install="apt-get install slurmctld slurmd slurm-client munge")

    def run(self, work: Work, folder: Path) -> Outcome:
        with nothing_left(), _cluster(folder, self._settings, work.slots):
            script = folder / "job.sh"
            program, record, seconds, *_ = work.argv("")
            script.write_text(JOB.format(program=program, record=record, seconds=seconds))
            submitted_at = now()
            array = f"--array=0-{work.count - 1}"
            _slurm(folder, "sbatch", array, "--gres=gpu:1", "--output=/dev/null", "--chdir=/", str(script))
            wait_until_done(work)
        return Outcome(submitted_at=submitted_at)


@contextmanager
def _cluster(folder: Path, settings: str, slots: int) -> Iterator[None]:
    host = socket.gethostname().split(".")[0]
    _write(folder, settings, host, slots)
    with ExitStack() as daemons:
        for command, log in _daemons(folder, host):
            daemons.enter_context(running(command, log, env=_environment(folder)))
            if log.stem == "munged":
                wait_for((folder / "munge.sock").exists, what="munged", log=log)
        wait_for(lambda: _is_idle(folder), what="The Slurm node", log=folder / "slurmd.log")
        try:
            yield
        finally:
            _end_jobs(folder)


def _daemons(folder: Path, host: str) -> list[tuple[list[str], Path]]:
    munge = ["munged", "--foreground", "--force", "--key-file", f"{folder}/munge.key"]
    munge += ["--socket", f"{folder}/munge.sock", "--pid-file", f"{folder}/munge.pid"]
    munge += ["--seed-file", f"{folder}/munge.seed", "--log-file", f"{folder}/munge.log"]
    configured = ["-D", "-f", f"{folder}/slurm.conf"]
    return [
        (munge, folder / "munged.log"),
        (["slurmctld", "-c", "-i", *configured], folder / "slurmctld.log"),
        (["slurmd", *configured, "-N", host], folder / "slurmd.log"),
    ]


def _write(folder: Path, settings: str, host: str, slots: int) -> None:
    for name in ("state", "spool", "devices"):
        (folder / name).mkdir()
    for slot in range(slots):
        os.mknod(folder / "devices" / f"slot{slot}", stat.S_IFCHR | 0o666, NULL_DEVICE)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    user = pwd.getpwuid(os.getuid()).pw_name
    ports = {"controller_port": free_port(), "node_port": free_port()}
    text = settings.format(folder=folder, host=host, user=user, slots=slots, **ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/devices/slot[0-{slots - 1}]\n")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _is_idle(folder: Path) -> bool:
    return _slurm(folder, "sinfo", "--noheader", "--format=%T", check=False) == "idle"


def _end_jobs(folder: Path) -> None:
    """Before the daemons go: a step without them stays behind."""
    _slurm(folder, "scancel", "--full", "--signal=KILL", f"--user={os.getuid()}", check=False)
    _slurm(folder, "scancel", f"--user={os.getuid()}", check=False)
    wait_for(
        lambda: not _slurm(folder, "squeue", "--noheader", check=False),
        what="The end of Slurm's jobs",
        log=folder / "slurmctld.log",
    )


def _slurm(folder: Path, *command: str, check: bool = True) -> str:
    done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True)
    if check and done.returncode:
        raise PeerError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def _environment(folder: Path) -> dict[str, str]:
    return dict(os.environ) | {"SLURM_CONF": f"{folder}/slurm.conf"}
