from pathlib import Path

import pytest

from experiments.parsers import torchtune
from experiments.parsers.torchtune import Progress
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


def test_the_last_bar_of_each_epoch_tells_its_steps_and_seconds() -> None:
    assert torchtune.parse_progress(sample("run_term.err")) == [Progress(1, 15, 7), Progress(2, 15, 5)]


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
