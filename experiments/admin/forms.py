from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from unfold.widgets import UnfoldAdminSelectWidget

from experiments import documents
from experiments.documents import MAX_DOCUMENT_BYTES, InvalidDocument, Problem
from experiments.models import Experiment
from experiments.saying import typed_value
from experiments.verification import VerificationError, resolve_under

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Any]
else:
    _ModelForm = forms.ModelForm

EXAMPLE = """\
name: my_experiment
question: Does LoRA rank matter for capitalization?
dataset: {generator: capitalization, word_length: 5, words: 2000, seed: 0}
factors: {model: [tiny-llama-s, tiny-llama-m], lora_rank: [4, 64]}
fixed: {batch_size: 4, epochs: 2, learning_rate: 1.0e-3, max_seq_len: 128, packed: false}
control: true
evaluation: {split: test, scorers: [exact_match]}
validation: false
max_parallel: 2
"""


class DocumentForm(forms.Form):
    """An experiment document, typed or uploaded; a file goes before what was typed."""

    document = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"class": "lab-editor", "spellcheck": "false", "aria-label": "Document"}),
    )
    file = forms.FileField(required=False, help_text="YAML or JSON, at most 256 KB; it goes before the text.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.problems: list[Problem] = []

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        try:
            text = _text(cleaned.get("file")) or cleaned.get("document") or ""
            self._show(text)
            cleaned["data"] = documents.load(text)
        except InvalidDocument as invalid:
            self.refuse(invalid.problems)
        return cleaned

    def refuse(self, problems: list[Problem]) -> None:
        self.problems += problems
        for problem in problems:
            self.add_error(None, str(problem))

    def _show(self, text: str) -> None:
        """What was uploaded stands in the editor when the form comes back with problems."""
        self.data = {"document": text}


class OnDiskForm(_ModelForm):
    """A row that names something under the declared roots."""

    def roots(self) -> list[Path]:
        raise NotImplementedError

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"]
        if "path" not in self.changed_data:
            return path
        try:
            return str(resolve_under(path, self.roots()))
        except VerificationError as error:
            raise forms.ValidationError(str(error)) from error


class DatasetForm(OnDiskForm):
    format = forms.ChoiceField(
        choices=[(name, name) for name in ("json_splits", "json", "jsonl", "csv", "parquet")],
        widget=UnfoldAdminSelectWidget,
    )

    def roots(self) -> list[Path]:
        return list(settings.DATASET_ROOTS)


class BaseModelForm(OnDiskForm):
    def roots(self) -> list[Path]:
        return list(settings.MODEL_ROOTS)


def answer_field(key: str) -> str:
    """The name of the field that a question's answer is typed into."""
    return f"answer:{key}"


def answers_given(experiment: Experiment, posted: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed beside a plan's questions; empty fields are no answers. Raises InvalidDocument."""
    typed = {key: str(posted.get(answer_field(key), "")) for key in _asked(experiment)}
    return {key: typed_value(key, text) for key, text in typed.items() if text.strip()}


def _asked(experiment: Experiment) -> list[str]:
    return [question["key"] for question in experiment.questions]


def _text(file: Any) -> str:
    if file is None:
        return ""
    if (file.size or 0) > MAX_DOCUMENT_BYTES:
        raise InvalidDocument(
            [Problem("file", f"It is larger than {MAX_DOCUMENT_BYTES // 1024} KB.", "Shorten it.")]
        )
    try:
        text: str = file.read().decode()
        return text
    except UnicodeDecodeError as error:
        raise InvalidDocument([Problem("file", "It is not UTF-8 text.", "Save it as UTF-8.")]) from error
