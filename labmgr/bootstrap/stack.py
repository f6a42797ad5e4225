"""Starting and stopping everything of one home directory, whatever state it was left in."""

import contextlib
import json
import subprocess
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from labmgr.bootstrap import files, health, ports, processes, services, setup
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, Progress, say, warn

START_SECONDS = 180.0
STOP_SECONDS = 60.0  # for the supervisor to end all services
END_RUNS_SECONDS = 90.0  # stop_runs itself gives up after 60
END_JOBS_SECONDS = 30.0  # more than a job has between TERM and KILL
ENDING_GRACE_SECONDS = 15.0


def up(configuration: Configuration, progress: Progress, *, set_up: bool = True) -> None:
    files.make_folders(configuration)
    with files.only_one(configuration.run_folder / "stack.lock", doing="starting or stopping the services"):
        if health.is_up(configuration):
            _say_already_up(configuration)
            return
        clear_the_way(configuration)
        if set_up:
            setup.everything(configuration, progress)
        with progress.step("services"):
            start(configuration, progress)


def _say_already_up(configuration: Configuration) -> None:
    there = health.as_it_runs(configuration).listening
    other = [f"{name}={value}" for name, value in there.items() if value != configuration.listening[name]]
    if not other:
        say("labmgr is up already.")
        return
    say(
        f"labmgr is up already, with {', '.join(other)}. "
        "To have it listen as you asked: ./lab stop --keep-runs, then ./lab up."
    )


def clear_the_way(configuration: Configuration) -> None:
    """Before anything that takes long: what would keep the services from starting is ended, or told."""
    end_orphans(configuration)
    ports.require_free(configuration)


