from typing import Any

import pytest

from experiments import recipes

RECIPE = "lora_finetune_single_device"


@pytest.mark.parametrize(
    "overrides",
    [
        {"optimizer.lr": 1e-3, "optimizer": {"weight_decay": 0.1}},
        {"optimizer._component_": "torch.optim.SGD"},
        {"model": {"lora_dropout": 0.1}, "clip_grad_norm": 1.0},
    ],
)
def test_what_torchtune_knows_and_a_document_may_set_is_let_through(overrides: dict[str, Any]) -> None:
    assert recipes.check(RECIPE, overrides) == []


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"optimizer": {"lrr": 1}}, "Did you mean 'optimizer.lr'?"),
        ({"optimizer.lrr": 1}, "has no key 'optimizer.lrr' that a document may set"),
        ({"output_dir": "/etc"}, "has no key 'output_dir'"),
        ({"checkpointer.checkpoint_dir": "/"}, "has no key"),
        ({"loss._component_": "os.system"}, "The component 'os.system' is not on the allow-list. Use one of"),
        ({"model._component_": "torchtune.models.llama3.llama3_8b"}, "Leave it out: labmgr sets it."),
        ({"dataset": {"_component_": "subprocess.run"}}, "is not on the allow-list"),
        ({"optimizer.lr": "${oc.env:SECRET}"}, "is an interpolation"),
        ({"optimizer.betas": ["${x}"]}, "is an interpolation"),
    ],
)
def test_what_torchtune_would_ignore_or_run_is_refused(overrides: dict[str, Any], sentence: str) -> None:
    problems = recipes.check(RECIPE, overrides)
    assert len(problems) == 1
    assert sentence in str(problems[0])


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    assert f"Did you mean '{RECIPE}'?" in str(recipes.check("lora_finetune_single_devise", {})[0])
