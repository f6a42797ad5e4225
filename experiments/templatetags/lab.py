"""How values are shown, in templates and in the admin's lists: formatting only, no facts are worked out here."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import template
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()
NOTHING = "–"


@register.filter("state")
def state_label(state: str, hint: str = "") -> SafeString:
    return format_html(
        '<span class="lab-state lab-is-{}" title="{}">{}</span>', state.lower(), hint, state.lower()
    )


@register.filter
def seconds(value: float | None) -> str:
    """41 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    if value is None:
        return NOTHING
    whole = max(0, round(value))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@register.simple_tag
def between(start: datetime | None, end: datetime | None) -> str:
    """How long it took, or has taken until now."""
    return seconds(((end or timezone.now()) - start).total_seconds()) if start else NOTHING


@register.filter
def when(moment: datetime | None) -> str | SafeString:
    if moment is None:
        return NOTHING
    local = timezone.localtime(moment)
    exact = f"{local:%Y-%m-%d %H:%M:%S %Z}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', local.isoformat(), exact, f"{local:%d %b %H:%M}"
    )


@register.filter
def mebibytes(value: int | None) -> str:
    if value is None:
        return NOTHING
    return f"{value / 1024:.1f} GiB" if value >= 10 * 1024 else f"{value:,} MiB"


@register.filter
def number(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


@register.simple_tag
def bar(done: float, total: float, text: str) -> SafeString:
    percent = round(100 * done / total) if total else 0
    return format_html(
        '<span class="lab-meter"><span class="lab-bar"><span style="width: {}%"></span></span>{}</span>',
        percent,
        text,
    )


@register.filter
def pairs(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {number(value)}" for key, value in mapping.items()) or NOTHING


def link(url: str, text: str) -> SafeString:
    return format_html('<a class="lab-link" href="{}">{}</a>', url, text)


def clipped(text: str) -> SafeString:
    """One line of it; the whole text is the tooltip."""
    return format_html('<span class="lab-clip" title="{}">{}</span>', text, text or NOTHING)


def usable(verified_at: datetime | None, problem: str) -> SafeString:
    if problem:
        return format_html(
            '<span class="lab-state lab-is-failed" title="{}">no: {}</span>', problem, problem[:40]
        )
    if verified_at is None:
        return format_html('<span class="lab-state">{}</span>', "not verified yet")
    return format_html('<span class="lab-state lab-is-succeeded">{}</span>', "yes")


@register.filter
def at(mapping: Mapping[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def page_url(context: Mapping[str, HttpRequest], number: int) -> str:
    query = context["request"].GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"
