"""Torchtune's output as it would be printed, for tests that need another than the recorded ones."""

from typing import Any

import yaml

SAVED = b"INFO:torchtune.utils._logging:Checkpoint saved in 9.81 seconds.\n"
START = b"INFO:torchtune.utils._logging:Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\n"
AFTER_INIT = (
    b"INFO:torchtune.utils._logging:Memory stats after model init:\n\tGPU peak memory alloc: 2.41 GiB\n"
)
RAN_OUT = b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
TIME_LIMIT = (
    b"slurmstepd: error: *** JOB 1002 ON node-a CANCELLED AT 2025-10-18T14:03:11 DUE TO TIME LIMIT ***\n"
)

CONFIGURATION: dict[str, Any] = {
    "batch_size": 4,
    "checkpointer": {"checkpoint_dir": "/models/Llama-3.2-1B-Instruct"},
    "compile": False,
    "dataset": {"_component_": "torchtune.datasets.instruct_dataset", "packed": True},
    "device": "cuda",
    "dtype": "bf16",
    "enable_activation_checkpointing": False,
    "epochs": 1,
    "gradient_accumulation_steps": 2,
    "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
    "max_steps_per_epoch": None,
    "model": {
        "_component_": "torchtune.models.llama3_2.lora_llama3_2_1b",
        "apply_lora_to_mlp": True,
        "lora_attn_modules": ["q_proj", "v_proj"],
        "lora_rank": 64,
    },
    "optimizer": {"_component_": "torch.optim.AdamW"},
    "tokenizer": {"max_seq_len": 512},
}


def bar(
    done: int, total: int, elapsed: int, *, epoch: int = 1, rate: str = "4.34it/s", loss: str = "2.1"
) -> bytes:
    clock = f"{elapsed // 60:02d}:{elapsed % 60:02d}"
    step = (epoch - 1) * total + done
    drawn = (
        f"{done * 100 // total:3d}%|{'█' * (done * 10 // total):<10}| {done}/{total} [{clock}<00:24, {rate}]"
    )
    return f"\r{epoch}|{step}|Loss: {loss}: {drawn}".encode()


def bars(count: int, total: int, seconds: float, *, epoch: int = 1) -> bytes:
    """One bar a step, as fast as said."""
    rate = f"{1 / seconds:.2f}it/s"
    return b"".join(
        bar(done, total, int(done * seconds), epoch=epoch, rate=rate) for done in range(1, count + 1)
    )


def started(**changed: Any) -> bytes:
    """The start of a run, its configuration printed; None for a key takes it away."""
    config = {key: value for key, value in {**CONFIGURATION, **changed}.items() if value != "absent"}
    return (
        START + yaml.safe_dump(config).encode() + b"\nINFO:torchtune.utils._logging:Model is initialized.\n"
    )


def log(*, seconds: float = 0.25, steps: int = 100, **changed: Any) -> bytes:
    """A whole run of one epoch."""
    return started(**changed) + AFTER_INIT + bars(steps, steps, seconds) + b"\x1b[A" + SAVED


def metrics(*reserved_gib: float) -> str:
    """A DiskLogger file of a run on a GPU."""
    return "".join(
        f"Step {number} | loss:{7 / number} lr:0.0003 tokens_per_second_per_gpu:{849.1 + number} "
        f"peak_memory_active:{gib - 1} peak_memory_alloc:{gib - 1} peak_memory_reserved:{gib} \n"
        for number, gib in enumerate(reserved_gib, 1)
    )
