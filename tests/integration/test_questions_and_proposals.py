"""What a plan asks and proposes, and that nothing of it changes by itself."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.core.management.base import CommandError

from experiments import control, documents, learning, planning
from experiments.conditions import Metric
from experiments.control import AlreadyDecided, Unanswered
from experiments.documents import InvalidDocument
from experiments.lifecycle import NotADraft
from experiments.models import Experiment, Observation, PlanEntry, Proposal, Run
from experiments.specs import ProbeSpec
from experiments.states import CellType, RunKind, RunState
from tests.conftest import People
from tests.factories import NOW, make_device, make_node
from tests.lab import REPOSITORY

pytestmark = pytest.mark.django_db

DEMO = documents.load((REPOSITORY / "experiments/demo/experiment.yaml").read_text())
OPEN = {key: value for key, value in DEMO.items() if key != "validation"} | {
    "fixed": {key: value for key, value in DEMO["fixed"].items() if key != "epochs"}
}
SPEED = ("seconds_per_step", "100it/s")
SAID = ["model=tiny-llama-s", "batch_size=4", "packed=false"]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, settings: Any) -> None:
    settings.MODEL_ROOTS, settings.DATASET_ROOTS = [tmp_path / "models"], [tmp_path / "datasets"]
    settings.RUN_ROOT = tmp_path
    shutil.copytree(REPOSITORY / "experiments/demo/models", tmp_path / "models")
    (tmp_path / "datasets").mkdir()


def stored(data: dict[str, Any] = DEMO, people: People | None = None, **change: Any) -> Experiment:
    user = people.owner if people else None
    plan = planning.plan(data={**data, **change}, user=user, now=NOW)
    return planning.store(plan=plan, user=user, now=NOW)


def probe_of(experiment: Experiment) -> Proposal:
    return experiment.proposals.get(key="probe/tiny-llama-s")


def log_of(experiment: Experiment) -> list[str]:
    return [str(entry.text) for entry in experiment.log.all()]


def test_what_is_unsaid_and_matters_is_asked() -> None:
    assert [question["key"] for question in stored(OPEN).questions] == ["fixed.epochs", "validation"]
    assert stored(DEMO).questions == []


def test_approval_has_to_answer_every_question() -> None:
    experiment = stored(OPEN)
    with pytest.raises(Unanswered, match="How many epochs"):
        control.approve(experiment=experiment, user=None, now=NOW, answers={"validation": False})
    experiment.refresh_from_db()
    assert experiment.is_draft
    assert not Run.objects.queued().exists()


def test_answers_go_into_the_document_and_its_log() -> None:
    experiment = stored(OPEN)
    answers = {"fixed.epochs": 3, "validation": False}
    control.approve(experiment=experiment, user=None, now=NOW, answers=answers)
    experiment.refresh_from_db()
    assert (experiment.document["fixed"]["epochs"], experiment.document["validation"]) == (3, False)
    assert experiment.cells.first().planned["steps"] == 3 * 400
    assert "Answered: fixed.epochs = 3, validation = False." in log_of(experiment)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"fixed.epochs": 0, "validation": False}, "fixed.epochs"),
        ({"fixed.epochs": 1, "validation": "yes"}, "validation"),
        ({"fixed.epochs": 1, "validation": False, "fixed.epoch": 2}, "Did you mean 'fixed.epochs'?"),
    ],
)
def test_answers_that_do_not_fit_change_nothing(answers: dict[str, Any], sentence: str) -> None:
    experiment = stored(OPEN)
    with pytest.raises(InvalidDocument, match=sentence):
        control.approve(experiment=experiment, user=None, now=NOW, answers=answers)
    experiment.refresh_from_db()
    assert experiment.is_draft and experiment.document == OPEN


def test_the_command_takes_answers_and_says_what_is_missing() -> None:
    stored(OPEN)
    with pytest.raises(CommandError, match="answer validation="):
        call_command("approve", DEMO["name"], answer=["fixed.epochs=2"])
    call_command("approve", DEMO["name"], answer=["fixed.epochs=2", "validation=false"])
    assert Run.objects.queued().count() == 10


def test_without_evidence_probes_are_proposed_and_say_what_they_cost() -> None:
    proposal = probe_of(stored())
    assert proposal.cells == ["tiny-llama-s_rank64"]
    assert "at most 30 minutes" in proposal.reason


def test_accepted_probes_are_a_plan_of_their_own_that_is_approved_like_any(people: People) -> None:
    experiment = stored(people=people)
    probes = control.accept(proposal=probe_of(experiment), user=people.owner, now=NOW)
    assert (probes.name, probes.probes_of, probes.is_draft) == ("cap_lora_ranks_probes", experiment, True)
    (run,) = Run.objects.filter(cell__experiment=probes)
    assert (run.kind, run.cell.type, run.state) == (RunKind.PROBE, CellType.PROBE, RunState.PLANNED)
    spec = run.parsed_spec
    assert isinstance(spec, ProbeSpec)
    assert len(spec.row_indices) == spec.finetune.rows == 12 * 4
    assert (spec.finetune.epochs, spec.finetune.steps_per_epoch) == (1, 12)
    control.approve(experiment=probes, user=people.owner, now=NOW)
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


def test_a_proposal_is_decided_once(people: People) -> None:
    proposal = probe_of(stored(people=people))
    control.decline(proposal=proposal, user=people.owner, now=NOW)
    with pytest.raises(AlreadyDecided):
        control.accept(proposal=proposal, user=people.owner, now=NOW)
    assert not Experiment.objects.filter(probes_of__isnull=False).exists()


def test_what_was_declined_stays_declined_when_the_plan_is_made_anew() -> None:
    experiment = stored()
    control.decline(proposal=probe_of(experiment), user=None, now=NOW)
    again = stored(question="Another?")
    assert probe_of(again).state == Proposal.State.DECLINED
    assert "Declined: tiny-llama-s: 1 probe run." in log_of(again)


def test_an_open_proposal_that_is_made_again_keeps_its_id() -> None:
    first, other = (probe_of(stored(question=question)) for question in ("One?", "Another?"))
    assert (first.pk, other.state) == (other.pk, Proposal.State.OPEN)


def test_an_open_proposal_about_other_cells_is_another_one() -> None:
    first = probe_of(stored())
    other = probe_of(stored(factors={"model": ["tiny-llama-s"], "lora_rank": [4, 8]}))
    assert other.cells == ["tiny-llama-s_rank8"]
    assert first.pk != other.pk


def test_only_its_owner_decides_about_proposals(people: People) -> None:
    proposal = probe_of(stored(people=people))
    with pytest.raises(PermissionDenied):
        control.accept(proposal=proposal, user=people.colleague, now=NOW)
    proposal.refresh_from_db()
    assert proposal.state == Proposal.State.OPEN


def test_the_plan_of_an_approved_experiment_does_not_change() -> None:
    experiment = stored()
    control.approve(experiment=experiment, user=None, now=NOW)
    with pytest.raises(NotADraft):
        control.accept(proposal=probe_of(experiment), user=None, now=NOW)


def test_a_larger_batch_that_fits_is_proposed_and_taken_up_only_when_accepted() -> None:
    make_device(node=make_node(), kind="gpu", model_name="GPU", memory_mib=10_000)
    experiment = stored(**_with_accumulation())
    told = ["model=tiny-llama-s", "packed=false", "recipe=lora_finetune_single_device"]
    for batch_size, memory in ((4, 1000), (8, 2000)):
        call_command(
            "observe", "peak_device_memory_mib", str(memory), set=[*told, f"batch_size={batch_size}"]
        )
    experiment = stored(**_with_accumulation())
    proposal = experiment.proposals.get(key="batch_size/tiny-llama-s")
    assert proposal.observation_ids
    assert experiment.document["fixed"]["batch_size"] == 4
    changed = control.accept(proposal=proposal, user=None, now=NOW)
    assert changed.document["fixed"]["batch_size"] == {"tiny-llama-s": 8, "tiny-llama-m": 4}
    assert changed.document["fixed"]["gradient_accumulation_steps"] == {"tiny-llama-s": 1, "tiny-llama-m": 2}


def test_new_evidence_changes_a_draft_and_its_log_says_so() -> None:
    experiment = stored()
    call_command("observe", *SPEED, set=SAID)
    learning.learn(now=Observation.objects.get().changed_at)
    experiment.refresh_from_db()
    rows = {cell.name: cell.planned for cell in experiment.cells.all()}
    assert rows["tiny-llama-s_rank4"]["parts"]["training_seconds"]["value"] == pytest.approx(8.0)
    assert rows["tiny-llama-m_rank4"]["parts"]["training_seconds"]["value"] is None
    assert learning.BECAUSE in log_of(experiment)


def test_an_approved_plan_keeps_its_estimates() -> None:
    experiment = stored()
    control.approve(experiment=experiment, user=None, now=NOW)
    call_command("observe", *SPEED, set=SAID)
    learning.learn(now=Observation.objects.get().changed_at)
    assert experiment.cells.first().planned["parts"]["training_seconds"]["value"] is None


def test_a_draft_that_cannot_be_planned_any_more_says_so_and_stays(tmp_path: Path) -> None:
    experiment = stored()
    shutil.rmtree(tmp_path / "models/tiny-llama-m")
    call_command("observe", *SPEED, set=SAID)
    learning.learn(now=Observation.objects.get().changed_at)
    assert experiment.log.last().kind == PlanEntry.Kind.FOUND
    assert "tiny-llama-m" in experiment.log.last().text
    assert experiment.cells.count() == 6


def test_a_finished_run_is_compared_with_its_estimate() -> None:
    call_command("observe", *SPEED, set=SAID)
    experiment = stored()
    run = Run.objects.get(cell__experiment=experiment, name="tiny-llama-s_rank4/finetune")
    Run.objects.filter(pk=run.pk).update(state=RunState.SUCCEEDED, harvested_at=NOW)
    Observation.objects.create(
        run=run, metric=Metric.JOB_SECONDS, value=10.0, unit="s", fingerprint="x", observed_at=NOW
    )
    learning.learn(now=NOW)
    compared = run.estimates.get(metric="seconds")
    assert (compared.actual, compared.compared_at) == (10.0, NOW)


def test_what_was_planned_anew_meanwhile_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft is estimated anew from the document that it had; a person may plan another one before that is done."""
    experiment = stored()
    slow = planning.plan

    def overtaken(**asked: Any) -> planning.Plan:
        plan = slow(**asked)
        monkeypatch.setattr(planning, "plan", slow)
        stored(fixed={**DEMO["fixed"], "epochs": 7})
        return plan

    monkeypatch.setattr(planning, "plan", overtaken)
    learning.refresh(experiment=experiment, now=NOW)
    experiment.refresh_from_db()
    assert experiment.document["fixed"]["epochs"] == 7
    assert experiment.cells.first().planned["steps"] == 7 * 400


