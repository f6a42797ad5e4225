"""Which cells an experiment has: factors, lists, exclusions, seeds, datasets, prompts, adapters, controls."""

from typing import Any

import pytest

from experiments.documents import InvalidDocument
from experiments.layout import PlannedCell
from experiments.specs import EvaluateSpec, FinetuneSpec
from experiments.states import CellType
from tests.unit.lab_material import data, lay_out

DOCUMENT: dict[str, Any] = {
    "name": "ranks",
    "dataset": "words.json",
    "factors": {"model": ["Llama-1B", "Llama-3B"], "lora_rank": [4, 64]},
    "fixed": {"epochs": 2, "max_seq_len": 128},
    "evaluation": {"split": "test"},
}
SEVERAL = {
    "dataset": None,
    "datasets": {"short": "short.json", "long": "long.json"},
    "prompts": {"plain": "Answer.", "kind": "Please answer."},
    "factors": {
        "model": ["Llama-1B", "Llama-3B"],
        "dataset": ["short", "long"],
        "prompt": ["plain", "kind"],
    },
    "control": True,
}


def cells(**change: Any) -> list[PlannedCell]:
    return lay_out({**DOCUMENT, **change})


def names(**change: Any) -> list[str]:
    return [cell.name for cell in cells(**change)]


def finetunes(**change: Any) -> list[FinetuneSpec]:
    return [cell.finetune for cell in cells(**change) if cell.finetune is not None]


def evaluations(**change: Any) -> list[EvaluateSpec]:
    return [run.spec for cell in cells(**change) for run in cell.runs if isinstance(run.spec, EvaluateSpec)]


def test_factors_are_crossed_in_their_order() -> None:
    assert names() == ["Llama-1B_rank4", "Llama-1B_rank64", "Llama-3B_rank4", "Llama-3B_rank64"]


def test_one_model_with_nothing_that_varies_is_one_cell() -> None:
    assert names(factors={}, fixed={"model": "Llama-1B"}) == ["ranks"]


def test_listed_cells_come_after_crossed_ones() -> None:
    extra = {"model": "Other-1B", "lora_rank": 128, "batch_size": 2}
    assert names(cells=[extra])[-2:] == ["Llama-3B_rank64", "Other-1B_rank128_bs2"]
    assert finetunes(cells=[extra])[-1].batch_size == 2


def test_cells_may_be_listed_alone() -> None:
    listed = [{"model": "Llama-1B", "lora_rank": 4}, {"model": "Llama-3B", "lora_rank": 64}]
    assert names(factors={}, cells=listed) == ["Llama-1B_rank4", "Llama-3B_rank64"]


def test_an_exclusion_takes_out_the_cells_that_have_all_its_levels() -> None:
    assert names(exclude=[{"model": "Llama-3B", "lora_rank": 4}]) == [
        *("Llama-1B_rank4", "Llama-1B_rank64", "Llama-3B_rank64")
    ]
    assert names(exclude=[{"model": "Llama-3B"}, {"lora_rank": 64}]) == ["Llama-1B_rank4"]


def test_an_exclusion_does_not_take_1_for_true() -> None:
    sleepers = {"name": "s", "simulated": {"duration_seconds": 1}, "factors": {"part": [1, True, 2]}}
    assert [cell.name for cell in lay_out({**sleepers, "exclude": [{"part": 1}]})] == ["part", "part2"]


def test_seeds_repeat_every_cell_and_are_trained_with() -> None:
    change = {"factors": {"model": ["Llama-1B"], "lora_rank": [4, 8]}, "seeds": [1, 7]}
    assert names(**change) == [
        *("Llama-1B_rank4_seed1", "Llama-1B_rank4_seed7", "Llama-1B_rank8_seed1", "Llama-1B_rank8_seed7")
    ]
    assert [spec.seed for spec in finetunes(**change)] == [1, 7, 1, 7]
    assert [cell.seed for cell in cells(**change)] == [1, 7, 1, 7]


def test_seeds_do_not_repeat_controls_and_adapters() -> None:
    adapter = {"model": "Llama-1B", "adapter": "earlier/a_rank8/finetune"}
    change = {"factors": {"model": ["Llama-1B"]}, "seeds": [1, 2], "cells": [adapter], "control": True}
    assert names(**change) == [
        *("Llama-1B_seed1", "Llama-1B_seed2", "Llama-1B_adapter_a_rank8", "Llama-1B_base")
    ]


