"""Do the demo's fine-tunes beat their controls whatever the seed? Five demos, each with a seed of its own.

    python -m tests.benchmarks.demo_seeds [seed ...]

The seed is that of the words and of the training. Real engines, a home of its own in a temporary folder; some ten
minutes on two CPU cores. Prints a table in Markdown, the smallest margin, and ends with 1 if that is below MARGIN.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.lab import REPOSITORY, Lab, until

SEEDS = (0, 1, 2, 3, 4)
MARGIN = 0.2
FINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}


def main() -> int:
    seeds = [int(argument) for argument in sys.argv[1:]] or list(SEEDS)
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        lab = Lab(Path(folder))
        started = lab.run("up", timeout=3600)
        if started.returncode:
            raise SystemExit(started.stdout + started.stderr)
        try:
            (Path(folder) / "models").rmdir()
            (Path(folder) / "models").symlink_to(REPOSITORY / "experiments/demo/models")
            summaries = {seed: _summary(lab, seed) for seed in seeds}
        finally:
            lab.run("stop")
    return _report(summaries)


def _summary(lab: Lab, seed: int) -> dict[str, dict[str, Any]]:
    document = yaml.safe_load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
    document["name"] = f"seed_{seed}"
    document["dataset"]["seed"] = document["fixed"]["seed"] = seed
    name = lab.start(document)
    until(lambda: {row["state"] for row in lab.summary(name).values()} <= FINAL, seconds=1200)
    rows = lab.summary(name)
    print(f"seed {seed}: {_scores(rows)}", file=sys.stderr, flush=True)
    return rows


def _scores(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    return {name: row["metrics"].get("exact_match", float("nan")) for name, row in rows.items()}


def _report(summaries: dict[int, dict[str, dict[str, Any]]]) -> int:
    names = list(next(iter(summaries.values())))
    print(f"| seed | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    for seed, rows in summaries.items():
        print(f"| {seed} | {' | '.join(f'{score:.3f}' for score in _scores(rows).values())} |")
    smallest = min(_margin(rows) for rows in summaries.values())
    print(f"\nThe smallest margin of a fine-tuned row over its own control: {smallest:.3f}")
    return 0 if smallest >= MARGIN else 1


def _margin(rows: dict[str, dict[str, Any]]) -> float:
    scores = _scores(rows)
    tuned = [name for name, row in rows.items() if row["type"] == "finetuned"]
    return min(scores[name] - scores[f"{name.rpartition('_')[0]}_base"] for name in tuned)


if __name__ == "__main__":
    sys.exit(main())
