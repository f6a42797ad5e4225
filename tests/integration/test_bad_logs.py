"""Bad logs and configurations: each is told in a sentence, nothing of it is used, and the rest goes on."""

import json
import os
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from experiments import prior
from experiments.models import Observation
from tests import logs
from tests.factories import NOW

pytestmark = pytest.mark.django_db

BARE = logs.bars(100, 100, 0.25)
CONFIGURATION = json.dumps(logs.CONFIGURATION).encode()
UNPACKED = {"_component_": "torchtune.datasets.instruct_dataset"}
COUNTED = b"\rGenerating train split: 4000 examples [00:00]\n"


@dataclass(frozen=True)
class Bad:
    """A tree, and what is said of it; where nothing is to be said, there is nothing in it."""

    says: str
    log: bytes = BARE
    beside: bytes | None = None
    others: dict[str, bytes] = field(default_factory=dict)
    finds: bool = True


BAD = {
    "a configuration that is no YAML": Bad(
        "finetune.yaml says nothing: it is not YAML", beside=b"model: [1, 2"
    ),
    "a configuration in binary": Bad("says nothing: it is not YAML", beside=bytes(range(256))),
    "a configuration that repeats itself without end": Bad(
        "repeats parts of itself", beside=b"a: &a [1]\nb: &b [*a, *a]\nmodel: {c: *b}"
    ),
    "a configuration of a megabyte": Bad("has more than 262,144 bytes", beside=b"# long\n" * 150_000),
    "a configuration of something else": Bad("has no section `model`", beside=b"- packages\n- more"),
    "a configuration that asks for a program": Bad(
        "it is not YAML", beside=b"model: !!python/object/apply:os.system ['touch /tmp/never']"
    ),
    "a configuration of another run": Bad(
        "finetune.yaml is not used", log=logs.log(batch_size=8), beside=CONFIGURATION
    ),
    "a configuration cut short in the log": Bad(
        "The configuration printed in", log=logs.START + b"batch_size: 4\nmodel:\n- INFO:\n" + BARE
    ),
    "values of the wrong kind": Bad(
        "It is not known", beside=b"model: {lora_rank: many}\nbatch_size: -3\nepochs: 99999999999\ndtype: [1]"
    ),
    "rows that do not make the steps": Bad(
        "109 steps an epoch, where 4,000 rows",
        log=logs.started(dataset=UNPACKED) + COUNTED + logs.bars(109, 109, 0.25),
    ),
    "a run that ran out of a memory nobody knows": Bad(
        "how much memory the device has", log=logs.started() + logs.RAN_OUT
    ),
    "a speed with validation in it": Bad(
        "validation is in the time of its steps", log=logs.log(run_val_every_n_steps=10)
    ),
    "a log of which only the end is left": Bad("It is not known", log=BARE[len(BARE) // 2 + 7 :]),
    "a log with garbage in it": Bad(
        "It is not known", log=BARE[:4000] + os.urandom(5000) + BARE[4000:] + b"\xff\x00"
    ),
    "a log that nobody has finished writing": Bad("It is not known", log=BARE[:-40]),
    "a log of garbage": Bad("", log=os.urandom(200_000), finds=False),
    "a log of one long line": Bad("", log=b"1|1|Loss: " * 2_000_000, finds=False),
    "an empty log": Bad("", log=b"", finds=False),
    "a run without steps": Bad("", log=logs.started() + b"\r0it [00:00, ?it/s]\n", finds=False),
    "a metrics file without figures": Bad(
        "", log=b"", others={"logs/log_1.txt": b"Step 1 | loss:nan\nStep x | y\n\xff\xfe"}, finds=False
    ),
    "a metrics file that breaks off within a figure": Bad(
        "", log=b"", others={"logs/log_1.txt": b"Step 1 | loss:1.0 peak_memory_reserved:1"}, finds=False
    ),
}


def planted(tree: Path, bad: Bad) -> Path:
    files = {"slurm-7.out": bad.log, **bad.others}
    if bad.beside is not None:
        files["finetune.yaml"] = bad.beside
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(text)
    return tree


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_logs_are_told_in_a_sentence_and_used_for_nothing(tmp_path: Path, bad: Bad) -> None:
    tree = planted(tmp_path / "bad", bad)
    harvested = prior.harvest_paths(paths=[tree], said={"device": "A100"}, by="ana", now=NOW)
    reasons = [*harvested.problems, *(row.incomplete_because for row in harvested.incomplete)]
    assert harvested.found_anything is bad.finds
    assert any(bad.says in reason for reason in reasons) if bad.says else reasons == []
    speeds = Observation.objects.filter(metric__in=["seconds_per_step", "peak_device_memory_mib"])
    assert not speeds.filter(is_complete=True).exists()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_is_good_beside_a_bad_log_is_read_all_the_same(tmp_path: Path, bad: Bad) -> None:
    planted(tmp_path / "bad", bad)
    good = tmp_path / "good/slurm-8.out"
    good.parent.mkdir()
    good.write_bytes(logs.log(seconds=0.75))
    prior.harvest_paths(paths=[tmp_path], said={}, by="ana", now=NOW)
    assert Observation.objects.filter(source_file=str(good)).count() == 3


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("harvest", str(tmp_path / "scratch"), stdout=out)
    assert f"{tmp_path}/scratch is not there." in out.getvalue()


def test_a_folder_with_the_name_of_a_log_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "slurm-7.out").mkdir()
    (tmp_path / "slurm-7.out/slurm-8.out").write_bytes(logs.log())
    assert prior.harvest_paths(paths=[tmp_path], said={}, by="ana", now=NOW).new == 3


def test_folders_within_folders_come_to_an_end(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefghijklmnopqrst")
    deep.mkdir(parents=True)
    (deep / "slurm-7.out").write_bytes(logs.log())
    assert not prior.harvest_paths(paths=[tmp_path], said={}, by="ana", now=NOW).found_anything


def test_a_broken_record_of_an_end_is_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/labmgr_run.json").write_text('{"experiment": "gone", "run": "x"}')
    (tmp_path / "run/exit.json").write_text('{"code": 1}')
    out = StringIO()
    call_command("harvest", str(tmp_path), stdout=out)
    assert "which has no such run" in out.getvalue()
