"""The torchtune 0.6.1 configuration of a fine-tune, as a pure function of its spec and the model's config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.run_conditions import LORA_MODULES
from experiments.specs import FinetuneSpec
from experiments.torchtune_builders import builder
from experiments.torchtune_data import dataset


def build_config(
    *,
    spec: FinetuneSpec,
    model_config: Mapping[str, Any],
    weight_files: list[str],
    output_dir: Path,
    on_gpu: bool,
    special_tokens_listed: bool = True,
) -> dict[str, Any]:
    """The whole configuration. Raises UnsupportedModel, and ValueError for data that torchtune cannot read.

    Of an adapter only itself is saved: on CPU the recipe's own merge spoils the live weights. `special_tokens_listed`
    says whether the model's tokenizer.json lists all that torchtune looks up (torchtune_builders); Llama 3's own do
    not, and torchtune's built-in numbers are theirs.
    """
    model_path = Path(spec.model_path)
    config: dict[str, Any] = {
        "output_dir": str(output_dir),
        "model": _model(spec, model_config),
        "tokenizer": {
            "_component_": "torchtune.models.llama3.llama3_tokenizer",
            "path": str(model_path / "original" / "tokenizer.model"),
            **({"special_tokens_path": str(model_path / "tokenizer.json")} if special_tokens_listed else {}),
            "max_seq_len": spec.max_seq_len,
        },
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": str(model_path),
            "checkpoint_files": weight_files,
            "recipe_checkpoint": None,
            "output_dir": str(output_dir),
            "model_type": "LLAMA3_2" if model_config.get("tie_word_embeddings") else "LLAMA3",
        },
        "resume_from_checkpoint": False,
        **({"optimizer_in_bwd": False} if spec.method == "full" else {"save_adapter_weights_only": True}),
        "dataset": dataset(spec.data, packed=spec.packed),
        **_validation(spec),
        "seed": spec.seed,
        "shuffle": True,
        "batch_size": spec.batch_size,
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": True,
            "weight_decay": 0.01,
            "lr": spec.learning_rate,
        },
        "lr_scheduler": {
            "_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
            "num_warmup_steps": 10,
        },
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "epochs": spec.epochs,
        "max_steps_per_epoch": spec.max_steps_per_epoch,
        "gradient_accumulation_steps": spec.gradient_accumulation_steps,
        "clip_grad_norm": None,
        "compile": False,
        "metric_logger": {"_component_": "step_clock.StepClock", "log_dir": str(output_dir / "logs")},
        "log_every_n_steps": 1,
        "log_peak_memory_stats": on_gpu,
        "device": "cuda" if on_gpu else "cpu",
        "dtype": "bf16" if on_gpu else "fp32",
        "enable_activation_checkpointing": False,
        "enable_activation_offloading": False,
        "profiler": {"_component_": "torchtune.training.setup_torch_profiler", "enabled": False},
    }
    for key, value in spec.overrides.items():
        _set(config, key, value)
    return config


def _model(spec: FinetuneSpec, model_config: Mapping[str, Any]) -> dict[str, Any]:
    """Without adapters the same builder has no `lora_` in its name, and the same arguments."""
    with_adapters = builder(model_config)
    if spec.method == "full":
        return {**with_adapters, "_component_": with_adapters["_component_"].replace(".lora_", ".")}
    return {
        **with_adapters,
        "lora_attn_modules": list(LORA_MODULES),
        "apply_lora_to_mlp": True,
        "apply_lora_to_output": False,
        "lora_rank": spec.lora_rank,
        "lora_alpha": spec.lora_alpha,
        "lora_dropout": 0.0,
        **({"quantize_base": True} if spec.method == "qlora" else {}),
    }


def _validation(spec: FinetuneSpec) -> dict[str, Any]:
    """Never packed, so that the loss is one over rows."""
    asked = spec.validation
    if asked is None:
        return {}
    return {
        "dataset_val": dataset(asked.data, packed=False),
        "run_val_every_n_steps": asked.every_n_steps,
        "val_max_batches": asked.max_batches,
    }


def _set(config: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[last] = value
