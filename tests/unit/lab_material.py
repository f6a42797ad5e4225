"""What a lab of two models and a few datasets has, for documents that are laid out in tests."""

from dataclasses import replace
from typing import Any

from experiments import documents, layout
from experiments.layout import ONLY, Adapter, Data, Material, PlannedCell
from experiments.specs import DataSource

SPLITS = {"train": 1600, "validation": 200, "test": 200}
PARAMETERS = {"Llama-1B": 1_235_814_400, "Other-1B": 1_240_000_000, "Llama-3B": 3_212_749_824}


def data(name: str = "words", **rows: int) -> Data:
    splits = rows or SPLITS
    sources = {
        split: DataSource(path=f"/data/{name}.json", format="json_splits", split=split) for split in splits
    }
    return Data(split_rows=splits, sources=sources)


MATERIAL = Material(
    model_paths={name: f"/models/{name}" for name in PARAMETERS},
    parameter_counts=PARAMETERS,
    datasets={ONLY: data(), "short": data("short"), "long": data("long")},
    prompts={"plain": "Answer.", "kind": "Please answer."},
    adapters={"earlier/a_rank8/finetune": Adapter(path="/runs/1/output/epoch_0", rank=8)},
    recipe_files={"mine.py": "/recipes/mine.py"},
)


def lay_out(document: dict[str, Any], **material: Any) -> list[PlannedCell]:
    return layout.lay_out(documents.parse(document), replace(MATERIAL, **material))
