"""Observations and calibrations in the admin: what is known of them, and what people may say."""

import pytest
from django.test import Client
from django.urls import reverse

from experiments.conditions import FIELDS
from experiments.models import Calibration, Observation
from tests.conftest import People
from tests.factories import (
    NOW,
    make_base_model,
    make_dataset,
    make_estimate,
    make_observation,
    make_run,
    make_user,
)
from tests.integration.admin_client import client_of, url

TREE = "/scratch/old runs & more"
SPEED = {"metric": "seconds_per_step", "value": "4it/s", "said": "model=m\nbatch_size=4\npacked=false\n"}


@pytest.fixture
def colleague(people: People) -> Client:
    return client_of(people.colleague)


@pytest.fixture
def keeper(db: None) -> Client:
    """Who may say what sources do not."""
    names = ("view_observation", "add_observation", "change_observation")
    return client_of(make_user(username="keeper", permissions=[f"experiments.{name}" for name in names]))


def incomplete(**fields: object) -> Observation:
    defaults = {
        "metric": "startup_seconds",
        "model_shape": "llama",
        "recipe": "lora_finetune_single_device",
        "is_complete": False,
        "incomplete_because": "It is not known: the device.",
        "source_tree": TREE,
    }
    return make_observation(**{**defaults, **fields})


def texts(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_list_tells_apart_what_was_measured_and_told_and_what_is_missing(colleague: Client) -> None:
    incomplete()
    make_observation(told_by="anna")
    page = texts(colleague, url("experiments_observation_changelist"))
    assert "It is not known: the device." in page
    assert "told by anna" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("source=measured", {"measured", "completed"}),
        ("source=told", {"told"}),
        ("source=completed", {"completed"}),
        ("is_complete__exact=0", {"measured"}),
    ],
)
def test_the_list_is_narrowed(colleague: Client, query: str, found: set[str]) -> None:
    incomplete(metric="measured")
    make_observation(metric="told", told_by="anna")
    make_observation(metric="completed", completed_by="anna")
    answer = colleague.get(f"{url('experiments_observation_changelist')}?{query}")
    assert {row.metric for row in answer.context["cl"].result_list} == found


def test_the_page_of_an_observation_has_every_condition(colleague: Client) -> None:
    answer = colleague.get(url("experiments_observation_change", make_observation().pk))
    shown = {name for _, part in answer.context["adminform"].fieldsets for name in part["fields"]}
    assert shown >= set(FIELDS)


def test_an_incomplete_one_leads_who_may_to_what_completes_it(colleague: Client, keeper: Client) -> None:
    one, _ = incomplete(), incomplete()
    address = url("experiments_observation_change", one.pk)
    complete = reverse("admin:experiments_observation_complete")
    assert "used for nothing" in texts(colleague, address)
    assert complete not in texts(colleague, address)
    page = texts(keeper, address)
    assert f"{complete}?ids={one.pk}" in page
    assert "Of all 2 of its tree" in page and "%26%20more" in page


def test_a_condition_that_a_person_says_completes_it_under_their_name(keeper: Client) -> None:
    one, other = incomplete(), incomplete()
    form = {"ids": str(one.pk), "said": "device='A100 80GB'\n"}
    page = keeper.post(url("experiments_observation_complete"), form, follow=True).content.decode()
    one.refresh_from_db()
    other.refresh_from_db()
    assert "1 of 1 observations are complete." in page
    assert (one.is_complete, one.device_kind, one.completed_by) == (True, "A100 80GB", "keeper")
    assert not other.is_complete


def test_a_whole_tree_is_completed_at_once(keeper: Client) -> None:
    mine, elsewhere = [incomplete(), incomplete()], incomplete(source_tree="/elsewhere")
    form = {"tree": TREE, "said": "device=A100"}
    assert (
        "Complete 2 observations"
        in keeper.get(url("experiments_observation_complete"), {"tree": TREE}).content.decode()
    )
    keeper.post(url("experiments_observation_complete"), form)
    assert set(Observation.objects.filter(is_complete=True)) == set(mine)
    assert elsewhere.pk not in [row.pk for row in Observation.objects.filter(is_complete=True)]


def test_chosen_ones_of_the_list_are_completed(keeper: Client) -> None:
    chosen, complete = [incomplete(), incomplete()], make_observation()
    ids = [row.pk for row in (*chosen, complete)]
    form = {"action": "complete_chosen", "_selected_action": ids}
    page = keeper.post(url("experiments_observation_changelist"), form).content.decode()
    assert "Complete 2 observations" in page
    assert f'value="{chosen[1].pk},{chosen[0].pk}"' in page


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"said": "device=A100"}, "Choose observations"),
        ({"ids": "{pk}", "tree": TREE, "said": "device=A100"}, "Choose observations"),
        ({"ids": "1;drop", "said": "device=A100"}, "ids are numbers"),
        ({"ids": "{pk}", "said": ""}, "required"),
        ({"ids": "{pk}", "said": "device"}, "is not KEY=VALUE"),
        ({"ids": "{pk}", "said": "=A100"}, "is not KEY=VALUE"),
        ({"ids": "{pk}", "said": "devise=A100"}, "Did you mean &#x27;device&#x27;?"),
        ({"ids": "{pk}", "said": "batch_size=[1"}, "cannot be read"),
        ({"ids": "{pk}", "said": "batch_size=2026-01-01"}, "cannot hold"),
        ({"ids": "{pk}", "said": "packed=perhaps"}, "true or false"),
        ({"ids": "999999", "said": "device=A100"}, "None of them is incomplete"),
    ],
)
def test_what_cannot_be_taken_is_said_and_changes_nothing(
    keeper: Client, form: dict[str, str], told: str
) -> None:
    one = incomplete()
    before = Observation.objects.filter(pk=one.pk).values().get()
    filled = {key: value.replace("{pk}", str(one.pk)) for key, value in form.items()}
    page = keeper.post(url("experiments_observation_complete"), filled, follow=True).content.decode()
    assert told in page
    assert Observation.objects.filter(pk=one.pk).values().get() == before


