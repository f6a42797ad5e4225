"""Models that cannot be used, each with the sentence that says so and what to do."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.verification import VerificationError, read_model
from tests.lab import REPOSITORY


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "experiments/demo/models/tiny-llama-s", tmp_path / "model")
    return tmp_path / "model"


def reconfigured(**change: Any) -> Callable[[Path], object]:
    def spoil(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **change}))

    return spoil


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """The header of the weights, changed; the tensors stay."""

    def spoil(model: Path) -> None:
        file = model / "model.safetensors"
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        raw = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])

    return spoil


def cut(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def indexed(weight_map: dict[str, str], **metadata: int) -> Callable[[Path], object]:
    def spoil(model: Path) -> None:
        index = {"metadata": metadata, "weight_map": weight_map}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def without(name: str) -> Callable[[Path], object]:
    return lambda model: (model / name).unlink()


def pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def weights_linked_out(model: Path) -> None:
    shutil.move(model / "model.safetensors", model.parent / "elsewhere.safetensors")
    (model / "model.safetensors").symlink_to(model.parent / "elsewhere.safetensors")


def without_special_tokens(model: Path) -> None:
    (model / "tokenizer.json").write_text(json.dumps({"added_tokens": []}))


def with_tokenizer(content: bytes) -> Callable[[Path], object]:
    return lambda model: (model / "original" / "tokenizer.model").write_bytes(content)


NORM = "model.norm.weight"
BAD_MODELS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no configuration": (without("config.json"), "config.json is missing", "Complete the directory"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer.json is missing", "Complete the directory"),
    "no weights": (without("model.safetensors"), "model.safetensors is missing", "Complete the directory"),
    "no tokenizer that torchtune reads": (
        without("original/tokenizer.model"),
        "tokenizer.model is missing, and torchtune reads it",
        "Download the model with its folder 'original'.",
    ),
    "pickles only": (
        pickled,
        "has only pickled weights (pytorch_model.bin)",
        "Download its safetensors files.",
    ),
    "truncated weights": (
        cut,
        "model.safetensors has 937180 bytes where 937280 were expected",
        "Download it again.",
    ),
    "a shard that is not there": (
        indexed({NORM: "model-00002-of-00002.safetensors"}),
        "model-00002-of-00002.safetensors is missing",
        "Complete the directory",
    ),
    "an index that names what a shard lacks": (
        indexed({"model.nothing": "model.safetensors"}),
        "looks for 'model.nothing' in model.safetensors, where it is not",
        "Download the directory again.",
    ),
    "an index of another size": (
        indexed({NORM: "model.safetensors"}, total_size=1),
        "says 1 bytes of tensors, and there are 93",
        "Download the directory again.",
    ),
    "another vocabulary": (
        reconfigured(vocab_size=128256),
        "model.embed_tokens.weight is [320, 128] where config.json (vocab_size, hidden_size) means [128256, 128]",
        "Let both be of the same model.",
    ),
    "another hidden size": (
        reconfigured(hidden_size=2048, head_dim=None),
        "is [320, 128] where config.json",
        "Let both be of the same model.",
    ),
    "another number of layers": (
        reconfigured(num_hidden_layers=16),
        "config.json says 16 layers, and the weights have 2",
        "Let both be of the same model.",
    ),
    "another number of key heads": (
        reconfigured(num_key_value_heads=1),
        "self_attn.k_proj.weight is [128, 128]",
        "Let both be of the same model.",
    ),
    "a head that is not there": (
        reconfigured(tie_word_embeddings=False),
        "lacks the tensor 'lm_head.weight'",
        "Download it again.",
    ),
    "a configuration without a number": (
        reconfigured(vocab_size=None),
        "config.json has no number 'vocab_size'",
        "Download it again.",
    ),
    "a tensor that is not there": (
        rewritten(lambda header: header.update({"model.other": header.pop(NORM)})),
        f"lacks the tensor '{NORM}'",
        "Download it again.",
    ),
    "a tensor of another type": (
        rewritten(lambda header: header[NORM].update(dtype="F64")),
        f"tensor '{NORM}' has",
        "Download it again.",
    ),
    "weights behind a link that leads out": (
        weights_linked_out,
        "is a link that leads out of the declared roots",
        "Put the file itself there",
    ),
    "a tokenizer that is none": (
        with_tokenizer(b"\x0a\x05hello"),
        "is no tiktoken file",
        "Download the model again",
    ),
    "a tokenizer without some bytes": (
        with_tokenizer(b"AA== 0\n"),
        "no token for the byte 1",
        "Download the model",
    ),
    "no special tokens": (
        without_special_tokens,
        "lacks the special token '<|begin_of_text|>', which torchtune needs",
        "Add it to added_tokens",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_bad_model_is_told_with_its_remedy(model: Path, case: str) -> None:
    spoil, sentence, remedy = BAD_MODELS[case]
    spoil(model)
    with pytest.raises(VerificationError) as refused:
        read_model(model)
    assert sentence in refused.value.message and str(model) in refused.value.message
    assert remedy in refused.value.remedy


def test_the_model_that_is_spoiled_here_is_good(model: Path) -> None:
    assert read_model(model).parameter_count == 467_584
