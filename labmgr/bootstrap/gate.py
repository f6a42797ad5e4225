"""./lab test: everything that must hold before a change goes in, the fast checks first, the first failure ends it."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from labmgr.bootstrap import setup
from labmgr.bootstrap.configuration import Configuration
from labmgr.bootstrap.output import LabError, Progress, say

DEPLOYED = {"LABMGR_DEBUG": "0", "LABMGR_HTTPS": "1", "LABMGR_ALLOWED_HOSTS": "labmgr.example.org"}
NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "LABMGR_HOME", "LABMGR_RUN_ROOT", "LABMGR_DATASET_ROOTS")
ONCE = "not engine and not browser"  # what real engines or a browser do, and the pure parts, is the same on either


def run(configuration: Configuration, arguments: Sequence[str]) -> int:
    started = time.monotonic()
    progress = Progress()
    setup.packages(configuration, progress, with_ml=True, for_tests=True)
    environment = environment_for_tests(configuration)
    if arguments:
        return subprocess.run(
            pytest(configuration, arguments), env=dict(environment), cwd=configuration.repository
        ).returncode
    for name, command, extra in steps(configuration):
        say(f"\n== {name}")
        began = time.monotonic()
        code = subprocess.run(command, env={**environment, **extra}, cwd=configuration.repository).returncode
        say(f"== {name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - began:.1f} s")
        if code:
            return code
    say(f"\nEverything passed in {time.monotonic() - started:.0f} s.")
    return 0


def steps(configuration: Configuration) -> list[tuple[str, list[str], Mapping[str, str]]]:
    python = str(configuration.control_python)
    manage = [python, "manage.py"]
    lint = [
        str(configuration.control_env / "bin/lint-imports"),
        "--cache-dir",
        str(configuration.cache / "imports"),
    ]
    on_postgresql = [python, "tests/postgres.py", *pytest(configuration, ["tests/integration", "-m", ONCE])]
    return [
        ("format", [python, "-m", "ruff", "format", "--check", "."], {}),
        ("lint", [python, "-m", "ruff", "check", "."], {}),
        ("migrations", [*manage, "makemigrations", "--check", "--dry-run"], {}),
        ("deployment", [*manage, "check", "--deploy", "--fail-level", "WARNING"], DEPLOYED),
        ("imports", [python, *lint], {}),
        ("types", [python, "-m", "mypy"], {}),
        ("tests on SQLite", pytest(configuration, ["tests"]), {}),
        ("tests on PostgreSQL", on_postgresql, {}),
    ]


def pytest(configuration: Configuration, arguments: Sequence[str]) -> list[str]:
    cache = f"cache_dir={configuration.cache / 'pytest'}"
    return [str(configuration.control_python), "-m", "pytest", "-o", cache, *arguments]


def environment_for_tests(configuration: Configuration) -> dict[str, str]:
    """A home of its own, so that tests never touch the lab's database; caches stay in the lab's cache folder."""
    environment = {
        name: value for name, value in configuration.environment.items() if name not in NOT_INHERITED
    }
    home = configuration.cache / "test-home"
    home.mkdir(parents=True, exist_ok=True)
    for derived in (
        "LABMGR_REDIS_SOCKET",
        "LABMGR_SOCKET_DIR",
        "LABMGR_MODEL_ROOTS",
        "LABMGR_RECIPE_ROOTS",
        "LABMGR_DEFAULTS",
        "DJANGO_SECRET_KEY_FILE",
    ):
        environment.pop(derived, None)
    environment["LABMGR_HOME"] = str(home)
    environment["MYPY_CACHE_DIR"] = str(configuration.cache / "mypy")
    environment["RUFF_CACHE_DIR"] = str(configuration.cache / "ruff")
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(configuration.cache / "hypothesis")
    if chromium := chromium_path():
        environment["CHROMIUM"] = chromium
    return environment


def chromium_path() -> str:
    """The browser for the browser tests; empty when there is none."""
    named = os.environ.get("CHROMIUM")
    if named and not Path(named).exists():
        raise LabError(f"CHROMIUM={named} does not exist; correct or unset it.")
    found = (
        shutil.which(name)
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    )
    return named or next(filter(None, found), "")
