"""What was measured becomes observations: of the lab's own runs, and of earlier work."""

from experiments.harvest.incomplete import incomplete
from experiments.harvest.own import store, store_nothing
from experiments.harvest.sentences import contradiction, not_known, unused

__all__ = ["contradiction", "incomplete", "not_known", "store", "store_nothing", "unused"]
