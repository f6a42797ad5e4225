"""One per job: starts it, enforces its limit, ends its whole tree, writes down how it ended.

SIGTERM cancels the job. The supervisor needs nobody: worker, resident launcher, broker and database may all
be gone.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from scheduler.launchers import process_tree, records
from scheduler.launchers.base import Ending, ExitRecord, LaunchRequest
from scheduler.launchers.fence import Fence
from scheduler.launchers.job_tree import SAMPLE_SECONDS, JobTree, boot_clock

LOG = "supervisor.log"  # only there when a supervisor failed
STARTED = "started"
PATH_BYTES = 4096  # PATH_MAX, and written whole to a pipe

LEFTOVER_GRACE_SECONDS = 2.0
FENCED = "Its node could not renew its session, and stopped it before another node may take its runs."

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_CHILD_SUBREAPER = 36
_CANCELLING = {signal.SIGTERM, signal.SIGINT}
_AWAITED = {signal.SIGCHLD, *_CANCELLING}
_BLOCKED = {*_AWAITED, signal.SIGHUP}
_UNTOUCHABLE = {signal.SIGKILL, signal.SIGSTOP}


def main(orders: int, confirm: int) -> None:
    """The life of a freshly forked supervisor: it waits for the control directory of its job on `orders`, and ends if
    that closes without one. What went wrong with it is in its log; it never returns.
    """
    code, control_dir = 1, None
    try:
        _leave_the_resident()
        with contextlib.suppress(OSError):  # it is told where it is done in earnest
            rehearse()
        if name := os.read(orders, PATH_BYTES):
            os.close(orders)
            control_dir = Path(os.fsdecode(name))
            supervise(control_dir, confirm=confirm)
        code = 0
    except BaseException:
        if control_dir:
            os.dup2(os.open(control_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
            sys.excepthook(*sys.exc_info())  # unlike `traceback`, costs no memory in a thousand supervisors
    finally:
        os._exit(code)


def supervise(control_dir: Path, *, confirm: int) -> None:
    """See the job of a control directory from its start to its end, unless it was launched before.

    Before the job's first process starts, STARTED or the reason for a refusal is written to `confirm`.
    """
    _become_supervisor()
    lock = records.take_lock(control_dir)
    request = records.read_launch(control_dir)
    if lock is None or request is None or records.read_supervisor(control_dir):
        _answer(confirm, f"{control_dir} has a supervisor, had one, or holds no {records.LAUNCH}")
        return
    record = _record_of_itself()
    records.write_supervisor(control_dir, record)
    _answer(confirm, STARTED)
    records.write_exit(control_dir, _run(request, record))


def rehearse() -> None:
    """Do what every supervisor does and what changes nothing, so that it is fast when a job waits for it: the first
    time, memory is copied that is shared with the resident launcher.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ())
    records.rehearse(_record_of_itself())
    process_tree.marks(job_id=0, control_dir=Path(os.devnull))
    Fence(None).is_over()
    signal.valid_signals()


def _record_of_itself() -> records.SupervisorRecord:
    return records.SupervisorRecord(
        supervisor=process_tree.find(os.getpid()), boot_id=process_tree.boot_id(), started_at=time.time()
    )


def _leave_the_resident() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored there, where it would reap for us
    os.setsid()


def _become_supervisor() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)  # first: no cancel gets lost
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed; Linux 3.4 or newer has it")


def _answer(confirm: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the resident died; the agent finds the job by its records
        os.write(confirm, text.encode())
    os.close(confirm)


def _run(request: LaunchRequest, record: records.SupervisorRecord) -> ExitRecord:
    clock_at_start = boot_clock()
    fence = Fence(request.fence_file)
    if fence.is_over():  # since it was claimed: another node may have its runs by now
        return _never_started(request, record, Ending.NODE_LOST, f"It was not started. {FENCED}")
    try:
        tree = JobTree(_spawn(request))
    except (OSError, ValueError) as error:
        where = f"in {request.cwd} with the log {request.log_path}"
        told = f"{request.argv[0]} could not be started {where}: {error}."
        return _never_started(request, record, Ending.LAUNCH_FAILED, told)
    record = replace(record, leader=process_tree.find(tree.main_pid))
    records.write_supervisor(request.control_dir, record, durable=False)
    ending, message = _watch(tree, request, fence, deadline=clock_at_start + request.limit_seconds)
    grace = request.grace_seconds
    if ending is Ending.EXITED:
        grace = min(grace, LEFTOVER_GRACE_SECONDS)
    unkillable = tree.end(grace_seconds=grace)
    return ExitRecord(
        job_id=request.job_id,
        ending=ending,
        exit_code=tree.exit_code,
        signal=tree.signal,
        started_at=record.started_at,
        ended_at=record.started_at + boot_clock() - clock_at_start,
        peak_rss_mib=tree.peak_rss_mib(),
        cpu_seconds=tree.cpu_seconds(),
        unkillable_pids=unkillable,
        message=message,
    )


def _never_started(
    request: LaunchRequest, record: records.SupervisorRecord, ending: Ending, message: str
) -> ExitRecord:
    return ExitRecord(
        job_id=request.job_id,
        ending=ending,
        exit_code=None,
        signal=None,
        started_at=record.started_at,
        ended_at=record.started_at,
        peak_rss_mib=None,
        cpu_seconds=None,
        unkillable_pids=(),
        message=message,
    )


def _spawn(request: LaunchRequest) -> int:
    """Start the job's first process, as if by a fresh login: own session, own files, default signals."""
    os.chdir(request.cwd)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    log = os.open(request.log_path, flags, 0o666)
    env = {**request.env, **process_tree.marks(job_id=request.job_id, control_dir=request.control_dir)}
    try:
        return os.posix_spawn(
            _program(request.argv[0], env),
            request.argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=signal.valid_signals() - _UNTOUCHABLE,
        )
    finally:
        os.close(log)
        os.chdir("/")


def _program(name: str, env: dict[str, str]) -> str:
    """The file to execute; posix_spawnp would search the supervisor's PATH, not the job's."""
    if "/" in name:
        return name
    candidates = (Path(folder, name) for folder in os.get_exec_path(env))
    found = next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)
    if found is None:
        raise FileNotFoundError(f"no program {name} in the PATH it was given ({env.get('PATH', 'none')})")
    return str(found)


def _watch(tree: JobTree, request: LaunchRequest, fence: Fence, *, deadline: float) -> tuple[Ending, str]:
    """Wait for what ends the job first: itself, a cancel, its limit or its node's fence."""
    while True:
        tree.sample()
        left = max(0.0, deadline - boot_clock())
        received = signal.sigtimedwait(_AWAITED, min(left, SAMPLE_SECONDS))
        tree.reap()
        if tree.main_ended:
            return Ending.EXITED, _how_it_exited(tree)
        if received and received.si_signo in _CANCELLING:
            return Ending.CANCELLED, f"Cancelled by a signal from process {received.si_pid}."
        if left == 0.0:
            return Ending.TIMED_OUT, f"Ran longer than its limit of {request.limit_seconds:g} s."
        if fence.is_over():
            return Ending.NODE_LOST, FENCED


def _how_it_exited(tree: JobTree) -> str:
    if tree.signal is not None:
        return f"Ended by signal {tree.signal} ({signal.strsignal(tree.signal)})."
    return f"Exited with code {tree.exit_code}."
