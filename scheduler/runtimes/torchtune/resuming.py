"""A fine-tune that goes on after the last whole epoch of an earlier job of its run, or begins anew: see takeover.py.

<ML python> resuming.py --config FILE, in a folder with resume.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import takeover
from omegaconf import DictConfig
from torchtune import config
from validation import Validating, built_in, run

CLASSES = {
    "lora_finetune_single_device": "LoRAFinetuneRecipeSingleDevice",
    "full_finetune_single_device": "FullFinetuneRecipeSingleDevice",
}


class Resuming:
    """To be put before a recipe's class."""

    def _setup_lr_scheduler(self, *, last_epoch: int, **settings: Any) -> Any:
        """torchtune's LoRA recipe knows the steps taken only where max_steps_per_epoch caps them; else it would warm up again."""
        self.global_step = self.epochs_run * self._steps_per_epoch
        return super()._setup_lr_scheduler(last_epoch=self.global_step - 1, **settings)


def recipe_class(recipe: str) -> type:
    """The built-in one that a recipe of ours builds on, with what is added to it."""
    name = recipe.replace("_validating_", "_finetune_")
    added = (Resuming, Validating) if recipe != name else (Resuming,)
    return type("Recipe", (*added, getattr(built_in(name), CLASSES[name])), {})


@config.parse
def recipe_main(cfg: DictConfig) -> None:
    request = takeover.read_request(Path("resume.json"))
    taken = takeover.take_over(request)
    if taken.epochs:
        cfg.resume_from_checkpoint = True
        if request.recipe.startswith("full_"):
            files = takeover.weight_files(Path(request.output), taken.epochs - 1)
            cfg.checkpointer.checkpoint_files = files
    run(request.recipe, recipe_class(request.recipe), cfg)


if __name__ == "__main__":
    sys.exit(recipe_main())
