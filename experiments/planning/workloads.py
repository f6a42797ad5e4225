"""What torchtune will be given in each cell: from the token lengths of its rows, counted once for a plan."""

from collections.abc import Mapping
from datetime import datetime

import numpy
from numpy.typing import NDArray

from experiments import batches, catalogue
from experiments.catalogue import FoundDataset, FoundModel
from experiments.documents import TrainingSettings
from experiments.layout import Chosen
from experiments.specs import Workload

Lengths = NDArray[numpy.uint32]
_Asked = tuple[int, int, int, bool, int, int | None, int]


class Workloads:
    def __init__(
        self,
        *,
        models: Mapping[str, FoundModel],
        datasets: Mapping[str, FoundDataset],
        prompts: Mapping[str, str],
        now: datetime,
    ) -> None:
        self._models, self._datasets, self._prompts, self._now = models, datasets, prompts, now
        self._lengths: dict[Chosen, Lengths] = {}
        self._workloads: dict[tuple[Chosen, _Asked], Workload | None] = {}

    def lengths(self, chosen: Chosen) -> Lengths:
        """Of the training rows, not truncated. Raises catalogue.NotFound."""
        if chosen not in self._lengths:
            self._lengths[chosen] = catalogue.token_lengths(
                model=self._models[chosen.model],
                dataset=self._datasets[chosen.dataset],
                split="train",
                now=self._now,
                system_prompt=None if chosen.prompt is None else self._prompts[chosen.prompt],
            )
        return self._lengths[chosen]

    def of_settings(self, settings: TrainingSettings, chosen: Chosen, devices: int) -> Workload | None:
        asked = (
            settings.batch_size,
            settings.gradient_accumulation_steps,
            settings.max_seq_len,
            settings.packed,
            settings.epochs,
            settings.max_steps_per_epoch,
            devices,
        )
        if (chosen, asked) not in self._workloads:
            self._workloads[chosen, asked] = self._count(chosen, asked)
        return self._workloads[chosen, asked]

    def _count(self, chosen: Chosen, asked: _Asked) -> Workload | None:
        batch_size, accumulation, max_seq_len, packed, epochs, cap, devices = asked
        return batches.workload(
            self.lengths(chosen),
            batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_seq_len=max_seq_len,
            packed=packed,
            epochs=epochs,
            max_steps_per_epoch=cap,
            world_size=devices,
        )
