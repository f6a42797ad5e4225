"""The conditions that a torchtune configuration tells: the file beside a log, or what was printed into the log.

Only what it says, or what torchtune 0.6.1 takes where a key is absent and that is certain, becomes a condition.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, get_args, get_type_hints

import yaml

from experiments import shapes
from experiments.conditions import TEXT_LIMITS, Conditions
from experiments.parsers.torchtune_models import model_config

MAX_CONFIG_BYTES = 256 * 1024
_MAX_NUMBER = 2**31
_PRINTED = {  # the recipes that fine-tune, as they announce themselves; our own do it by their names
    "LoRAFinetuneRecipeSingleDevice": "lora_finetune_single_device",
    "LoRAFinetuneRecipeDistributed": "lora_finetune_distributed",
    "FullFinetuneRecipeSingleDevice": "full_finetune_single_device",
    "FullFinetuneRecipeDistributed": "full_finetune_distributed",
}
_OF_MANY = {"fsdp_cpu_offload", "fsdp_reshard_after_forward", "custom_sharded_layers", "tensor_parallel_dim"}
_OF_OTHER_RECIPES = {"teacher_model", "ref_checkpointer", "reward_and_value_model", "kd_loss", "quantizer"}
_OF_VALIDATION = {"dataset_val", "run_val_every_n_steps"}
_CHUNKED_LOSS, _LOSS_CHUNKS = "CEWithChunkedOutputLoss", 8
_QUANTIZED = "nf4"  # of the base of a QLoRA fine-tune: its figures say nothing of one in full precision
_LORA_RANK = 8  # torchtune's, where it is not said
_ODD_YAML = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class BadConfiguration(Exception):
    """The file cannot be read as a torchtune configuration."""


@dataclass(frozen=True)
class Settings:
    conditions: Mapping[str, Any]  # by the fields of Conditions
    validates: bool = False  # what it trains is interrupted by validation, within an epoch


def read(text: str, *, recipe_class: str = "") -> Settings:
    """`recipe_class` is what a log says beside the configuration. Raises BadConfiguration."""
    config = _loaded(text)
    model = _section(config, "model")
    recipe = _recipe(config, model, recipe_class)
    told = {
        **_of_model(config, model),
        **_of_batches(config),
        **_of_options(config),
        "recipe": recipe,
        "precision": _QUANTIZED if _is_quantized(model) else config.get("dtype"),
        "world_size": 1 if recipe and recipe.endswith("_single_device") else None,
    }
    fitting = {name: value for name, value in told.items() if _fits(name, value)}
    return Settings(fitting, validates=any(config.get(key) is not None for key in _OF_VALIDATION))


def _loaded(text: str) -> Mapping[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        raise BadConfiguration(f"it has more than {MAX_CONFIG_BYTES:,} characters")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise BadConfiguration("it repeats parts of itself by YAML's aliases, which can grow without end")
        config = yaml.safe_load(text)
    except _ODD_YAML as error:
        raise BadConfiguration(f"it is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise BadConfiguration("it has no section `model`")
    return config


def _of_model(config: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    directory = _section(config, "checkpointer").get("checkpoint_dir")
    shape = model_config(model)
    adapter = _adapter(model) if _has_adapter(model) else {}
    modules = adapter.get("lora_modules")
    trained = (
        shapes.lora_parameters(shape, rank=adapter["lora_rank"], modules=modules.split(","))
        if shape and modules and _fits("lora_rank", adapter["lora_rank"])
        else None
    )
    return {
        "model_name": PurePath(directory).name if isinstance(directory, str) else None,
        "model_shape": shapes.describe(shape),
        "trainable_parameters": trained,
        **adapter,
    }


def _has_adapter(model: Mapping[str, Any]) -> bool:
    return _last_word(model).startswith(("lora_", "qlora_"))


def _is_quantized(model: Mapping[str, Any]) -> bool:
    return _last_word(model).startswith("qlora_") or model.get("quantize_base") is True


def _adapter(model: Mapping[str, Any]) -> dict[str, Any]:
    attention = model.get("lora_attn_modules")
    switches = {"mlp": "apply_lora_to_mlp", "output": "apply_lora_to_output"}
    others = [name for name, key in switches.items() if model.get(key) is True]
    modules = ",".join([*map(str, attention), *others]) if isinstance(attention, list) else None
    return {"lora_rank": model.get("lora_rank", _LORA_RANK), "lora_modules": modules}


def _of_batches(config: Mapping[str, Any]) -> dict[str, Any]:
    cap = config.get("max_steps_per_epoch")
    packed = _packed(config)
    return {
        "batch_size": config.get("batch_size"),
        "gradient_accumulation_steps": config.get("gradient_accumulation_steps"),
        "epochs": config.get("epochs"),
        "max_steps_per_epoch": cap,
        "has_step_cap": cap is not None if "max_steps_per_epoch" in config else None,
        "max_seq_len": _section(config, "tokenizer").get("max_seq_len"),
        "packed": packed,
        "attention": _attention(packed, config.get("device")),
    }


def _of_options(config: Mapping[str, Any]) -> dict[str, Any]:
    loss = _section(config, "loss")
    is_chunked = _last_word(loss) == _CHUNKED_LOSS
    return {
        "optimizer": _last_word(_section(config, "optimizer")),
        "compiled": config.get("compile"),
        "activation_checkpointing": config.get("enable_activation_checkpointing"),
        "activation_offloading": config.get("enable_activation_offloading"),
        "loss_chunks": loss.get("num_output_chunks", _LOSS_CHUNKS) if is_chunked else None,
    }


def _packed(config: Mapping[str, Any]) -> bool | None:
    """Of several datasets, if all say the same. torchtune's own are unpacked where it is not said."""
    sections = config.get("dataset")
    found = set(_packings(sections if isinstance(sections, list) else [sections]))
    return found.pop() if len(found) == 1 else None


