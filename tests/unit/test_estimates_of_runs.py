"""Whole runs: a fine-tune's and an evaluation's time, memory and disk."""

from dataclasses import replace

import pytest

from experiments.conditions import Conditions, Metric
from experiments.estimation import Evidence, Fact, evaluation, finetune, needs_probe
from experiments.figures import Grade
from tests.unit.estimation_facts import conditions, fact, peak, step, told

UNDER = conditions(epochs=3, steps_per_epoch=200)


def parts_of_a_run() -> list[Fact]:
    return [
        fact(Metric.SECONDS_PER_STEP, 0.5, UNDER),
        fact(Metric.STARTUP_SECONDS, 12.0, UNDER),
        fact(Metric.CHECKPOINT_SECONDS, 4.0, UNDER),
        fact(Metric.VALIDATION_SECONDS, 7.0, replace(UNDER, rows=500)),
        fact(Metric.CHECKPOINT_DISK_MIB, 90.0, UNDER),
    ]


def test_seed_000_told_its_speed_takes_922_seconds_and_start_up_has_no_evidence() -> None:
    """8,000 rows at batch 4, two epochs, "unpacked, this batch size, 4.34 it/s": section 10 of the design."""
    speed = told(Metric.SECONDS_PER_STEP, 1 / 4.34, batch_size=4, packed=False)
    asked = Conditions(
        model_name="Llama-3.2-1B-Instruct",
        recipe="lora_finetune_single_device",
        lora_rank=64,
        batch_size=4,
        packed=False,
        rows=8000,
        epochs=2,
        steps_per_epoch=2000,
    )
    found = finetune(Evidence([speed]), asked)
    assert found.parts["training_seconds"].value == pytest.approx(921.66, abs=0.01)
    assert found.seconds.value == pytest.approx(921.66, abs=0.01)
    assert (found.seconds.grade, found.seconds.observations) == (Grade.TOLD, (speed.id,))
    assert "start-up: no evidence" in found.seconds.note and "checkpoints: no evidence" in found.seconds.note


def test_a_run_takes_its_start_and_each_epoch_its_steps_validations_and_checkpoint() -> None:
    facts = parts_of_a_run()
    found = finetune(Evidence(facts), UNDER, validations_per_epoch=2, validation_rows=500)
    assert {name: part.value for name, part in found.parts.items()} == {
        "training_seconds": pytest.approx(300),
        "startup_seconds": pytest.approx(12),
        "checkpoint_seconds": pytest.approx(12),
        "validation_seconds": pytest.approx(42),
    }
    assert found.seconds.value == pytest.approx(366)
    assert set(found.seconds.observations) == {one.id for one in facts[:4]}
    assert (found.seconds.note, found.seconds.n) == ("", 1)


def test_what_does_not_validate_takes_no_time_for_it() -> None:
    found = finetune(Evidence(parts_of_a_run()), UNDER)
    assert found.parts["validation_seconds"].value == 0
    assert found.seconds.value == pytest.approx(324)


def test_a_whole_is_as_good_as_the_worst_of_its_parts() -> None:
    guess = told(Metric.STARTUP_SECONDS, 20.0)
    found = finetune(Evidence([step(0.5), guess]), conditions())
    assert found.parts["training_seconds"].grade == Grade.MEASURED
    assert found.seconds.grade == Grade.TOLD


def test_start_up_alone_is_not_passed_off_as_the_whole() -> None:
    found = finetune(Evidence([fact(Metric.STARTUP_SECONDS, 12.0, UNDER)]), UNDER)
    assert found.seconds.value is None and "training: no evidence" in found.seconds.note


def test_without_a_number_of_steps_there_is_no_time() -> None:
    found = finetune(Evidence([step(0.5)]), conditions(steps_per_epoch=None))
    assert found.seconds.value is None
    assert "steps" in found.parts["training_seconds"].note
    assert found.seconds_per_step.value == pytest.approx(0.5)


