"""Strict readers of environment variables: a bad value is named, with what would be good."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str) -> str:
    return os.environ.get(name) or default


def integer(name: str, default: int, *, minimum: int = 0) -> int:
    raw = os.environ.get(name)
    if not raw:
        return default
    if not raw.isdigit() or int(raw) < minimum:
        raise ImproperlyConfigured(
            f"{name}={raw!r} is not a whole number of at least {minimum}; correct or unset it."
        )
    return int(raw)


def flag(name: str, default: bool) -> bool:
    raw = os.environ.get(name)
    if not raw:
        return default
    if raw not in ("0", "1"):
        raise ImproperlyConfigured(f"{name}={raw!r} is neither 0 nor 1; correct or unset it.")
    return raw == "1"


def path(name: str, default: Path) -> Path:
    raw = os.environ.get(name)
    if not raw:
        return default
    if not Path(raw).is_absolute():
        raise ImproperlyConfigured(f"{name}={raw!r} is not an absolute path; give one that begins with /.")
    return Path(raw)


def paths(name: str, default: list[Path]) -> list[Path]:
    raw = os.environ.get(name)
    if not raw:
        return default
    return [Path(part).expanduser().resolve() for part in raw.split(os.pathsep) if part]


def names(name: str, default: list[str]) -> list[str]:
    raw = os.environ.get(name)
    return [part.strip() for part in raw.split(",") if part.strip()] if raw else default
