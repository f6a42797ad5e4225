"""What a Llama checkpoint consists of, from its config.json: names and shapes as Hugging Face has them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import tokens, torchtune_builders
from experiments.tokens import BrokenTokenizer
from experiments.verification.errors import VerificationError

Shape = list[int]

NUMBERS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")


def check_tensors(directory: Path, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """That every tensor is there, in the shape that config.json says. Raises VerificationError."""
    for name in NUMBERS:
        if not isinstance(config.get(name), int):
            message = f"{directory / 'config.json'} has no number {name!r}."
            raise VerificationError(message, "Download it again.")
    layers = _layers(shapes)
    if layers != config["num_hidden_layers"]:
        message = f"{directory}: config.json says {config['num_hidden_layers']} layers, and the weights have {layers}."
        raise VerificationError(message, "Let both be of the same model.")
    for name, expected, reason in _tensors(config):
        if name not in shapes:
            raise VerificationError(f"{directory} lacks the tensor {name!r}.", "Download it again.")
        if shapes[name] != expected:
            message = f"{directory}: {name} is {shapes[name]} where config.json ({reason}) means {expected}."
            raise VerificationError(message, "Let both be of the same model.")


def check_tokenizer(file: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> None:
    """That torchtune can read the tiktoken file and knows the special tokens. Raises VerificationError."""
    vocabulary = config["vocab_size"]
    try:
        tokens_in_file = tokens.encoding(file).n_vocab
    except BrokenTokenizer as error:
        raise VerificationError(
            str(error), "Download the model again, with its folder 'original'."
        ) from error
    if tokens_in_file > vocabulary:
        message = f"{file} has {tokens_in_file} tokens where config.json says vocab_size {vocabulary}."
        raise VerificationError(message, "Let both be of the same model.")
    missing = torchtune_builders.missing_special_tokens(tokenizer)
    if missing and vocabulary < torchtune_builders.LLAMA3_VOCABULARY:
        message = f"{file.parents[1] / 'tokenizer.json'} lacks the special token {missing[0]!r}, which torchtune needs."
        raise VerificationError(message, "Add it to added_tokens, with a number below vocab_size.")


def _layers(shapes: Mapping[str, Shape]) -> int:
    numbers = {name.split(".")[2] for name in shapes if name.startswith("model.layers.")}
    return len(numbers)


def _tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, Shape, str]]:
    """Name, shape, and the keys of config.json that it follows from."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", [vocabulary, hidden], "vocab_size, hidden_size"
    yield "model.norm.weight", [hidden], "hidden_size"
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", [vocabulary, hidden], "vocab_size, hidden_size"
    for layer in range(config["num_hidden_layers"]):
        yield from _of_layer(f"model.layers.{layer}.", config)


def _of_layer(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape, str]]:
    hidden, mlp, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    keys = head * (config.get("num_key_value_heads") or heads)
    attention = "hidden_size, num_attention_heads, num_key_value_heads"
    yield f"{prefix}self_attn.q_proj.weight", [heads * head, hidden], attention
    yield f"{prefix}self_attn.k_proj.weight", [keys, hidden], attention
    yield f"{prefix}self_attn.v_proj.weight", [keys, hidden], attention
    yield f"{prefix}self_attn.o_proj.weight", [hidden, heads * head], attention
    for name, shape in (("gate", [mlp, hidden]), ("up", [mlp, hidden]), ("down", [hidden, mlp])):
        yield f"{prefix}mlp.{name}_proj.weight", shape, "hidden_size, intermediate_size"
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}{name}.weight", [hidden], "hidden_size"
