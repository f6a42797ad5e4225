"""Earlier work: logs and configurations of runs that labmgr did not start, as observations."""

from experiments.prior.harvesting import Harvested, harvest_paths

__all__ = ["Harvested", "harvest_paths"]
