"""Token lengths of a dataset's rows under a model's tokenizer: counted once, since nothing of them changes."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments import generators, tokens
from experiments.catalogue.datasets import FoundDataset
from experiments.catalogue.errors import NotFound
from experiments.catalogue.models import FoundModel
from experiments.documents import Problem
from experiments.models import TokenLengths
from experiments.tokens import BrokenTokenizer
from experiments.verification import VerificationError, read_rows

Lengths = NDArray[np.uint32]


class LengthSummary(NamedTuple):
    mean: float
    p95: int
    longest: int
    truncated_share: float  # of the rows, longer than max_seq_len


def token_lengths(
    *, model: FoundModel, dataset: FoundDataset, split: str, now: datetime, system_prompt: str | None = None
) -> Lengths:
    """The length of each row of a split as it is trained on, not truncated. Raises NotFound.

    Without a system prompt here it is the dataset's own; an empty one is none.
    """
    prompt = (dataset.system_prompt if system_prompt is None else system_prompt) or None
    key = _key(model, dataset, split, prompt)
    stored = TokenLengths.objects.filter(key=key).first()
    if stored is not None:
        return _unpacked(bytes(stored.lengths))
    counted = _count(model, dataset, split, prompt)
    TokenLengths.objects.get_or_create(
        key=key,
        defaults={
            "dataset_hash": dataset.facts.content_hash,
            "tokenizer_hash": model.facts.tokenizer_hash,
            "split": split,
            "rows": len(counted),
            "lengths": zlib.compress(counted.astype("<u4").tobytes()),
            "counted_at": now,
        },
    )
    return counted


def length_summary(lengths: Lengths, max_seq_len: int) -> LengthSummary:
    """Of at least one row."""
    return LengthSummary(
        mean=float(lengths.mean()),
        p95=int(np.percentile(lengths, 95, method="higher")),
        longest=int(lengths.max()),
        truncated_share=float(np.mean(lengths > max_seq_len)),
    )


def _key(model: FoundModel, dataset: FoundDataset, split: str, system_prompt: str | None) -> str:
    columns = [dataset.source.input_column, dataset.source.output_column, dataset.source.messages_column]
    parts = [dataset.facts.content_hash, split, columns, system_prompt, model.facts.tokenizer_hash]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _count(model: FoundModel, dataset: FoundDataset, split: str, system_prompt: str | None) -> Lengths:
    try:
        return tokens.lengths(
            tokenizer_file=model.tokenizer_file,
            rows=_rows(dataset, split),
            input_column=dataset.source.input_column,
            output_column=dataset.source.output_column,
            messages_column=dataset.source.messages_column,
            system_prompt=system_prompt,
        )
    except VerificationError as error:
        raise NotFound(Problem("dataset", error.message, error.remedy)) from error
    except (KeyError, TypeError, AttributeError) as error:
        message = f"Dataset {dataset.name} changed while it was read."
        raise NotFound(Problem("dataset", message, "Plan again when it is whole.")) from error
    except (BrokenTokenizer, OSError) as error:
        message = f"Model {model.name!r}: its tokens cannot be counted: {error}"
        raise NotFound(
            Problem("factors.model", message, "Download it with its folder 'original'.")
        ) from error


def _rows(dataset: FoundDataset, split: str) -> Iterable[Mapping[str, Any]]:
    """From its file, or, while it is not there yet, from its generator."""
    if dataset.is_missing and dataset.generator_call:
        return generators.make(dataset.generator_call).splits[split]
    source = dataset.data_source(split)
    return read_rows(dataset.file_of(split), format=source.format, split=split, columns=dataset.columns)


def _unpacked(lengths: bytes) -> Lengths:
    return np.frombuffer(zlib.decompress(lengths), dtype="<u4").astype(np.uint32)
