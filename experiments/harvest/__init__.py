"""What was measured becomes observations: of the lab's own runs, and of earlier work."""

from experiments.harvest.incomplete import incomplete
from experiments.harvest.own import keep, observe, store
from experiments.harvest.sentences import contradiction, not_known, unused

__all__ = ["contradiction", "incomplete", "keep", "not_known", "observe", "store", "unused"]