def test_the_whole_has_the_interval_of_whole_runs() -> None:
    errors = [("seconds", "measured", sign * 0.1) for sign in (1, -1) * 5]
    found = finetune(Evidence(parts_of_a_run(), errors), UNDER)
    assert found.seconds.low is not None and found.seconds.low < 324 < found.seconds.high
    assert found.parts["startup_seconds"].low is None


def test_start_up_grows_with_the_rows_where_that_was_seen() -> None:
    facts = [
        fact(Metric.STARTUP_SECONDS, 10 + rows / 1000, conditions(rows=rows))
        for rows in (1000, 2000, 4000, 8000)
    ]
    found = finetune(Evidence(facts), conditions(rows=3000)).parts["startup_seconds"]
    assert (found.grade, found.value) == (Grade.INTERPOLATED, pytest.approx(13))


def test_disk_is_what_a_checkpoint_took_for_each_that_is_kept() -> None:
    evidence = Evidence(parts_of_a_run())
    assert finetune(evidence, UNDER).disk_mib.value == pytest.approx(270)
    assert finetune(evidence, UNDER, checkpoints_kept=1).disk_mib.value == pytest.approx(90)


def test_disk_that_was_never_measured_is_computed_and_says_so() -> None:
    rank_16 = conditions(epochs=1, precision="fp32")  # 1.6 million trainable parameters
    found = finetune(Evidence([]), rank_16).disk_mib
    assert found.value == pytest.approx(1_600_000 * 4 / 2**20)
    assert found.note.startswith("Computed") and found.observations == ()
    full = conditions(
        epochs=2, lora_rank=None, trainable_parameters=None, parameter_count=1_000_000_000, lora_modules=""
    )
    assert finetune(Evidence([]), full).disk_mib.value == pytest.approx(2 * 2e9 / 2**20)


def test_a_probe_is_needed_for_what_has_no_evidence() -> None:
    under = conditions()
    assert needs_probe(finetune(Evidence([]), under)) == (
        Metric.SECONDS_PER_STEP,
        Metric.PEAK_DEVICE_MEMORY_MIB,
    )
    assert needs_probe(finetune(Evidence([step(0.5)]), under)) == (Metric.PEAK_DEVICE_MEMORY_MIB,)
    assert needs_probe(finetune(Evidence([step(0.5), peak(9_000)]), under)) == ()


def test_an_evaluation_takes_the_engines_start_and_its_predictions() -> None:
    under = Conditions(
        model_shape="llama tiny", device_kind="AMD EPYC", recipe="evaluate", precision="fp32", rows=400
    )
    facts = [
        fact(Metric.ENGINE_STARTUP_SECONDS, 30.0, under),
        fact(Metric.SECONDS_PER_PREDICTION, 0.25, replace(under, rows=100)),
        fact(Metric.PEAK_HOST_MEMORY_MIB, 1_800.0, under),
    ]
    found = evaluation(Evidence(facts), under)
    assert found.seconds.value == pytest.approx(130)
    assert found.peak_host_memory_mib.value == pytest.approx(1_800)
    assert found.peak_device_memory_mib.value is None


def test_a_fine_tunes_memory_says_nothing_of_an_evaluations() -> None:
    evaluating = conditions(recipe="evaluate", lora_rank=None)
    assert evaluation(Evidence([peak(9_000)]), evaluating).peak_device_memory_mib.value is None


def test_the_base_models_pace_says_nothing_of_an_adapters() -> None:
    """Through an adapter a prediction takes many times as long."""
    of_base = conditions(recipe="evaluate", lora_rank=None, rows=100)
    evidence = Evidence([fact(Metric.SECONDS_PER_PREDICTION, 0.002, of_base)])
    of_adapter = conditions(recipe="evaluate_adapter", lora_rank=8, rows=100)
    assert evaluation(evidence, of_base).seconds.value is not None
    assert evaluation(evidence, of_adapter).seconds.value is None
