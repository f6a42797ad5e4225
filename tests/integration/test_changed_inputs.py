"""What ran with something else than there is now, and what would be laid out otherwise now."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied

from experiments import control, documents, planning
from experiments.documents import InvalidDocument
from experiments.models import Estimate, Experiment, Run
from experiments.rerunning import Which
from experiments.states import RunState
from scheduler import reruns
from scheduler.paths import JobPaths
from scheduler.programs import PROGRAMS
from scheduler.slurm.export import placed
from scheduler.watching import surroundings
from tests.conftest import People
from tests.factories import NOW, make_device
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

DEMO = documents.load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
FINETUNE, EVALUATE = "tiny-llama-s_rank4/finetune", "tiny-llama-s_rank4/evaluate"
CONTROL = "tiny-llama-s_base/evaluate"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    shutil.copytree(REPOSITORY / "experiments/demo/models", tmp_path / "models")
    (tmp_path / "datasets").mkdir()
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    settings.RUN_ROOT, settings.CACHE_ROOT = tmp_path / "runs", tmp_path / "cache"
    settings.ML_PYTHON = environment(tmp_path / "ml", torchtune="0.6.1", vllm="0.17.1")


def environment(folder: Path, **versions: str) -> Path:
    """The python of an environment with these packages."""
    packages = folder / "lib/python3.11/site-packages"
    shutil.rmtree(packages, ignore_errors=True)
    for name, version in versions.items():
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder / "bin/python"


@pytest.fixture
def experiment(people: People, tmp_path: Path) -> Experiment:
    """All of it has succeeded, and every run has the folder that its program prepared for it."""
    make_device()
    plan = planning.plan(data=DEMO, user=people.owner, now=NOW)
    experiment = planning.store(plan=plan, user=people.owner, now=NOW)
    control.approve(experiment=experiment, user=None, now=NOW)
    for run in Run.objects.select_related("depends_on"):
        run.directory = str(tmp_path / "runs" / run.name.replace("/", "-"))
        run.save(update_fields=["directory"])
        prepare(run)
    Run.objects.update(state=RunState.SUCCEEDED, fencing_token=1)
    return experiment


def prepare(run: Run) -> None:
    paths = JobPaths(Path(run.directory), Path(run.directory) / "control")
    job = placed(run, paths, Path(run.directory).parent, None)
    for path, text in PROGRAMS[run.parsed_spec.kind].prepare(job, surroundings()).files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def changed(experiment: Experiment, user: Any = None) -> dict[str, str]:
    found = reruns.wanted(experiment=experiment, which=Which.CHANGED, user=user, now=NOW)
    return {want.name: want.why for want in found}


def rerun(experiment: Experiment, user: Any = None) -> int:
    return len(reruns.rerun(experiment=experiment, which=Which.CHANGED, user=user, now=NOW))


def test_nothing_has_changed(experiment: Experiment) -> None:
    assert changed(experiment) == {}


def test_another_version_is_of_those_that_ran_with_it(experiment: Experiment, tmp_path: Path) -> None:
    environment(tmp_path / "ml", torchtune="0.6.1", vllm="0.18.0")
    told = changed(experiment)
    assert set(told) == set(Run.objects.filter(kind="evaluate").values_list("name", flat=True))
    assert told[CONTROL] == "vllm 0.17.1 is now 0.18.0"


def test_what_builds_on_a_changed_run_is_run_again_too(experiment: Experiment, tmp_path: Path) -> None:
    environment(tmp_path / "ml", torchtune="0.7.0", vllm="0.17.1")
    told = changed(experiment)
    assert told[FINETUNE] == "torchtune 0.6.1 is now 0.7.0"
    assert told[EVALUATE] == f"builds on {FINETUNE}, which is run again"
    assert CONTROL not in told
    rerun(experiment)
    fresh = Run.objects.get(name=EVALUATE)
    assert (fresh.attempt, fresh.depends_on, fresh.ready_at) == (2, Run.objects.get(name=FINETUNE), None)
    assert Run.objects.get(name=CONTROL).attempt == 1


def test_what_ran_while_its_fine_tune_was_run_again_is_run_again_once_it_has_ended(
    experiment: Experiment, tmp_path: Path
) -> None:
    Run.objects.filter(name=EVALUATE).update(state=RunState.RUNNING)
    environment(tmp_path / "ml", torchtune="0.7.0", vllm="0.17.1")
    rerun(experiment)
    assert [Run.objects.get(name=name).attempt for name in (FINETUNE, EVALUATE)] == [2, 1]
    assert changed(experiment) == {}  # it may yet end
    Run.objects.filter(name=EVALUATE).update(state=RunState.SUCCEEDED)
    assert changed(experiment) == {EVALUATE: f"builds on {FINETUNE}, which was run again"}
    rerun(experiment)
    fresh = Run.objects.get(name=EVALUATE)
    assert (fresh.attempt, fresh.depends_on) == (2, Run.objects.get(name=FINETUNE))
    assert changed(experiment) == {}


def test_a_model_that_was_changed_is_named(experiment: Experiment, tmp_path: Path) -> None:
    config = tmp_path / "models/tiny-llama-s/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 1e-6}))
    told = changed(experiment)
    assert told[CONTROL] == f"model {config.parent} has changed"
    assert not any("llama-m" in name for name in told)


def test_a_dataset_of_as_many_rows_that_was_changed_is_named(experiment: Experiment) -> None:
    file = dataset_of(experiment)
    rows = json.loads(file.read_text())
    rows["test"].reverse()
    file.write_text(json.dumps(rows))
    assert f"dataset {file} has changed" in changed(experiment)[CONTROL]


def dataset_of(experiment: Experiment) -> Path:
    return Path(Run.objects.get(name=CONTROL).spec["data"]["path"])


def test_other_defaults_change_what_is_laid_out_and_need_an_approval(
    experiment: Experiment, people: People, tmp_path: Path, settings: Any
) -> None:
    with_other_defaults(tmp_path, settings)
    told = changed(experiment)
    assert "lora_alpha" in told[FINETUNE]
    people.owner.user_permissions.remove(people.owner.user_permissions.get(codename="approve_plan"))
    owner = type(people.owner).objects.get(pk=people.owner.pk)
    with pytest.raises(PermissionDenied, match=r"experiments\.approve_plan"):
        rerun(experiment, owner)
    assert Run.objects.filter(attempt=2).count() == 0


def with_other_defaults(tmp_path: Path, settings: Any) -> None:
    text = (REPOSITORY / "experiments/defaults.yaml").read_text()
    settings.DEFAULTS_FILE = tmp_path / "defaults.yaml"
    settings.DEFAULTS_FILE.write_text(text.replace("lora_alpha_over_rank: 2", "lora_alpha_over_rank: 4"))


def test_what_is_run_again_does_what_the_document_lays_out_now(
    experiment: Experiment, tmp_path: Path, settings: Any
) -> None:
    with_other_defaults(tmp_path, settings)
    before = Run.objects.get(name=FINETUNE)
    rerun(experiment)
    fresh = Run.objects.get(name=FINETUNE)
    assert (before.spec["lora_alpha"], fresh.spec["lora_alpha"]) == (8, 16)
    assert Run.every.get(pk=before.pk).spec["lora_alpha"] == 8
    assert set(Estimate.objects.filter(run=fresh).values_list("metric", flat=True)) >= {"seconds"}
    assert changed(experiment) == {}  # what waits does it already


def test_a_document_that_cannot_be_planned_any_more_says_why(experiment: Experiment, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "models/tiny-llama-m")
    with pytest.raises(InvalidDocument, match="tiny-llama-m"):
        changed(experiment)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"versions": [], "model": 7, "datasets": {"a": 1}}'])
def test_a_folder_that_tells_nothing_or_nonsense_has_not_changed(experiment: Experiment, text: str) -> None:
    for run in Run.objects.all():
        (Path(run.directory) / "environment.json").write_text(text)
    assert changed(experiment) == {}
