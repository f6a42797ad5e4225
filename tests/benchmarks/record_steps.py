"""Record how many steps real torchtune runs take, and how long each of their micro-batches is padded to.

    <ML python> -m tests.benchmarks.record_steps [--work DIR]

Each run is the installed LoRA recipe, unmodified, on the demo's smallest model, with the configuration that labmgr would
give it. The steps are those in the run's metrics file; the lengths are seen by a loader that stands before the recipe's.
Writes tests/data/torchtune/steps.json, whose format is in the README beside it. Some two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torchtune
from omegaconf import OmegaConf
from scheduler.programs.torchtune_config import build_config

from experiments.parsers.torchtune import read_metrics
from experiments.specs import DataSource, FinetuneSpec

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "experiments" / "demo" / "models" / "tiny-llama-s"
RECORDS = ROOT / "tests" / "data" / "torchtune" / "steps.json"
RECIPE = Path(torchtune.__file__).parents[1] / "recipes" / "lora_finetune_single_device.py"
SETTINGS = (  # that are recorded as they are given
    "rows",
    "batch_size",
    "gradient_accumulation_steps",
    "max_steps_per_epoch",
    "epochs",
    "packed",
    "max_seq_len",
)


@dataclass(frozen=True, kw_only=True)
class Combination:
    rows: int
    batch_size: int
    gradient_accumulation_steps: int = 1
    max_steps_per_epoch: int | None = None
    epochs: int = 1
    packed: bool = False
    max_seq_len: int = 128
    seed: int = 0  # of the rows' texts

    def texts(self) -> list[dict[str, str]]:
        """Of 1 to 90 letters: with a max_seq_len below 117, some are truncated."""
        chance = random.Random(f"{self.rows} {self.seed}")
        return [{"input": "a" * chance.randint(1, 90), "output": "b"} for _ in range(self.rows)]


COMBINATIONS = (
    # nothing is trained
    Combination(rows=3, batch_size=4),
    Combination(rows=1, batch_size=2, epochs=2),
    Combination(rows=7, batch_size=4, gradient_accumulation_steps=2),
    Combination(rows=5, batch_size=1, gradient_accumulation_steps=6),
    Combination(rows=15, batch_size=8, gradient_accumulation_steps=2, max_steps_per_epoch=3),
    Combination(rows=6, batch_size=4, packed=True, max_seq_len=256),
    Combination(rows=12, batch_size=2, gradient_accumulation_steps=4, packed=True, max_seq_len=256),
    # whole and incomplete batches
    Combination(rows=1, batch_size=1),
    Combination(rows=8, batch_size=1),
    Combination(rows=8, batch_size=4),
    Combination(rows=9, batch_size=4),
    Combination(rows=11, batch_size=4),
    Combination(rows=12, batch_size=3, seed=1),
    Combination(rows=40, batch_size=8, seed=2),
    Combination(rows=47, batch_size=8, seed=3),
    Combination(rows=33, batch_size=16),
    # incomplete accumulations
    Combination(rows=10, batch_size=3, gradient_accumulation_steps=2),
    Combination(rows=16, batch_size=2, gradient_accumulation_steps=4),
    Combination(rows=17, batch_size=2, gradient_accumulation_steps=3),
    Combination(rows=23, batch_size=1, gradient_accumulation_steps=4),
    Combination(rows=30, batch_size=4, gradient_accumulation_steps=3),
    Combination(rows=50, batch_size=5, gradient_accumulation_steps=4),
    # a cap below, at and above what there is
    Combination(rows=20, batch_size=2, max_steps_per_epoch=1),
    Combination(rows=20, batch_size=2, max_steps_per_epoch=7),
    Combination(rows=20, batch_size=2, max_steps_per_epoch=10),
    Combination(rows=20, batch_size=2, max_steps_per_epoch=11),
    Combination(rows=26, batch_size=2, gradient_accumulation_steps=3, max_steps_per_epoch=2),
    Combination(rows=26, batch_size=2, gradient_accumulation_steps=3, max_steps_per_epoch=4),
    # epochs, whose order differs
    Combination(rows=14, batch_size=4, epochs=2),
    Combination(rows=25, batch_size=4, epochs=3, seed=4),
    Combination(rows=19, batch_size=2, gradient_accumulation_steps=2, epochs=3),
    Combination(rows=21, batch_size=1, gradient_accumulation_steps=5, epochs=2, seed=5),
    Combination(rows=24, batch_size=2, max_steps_per_epoch=5, epochs=3),
    Combination(rows=31, batch_size=3, gradient_accumulation_steps=2, max_steps_per_epoch=3, epochs=2),
    Combination(rows=64, batch_size=8, gradient_accumulation_steps=2, epochs=4, seed=6),
    # rows that are cut to max_seq_len
    Combination(rows=18, batch_size=4, max_seq_len=64),
    Combination(rows=22, batch_size=3, max_seq_len=40, epochs=2),
    # packs
    Combination(rows=20, batch_size=1, packed=True),
    Combination(rows=20, batch_size=2, packed=True, max_seq_len=256),
    Combination(rows=45, batch_size=2, packed=True, max_seq_len=256, epochs=2, seed=7),
    Combination(rows=60, batch_size=3, packed=True, seed=8),
    Combination(rows=61, batch_size=1, gradient_accumulation_steps=4, packed=True, seed=9),
    Combination(rows=75, batch_size=2, gradient_accumulation_steps=3, packed=True, epochs=2, seed=10),
    Combination(rows=80, batch_size=4, max_steps_per_epoch=2, packed=True, max_seq_len=192, seed=11),
    Combination(rows=80, batch_size=4, max_steps_per_epoch=50, packed=True, max_seq_len=192, seed=12),
    Combination(rows=34, batch_size=1, packed=True, max_seq_len=64, epochs=2, seed=13),
    Combination(rows=90, batch_size=2, gradient_accumulation_steps=2, packed=True, max_seq_len=512, seed=14),
)


class WatchedLoader:
    """Stands before the recipe's own loader and notes the padded length of each batch that the recipe takes."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.batch_lengths: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        lengths: list[int] = []
        self.batch_lengths.append(lengths)
        for batch in self._loader:
            lengths.append(batch["tokens"].shape[1])
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def main() -> None:
    work = _work_folder()
    recipe_class = runpy.run_path(str(RECIPE), run_name="recipe")["LoRAFinetuneRecipeSingleDevice"]
    runs = [
        _run(recipe_class, combination, work / str(number)) for number, combination in enumerate(COMBINATIONS)
    ]
    lines = ",\n".join(json.dumps(run) for run in runs)
    RECORDS.write_text(f"[\n{lines}\n]\n")
    shutil.rmtree(work)


