"""Everything before the first service: folders, secrets, environments, database, administrator. Safe to repeat."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labmgr.bootstrap import environments, files
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, Progress, say


def everything(configuration: Configuration, progress: Progress, *, with_ml: bool = True) -> None:
    packages(configuration, progress, with_ml=with_ml)
    database(configuration, progress)


def packages(
    configuration: Configuration, progress: Progress, *, with_ml: bool, for_tests: bool = False
) -> None:
    files.make_folders(configuration)
    with files.only_one(configuration.run_folder / "setup.lock", doing="setting up"):
        files.make_secrets(configuration)
        environments.control(configuration, progress)
        if for_tests:
            environments.for_tests(configuration, progress)
        if with_ml:
            environments.ml(configuration, progress)


def database(configuration: Configuration, progress: Progress) -> None:
    with files.only_one(configuration.run_folder / "setup.lock", doing="setting up"):
        with progress.step("database"):
            manage(configuration, "migrate", "--no-input", "--verbosity=0")
        with progress.step("static files"):
            manage(configuration, "collectstatic", "--no-input", "--verbosity=0")
        made = manage(configuration, "ensure_admin", "--json")
    if password := last_json(made).get("password"):
        say(
            f"\n  The administrator is 'admin', the password {password}\n"
            "  It is shown this once and stored nowhere; to set another: ./lab manage changepassword admin\n"
        )


def manage_command(configuration: Configuration, arguments: Sequence[str]) -> list[str]:
    if not configuration.control_python.exists():
        raise LabError(
            f"There is no environment at {configuration.control_env} yet; run ./lab setup --no-ml first."
        )
    return [str(configuration.control_python), str(configuration.repository / "manage.py"), *arguments]


def manage(
    configuration: Configuration, *arguments: str, timeout: float | None = None, show: bool = False
) -> str:
    """manage.py in its environment; its standard output, or a sentence with the end of what it said."""
    try:
        done = subprocess.run(
            manage_command(configuration, arguments),
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            timeout=timeout,
            env=dict(configuration.environment),
            cwd=configuration.repository,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"manage.py {arguments[0]} did not end within {timeout:.0f} s.") from error
    if done.returncode:
        tail = "\n".join((done.stderr or "").strip().splitlines()[-6:])
        raise LabError(
            f"manage.py {' '.join(arguments)} ended with exit code {done.returncode}.\n{tail}".rstrip()
        )
    return done.stdout or ""


def replace_with_manage(configuration: Configuration, arguments: Sequence[str]) -> None:
    command = manage_command(configuration, arguments)
    os.execve(command[0], command, dict(configuration.environment))


def last_json(output: str) -> dict[str, object]:
    """The document that a command printed, whatever warnings stand before it."""
    for start in ("{", "\n{"):
        position = output.find(start)
        if position >= 0:
            try:
                document = json.loads(output[position:])
            except ValueError:
                continue
            if isinstance(document, dict):
                return document
    return {}


def database_exists(configuration: Configuration) -> bool:
    path: Path | None = configuration.sqlite_path
    return path is None or path.exists()
