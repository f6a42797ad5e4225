"""The torchtune 0.6.1 configuration of a fine-tune, as a pure function of its spec and the model's config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.specs import DataSource, FinetuneSpec

LORA_MODULES = ["q_proj", "k_proj", "v_proj", "output_proj"]


class UnsupportedModel(Exception):
    """torchtune 0.6.1 has no builder for this model, or labmgr does not know it."""


def build_config(
    *,
    spec: FinetuneSpec,
    model_config: Mapping[str, Any],
    weight_files: list[str],
    output_dir: Path,
    on_gpu: bool,
) -> dict[str, Any]:
    """The whole configuration. Only adapters are saved: on CPU the recipe's own merge spoils the live weights."""
    model_path = Path(spec.model_path)
    config: dict[str, Any] = {
        "output_dir": str(output_dir),
        "model": {**_lora(spec), **_architecture(model_config)},
        "tokenizer": {
            "_component_": "torchtune.models.llama3.llama3_tokenizer",
            "path": str(model_path / "original" / "tokenizer.model"),
            "special_tokens_path": str(model_path / "tokenizer.json"),
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
        "save_adapter_weights_only": True,
        "dataset": _dataset(spec.data, packed=spec.packed),
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
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.DiskLogger",
            "log_dir": str(output_dir / "logs"),
        },
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


def _lora(spec: FinetuneSpec) -> dict[str, Any]:
    return {
        "lora_attn_modules": LORA_MODULES,
        "apply_lora_to_mlp": True,
        "apply_lora_to_output": False,
        "lora_rank": spec.lora_rank,
        "lora_alpha": spec.lora_alpha,
        "lora_dropout": 0.0,
    }


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """The builder and its arguments. config.json is Hugging Face's LlamaConfig."""
    if config.get("model_type") != "llama":
        raise UnsupportedModel(
            f"model_type {config.get('model_type')!r} is not supported; use a Llama model."
        )
    common = {
        "vocab_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "num_kv_heads": config.get("num_key_value_heads", config["num_attention_heads"]),
        "embed_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "max_seq_len": config.get("max_position_embeddings", 2048),
        "norm_eps": config.get("rms_norm_eps", 1e-5),
    }
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    common["rope_base"] = int(rope.get("rope_theta", config.get("rope_theta", 500_000)))
    if config.get("tie_word_embeddings"):
        scale = {"scale_factor": int(rope.get("factor", 32))}
        return {
            "_component_": "torchtune.models.llama3_2.lora_llama3_2",
            **common,
            **scale,
            "tie_word_embeddings": True,
        }
    if rope.get("rope_type") == "llama3":
        return {
            "_component_": "torchtune.models.llama3_1.lora_llama3_1",
            **common,
            "scale_factor": int(rope["factor"]),
        }
    return {"_component_": "torchtune.models.llama3.lora_llama3", **common}


def _dataset(data: DataSource, *, packed: bool) -> dict[str, Any]:
    """`field` picks the split out of a file that holds several."""
    picked = {"field": data.split} if data.format == "json_splits" else {}
    return {
        "_component_": "torchtune.datasets.instruct_dataset",
        "source": "json",
        "data_files": data.path,
        "split": "train",
        **picked,
        "column_map": {"input": data.input_column, "output": data.output_column},
        "new_system_prompt": data.system_prompt,
        "train_on_input": False,
        "packed": packed,
    }


def _set(config: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[last] = value
