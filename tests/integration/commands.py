"""Management commands, as a person at the machine's own shell types them."""

from io import StringIO
from typing import Any

from django.core.management import call_command


def command(*words: str, **options: Any) -> str:
    """What it prints."""
    out = StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()