def test_settings_are_for_all_models_or_for_each() -> None:
    change = {"fixed": {"epochs": 2, "batch_size": {"Llama-1B": 16, "Llama-3B": 8}}}
    assert [spec.batch_size for spec in finetunes(**change)] == [16, 16, 8, 8]


def test_the_template_s_batch_size_follows_the_models_size() -> None:
    assert [spec.batch_size for spec in finetunes()] == [4, 4, 2, 2]


def test_datasets_and_prompts_are_factors_and_named() -> None:
    assert names(**SEVERAL)[:4] == [
        *("Llama-1B_short_plain", "Llama-1B_short_kind", "Llama-1B_long_plain", "Llama-1B_long_kind")
    ]


def test_there_is_a_control_for_each_model_dataset_and_prompt() -> None:
    controls = [cell for cell in cells(**SEVERAL) if cell.type == CellType.CONTROL]
    assert [cell.name for cell in controls][:2] == ["Llama-1B_base_short_plain", "Llama-1B_base_short_kind"]
    assert len(controls) == 8
    assert controls[0].levels == {"model": "Llama-1B", "dataset": "short", "prompt": "plain"}
    assert [len(cell.runs) for cell in controls] == [1] * 8


def test_a_control_is_named_by_the_model_where_nothing_else_varies() -> None:
    one = {**SEVERAL, "datasets": {"short": "short.json"}, "prompts": {"kind": "Please answer."}}
    one["factors"] = {"model": ["Llama-1B"], "dataset": ["short"], "prompt": ["kind"]}
    assert names(**one) == ["Llama-1B_short_kind", "Llama-1B_base"]


def test_controls_with_and_without_a_prompt_are_told_apart() -> None:
    change = {"prompts": {"kind": "Please answer."}, "factors": {"model": ["Llama-1B"]}, "control": True}
    change["cells"] = [{"model": "Llama-1B", "prompt": "kind"}]
    assert names(**change) == ["Llama-1B", "Llama-1B_kind", "Llama-1B_base", "Llama-1B_base_kind"]


def test_a_prompt_goes_before_every_row_that_is_trained_and_scored() -> None:
    cell = cells(**SEVERAL)[1]
    assert isinstance(cell.runs[0].spec, FinetuneSpec) and isinstance(cell.runs[1].spec, EvaluateSpec)
    assert [run.spec.data.system_prompt for run in cell.runs] == ["Please answer."] * 2
    assert (cell.runs[0].spec.data.path, cell.runs[0].spec.data.split) == ("/data/short.json", "train")
    assert [spec.data.system_prompt for spec in evaluations()] == [None] * 4


def test_an_adapter_that_is_there_is_evaluated_only() -> None:
    adapter = {"model": "Llama-1B", "adapter": "earlier/a_rank8/finetune"}
    (cell,) = cells(factors={}, cells=[adapter])
    assert (cell.name, cell.type, cell.finetune) == ("Llama-1B_adapter_a_rank8", CellType.ADAPTER, None)
    (run,) = cell.runs
    assert isinstance(run.spec, EvaluateSpec)
    assert (run.spec.adapter_path, run.spec.lora_rank, run.builds_on) == ("/runs/1/output/epoch_0", 8, None)


def test_a_named_adapter_takes_no_settings_by_model_with_it() -> None:
    adapter = {"model": "Other-1B", "adapter": "earlier/a_rank8/finetune"}
    fixed = {"epochs": {"Llama-1B": 1, "Llama-3B": 2}}
    assert len(cells(cells=[adapter], fixed=fixed)) == 5


def test_without_an_evaluation_there_are_fine_tunes_alone() -> None:
    assert [len(cell.runs) for cell in cells(evaluation=None)] == [1] * 4


@pytest.mark.parametrize(
    ("change", "recipe"),
    [
        ({}, "lora_finetune_single_device"),
        ({"validation": False}, "lora_finetune_single_device"),
        ({"validation": {}}, "lora_validating_single_device"),
        ({"resources": {"devices": 2}}, "lora_finetune_distributed"),
        ({"fixed": {"method": "qlora"}}, "lora_finetune_single_device"),
        ({"fixed": {"recipe": "mine.py"}}, "mine.py"),
    ],
)
def test_the_recipe_follows_from_method_devices_and_validation(change: dict[str, Any], recipe: str) -> None:
    assert {spec.recipe for spec in finetunes(**change)} == {recipe}


