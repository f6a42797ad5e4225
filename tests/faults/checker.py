"""The judge of a campaign: history in, findings out. It asks nobody and looks at nothing else."""

from tests.faults import recovery, rules_of_nodes, rules_of_runs
from tests.faults.findings import Finding
from tests.faults.history import History

RULES = (
    rules_of_runs.lost,
    rules_of_runs.doubled,
    rules_of_nodes.leaked,
    rules_of_nodes.over_given,
    rules_of_nodes.orphans,
    rules_of_nodes.node_loss,
    recovery.slow,
)


def check(history: History) -> list[Finding]:
    return [finding for rule in RULES for finding in rule(history)]
