"""Which checkpoints of a fine-tune stay when it has succeeded.

    all      every epoch, and the state that torchtune resumes from
    last     the last epoch
    best     the epoch with the lowest validation loss at its end; the last one where nothing was validated
    adapter  the adapter of the last epoch, without what torchtune puts beside it; of a full fine-tune, all of it
    none     nothing, of a probe

Which epoch stays is written down first; see experiments.kept.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from experiments.beneath import remove_beneath
from experiments.kept import ADAPTER_FILES
from experiments.parsers.torchtune import ValidationRecord

Keep = Literal["all", "last", "best", "adapter", "none"]

_RESUMABLE = "recipe_state"


def choose_epoch(*, keep: Keep, epochs: int, val_losses: Mapping[int, float]) -> int:
    """`val_losses` has those at the end of an epoch, by its number."""
    at_ends = {epoch: loss for epoch, loss in val_losses.items() if 0 <= epoch < epochs}
    if keep != "best" or not at_ends:
        return epochs - 1
    return min(at_ends, key=lambda epoch: (at_ends[epoch], epoch))


def losses_at_ends(
    validations: Iterable[ValidationRecord], steps_per_epoch: int | None
) -> Mapping[int, float]:
    """The validation loss at the end of each epoch, by the epoch's number."""
    if not steps_per_epoch:
        return {}
    at_ends = (record for record in validations if record.step and record.step % steps_per_epoch == 0)
    return {record.step // steps_per_epoch - 1: record.val_loss for record in at_ends}


def to_remove(*, keep: Keep, kept_epoch: int, found: Iterable[str]) -> list[str]:
    """Of the names in a run's output folder, those that go."""
    if keep == "all":
        return []
    kept = f"epoch_{kept_epoch}" if keep != "none" else ""
    return [name for name in found if name == _RESUMABLE or (name.startswith("epoch_") and name != kept)]


def prune(run_directory: Path, *, keep: Keep, kept_epoch: int) -> None:
    """Remove the rest; may be repeated."""
    output = run_directory / "output"
    found = [path.name for path in output.iterdir()]
    for name in to_remove(keep=keep, kept_epoch=kept_epoch, found=found):
        remove_beneath(run_directory, output / name)
    if keep == "adapter":
        _keep_only_the_adapter(run_directory, output / f"epoch_{kept_epoch}")


def _keep_only_the_adapter(run_directory: Path, epoch: Path) -> None:
    files = list(epoch.iterdir())
    if not any(path.name in ADAPTER_FILES for path in files):
        return
    for path in files:
        if path.name not in ADAPTER_FILES:
            remove_beneath(run_directory, path)
