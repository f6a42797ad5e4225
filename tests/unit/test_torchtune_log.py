"""What is read from torchtune's output: real logs whole, and nasty ones without harm."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.parsers.fragments import MAX_FRAGMENT_BYTES, fragments, whole_lines
from experiments.parsers.torchtune_bars import telling
from experiments.parsers.torchtune_log import Located, Segment, segments
from tests.logs import SAVED, START, TIME_LIMIT, bar, bars

DATA = Path(__file__).resolve().parents[1] / "data"


def read(text: bytes) -> list[Segment]:
    return list(segments([text]))


def sample(name: str) -> bytes:
    return (DATA / name).read_bytes()


def test_a_log_of_109_steps_at_4_34_a_second() -> None:
    (segment,) = read(sample("slurm/slurm-1001-reconstructed.out"))
    assert (segment.steps_per_epoch, segment.epochs_seen, segment.steps_done) == (109, 1, 109)
    assert segment.seconds_per_step is not None and segment.read_by == "clock"
    assert segment.seconds_per_step.value == pytest.approx(1 / 4.34, rel=0.01)
    assert segment.checkpoint_seconds == Located(9.81, 25)
    assert segment.after_init_gib["alloc"] == Located(2.41, 18)
    assert segment.after_init_gib["reserved"] == Located(2.42, 19)
    assert segment.recipe_class == "LoRAFinetuneRecipeSingleDevice"
    assert "lora_rank: 64" in segment.configuration and "INFO" not in segment.configuration
    assert not segment.is_cut_short


def test_slow_steps_the_newer_memory_lines_and_an_end_by_time_limit() -> None:
    (segment,) = read(sample("slurm/slurm-1002-reconstructed.out"))
    assert segment.seconds_per_step is not None
    assert segment.seconds_per_step.value == pytest.approx(8.38, rel=0.01)
    assert segment.after_init_gib["alloc"] == Located(5.98, 18)
    assert segment.is_time_limited


@pytest.mark.parametrize(
    ("name", "steps", "epochs", "done", "seconds", "read_by", "saves"),
    [
        ("run_lora1.err", 75, 2, 150, 0.0390, "clock", 0.015),
        ("device_cuda.err", 75, 2, 150, 0.3650, "clock", 0.025),
        ("run_resume.err", 15, 2, 60, 0.2740, "rate", 0.01),
        ("run_dist3.err", 10, 2, 20, 0.3922, "rate", 0.015),
        ("run_term.err", 15, 2, 30, 0.3509, "rate", 0.02),
        ("packed.err", 18, 1, 18, 1.13, "rate", 0.02),
    ],
)
def test_real_logs(
    name: str, steps: int, epochs: int, done: int, seconds: float, read_by: str, saves: float
) -> None:
    (segment,) = read(sample(f"torchtune/{name}"))
    assert (segment.steps_per_epoch, segment.epochs_seen, segment.steps_done) == (steps, epochs, done)
    assert segment.seconds_per_step is not None and segment.read_by == read_by
    assert segment.seconds_per_step.value == pytest.approx(seconds, abs=0.0002)
    assert segment.checkpoint_seconds is not None
    assert segment.checkpoint_seconds.value == pytest.approx(saves)


def test_the_rows_of_the_file_that_was_read_are_told() -> None:
    (segment,) = read(sample("torchtune/run_lora1.err"))
    assert segment.rows == 600


def test_a_second_file_leaves_open_which_of_them_was_trained_on() -> None:
    counted = b"\rGenerating train split: 0 examples [00:00]\rGenerating train split: %d examples [00:00]\n"
    (segment,) = read(START + counted % 600 + counted % 100 + bars(30, 30, 0.5))
    assert segment.rows is None


def test_a_run_that_had_no_memory_left_before_its_first_step() -> None:
    (segment,) = read(sample("torchtune/oom.err"))
    assert segment.out_of_memory_line == 167
    assert segment.seconds_per_step is None and segment.is_cut_short


def test_a_run_without_steps_is_nothing() -> None:
    assert read(sample("torchtune/toobig.err")) == []


def test_the_pause_of_a_checkpoint_is_in_no_speed() -> None:
    closed = bar(100, 100, 35, rate="2.86it/s")  # drawn once more after ten seconds of saving
    (segment,) = read(bars(100, 100, 0.25) + b"\x1b[A" + SAVED + closed + b"\n")
    assert segment.seconds_per_step is not None
    assert segment.seconds_per_step.value == pytest.approx(0.25, rel=0.02)


def test_the_rate_of_a_short_run_is_not_the_mean_with_its_checkpoint() -> None:
    short = b"".join(bar(done, 8, 0, rate="20.00it/s") for done in range(1, 9))
    (segment,) = read(short + b"\x1b[A" + SAVED + bar(8, 8, 10, rate="0.80it/s"))
    assert segment.read_by == "rate"
    assert segment.seconds_per_step is not None and segment.seconds_per_step.value == pytest.approx(0.05)


def test_a_checkpoint_in_the_middle_of_an_epoch_is_left_out() -> None:
    before = bars(60, 120, 0.5)
    after = b"".join(bar(done, 120, int(20 + done * 0.5)) for done in range(61, 121))
    (segment,) = read(before + b"\n" + SAVED + after)
    assert segment.seconds_per_step is not None
    assert segment.seconds_per_step.value == pytest.approx(0.5, rel=0.02)


def test_steps_are_timed_over_all_epochs() -> None:
    (segment,) = read(bars(50, 50, 0.4) + b"\n" + SAVED + bars(50, 50, 0.4, epoch=2))
    assert (segment.epochs_seen, segment.steps_done) == (2, 100)
    assert segment.seconds_per_step is not None
    assert segment.seconds_per_step.value == pytest.approx(0.4, rel=0.03)


def test_bars_that_tell_no_more_are_passed_over_and_change_nothing() -> None:
    every = START + bars(900, 1000, 0.04) + b"\n" + bars(500, 500, 0.01, epoch=2)
    shown = list(telling(fragments([every])))
    assert len(shown) < 400
    assert [shown[0], shown[-1]] == [
        (1, START.rstrip()),
        (4, bar(500, 500, 5, epoch=2, rate="100.00it/s")[1:]),
    ]
    (segment,) = read(every)
    assert (segment.epochs_seen, segment.steps_done) == (2, 1000)
    assert segment.seconds_per_step is not None
    assert segment.seconds_per_step.value == pytest.approx((34 + 4) / (850 + 400), rel=0.01)


def test_slow_first_steps_are_left_out() -> None:
    slow = bar(1, 100, 20) + bar(2, 100, 40) + bar(3, 100, 60)
    rest = b"".join(bar(done, 100, int(60 + (done - 3) * 0.5)) for done in range(4, 101))
    (segment,) = read(slow + rest)
    assert segment.seconds_per_step is not None
    assert segment.seconds_per_step.value == pytest.approx(0.5, rel=0.03)


def test_runs_of_warm_up_alone_have_no_speed() -> None:
    (segment,) = read(bars(3, 3, 4.0))
    assert segment.seconds_per_step is None


def test_hours_are_read() -> None:
    text = b"".join(
        f"\r1|{n}|Loss: 1.0: {n}%|█| {n}/40 [1:{n:02d}:00<1:00:00, 60.00s/it]".encode() for n in range(1, 41)
    )
    (segment,) = read(text)
    assert segment.seconds_per_step is not None and segment.seconds_per_step.value == 60.0


def test_each_start_is_a_segment_of_its_own() -> None:
    memory = b"Memory stats after model init:\n\tGPU peak memory alloc: %d.00 GiB\n"
    first = START + b"batch_size: 1\n" + b"INFO:x\n" + memory % 1 + bars(50, 200, 0.25) + b"\n"
    second = START + b"batch_size: 8\n" + b"INFO:x\n" + memory % 8 + bars(200, 200, 0.5) + b"\n" + SAVED
    one, two = read(first + second)
    assert (one.steps_done, two.steps_done) == (50, 200)
    assert one.is_cut_short and not two.is_cut_short
    assert (one.configuration, two.configuration) == ("batch_size: 1\n", "batch_size: 8\n")
    assert [segment.after_init_gib["alloc"].value for segment in (one, two)] == [1.0, 8.0]
    assert one.checkpoint_seconds is None and two.checkpoint_seconds is not None
    assert one.seconds_per_step is not None and two.seconds_per_step is not None
    assert one.seconds_per_step.value == pytest.approx(0.25, rel=0.03)
    assert two.seconds_per_step.value == pytest.approx(0.5, rel=0.03)


def test_a_restart_shows_by_its_steps_alone() -> None:
    one, two = read(bars(90, 200, 0.25) + b"\n" + bars(200, 200, 0.25))
    assert (one.steps_done, two.steps_done) == (90, 200)


def test_memory_is_read_after_its_heading_only() -> None:
    elsewhere = b"GPU peak memory alloc: 70.00 GiB\n"
    (segment,) = read(elsewhere + bars(30, 30, 0.5))
    assert segment.after_init_gib == {}


@pytest.mark.parametrize(
    "message",
    [
        b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of",
        b"CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 79.15 GiB total capacity; 70.1 GiB already allocated",
    ],
)
def test_an_error_for_want_of_memory_tells_what_the_device_has(message: bytes) -> None:
    (segment,) = read(bars(20, 100, 0.5) + b"\n" + message + b"\n")
    assert (segment.out_of_memory_line, segment.device_memory_gib) == (2, 79.15)
    assert segment.is_cut_short


def test_the_metrics_file_that_a_run_wrote_is_named() -> None:
    (segment,) = read(b"Writing logs to /lab/runs/lora1/logs/log_1795294253.txt\n" + bars(20, 20, 0.5))
    assert segment.metrics_file == "log_1795294253.txt"


def test_losses_that_are_no_numbers_are_bars_all_the_same() -> None:
    (segment,) = read(b"".join(bar(done, 20, done, loss="nan", rate="1.00s/it") for done in range(1, 21)))
    assert segment.steps_done == 20


def test_a_configuration_ends_where_other_output_begins() -> None:
    printed = b"batch_size: 4\nmodel:\n  lora_rank: 8\nsite-packages/x.py:379: UserWarning: odd\n"
    (segment,) = read(START + printed + bars(20, 20, 0.5))
    assert segment.configuration == "batch_size: 4\nmodel:\n  lora_rank: 8\n"


def test_a_log_that_has_grown_or_moved_has_the_same_head_and_another_run_has_not() -> None:
    log = START + bars(100, 100, 0.5) + b"\n" + SAVED
    grown = START + bars(60, 100, 0.5)
    other = START + b"".join(bar(done, 100, done // 2, rate="1.98it/s") for done in range(1, 101))
    assert read(log)[0].head == read(grown)[0].head
    assert read(log)[0].head != read(other)[0].head


@given(st.binary(max_size=4000))
def test_any_bytes_are_read_without_harm(text: bytes) -> None:
    for segment in read(text):
        assert segment.steps_done >= 0


_PIECES = st.sampled_from(
    [
        START,
        b"batch_size: 4\n",
        b"Memory stats after model init:\n\tGPU peak memory allocation: 2.41 GiB\n",
        *(bar(done, 30, done, rate="?it/s" if done == 1 else "1.00s/it") for done in (1, 4, 5, 6, 30)),
        bar(1, 30, 0, epoch=2),
        b"\x1b[A" + SAVED,
        b"CUDA out of memory. total capacity of 79.15 GiB\n",
        b"\n",
        b"\r",
        b"1|1|Loss: 6.4",
        b"\x00\xff\xe2\x96",
        b"9" * 40,
        TIME_LIMIT,
    ]
)


@given(st.lists(_PIECES, max_size=40), st.lists(st.integers(1, 50), max_size=60))
def test_where_a_file_is_cut_into_chunks_changes_nothing(pieces: list[bytes], sizes: list[int]) -> None:
    whole = b"".join(pieces)
    chunks, rest = [], whole
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    assert list(segments([*chunks, rest])) == read(whole)


@given(st.binary(max_size=2000), st.integers(1, 700))
def test_real_logs_with_damage_are_read_without_harm(damage: bytes, at: int) -> None:
    log = sample("slurm/slurm-1001-reconstructed.out")
    read(log[: at * 20] + damage + log[at * 20 + len(damage) :])


def endless(size: int) -> Iterator[bytes]:
    for _ in range(size // 2**20):
        yield b"x" * 2**20


def test_a_line_of_300_megabytes_is_read_in_little_memory() -> None:
    text = [START, b"batch_size: 4\n", *[b"y"], *endless(300 * 2**20), b"\n", bars(30, 30, 0.5)]
    tracemalloc.start()
    (segment,) = segments(iter(text))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert segment.steps_done == 30 and segment.configuration == "batch_size: 4\n"
    assert peak < 8 * 2**20


@pytest.mark.parametrize(
    "again", [SAVED, START, b"k: v\n", b"Generating a%d split: 5 examples\n", bar(1, 2, 1)]
)
def test_what_is_repeated_without_end_is_not_heaped_up(again: bytes) -> None:
    tracemalloc.start()
    count = sum(1 for _ in segments(START + again for _ in range(20_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count <= 20_000 and peak < 4 * 2**20


def test_fragments_know_their_lines_and_are_cut_short() -> None:
    text = b"a\rb\n\n" + b"c" * (2 * MAX_FRAGMENT_BYTES) + b"\nd"
    found = list(fragments([text[:7], text[7:]]))
    assert found == [(1, b"a"), (1, b"b"), (3, b"c" * MAX_FRAGMENT_BYTES), (4, b"d")]


def test_lines_that_are_still_being_written_are_not_whole() -> None:
    assert list(whole_lines([b"Step 1 | a\nSt", b"ep 2 | b\nStep 3"])) == [
        (1, b"Step 1 | a"),
        (2, b"Step 2 | b"),
    ]


def test_a_long_preamble_that_two_jobs_share_does_not_make_them_one() -> None:
    preamble = (b"Collecting a package\n" * 40_000) + START
    one, two = (preamble + bars(20, 20, seconds) for seconds in (0.5, 1.5))
    assert read(one)[0].head != read(two)[0].head
