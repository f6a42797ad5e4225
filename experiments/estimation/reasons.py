"""Why facts could not be used: what is missing, in sentences."""

from collections import defaultdict
from collections.abc import Iterator

from experiments.conditions import Conditions, missing
from experiments.estimation import forms, told
from experiments.estimation.direct import direct
from experiments.estimation.evidence import Evidence
from experiments.estimation.facts import Fact
from experiments.estimation.forms import Form
from experiments.estimation.groups import Group

NOTHING = "No run of this model was measured or told of."
_MAX_SHOWN = 5


def why_not(evidence: Evidence, conditions: Conditions, metric: str) -> list[str]:
    """A sentence for each kind of fact of the same model that does not speak for a run under these conditions."""
    form = forms.of(metric, conditions)
    if form is None:
        return []
    return evidence.once(
        ("why not", metric, conditions), lambda: list(_reasons(evidence, form, conditions, metric))
    )


def _reasons(evidence: Evidence, form: Form, conditions: Conditions, metric: str) -> Iterator[str]:
    unknown = [name for name in missing(metric, conditions) if name in _that_matter(form)]
    if unknown:
        yield f"Not known of this run: {', '.join(unknown)}."
    sentences = [*_of_groups(evidence, form, conditions, metric), *_of_told(evidence, form, conditions)]
    yield from sentences or ([] if unknown or direct(evidence, conditions, metric) else [NOTHING])


def _of_groups(evidence: Evidence, form: Form, conditions: Conditions, metric: str) -> Iterator[str]:
    """Groups that differ in the same conditions share a sentence."""
    by_difference: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for group in evidence.index(form).groups_of(conditions.model_shape):
        difference = tuple(_differences(form, group, conditions))
        by_difference[difference] |= {fact.run_key for fact in group.facts}
    for difference, runs in sorted(by_difference.items()):
        if difference:
            yield f"{_count(runs)} not used: {'; '.join(difference)}."
        elif direct(evidence, conditions, metric) is None:
            yield f"{_count(runs)} under such conditions, with too little variation to say what others would take."


def _differences(form: Form, group: Group, conditions: Conditions) -> Iterator[str]:
    theirs = group.facts[0].conditions
    for name, have, want in zip(form.fields, form.identity(theirs), form.identity(conditions), strict=True):
        if have == want or name in form.preferred:
            continue
        if name in form.required or not ({have, want} & {None, ""}):
            yield _difference(name, have, want)


def _difference(name: str, have: object, want: object) -> str:
    if name == "packed":
        return "packed, and this is not" if have else "not packed, and this is"
    if name == "device_kind":
        return f"on {have}, and no configuration ran both there and on {want}"
    return f"{name} is {_shown(have)}, and here {_shown(want)}"


def _of_told(evidence: Evidence, form: Form, conditions: Conditions) -> Iterator[str]:
    for fact in told.told_of(evidence, form)[:_MAX_SHOWN]:
        others = told.contradictions(form, fact, conditions)
        if others and not {"model_shape", "model_name"} & set(others):
            yield f"Told, and not used: {'; '.join(_told_otherwise(fact, conditions, others))}."


def _told_otherwise(fact: Fact, conditions: Conditions, names: list[str]) -> list[str]:
    return [
        f"for {name} {_shown(getattr(fact.conditions, name))}, and here it is {_shown(getattr(conditions, name))}"
        for name in names
    ]


def _that_matter(form: Form) -> set[str]:
    needed = {name for name, is_needed in zip(form.features, form.needed, strict=True) if is_needed}
    return needed | set(form.required)


def _shown(value: object) -> str:
    return "not known" if value in (None, "") else str(value)


def _count(runs: set[str]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"
