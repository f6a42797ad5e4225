"""What a checker says: which rule does not hold, and of what."""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    LOST = "lost"
    DOUBLED = "doubled"
    LEAKED = "leaked"
    OVER_GIVEN = "over-given"
    ORPHAN = "orphan"
    NODE_LOSS = "node loss"
    SLOW = "slow recovery"


@dataclass(frozen=True)
class Finding:
    rule: Rule
    told: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.told}"
