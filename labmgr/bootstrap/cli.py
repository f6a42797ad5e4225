"""./lab: reads the command line, makes one call, turns a LabError into its sentence."""

import argparse
import os
from collections.abc import Sequence

from labmgr.bootstrap import configuration as configurations
from labmgr.bootstrap import demo, doctor, gate, setup, stack, worker
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, Progress, say, warn

PASSED_ON = ("manage", "test")  # what follows these belongs to somebody else

EPILOG = """\
State lies in var/ (another place: LABMGR_HOME). Also read: LABMGR_PORT, LABMGR_FLOWER_PORT, LABMGR_BIND,
DATABASE_URL, REDIS_URL, LABMGR_ML_PYTHON, LABMGR_CONTROL_ENV, LABMGR_TORCH_INDEX_URL (docs/running.md).
"""


def main(arguments: Sequence[str]) -> int:
    try:
        return _run(arguments)
    except LabError as error:
        warn(f"\n{error}")
        return error.code
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        warn("\nInterrupted. Run the same command again to go on.")
        return 130


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in PASSED_ON:
        configuration = configurations.load()
        rest = list(arguments[1:])
        if arguments[0] == "test":
            return gate.run(configuration, rest)
        setup.replace_with_manage(configuration, rest)
    options = parser().parse_args(arguments)
    return int(options.call(configurations.load(), options))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lab", description="The lab manager, in one command.", epilog=EPILOG)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "demo", help="set everything up and run a real small experiment to its summary"
    )
    command.add_argument(
        "--exit", action="store_true", help="stop all when it is done; 0 if every cell succeeded"
    )
    command.add_argument("--fresh", action="store_true", help="forget the last demo and run it anew")
    command.set_defaults(call=_demo)

    command = commands.add_parser("up", help="set up what is needed and start all services")
    command.set_defaults(call=_up)

    command = commands.add_parser("stop", help="end the runs, then the services")
    command.add_argument(
        "--keep-runs", action="store_true", help="stop the services only; ./lab up finds the runs"
    )
    command.set_defaults(
        call=lambda configuration, options: _stop(configuration, keep_runs=options.keep_runs)
    )

    command = commands.add_parser(
        "status", help="what runs, and where to find it; 1 unless all services are up"
    )
    command.add_argument("--json", action="store_true")
    command.set_defaults(
        call=lambda configuration, options: stack.status(configuration, as_json=options.json)
    )

    command = commands.add_parser(
        "worker",
        help="join as a node: this machine's worker, in the foreground",
        description=worker.NEEDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(call=_worker)

    command = commands.add_parser("setup", help="the environments and the database only")
    command.add_argument("--no-ml", action="store_true", help="without torch, torchtune and vLLM")
    command.set_defaults(call=_setup)

    command = commands.add_parser("doctor", help="what is missing or wrong, and how to mend it")
    command.add_argument("--json", action="store_true")
    command.set_defaults(call=lambda configuration, options: doctor.run(configuration, as_json=options.json))

    commands.add_parser("test", help="everything the tests need, and the tests; or: test PYTEST-ARGUMENTS")
    commands.add_parser("manage", help="manage.py in the right environment: manage COMMAND ...")
    return top


def _demo(configuration: Configuration, options: argparse.Namespace) -> int:
    return demo.run(configuration, exit_when_done=options.exit, fresh=options.fresh)


def _up(configuration: Configuration, _: argparse.Namespace) -> int:
    stack.up(configuration, Progress())
    stack.say_addresses(configuration)
    return 0


def _stop(configuration: Configuration, *, keep_runs: bool) -> int:
    was_up = stack.stop(configuration, keep_runs=keep_runs)
    stopped = "The services are stopped; runs go on." if keep_runs else "Stopped."
    say(stopped if was_up else "The services were not up.")
    return 0


def _setup(configuration: Configuration, options: argparse.Namespace) -> int:
    setup.everything(configuration, Progress(), with_ml=not options.no_ml)
    say("Ready. Start it with ./lab up")
    return 0


def _worker(configuration: Configuration, _: argparse.Namespace) -> int:
    worker.require_servers(os.environ)
    setup.packages(configuration, Progress(), with_ml=True)
    worker.require_a_place(configuration)
    worker.become(configuration)
    return 0
