"""How good are the estimates? Each recorded configuration is left out, and predicted from the others.

    <control python> -m tests.benchmarks.estimates [--details]

The fine-tunes are those of record_finetunes.py. Prints a table in Markdown: the mean absolute error of training time and
of peak memory, beside how much runs of one configuration differ of themselves; how often the 90 % interval held the run;
and the same errors of simpler ways. Memory is the process's peak above what importing the libraries takes. Ends with 1
if a goal is missed: time within 10 %, memory within 5 %, and a binomial test that does not reject 90 % at 5 %.

Nothing here speaks for the memory of a GPU: see gpu_memory.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from scipy.stats import binomtest

from experiments import estimation
from experiments.conditions import Metric
from experiments.estimation import Evidence, Fact
from experiments.figures import Figure
from tests.benchmarks.recorded_finetunes import Recorded, by_configuration, load
from tests.benchmarks.rivals import RIVALS, Rival

TIME, MEMORY = Metric.SECONDS_PER_STEP, Metric.PEAK_DEVICE_MEMORY_MIB
GOALS = {TIME: 0.10, MEMORY: 0.05}
NAMES = {TIME: "training time", MEMORY: "peak memory"}
SIGNIFICANCE = 0.05
CONFIDENCE = 0.9


@dataclass(frozen=True)
class Prediction:
    run: Recorded
    figure: Figure
    error: float | None  # relative, of the value; None: no evidence
    is_held: bool | None  # by the interval; None: there is none


@dataclass(frozen=True)
class Coverage:
    held: int
    count: int
    p_value: float


def main() -> int:
    details = _arguments().details
    runs = load()
    lines, are_met = [], True
    for metric in GOALS:
        predicted = list(predictions(runs, metric))
        if details:
            _print_details(predicted, metric)
        lines += [_estimates_line(predicted, runs, metric), *_rival_lines(runs, metric)]
        are_met &= _is_met(predicted, metric)
    configurations = by_configuration(runs)
    print(f"{len(runs)} runs of {len(configurations)} configurations, each left out in turn.\n")
    print(
        "| predicted | by | configurations | mean absolute error | spread of repeats | in the 90 % interval |"
    )
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))
    print(f"\nGoals: {'met' if are_met else 'missed'}.")
    return 0 if are_met else 1


def predictions(runs: Sequence[Recorded], metric: Metric) -> Iterator[Prediction]:
    """One for each configuration: its first run, from all other configurations, with an interval from their errors."""
    configurations = by_configuration(list(runs))
    for name, repeats in configurations.items():
        others = [run for run in runs if run.configuration != name]
        evidence = Evidence(facts(others), tuple(_errors(others, metric)))
        yield _prediction(repeats[0], evidence, metric)


def facts(runs: Sequence[Recorded]) -> tuple[Fact, ...]:
    found = ((run, metric, value) for run in runs for metric, value in run.values.items())
    return tuple(
        Fact(
            id=number,
            metric=metric,
            value=value,
            is_bound=False,
            is_told=False,
            run_key=run.key,
            conditions=run.conditions,
            observed_at=run.recorded_at,
        )
        for number, (run, metric, value) in enumerate(found, 1)
    )


def _errors(runs: Sequence[Recorded], metric: Metric) -> Iterator[tuple[str, str, float]]:
    """What the planner would have kept: one for each configuration, predicted from the rest of these."""
    for name, repeats in by_configuration(list(runs)).items():
        rest = [run for run in runs if run.configuration != name]
        figure = _figure(repeats[0], Evidence(facts(rest), ()), metric)
        if figure.value is not None:
            yield str(metric), str(figure.grade), math.log(repeats[0].values[metric] / figure.value)


def _prediction(run: Recorded, evidence: Evidence, metric: Metric) -> Prediction:
    figure, value = _figure(run, evidence, metric), run.values[metric]
    if figure.value is None:
        return Prediction(run, figure, None, None)
    is_held = None if figure.low is None or figure.high is None else figure.low <= value <= figure.high
    return Prediction(run, figure, (figure.value - value) / above_imports(run, metric), is_held)


def _figure(run: Recorded, evidence: Evidence, metric: Metric) -> Figure:
    estimate = estimation.finetune(evidence, run.conditions)
    return estimate.seconds_per_step if metric == TIME else estimate.peak_device_memory_mib


def above_imports(run: Recorded, metric: Metric) -> float:
    """What an error is relative to."""
    return run.values[metric] - (run.import_memory_mib if metric == MEMORY else 0.0)


def spread(runs: Sequence[Recorded], metric: Metric) -> float:
    """Mean absolute error of a run predicted by the mean of the others of its configuration: no planner does better."""
    return mean(
        abs(mean(other.values[metric] for other in repeats if other is not run) - run.values[metric])
        / above_imports(run, metric)
        for repeats in by_configuration(list(runs)).values()
        if len(repeats) > 1
        for run in repeats
    )


def _is_met(predicted: Sequence[Prediction], metric: Metric) -> bool:
    return (
        all(prediction.error is not None for prediction in predicted)
        and _mean_error(predicted) <= GOALS[metric]
        and coverage(predicted).p_value >= SIGNIFICANCE
    )


def _mean_error(predicted: Sequence[Prediction]) -> float:
    return mean(abs(prediction.error) for prediction in predicted if prediction.error is not None)


def coverage(predicted: Sequence[Prediction]) -> Coverage:
    """The two-sided binomial test of whether nine in ten are held."""
    held = [prediction.is_held for prediction in predicted if prediction.is_held is not None]
    p_value = binomtest(sum(held), len(held), CONFIDENCE).pvalue if held else 0.0
    return Coverage(sum(held), len(held), p_value)


def _estimates_line(predicted: Sequence[Prediction], runs: Sequence[Recorded], metric: Metric) -> str:
    known = sum(prediction.error is not None for prediction in predicted)
    found = coverage(predicted)
    held = f"{found.held} of {found.count}, p = {found.p_value:.2f}"
    return _line(
        metric,
        "**labmgr**",
        f"{known} of {len(predicted)}",
        _mean_error(predicted),
        spread(runs, metric),
        held,
    )


def _rival_lines(runs: Sequence[Recorded], metric: Metric) -> Iterator[str]:
    for name, rival in RIVALS.items():
        errors = [
            _rival_error(rival, repeats[0], runs, metric) for repeats in by_configuration(list(runs)).values()
        ]
        yield _line(metric, name, str(len(errors)), mean(errors), None, "")


def _rival_error(rival: Rival, run: Recorded, runs: Sequence[Recorded], metric: Metric) -> float:
    others = [other for other in runs if other.configuration != run.configuration]
    return mean(
        abs(value - run.values[metric]) / above_imports(run, metric) for value in rival(run, others, metric)
    )


def _line(
    metric: Metric, by: str, configurations: str, error: float, noise: float | None, coverage: str
) -> str:
    noise_text = "" if noise is None else f"{noise:.1%}"
    return f"| {NAMES[metric]} | {by} | {configurations} | {error:.1%} | {noise_text} | {coverage} |"


def _print_details(predicted: Sequence[Prediction], metric: Metric) -> None:
    print(
        f"| {NAMES[metric]} of | grade | n | predicted | measured | error | interval |\n|---|---|---|---|---|---|---|"
    )
    for prediction in predicted:
        figure, value = prediction.figure, prediction.run.values[metric]
        error = "no evidence" if prediction.error is None else f"{prediction.error:+.1%}"
        print(
            f"| {prediction.run.configuration} | {figure.grade} | {figure.n} | {figure.value} | {value:.4g} "
            f"| {error} | {figure.low} to {figure.high} |"
        )
    print(f"\n{dict(Counter(str(prediction.figure.grade) for prediction in predicted))}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--details", action="store_true", help="every configuration's prediction, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
