"""How values are shown, in templates and in the admin's lists: formatting only, no facts are worked out here."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django import template
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString

from experiments.models.pausing import Pausable

register = template.Library()
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d)?)?")
NOTHING = "–"


@register.filter("state")
def state_label(state: str, hint: str = "") -> SafeString:
    return format_html(
        '<span class="lab-state lab-is-{}" title="{}">{}</span>', state.lower(), hint, state.lower()
    )


@register.filter(name="paused")
def paused_label(row: Pausable) -> SafeString:
    """Beside its state; by whom and since when is told on hovering. Nothing while it is not paused."""
    return format_html(" {}", state_label("PAUSED", row.pause)) if row.pause else SafeString("")


@register.filter
def seconds(value: float | str | None) -> str:
    """41 s, 3 min 20 s, 2 h 05 min, 3 d 4 h. What a template does not find is an empty text."""
    if value is None or isinstance(value, str):
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
def dated(text: str) -> SafeString:
    """A sentence whose dates stay on one line: a browser breaks lines after hyphens."""
    return SafeString(_DATE.sub(r'<span class="lab-nowrap">\g<0></span>', escape(text)))


@register.filter
def lacking(note: str) -> str:
    """Of a figure's note, the parts that the figure is without."""
    return "; ".join(part for part in note.split("; ") if part.endswith(": no evidence"))


@register.filter
def moment(iso: str | None) -> str | SafeString:
    """Of a time as JSON has it."""
    return when(datetime.fromisoformat(iso) if iso else None)


@register.filter
def amount(value: float | None, name: str) -> str:
    """A figure's value, in the unit that its name says."""
    if name == "seconds_per_step":
        return f"{number(value)} s"
    if name == "device_hours":
        return NOTHING if value is None else f"{value:,.{1 if value >= 10 else 3}f} h"
    if name.endswith("seconds"):
        return seconds(value)
    return mebibytes(value) if name.endswith("_mib") else number(value)


@register.filter
def signed(ratio: float | None) -> str:
    """+4 %"""
    return NOTHING if ratio is None else f"{ratio:+.0%}".replace("%", " %")


@register.filter
def percent(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.1%}".replace("%", " %")


@register.filter
def mebibytes(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return NOTHING
    if value >= 10 * 1024:
        return f"{value / 1024:.1f} GiB"
    return f"{value:,.{1 if 0 < value < 10 and value % 1 else 0}f} MiB"


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


def lines(texts: Iterable[str]) -> SafeString | str:
    return format_html_join(SafeString("<br>"), "{}", ((text,) for text in texts)) or NOTHING


def facts(mapping: Mapping[str, Any]) -> SafeString | str:
    """One a line."""
    return lines(f"{key}: {number(value)}" for key, value in mapping.items())


def link(url: str, text: str) -> SafeString:
    return format_html('<a class="lab-link" href="{}">{}</a>', url, text)


def clipped(text: str) -> SafeString:
    """One line of it; the whole text is the tooltip."""
    return format_html('<span class="lab-clip" title="{}">{}</span>', text, dated(text or NOTHING))


def usable(verified_at: datetime | None, problem: str) -> SafeString:
    if problem:
        return format_html(
            '<span class="lab-state lab-is-failed" title="{}">no: {}</span>', problem, problem[:40]
        )
    if verified_at is None:
        return format_html('<span class="lab-state">{}</span>', "not verified yet")
    return format_html('<span class="lab-state lab-is-succeeded">{}</span>', "yes")


def completeness(why_not: str) -> SafeString:
    if not why_not:
        return format_html('<span class="lab-state lab-is-succeeded">{}</span>', "yes")
    return format_html(
        '<span class="lab-state lab-is-drained" title="{}">{}</span> {}', why_not, "no", clipped(why_not)
    )


@register.filter
def at(mapping: Mapping[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def page_url(context: Mapping[str, HttpRequest], number: int) -> str:
    query = context["request"].GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"
