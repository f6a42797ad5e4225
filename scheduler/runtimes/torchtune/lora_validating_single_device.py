"""torchtune's single-device LoRA recipe, with validation: see validation.py.

<ML python> lora_validating_single_device.py --config FILE
"""

from __future__ import annotations

import sys

from omegaconf import DictConfig
from torchtune import config
from validation import Validating, built_in, run

NAME = "lora_finetune_single_device"


class Recipe(Validating, built_in(NAME).LoRAFinetuneRecipeSingleDevice):
    pass


@config.parse
def recipe_main(cfg: DictConfig) -> None:
    run(NAME, Recipe, cfg)


if __name__ == "__main__":
    sys.exit(recipe_main())
