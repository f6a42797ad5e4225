"""What is measured, and what is simulated, as the admin, the API and the commands show it."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.utils import timezone

from experiments.states import RunState
from scheduler.models import Device, HostReading, Reading
from tests.conftest import People
from tests.factories import make_device, make_job, make_node, make_run
from tests.integration import admin_client, api_client
from tests.integration.admin_client import url
from tests.integration.api_client import API
from tests.integration.commands import command

pytestmark = pytest.mark.django_db


def measured(device: Device, *, minutes_ago: int, **fields: object) -> Reading:
    at = timezone.now() - timedelta(minutes=minutes_ago)
    told = {"used_mib": 100, "foreign_mib": 0, "keep_until": at + timedelta(days=1)} | fields
    return Reading.objects.create(device=device, at=at, **told)


def drawn(people: People, device: Device, query: str = "") -> dict[str, list[dict[str, object]]]:
    """The series of each plot of its page, by the plot's unit."""
    page = admin_client.client_of(people.colleague).get(url("scheduler_device_change", device.pk) + query)
    charts = [
        json.loads(unescape(text)) for text in re.findall(r'data-chart="([^"]*)"', page.content.decode())
    ]
    return {chart["y"]: chart["series"] for chart in charts}


def test_the_page_of_a_gpu_draws_what_was_measured_and_not_what_was_not(people: People) -> None:
    gpu = make_device(kind="gpu")
    measured(gpu, minutes_ago=90, used_mib=1)
    measured(gpu, minutes_ago=5, foreign_mib=70, utilisation_percent=40)
    plots = drawn(people, gpu)
    assert list(plots) == ["MiB", "%"]
    assert [(line["label"], [point["y"] for point in line["points"]]) for line in plots["MiB"]] == [  # type: ignore[index,attr-defined]
        ("in use", [100]),
        ("by others", [70]),
    ]
    assert len(drawn(people, gpu, "?hours=24")["MiB"][0]["points"]) == 2  # type: ignore[arg-type]
    assert drawn(people, gpu, "?hours=nonsense") == plots


def test_a_cpu_slot_shows_its_machine_and_a_simulated_device_nothing(people: People) -> None:
    slot, simulated = make_device(), make_device(node=make_node(is_simulated=True), kind="simulated")
    now = timezone.now()
    HostReading.objects.create(node=slot.node, at=now, keep_until=now, used_mib=5, load=0.5)
    assert list(drawn(people, slot)) == ["MiB", "threads that ran or wanted to"]
    assert drawn(people, simulated) == {}


def test_the_api_tells_readings_thinned_and_to_members_only(people: People) -> None:
    gpu = make_device(kind="gpu")
    for minutes in range(120):
        measured(gpu, minutes_ago=minutes, utilisation_percent=minutes % 100)
    client = api_client.client_of(people.colleague)
    assert len(client.get(f"{API}/devices/{gpu.pk}/readings/").data) == 60
    told = client.get(f"{API}/devices/{gpu.pk}/readings/?hours=3").data
    assert len(told) == 120 and told[-1]["utilisation_percent"] == 0
    assert client.get(f"{API}/devices/{gpu.pk}/readings/?hours=-1").status_code == 400
    outsider = api_client.client_of(people.outsider)
    assert outsider.get(f"{API}/devices/{gpu.pk}/readings/").status_code == 403


def test_the_api_tells_the_load_of_a_machine(people: People) -> None:
    node, now = make_node(), timezone.now()
    HostReading.objects.create(node=node, at=now, keep_until=now, used_mib=5, load=0.5)
    (told,) = api_client.client_of(people.colleague).get(f"{API}/nodes/{node.pk}/readings/").data
    assert (told["used_mib"], told["load"]) == (5, 0.5)


def test_what_others_use_is_told_with_their_names(people: People) -> None:
    gpu = make_device(kind="gpu", foreign_mib=500, foreign_use="python3 (pid 41) of ada uses 500 MiB.")
    client = api_client.client_of(people.colleague)
    told = client.get(f"{API}/devices/{gpu.pk}/").data
    assert (told["foreign_mib"], told["free_mib"], told["foreign_use"]) == (500, 3596, gpu.foreign_use)
    page = admin_client.client_of(people.colleague).get(url("scheduler_device_changelist"))
    assert gpu.foreign_use in page.content.decode()
    assert gpu.foreign_use in command("devices")


def test_what_is_simulated_says_so_everywhere(people: People) -> None:
    device = make_device(node=make_node(name="sim", is_simulated=True), kind="simulated")
    run = make_run(state=RunState.RUNNING)
    job = make_job(runs=[run], devices=[device])
    client = admin_client.client_of(people.colleague)
    pages = {
        url("scheduler_device_changelist"): "simulated",
        url("scheduler_device_change", device.pk): "It is simulated",
        url("scheduler_node_changelist"): "simulated",
        url("scheduler_job_changelist"): "sim:0 (simulated)",
        url("scheduler_job_change", job.pk): "sim:0 (simulated)",
        url("experiments_run_changelist"): "sim:0 (simulated)",
        url("experiments_run_change", run.pk): "sim:0 (simulated)",
    }
    unlabelled = [page for page, label in pages.items() if label not in client.get(page).content.decode()]
    assert unlabelled == []
    told = api_client.client_of(people.colleague).get(f"{API}/jobs/{job.pk}/").data
    assert (told["is_simulated"], told["leases"][0]["kind"]) == (True, "simulated")
    assert f"{run.name} (simulated)" in command("status")
    assert "sim:0  simulated" in command("devices")


def test_the_list_of_runs_says_once_that_several_devices_are_simulated(people: People) -> None:
    node = make_node(name="sim", is_simulated=True)
    devices = [make_device(node=node, kind="simulated", index=index) for index in range(2)]
    make_job(runs=[make_run(state=RunState.RUNNING)], devices=devices)
    page = admin_client.client_of(people.colleague).get(url("experiments_run_changelist"))
    assert "sim:0, sim:1 (simulated)" in page.content.decode()
