"""All that is known, looked up by conditions: each fact is read once, each group of facts is fitted once."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar, cast

from experiments.conditions import Conditions
from experiments.estimation import forms
from experiments.estimation.facts import Fact, LogError
from experiments.estimation.forms import Form
from experiments.estimation.groups import Group

Answered = TypeVar("Answered")


class Evidence:
    """Complete facts, and the errors of earlier estimates. It is not changed once it is made."""

    def __init__(self, facts: Iterable[Fact], errors: Iterable[LogError] = ()) -> None:
        self.facts = tuple(facts)
        self._errors: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for figure, grade, error in errors:
            self._errors[figure, str(grade)].append(error)
        self._memory: dict[Hashable, Any] = {}

    def index(self, form: Form) -> "Index":
        return self._indexes.get(form.name) or Index(form, ())

    def indexes(self) -> Iterator["Index"]:
        yield from self._indexes.values()

    def errors_of(self, figure: str, grade: str) -> list[float]:
        """Logarithms of actual over predicted, of finished runs."""
        return self._errors.get((figure, grade), [])

    def once(self, key: Hashable, compute: Callable[[], Answered]) -> Answered:
        """What was computed for this key before, or now."""
        if key not in self._memory:
            self._memory[key] = compute()
        return cast(Answered, self._memory[key])

    @cached_property
    def _indexes(self) -> dict[str, "Index"]:
        by_form: dict[str, tuple[Form, list[Fact]]] = {}
        for fact in sorted(self.facts, key=lambda fact: (fact.observed_at, fact.id), reverse=True):
            form = forms.of(fact.metric, fact.conditions)
            if form is not None:
                by_form.setdefault(form.name, (form, []))[1].append(fact)
        return {name: Index(form, facts) for name, (form, facts) in by_form.items()}


class Index:
    """The facts of one form, the newest first."""

    def __init__(self, form: Form, facts: Iterable[Fact]) -> None:
        self.form = form
        self.told: list[Fact] = []
        self._measured: defaultdict[tuple[str, ...], dict[tuple[Any, ...], list[Fact]]] = defaultdict(dict)
        self._bounds: defaultdict[tuple[str, ...], list[Fact]] = defaultdict(list)
        self._groups: dict[Hashable, Group | None] = {}
        for fact in facts:
            self._add(fact)

    def group(self, conditions: Conditions, *, ignoring: tuple[str, ...] = ()) -> Group | None:
        """Measured facts with the same conditions, but for the features and those that are ignored."""
        wanted = self.form.identity(conditions)
        key = (wanted, ignoring)
        if key not in self._groups:
            self._groups[key] = self._find(wanted, self._bucket(conditions), frozenset(ignoring))
        return self._groups[key]

    def groups(self) -> Iterator[Group]:
        """All of them, each with exactly the same conditions."""
        for identities in self._measured.values():
            for facts in identities.values():
                yield Group(form=self.form, facts=facts)

    def bounds(self, conditions: Conditions) -> list[Fact]:
        """Bounds that hold under these conditions, whatever the features and the versions."""
        wanted = self.form.identity(conditions)
        ignored = frozenset(self.form.preferred)
        return [
            fact
            for fact in self._bounds.get(self._bucket(conditions), ())
            if self._speaks_for(self.form.identity(fact.conditions), wanted, ignored)
        ]

    def places(self, model_shape: str) -> set[tuple[Any, ...]]:
        """Where this model was measured: the values of the form's fields of a place."""
        return {self.place(facts[0].conditions) for facts in self._identities_of(model_shape)}

    def shapes(self) -> set[str]:
        return {bucket[0] for bucket in self._measured}

    def place(self, conditions: Conditions) -> tuple[Any, ...]:
        return tuple(getattr(conditions, name) for name in self.form.place)

    def groups_of(self, model_shape: str) -> Iterator[Group]:
        for facts in self._identities_of(model_shape):
            yield Group(form=self.form, facts=facts)

    def _identities_of(self, model_shape: str) -> Iterator[list[Fact]]:
        for bucket, identities in self._measured.items():
            if bucket[0] == model_shape:
                yield from identities.values()

    def _add(self, fact: Fact) -> None:
        bucket = self._bucket(fact.conditions)
        if fact.is_told:
            self.told.append(fact)
        elif fact.is_bound:
            self._bounds[bucket].append(fact)
        else:
            self._measured[bucket].setdefault(self.form.identity(fact.conditions), []).append(fact)

    def _bucket(self, conditions: Conditions) -> tuple[str, ...]:
        where = (conditions.device_kind,) if self.form.place else ()
        return (conditions.model_shape, *where)

    def _find(
        self, wanted: tuple[Any, ...], bucket: tuple[str, ...], ignoring: frozenset[str]
    ) -> Group | None:
        found = {
            identity: facts
            for identity, facts in self._measured.get(bucket, {}).items()
            if self._speaks_for(identity, wanted, ignoring)
        }
        if not found:
            return None
        facts = [fact for of_identity in found.values() for fact in of_identity]
        facts.sort(key=lambda fact: (fact.observed_at, fact.id), reverse=True)
        return Group(form=self.form, facts=facts, unknown=self._unknown([*found, wanted], ignoring))

    def _speaks_for(
        self, identity: tuple[Any, ...], wanted: tuple[Any, ...], ignoring: frozenset[str]
    ) -> bool:
        return all(
            name in ignoring
            or (have == want and not (name in self.form.required and _is_unknown(have)))
            or (name not in self.form.required and (_is_unknown(have) or _is_unknown(want)))
            for name, have, want in zip(self.form.fields, identity, wanted, strict=True)
        )

    def _unknown(self, identities: list[tuple[Any, ...]], ignoring: frozenset[str]) -> list[str]:
        """Conditions that are known of some and not of others."""
        return [
            name
            for name, *values in zip(self.form.fields, *identities, strict=True)
            if name not in ignoring and len({_is_unknown(value) for value in values}) > 1
        ]


def _is_unknown(value: object) -> bool:
    return value is None or value == ""