def _run(recipe_class: Any, combination: Combination, directory: Path) -> dict[str, Any]:
    """What `recipe_main` of the recipe's file does, with the loader watched."""
    directory.mkdir()
    (directory / "rows.json").write_text(json.dumps({"train": combination.texts()}))
    settings = OmegaConf.create(_config(combination, directory))
    recipe = recipe_class(cfg=settings)
    recipe.setup(cfg=settings)
    dataset = recipe._dataloader.dataset
    watched = recipe._dataloader = WatchedLoader(recipe._dataloader)
    recipe.train()
    recipe.cleanup()
    return {
        **{name: value for name, value in asdict(combination).items() if name in SETTINGS},
        "row_tokens": [len(row["tokens"]) for row in getattr(dataset, "ds", dataset)],
        "packs": len(dataset) if combination.packed else None,
        "steps": len(read_metrics(directory)),
        "batch_lengths": watched.batch_lengths,
    }


def _config(combination: Combination, directory: Path) -> dict[str, Any]:
    chosen = {name: value for name, value in asdict(combination).items() if name in SETTINGS}
    data = DataSource(path=str(directory / "rows.json"), format="json_splits", split="train")
    return build_config(
        spec=FinetuneSpec(model_name=MODEL.name, model_path=str(MODEL), data=data, lora_rank=4, **chosen),
        model_config=json.loads((MODEL / "config.json").read_text()),
        weight_files=["model.safetensors"],
        output_dir=directory,
        on_gpu=False,
    )


def _work_folder() -> Path:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="where the scratch folder is made")
    return Path(tempfile.mkdtemp(prefix="labmgr-steps-", dir=parser.parse_args().work))


if __name__ == "__main__":
    main()
