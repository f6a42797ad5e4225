"""Forms for what people say: a figure, or the conditions of observations whose source does not tell them."""

from typing import Any

from django import forms

from experiments import saying, telling
from experiments.documents import InvalidDocument, Problem
from experiments.models import Observation

_LINES = {"class": "lab-editor lab-low", "spellcheck": "false", "autocomplete": "off"}
_INPUT = {"class": "lab-input", "autocomplete": "off"}


class SaidField(forms.CharField):
    """KEY=VALUE lines."""

    def __init__(self, example: str, **options: Any) -> None:
        widget = forms.Textarea(attrs={**_LINES, "placeholder": example})
        super().__init__(widget=widget, max_length=20_000, **options)

    def clean(self, value: Any) -> Any:
        lines = [line for line in super().clean(value).splitlines() if line.strip()]
        try:
            return saying.pairs(lines)
        except InvalidDocument as invalid:
            raise forms.ValidationError([str(problem) for problem in invalid.problems]) from invalid


class SayingForm(forms.Form):
    def refuse(self, problems: list[Problem]) -> None:
        """What the domain found wrong with it."""
        for problem in problems:
            self.add_error(None, str(problem))


class FigureForm(SayingForm):
    metric = forms.ChoiceField(
        choices=[(metric, f"{metric} ({unit})") for metric, unit in telling.UNITS.items()],
        widget=forms.Select(attrs=_INPUT),
    )
    value = forms.CharField(
        max_length=50, widget=forms.TextInput(attrs={**_INPUT, "placeholder": "0.23, or 4.34it/s"})
    )
    said = SaidField(
        "model=Llama-3.2-1B-Instruct\nbatch_size=4\npacked=false", label="Conditions", required=False
    )


class CompletionForm(SayingForm):
    """`ids` or `tree` say which observations; conditions are wanted only when it is posted."""

    ids = forms.CharField(required=False, widget=forms.HiddenInput)
    tree = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)
    said = SaidField("batch_size=1\npacked=false", label="Conditions")

    def __init__(self, data: Any, *, is_posted: bool) -> None:
        super().__init__(data)
        self.fields["said"].required = is_posted

    def chosen(self) -> list[Observation]:
        """The incomplete observations that it is about; none where it does not say which."""
        if not self.is_valid() and (self.non_field_errors() or "ids" in self.errors):
            return []
        return telling.incomplete_ones(ids=self.cleaned_data["ids"], tree=self.cleaned_data["tree"])

    def clean_ids(self) -> list[int]:
        numbers = [text for text in self.cleaned_data["ids"].split(",") if text]
        if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers):
            raise forms.ValidationError("ids are numbers, with commas between them.")
        return [int(text) for text in numbers]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "ids" in cleaned and bool(cleaned["ids"]) == bool(cleaned.get("tree")):
            raise forms.ValidationError("Choose observations of which something is not known, or a tree.")
        return cleaned