def _packings(sections: list[Any]) -> Iterator[bool | None]:
    for section in sections:
        if not isinstance(section, Mapping):
            yield None
            continue
        is_torchtunes = str(section.get("_component_", "")).startswith("torchtune.datasets.")
        packed = section.get("packed", False if is_torchtunes else None)
        yield packed if isinstance(packed, bool) else None


def _attention(packed: bool | None, device: Any) -> str | None:
    """torchtune 0.6.1 takes flex attention for packs on a GPU."""
    if packed is None or not isinstance(device, str):
        return None
    return "flex" if packed and device.startswith("cuda") else "sdpa"


def _recipe(config: Mapping[str, Any], model: Mapping[str, Any], recipe_class: str) -> str | None:
    """What the log says; else what can be told from keys that only one recipe knows. Only one of them runs on CPU."""
    if recipe_class:
        return recipe_class if recipe_class in _PRINTED.values() else _PRINTED.get(recipe_class)
    if not model.get("_component_") or not _OF_OTHER_RECIPES.isdisjoint(config):
        return None
    method = "lora" if _has_adapter(model) else "full"
    if not _OF_MANY.isdisjoint(config):
        return f"{method}_finetune_distributed"
    if "low_cpu_ram" in config or config.get("device") == "cpu":
        return f"{method}_finetune_single_device"
    return None


def _last_word(section: Mapping[str, Any]) -> str:
    return str(section.get("_component_", "")).rpartition(".")[2]


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


_TYPES = get_type_hints(Conditions)


def _fits(name: str, value: Any) -> bool:
    """Whether a column can hold it. What an interpolation stands for is not in the file, so it says nothing here."""
    wanted = _TYPES[name]
    if isinstance(wanted, types.UnionType):
        wanted = get_args(wanted)[0]
    if type(value) is not wanted:
        return False
    if isinstance(value, str):
        return "${" not in value and "\0" not in value and 0 < len(value) <= TEXT_LIMITS[name]
    return isinstance(value, bool) or 0 <= value < _MAX_NUMBER
