from typing import Any

import pytest

from experiments import documents, layout
from experiments.documents import InvalidDocument
from experiments.layout import ONLY, Data, Material, PlannedCell
from experiments.specs import CommandSpec, DataSource, EvaluateSpec, FinetuneSpec

DEMO: dict[str, Any] = {
    "name": "cap_lora_ranks",
    "dataset": {"generator": "capitalization", "word_length": 5, "words": 2000},
    "factors": {"model": ["tiny-llama-s", "tiny-llama-m"], "lora_rank": [4, 64]},
    "fixed": {"batch_size": 4, "epochs": 2, "max_seq_len": 128},
    "control": True,
    "evaluation": {"split": "test"},
    "limits": {"timeout_seconds": 77},
}
MATERIAL = Material(
    model_paths={"tiny-llama-s": "/models/s", "tiny-llama-m": "/models/m"},
    max_model_lens={"tiny-llama-s": 16384, "tiny-llama-m": 150},
    datasets={
        ONLY: Data(
            split_rows={"train": 1600, "test": 200},
            sources={
                split: DataSource(path="/data/words.json", format="json_splits", split=split)
                for split in ("train", "test")
            },
        )
    },
)


def cells(**change: Any) -> list[PlannedCell]:
    return layout.lay_out(documents.parse({**DEMO, **change}), MATERIAL)


def command_cells(argv: list[str], **factors: Any) -> list[PlannedCell]:
    document = {"name": "own", "command": {"argv": argv}, "factors": factors}
    return layout.lay_out(documents.parse(document), Material())


def refusal(**change: Any) -> str:
    with pytest.raises(InvalidDocument) as refused:
        cells(**change)
    return str(refused.value)


def test_the_demo_is_six_cells_of_which_two_are_controls() -> None:
    assert [(cell.name, str(cell.type)) for cell in cells()] == [
        ("tiny-llama-s_rank4", "finetuned"),
        ("tiny-llama-s_rank64", "finetuned"),
        ("tiny-llama-m_rank4", "finetuned"),
        ("tiny-llama-m_rank64", "finetuned"),
        ("tiny-llama-s_base", "control"),
        ("tiny-llama-m_base", "control"),
    ]


def test_an_evaluation_builds_on_its_fine_tune_and_a_control_on_nothing() -> None:
    tuned, control = cells()[0], cells()[-1]
    assert [(run.name, run.builds_on) for run in tuned.runs] == [
        ("tiny-llama-s_rank4/finetune", None),
        ("tiny-llama-s_rank4/evaluate", "tiny-llama-s_rank4/finetune"),
    ]
    assert [(run.name, run.builds_on) for run in control.runs] == [("tiny-llama-m_base/evaluate", None)]


def test_a_fine_tune_knows_its_steps_and_its_defaults() -> None:
    spec = cells()[1].finetune
    assert isinstance(spec, FinetuneSpec)
    assert (spec.steps_per_epoch, spec.epochs, spec.rows) == (400, 2, 1600)
    assert (spec.lora_rank, spec.lora_alpha) == (64, 128)


def test_evaluations_share_an_engine_by_base_model() -> None:
    keys = [layout.engine_key(cell.runs[-1]) for cell in cells()]
    assert keys[0] == keys[1] == keys[4] != keys[2] == keys[3] == keys[5]
    assert layout.engine_key(cells()[0].runs[0]) == ""


def test_an_engine_is_no_longer_than_its_model() -> None:
    lengths = {
        run.spec.engine.max_model_len
        for cell in cells()
        for run in cell.runs
        if isinstance(run.spec, EvaluateSpec)
    }
    assert lengths == {128 + 64, 150}


def test_every_run_has_the_limit_of_its_document() -> None:
    assert {run.resources.limit_seconds for cell in cells() for run in cell.runs} == {77}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"fixed": {"batch_size": 1601}},
            "batch_size 1601 times accumulation 1 is more than the 1600 training rows",
        ),
        ({"fixed": {"batch_size": 4, "gradient_accumulation_steps": 401}}, "Nothing would be trained"),
        (
            {"evaluation": {"split": "dev"}},
            "The dataset has no rows in a split 'dev'. It has: train, test.",
        ),
        ({"fixed": {"recipe": "full"}}, "Unknown recipe 'full'."),
        (
            {"resources": {"devices": 2}, "fixed": {"recipe": "lora_finetune_single_device"}},
            "The recipe lora_finetune_single_device uses one device, and 2 are asked for.",
        ),
        ({"factors": {"model": ["tiny-llama-s"], "lora_rank": [513]}}, "vLLM has no adapters of rank 513."),
    ],
)
def test_what_could_not_work_is_refused(change: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**change)


def test_a_factor_is_put_into_the_arguments_of_a_command() -> None:
    specs = [
        cell.runs[0].spec for cell in command_cells(["run", "--part={part}", "{{kept}}"], part=[1, "two"])
    ]
    assert [spec.argv for spec in specs if isinstance(spec, CommandSpec)] == [
        ("run", "--part=1", "{kept}"),
        ("run", "--part=two", "{kept}"),
    ]


@pytest.mark.parametrize(
    "argument", ["{prat}", "{part.__class__}", "{part!r}", "{part:>999999999}", "{", "{}"]
)
def test_nothing_but_a_factor_goes_between_braces(argument: str) -> None:
    with pytest.raises(InvalidDocument, match=r"command\.argv"):
        command_cells([argument], part=[1])