def start(configuration: Configuration, progress: Progress) -> None:
    log = configuration.logs / "services.log"
    files.rotate(log)
    (configuration.run_folder / "services.json").unlink(missing_ok=True)
    with log.open("ab") as output:
        supervisor = subprocess.Popen(
            [configuration.control_python, "-m", "labmgr.bootstrap.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=configuration.repository,
            env=dict(configuration.environment) | {"LABMGR_SERVICE": "supervisor"},
            start_new_session=True,
        )
    try:
        _wait_until_healthy(configuration, supervisor, progress)
    except BaseException:
        stop_services(configuration)
        raise


def _wait_until_healthy(
    configuration: Configuration, supervisor: subprocess.Popen[bytes], progress: Progress
) -> None:
    deadline, since = time.monotonic() + START_SECONDS, datetime.now(UTC)
    while True:
        if supervisor.poll() is not None:
            raise _not_started(configuration, "The supervisor of the services ended", "services")
        lacking = health.missing(configuration)
        if not lacking and health.node_is_live(configuration, since=since):
            return
        for state in health.service_states(configuration):
            if state.restarts >= 4:
                raise _not_started(
                    configuration, f"{state.name} does not stay up: it {state.last_end}", state.name
                )
        if time.monotonic() > deadline:
            waited_for = lacking[0] if lacking else "node"
            raise _not_started(
                configuration, f"{waited_for} is not usable after {START_SECONDS:.0f} s", waited_for
            )
        progress.live(f"waiting for {', '.join(lacking) or 'the node'}")
        time.sleep(0.2)


def _not_started(configuration: Configuration, what: str, log_name: str) -> LabError:
    log = configuration.logs / f"{log_name}.log"
    return LabError(f"{what}. All services were stopped again. The end of {log}:\n{files.last_lines(log)}")


def stop(configuration: Configuration, *, keep_runs: bool) -> bool:
    """Whether the services were up. Returns when nothing of ours is left (with keep_runs: but the runs)."""
    if not configuration.run_folder.exists():
        return False
    with files.only_one(configuration.run_folder / "stack.lock", doing="starting or stopping the services"):
        was_up = health.is_up(configuration)
        if was_up and not keep_runs:
            end_runs(configuration)
        stop_services(configuration)
        if not keep_runs:  # told so, a supervisor ends its job in order and writes down how it ended
            supervisors = processes.supervisors_of(configuration.home / "control")
            if supervisors and not was_up:
                say(
                    f"Ending {len(supervisors)} job{'s' if len(supervisors) > 1 else ''} that had been kept running."
                )
            processes.end(supervisors, grace_seconds=END_JOBS_SECONDS)
        left = [] if keep_runs else leftovers(configuration)
        if left:
            say(f"Ending {len(left)} left-over process{'es' if len(left) > 1 else ''} of ours.")
        if alive := processes.end(left, grace_seconds=ENDING_GRACE_SECONDS):
            pids = ", ".join(f"{process.pid} ({processes.command_of(process.pid)[:60]})" for process in alive)
            raise LabError(
                f"These processes of ours cannot be ended: {pids}. They wait for the kernel; look at dmesg."
            )
    return was_up


def end_runs(configuration: Configuration) -> None:
    try:
        setup.manage(configuration, "stop_runs", "--wait", timeout=END_RUNS_SECONDS)
    except LabError as error:
        warn(f"Runs could not be ended in order, so their processes are ended: {error}")


def stop_services(configuration: Configuration) -> None:
    lock = configuration.run_folder / "services.lock"
    supervisor = processes.read_pid_file(configuration.run_folder / "supervisor.pid")
    if supervisor and files.is_locked(lock):
        processes.end([supervisor], grace_seconds=STOP_SECONDS)
        processes.wait_until(lambda: not files.is_locked(lock), 5.0)
    end_orphans(configuration)


def end_orphans(configuration: Configuration) -> None:
    """Services whose supervisor was killed: found by pid file and start time, with what is left of their groups."""
    names = {path.stem for path in configuration.run_folder.glob("*.pid")} - {"supervisor"}
    for name in sorted(names, key=lambda name: name == "redis"):  # what the others need, last
        path = configuration.run_folder / f"{name}.pid"
        leader = processes.read_pid_file(path)
        if leader is not None:
            orphans = processes.group_of(configuration.home, name, leader)
            if orphans:
                say(f"Ending {name}, which a killed supervisor left behind (pid {leader.pid}).")
            main = [process for process in orphans if process == leader]
            processes.end(main, grace_seconds=ENDING_GRACE_SECONDS)
            processes.end([process for process in orphans if process.is_alive], grace_seconds=1.0)
        path.unlink(missing_ok=True)
    (configuration.run_folder / "supervisor.pid").unlink(missing_ok=True)


def leftovers(configuration: Configuration) -> list[processes.ProcessId]:
    """What should be gone and is not: services, jobs and their supervisors."""
    ours = processes.of_home(configuration.home, lambda environment: "LABMGR_SERVICE" in environment)
    jobs = processes.of_jobs(configuration.home / "control")
    return list(dict.fromkeys([*ours, *jobs]))


def status(configuration: Configuration, *, as_json: bool) -> int:
    """Exit code 0 only where every service is ready: one that starts, or waits to be started again, is not up."""
    up_now = health.is_up(configuration)
    configuration = health.as_it_runs(configuration)
    states = health.service_states(configuration) if up_now else []
    not_ready = [state.name for state in states if state.state != "ready"]
    code = 0 if states and not not_ready else 1
    experiments = _experiments(configuration)
    if as_json:
        document = {
            "is_up": up_now,
            "not_ready": not_ready,
            "home": str(configuration.home),
            "web": configuration.web_url,
            "flower": configuration.flower_url,
            "services": [asdict(state) for state in states],
            "experiments": experiments,
        }
        say(json.dumps(document, indent=2))
        return code
    without = f" but for {', '.join(not_ready)}" if not_ready else ""
    say(f"labmgr is {'up' if up_now else 'not up'}{without}; its home is {configuration.home}")
    for state in states:
        again = f"  restarted {state.restarts} x, last because it {state.last_end}" if state.restarts else ""
        say(f"  {state.name:<10} {state.state:<9} pid {state.pid or '-'}{again}")
    for experiment in experiments:
        cells = ", ".join(f"{number} {name}" for name, number in experiment.get("cells", {}).items())
        say(f"  {experiment['name']}: {experiment['state']}  ({cells})")
    if up_now:
        say_addresses(configuration)
    return code


def _experiments(configuration: Configuration) -> list[dict[str, Any]]:  # of manage.py status
    if not setup.database_exists(configuration) or not configuration.control_python.exists():
        return []
    with contextlib.suppress(LabError):
        found = setup.last_json(setup.manage(configuration, "status", "--json", timeout=60)).get(
            "experiments"
        )
        return found if isinstance(found, list) else []
    return []


def say_addresses(configuration: Configuration) -> None:
    configuration = health.as_it_runs(configuration)
    say(f"\n  Admin   {configuration.web_url}/admin/")
    say(f"  API     {configuration.web_url}/api/docs/")
    password_file = configuration.secrets / "flower_password"
    say(f"  Flower  {configuration.flower_url}/   user {services.FLOWER_USER}, password in {password_file}")
    say(f"  Logs    {configuration.logs}\n")
