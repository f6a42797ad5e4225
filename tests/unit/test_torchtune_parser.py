from pathlib import Path

import pytest

from experiments.parsers import torchtune
from experiments.parsers.torchtune import ValidationRecord
from experiments.states import FinishReason

SAMPLES = Path(__file__).parents[1] / "data" / "torchtune"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


def test_every_step_of_a_metrics_file_is_read_with_its_line() -> None:
    records = list(torchtune.parse_metrics(sample("disklogger_one_epoch.txt")))
    assert [record.step for record in records] == list(range(1, 76))
    assert [record.line for record in records] == list(range(1, 76))
    assert (records[0].loss, records[-1].loss) == (6.771057605743408, 2.387129545211792)


@pytest.mark.parametrize(
    "text", ["", "Step 1 | loss:2.5", "Step 1 | lr:0.1 \n", "Step 1 | loss:none \n", "Epoch 1 | loss:1 \n"]
)
def test_a_line_that_is_unfinished_or_has_no_loss_is_left_out(text: str) -> None:
    assert list(torchtune.parse_metrics(text)) == []


def test_the_clock_and_the_memory_of_a_step_are_read() -> None:
    gpu = "peak_memory_active:2.5 peak_memory_alloc:2.25 peak_memory_reserved:3.0"
    (record,) = torchtune.parse_metrics(f"Step 4 | loss:2.5 lr:0.1 {gpu} at:1795.125 host_peak_mib:471.7 \n")
    assert (record.at, record.host_peak_mib) == (1795.125, 471.7)
    assert (record.peak_memory_active_gib, record.peak_memory_alloc_gib) == (2.5, 2.25)
    assert record.peak_memory_reserved_gib == 3.0


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "\x00\ufffd", "", "1.2.3"])
def test_a_value_that_is_no_finite_number_is_skipped(value: str) -> None:
    (record,) = torchtune.parse_metrics(f"Step 1 | loss:2.5 at:{value} host_peak_mib:7 \n")
    assert (record.loss, record.at, record.host_peak_mib) == (2.5, None, 7.0)
    assert list(torchtune.parse_metrics(f"Step 1 | loss:{value} at:5 \n")) == []


def test_validation_losses_are_read_apart_from_steps() -> None:
    text = "Step 5 | loss:2.5 at:10 \nStep 5 | val_loss:2.25 at:12.5 \nStep 6 | val_loss:nan \n"
    assert list(torchtune.parse_validations(text)) == [ValidationRecord(5, 2.25, 2, 12.5)]
    assert [record.step for record in torchtune.parse_metrics(text)] == [5]


def test_validation_losses_of_prior_work_are_read_without_a_clock() -> None:
    found = list(torchtune.parse_validations(sample("disklogger_val.txt")))
    assert [record.step for record in found] == [25, 50, 75, 100, 125, 150]
    assert (found[-1].val_loss, found[-1].line, found[-1].at) == (2.1399646371568317, 156, None)


def test_the_step_at_which_a_training_diverged_is_known(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "log_1.txt"
    log.write_text(
        "Step 1 | loss:2.0 \nStep 2 | loss:nan lr:1 \nStep 2 | val_loss:nan \nStep 3 | loss:inf \n"
    )
    found = torchtune.read(tmp_path)
    assert found and (found.path, found.diverged_at, len(found.steps)) == (log, 2, 1)


def test_what_was_taken_over_comes_before_a_runs_own_steps_and_apart_from_them(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "taken_over.txt").write_text("Step 1 | loss:2.0 \nStep 1 | val_loss:1.5 \n")
    (tmp_path / "logs" / "log_1.txt").write_text("Step 2 | loss:1.0 \nStep 2 | val_loss:0.5 \n")
    found = torchtune.read(tmp_path)
    assert found and [record.step for record in found.steps] == [2]
    assert [record.val_loss for record in found.all_validations] == [1.5, 0.5]
    assert [record.loss for record in torchtune.read_metrics(tmp_path)] == [2.0, 1.0]


@pytest.mark.parametrize("words", ["GPU peak memory allocation:", "GPU peak memory alloc:"])
def test_the_memory_after_the_models_start_is_read_in_both_spellings(words: str) -> None:
    block = (
        f"INFO:x:Memory stats after model init:\n\t{words} 2.50 GiB\n\tGPU peak memory reserved: 2.6 GiB\n"
    )
    assert torchtune.parse_memory_after_init_mib(block) == 2560.0
    assert torchtune.parse_memory_after_init_mib("GPU peak memory allocation: 2.5 GiB") is None


def test_the_newest_metrics_file_counts(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log_100.txt").write_text("Step 1 | loss:1.0 \n")
    (tmp_path / "logs" / "log_200.txt").write_text("Step 1 | loss:2.0 \n")
    assert [record.loss for record in torchtune.read_metrics(tmp_path)] == [2.0]
    assert torchtune.read_metrics(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    ("name", "reason", "line"),
    [
        ("oom.err", FinishReason.OUT_OF_MEMORY, "you tried to allocate 34603008 bytes"),
        ("bad_component.err", FinishReason.CONFIG_INVALID, "Error loading 'torchtune.models.llama3_2.nope'"),
        ("bad_model_key.err", FinishReason.CONFIG_INVALID, "unexpected keyword argument 'nonsense'"),
        ("fp16.err", FinishReason.CONFIG_INVALID, "fp16 precision is not supported in this recipe"),
        ("missing_ckpt_file.err", FinishReason.MODEL_MISSING, "No file with name: nope.safetensors"),
        ("wrong_shape.err", FinishReason.MODEL_MISSING, "copying a param with shape"),
        ("missing_data.err", FinishReason.DATA_INVALID, "FileNotFoundError: Unable to find"),
    ],
)
def test_the_log_of_a_failed_run_gives_its_reason_and_its_line(
    name: str, reason: FinishReason, line: str
) -> None:
    found = torchtune.classify_error(sample(name))
    assert found is not None
    assert found[0] is reason
    assert line in found[1]


def test_an_error_of_no_known_kind_is_told_as_it_is() -> None:
    log = "step\nTraceback:\nZeroDivisionError: division by zero\n"
    assert torchtune.classify_error(log) == (FinishReason.EXIT_CODE, "ZeroDivisionError: division by zero")
    assert torchtune.classify_error("all went well\n") is None
