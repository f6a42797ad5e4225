"""Validation for torchtune's single-device recipes, which have none.

    dataset_val            as `dataset`
    run_val_every_n_steps  validate after every so many optimizer steps, and at the end of each epoch
    val_max_batches        the first so many batches only; null: all

Training must go on as if nothing had been validated, so the random state is put back and nothing but the mode of the
model is touched.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchtune
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from torchtune import config, utils
from torchtune.data import padded_collate_packed, padded_collate_sft


def built_in(name: str) -> ModuleType:
    """A recipe that torchtune ships. They lie beside the package, in a folder that refuses to be imported."""
    path = Path(torchtune.__file__).parent.parent / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Validating:
    """To be put before a built-in recipe's class. Its loop calls nothing of ours after a step but the metric logger."""

    def setup(self, cfg: DictConfig) -> None:
        super().setup(cfg)
        self._val_batches = self._setup_validation(cfg)
        self._val_every = cfg.run_val_every_n_steps
        self._val_max_batches = cfg.get("val_max_batches", None)
        self._validated_at = 0
        self._log_step = self._metric_logger.log_dict
        self._metric_logger.log_dict = self._log_and_validate

    def save_checkpoint(self, epoch: int) -> None:
        self._validate(self.global_step)
        super().save_checkpoint(epoch)

    def _log_and_validate(self, payload: Mapping[str, Any], step: int) -> None:
        self._log_step(payload, step)
        if step % self._val_every == 0:
            self._validate(step)

    def _validate(self, step: int) -> None:
        """Once a step: the last step of an epoch may also be an n-th one."""
        if self._validated_at == step:
            return
        self._validated_at = step
        self._model.eval()
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            loss = self._mean_loss()
        self._model.train()
        self._log_step({"val_loss": loss}, step)

    def _mean_loss(self) -> float:
        """Over the tokens that are scored, as the training loss is."""
        total, tokens = 0.0, 0
        for batch in islice(self._val_batches, self._val_max_batches):
            utils.batch_to_device(batch, self._device)
            scored = int((batch["labels"] != self._loss_fn.ignore_index).sum())
            total += self._loss_step(batch).item() * scored
            tokens += scored
        return total / max(tokens, 1)

    def _setup_validation(self, cfg: DictConfig) -> DataLoader:
        """In order, and with the last batch, however small."""
        dataset = config.instantiate(cfg.dataset_val, self._tokenizer)
        padded = partial(
            padded_collate_sft, padding_idx=self._tokenizer.pad_id, ignore_idx=self._loss_fn.ignore_index
        )
        return DataLoader(
            dataset,
            batch_size=cfg.batch_size,
            collate_fn=padded_collate_packed if cfg.dataset_val.get("packed", False) else padded,
        )


def run(name: str, recipe: type, cfg: DictConfig) -> None:
    config.log_config(recipe_name=name, cfg=cfg)
    running = recipe(cfg=cfg)
    running.setup(cfg=cfg)
    running.train()
    running.cleanup()