def test_full_fine_tunes_take_their_recipes_too_and_make_no_adapter() -> None:
    full = {"factors": {"model": ["Llama-1B"]}, "fixed": {"method": "full", "epochs": 1}}
    recipes = [
        finetunes(**full, **more)[0].recipe
        for more in ({}, {"validation": {}}, {"resources": {"devices": 2}})
    ]
    assert recipes == [
        *("full_finetune_single_device", "full_validating_single_device", "full_finetune_distributed")
    ]
    assert evaluations(**full)[0].lora_rank is None


def test_methods_are_a_factor_where_ranks_are_listed() -> None:
    change = {
        "factors": {"model": ["Llama-1B"], "method": ["lora", "qlora"]},
        "cells": [{"model": "Llama-1B", "method": "full"}],
    }
    assert names(**change) == ["Llama-1B_lora", "Llama-1B_qlora", "Llama-1B_full"]


def test_several_devices_are_the_world_of_a_fine_tune_and_share_an_engine() -> None:
    change = {"resources": {"devices": 2}}
    assert {spec.world_size for spec in finetunes(**change)} == {2}
    assert {spec.engine.tensor_parallel_size for spec in evaluations(**change)} == {2}
    assert {spec.steps_per_epoch for spec in finetunes(**change)} == {1600 // 2 // 4, 1600 // 2 // 2}


def test_validation_says_its_rows_and_when() -> None:
    validation = finetunes(validation={"every_n_steps": 10, "max_batches": 3})[0].validation
    assert validation is not None
    assert (validation.rows, validation.every_n_steps, validation.max_batches) == (200, 10, 3)
    assert (validation.data.split, finetunes()[0].validation) == ("validation", None)


def test_a_lab_s_own_recipe_comes_with_its_file() -> None:
    assert finetunes(fixed={"recipe": "mine.py"})[0].recipe_file == "/recipes/mine.py"


def test_keep_and_overrides_reach_the_fine_tune() -> None:
    fixed = {"torchtune": {"optimizer": {"weight_decay": 0.1}, "clip_grad_norm": 1}}
    spec = finetunes(keep="adapter", fixed=fixed)[0]
    assert (spec.keep, spec.overrides) == ("adapter", {"optimizer.weight_decay": 0.1, "clip_grad_norm": 1})
    assert finetunes(keep="best", validation={})[0].keep == "best"


def test_a_template_names_by_size_and_controls_follow_it() -> None:
    assert names(name_template="{size}_rank{lora_rank}", control=True) == [
        *("1B_rank4", "1B_rank64", "3B_rank4", "3B_rank64", "1B_base", "3B_base")
    ]


def test_two_models_of_one_size_need_their_names() -> None:
    two = {"factors": {"model": ["Llama-1B", "Other-1B"]}, "control": True}
    with pytest.raises(
        InvalidDocument, match=r"2 cells would be called '1B'\. Add \{model\} to the template\."
    ):
        cells(name_template="{size}", **two)
    assert names(name_template="{size}-{model}", **two) == [
        *("1B-Llama-1B", "1B-Other-1B", "Llama-1B_base", "Other-1B_base")
    ]


def test_a_template_may_name_what_every_cell_has() -> None:
    change = {"factors": {"model": ["Llama-1B"], "packed": [True, False]}, "seeds": [3]}
    assert names(name_template="{model}_{epochs}ep_{packed}_{seed}", **change) == [
        *("Llama-1B_2ep_packed_3", "Llama-1B_2ep_not-packed_3")
    ]


def test_a_split_that_one_of_several_datasets_lacks_is_told_with_its_name() -> None:
    short = {"short": data("short", train=100), "long": data("long")}
    with pytest.raises(InvalidDocument, match="The dataset 'short' has no rows in a split 'test'"):
        lay_out({**DOCUMENT, **SEVERAL}, datasets=short)


def test_of_a_split_without_rows_nothing_is_scored() -> None:
    empty = data(train=100, test=0)
    with pytest.raises(InvalidDocument, match="no rows in a split 'test'"):
        lay_out(DOCUMENT, datasets={"dataset": empty})


def test_what_many_cells_have_wrong_is_told_once() -> None:
    with pytest.raises(InvalidDocument) as refused:
        cells(fixed={"batch_size": 5000})
    assert len(refused.value.problems) == 1
