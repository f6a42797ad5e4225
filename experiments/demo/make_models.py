"""Make the two tiny base models of the demo: Llamas that can copy a word and know nothing else.

Run it with the Python of the ML environment:

    var/env/ml/bin/python experiments/demo/make_models.py [tiny-llama-s tiny-llama-m]

Training is an ordinary torchtune full fine-tune in a process of its own. What is already made is kept, so a run that
was interrupted goes on; `--force` starts over. It takes some minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import checkpoint
import copying
import yaml

HERE = Path(__file__).resolve().parent
BATCH_SIZE = 64  # half of that learned far worse from the same words
LEARNING_RATE = 2e-3
WORDS = 16_000
HELD_OUT = 200

SHAPES = {
    "tiny-llama-s": checkpoint.Shape(hidden=128, layers=2, heads=2, kv_heads=2, mlp=384),
    "tiny-llama-m": checkpoint.Shape(hidden=256, layers=2, heads=4, kv_heads=2, mlp=512),
}


def main() -> int:
    arguments = _arguments()
    for name in arguments.names:
        work = arguments.work / name
        if arguments.force:
            shutil.rmtree(work, ignore_errors=True)
        make(name, SHAPES[name], work=work, target=arguments.models / name)
    return 0


def make(name: str, shape: checkpoint.Shape, *, work: Path, target: Path) -> None:
    settings = config(shape, start=work / "start", data=work / "copy.json", out=work / "out")
    words = copying.train_words(WORDS)
    data_is_new = _write(work / "copy.json", json.dumps(copying.rows(words)))
    if _write(work / "config.yaml", yaml.safe_dump(settings, sort_keys=False)) or data_is_new:
        shutil.rmtree(work / "out", ignore_errors=True)
    trained = work / "out" / "epoch_0"
    if not (trained / "model-00001-of-00001.safetensors").exists():
        print(f"{name}: training on {len(words)} words, progress below", flush=True)
        checkpoint.write_untrained(work / "start", shape, seed=1)
        _train(work)
    checkpoint.install(trained, target)
    right = copying.count_right_copies(target, copying.held_out_words(HELD_OUT, words))
    print(f"{name}: {right} of {HELD_OUT} held-out words copied right; written to {target}")
    if right < HELD_OUT:
        raise SystemExit(f"{name} does not copy well enough for the demo: train it longer.")


def config(shape: checkpoint.Shape, *, start: Path, data: Path, out: Path) -> dict[str, object]:
    return {
        "output_dir": str(out),
        "model": {"_component_": "torchtune.models.llama3_2.llama3_2", **shape.torchtune()},
        "tokenizer": {
            "_component_": "torchtune.models.llama3.llama3_tokenizer",
            "path": str(start / "original" / "tokenizer.model"),
            "special_tokens_path": str(start / "tokenizer.json"),
            "max_seq_len": 128,
        },
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": str(start),
            "checkpoint_files": ["model.safetensors"],
            "recipe_checkpoint": None,
            "output_dir": str(out),
            "model_type": "LLAMA3_2",
        },
        "resume_from_checkpoint": False,
        "dataset": {
            "_component_": "torchtune.datasets.instruct_dataset",
            "source": "json",
            "data_files": str(data),
            "split": "train",
            "train_on_input": False,
            "new_system_prompt": copying.SYSTEM_PROMPT,
            "packed": False,
        },
        "seed": 1,
        "shuffle": True,
        "batch_size": BATCH_SIZE,
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": True,
            "weight_decay": 0.01,
            "lr": LEARNING_RATE,
        },
        "lr_scheduler": {
            "_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
            "num_warmup_steps": 50,
        },
        "optimizer_in_bwd": False,
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "epochs": 1,
        "max_steps_per_epoch": None,
        "gradient_accumulation_steps": 1,
        "clip_grad_norm": 1.0,
        "compile": False,
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.DiskLogger",
            "log_dir": str(out / "logs"),
        },
        "log_every_n_steps": 10,
        "log_peak_memory_stats": False,
        "device": "cpu",
        "dtype": "fp32",
        "enable_activation_checkpointing": False,
        "enable_activation_offloading": False,
        "profiler": {"_component_": "torchtune.training.setup_torch_profiler", "enabled": False},
    }


def _train(work: Path) -> None:
    tune = Path(sysconfig.get_path("scripts")) / "tune"
    command = [str(tune), "run", "full_finetune_single_device", "--config", str(work / "config.yaml")]
    subprocess.run(command, env=_environment(work), check=True)


def _write(path: Path, text: str) -> bool:
    """Whether this changed the file."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def _environment(work: Path) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "hf"), "TIKTOKEN_CACHE_DIR": ""}
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1)} | dict(os.environ) | offline


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(SHAPES), choices=[*SHAPES, []], metavar="name")
    parser.add_argument(
        "--work", type=Path, default=HERE.parents[1] / "var" / "demo-models", help="scratch folder"
    )
    parser.add_argument("--models", type=Path, default=HERE / "models", help="where the models go")
    parser.add_argument("--force", action="store_true", help="forget what was made before")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
