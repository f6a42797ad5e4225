"""Plans: a document is checked against what is on disk, laid out as cells, estimated, and stored as a draft."""

from experiments.planning.plan import Plan, plan
from experiments.planning.probes import plan_probes
from experiments.planning.rows import refused_json
from experiments.planning.storing import (
    NameTaken,
    Outdated,
    estimate_rows,
    exported_plan,
    notes,
    proposal_json,
    record,
    require_storable,
    store,
    stored_plan_json,
)

__all__ = [
    "NameTaken",
    "Outdated",
    "Plan",
    "estimate_rows",
    "exported_plan",
    "notes",
    "plan",
    "plan_probes",
    "proposal_json",
    "record",
    "refused_json",
    "require_storable",
    "store",
    "stored_plan_json",
]
