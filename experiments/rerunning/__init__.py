"""Running again what ended: each run that is run again gets a fresh row, its next attempt, and keeps its earlier ones."""

from experiments.rerunning.anew import laid_out_anew
from experiments.rerunning.attempts import Rerun, rerun
from experiments.rerunning.refusals import CannotRerun, RunAgainAlready, RunRootAway
from experiments.rerunning.wanted import Anew, Wanted, Which, failed, want, with_dependents

__all__ = [
    "Anew",
    "CannotRerun",
    "Rerun",
    "RunAgainAlready",
    "RunRootAway",
    "Wanted",
    "Which",
    "failed",
    "laid_out_anew",
    "rerun",
    "want",
    "with_dependents",
]