def test_only_who_may_change_observations_completes_them(colleague: Client) -> None:
    one = incomplete()
    address = url("experiments_observation_complete")
    assert colleague.get(address, {"ids": one.pk}).status_code == 403
    assert colleague.post(address, {"ids": one.pk, "said": "device=A100"}).status_code == 403
    form = {"action": "complete_chosen", "_selected_action": [one.pk]}
    assert (
        "Complete 1 observation"
        not in colleague.post(url("experiments_observation_changelist"), form, follow=True).content.decode()
    )
    one.refresh_from_db()
    assert not one.is_complete


def test_a_figure_is_told_under_ones_name(keeper: Client) -> None:
    answer = keeper.post(url("experiments_observation_add"), SPEED)
    told = Observation.objects.get()
    assert answer["Location"] == url("experiments_observation_change", told.pk)
    assert (told.value, told.told_by, told.batch_size, told.packed) == (0.25, "keeper", 4, False)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"metric": "speed"}, "Select a valid choice"),
        ({"value": "fast"}, "is no figure"),
        ({"value": "-1"}, "is no figure"),
        ({"value": "5 GiB"}, "is not in s"),
        ({"value": ""}, "required"),
        ({"said": "batch_size=4\npacked=false"}, "says nothing without model"),
        ({"said": "model=m\nbatch=4"}, "There is no condition"),
        ({"said": "model"}, "is not KEY=VALUE"),
    ],
)
def test_a_figure_that_cannot_be_taken_is_refused_with_the_reason(
    keeper: Client, changed: dict[str, str], told: str
) -> None:
    answer = keeper.post(url("experiments_observation_add"), {**SPEED, **changed})
    assert answer.status_code == 200
    assert told in answer.content.decode()
    assert not Observation.objects.exists()


def test_only_who_may_add_observations_tells_figures(colleague: Client) -> None:
    assert colleague.get(url("experiments_observation_add")).status_code == 403
    assert colleague.post(url("experiments_observation_add"), SPEED).status_code == 403
    assert not Observation.objects.exists()


def calibrated(*observations: Observation) -> Calibration:
    fitted = Calibration.objects.create(
        metric="seconds_per_step",
        key="k",
        shared={"precision": "bf16"},
        coefficients={"per token": 0.0001},
        left_out=["per squared token: too few runs"],
        error_ratio=0.034,
        valid_from={"tokens_per_step": 20.0},
        valid_to={"tokens_per_step": 900.0},
        fitted_at=NOW,
    )
    fitted.observations.add(*observations)
    return fitted


def test_a_calibration_says_what_it_was_fitted_to_and_how_far_it_holds(colleague: Client) -> None:
    page = texts(colleague, url("experiments_calibration_change", calibrated(make_observation()).pk))
    for shown in (
        "precision: bf16",
        "per token: 0.0001",
        "too few runs",
        "3.4 %",
        "tokens_per_step: 20 to 900",
    ):
        assert shown in page


def test_a_calibration_leads_to_its_observations(colleague: Client) -> None:
    used, other = make_observation(metric="used"), make_observation(metric="other")
    fitted = calibrated(used)
    address = url("experiments_calibration_evidence", fitted.pk)
    assert address in texts(colleague, url("experiments_calibration_change", fitted.pk))
    page = texts(colleague, address)
    assert used.metric in page and other.metric not in page


def test_the_list_of_calibrations_says_how_far_the_planner_is_off(colleague: Client) -> None:
    page = texts(colleague, url("experiments_calibration_changelist"))
    assert "No run with an estimate has ended yet" in page
    for actual in (50.0, 200.0):
        make_estimate(run=make_run(), value=100.0, actual=actual, compared_at=NOW)
    page = texts(colleague, url("experiments_calibration_changelist"))
    assert "75.0 %" in page and "+25 %" in page


def test_what_was_found_in_a_dataset_and_the_size_of_a_model_are_shown(people: People) -> None:
    boss = client_of(make_user(is_superuser=True))
    dataset = make_dataset(findings=["3 empty rows in train.", "<b>2</b> doubles."])
    page = texts(boss, url("experiments_dataset_change", dataset.pk))
    assert "3 empty rows in train." in page and "&lt;b&gt;2&lt;/b&gt; doubles." in page
    model = make_base_model(parameter_count=1_235_814_400, shape="llama h2048")
    page = texts(boss, url("experiments_basemodel_change", model.pk))
    assert "1B" in page and "llama h2048" in page