def test_accepting_for_a_draft_that_is_another_by_now_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = stored()
    proposal = Proposal.objects.create(
        experiment=experiment, key="x", title="x", reason="x", changes={"fixed.batch_size": 8}
    )
    Experiment.objects.filter(pk=experiment.pk).update(document={**DEMO, "question": "Another?"})
    with pytest.raises(planning.Outdated):
        control.accept(proposal=proposal, user=None, now=NOW)
    proposal.refresh_from_db()
    assert proposal.state == Proposal.State.OPEN


def test_probes_for_other_cells_and_after_probes_that_told_nothing_are_proposed_again() -> None:
    experiment = stored()
    control.decline(proposal=probe_of(experiment), user=None, now=NOW)
    changed = stored(factors={**DEMO["factors"], "lora_rank": [4, 32]})
    assert probe_of(changed).state == Proposal.State.OPEN
    probes = control.accept(proposal=probe_of(changed), user=None, now=NOW)
    assert (
        probe_of(stored(factors={**DEMO["factors"], "lora_rank": [4, 32]})).state == Proposal.State.ACCEPTED
    )
    Run.objects.filter(cell__experiment=probes).update(state=RunState.FAILED)
    assert probe_of(stored(factors={**DEMO["factors"], "lora_rank": [4, 32]})).state == Proposal.State.OPEN


def test_every_rank_of_a_probe_takes_its_steps() -> None:
    node = make_node()
    for _ in range(4):
        make_device(node=node, kind="gpu", model_name="GPU", memory_mib=80_000)
    experiment = stored(resources={"devices": 4}, evaluation=None, control=False)
    probes = control.accept(proposal=probe_of(experiment), user=None, now=NOW)
    spec = Run.objects.get(cell__experiment=probes).parsed_spec
    assert isinstance(spec, ProbeSpec)
    assert (spec.finetune.rows, spec.finetune.steps_per_epoch) == (12 * 4 * 4, 12)


def _with_accumulation() -> dict[str, Any]:
    return {"fixed": {**DEMO["fixed"], "gradient_accumulation_steps": 2}}
