"""GPUs that fail, vanish and come back; what a person said of a device outlasts it all."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from scheduler import draining, inventory
from scheduler.inventory import looking, nvml
from scheduler.models import Device, HostReading, Node, Reading
from tests.factories import NOW, make_job
from tests.fake_nvml import GPU_IS_LOST, MISMATCH, NO_DRIVER, Inventory, gpu
from tests.gpus import gpus, nvml_library

__all__ = ["gpus", "nvml_library"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def node(gpus: Inventory) -> Node:
    return inventory.record(inventory.read_node(name="here", cpu_slots=1))


def look(node: Node, *, at: datetime | None = None) -> list[tuple[str, str]]:
    """The state of each of its devices, and why."""
    looking.look(node=node, now=at or timezone.now())
    return list(node.devices.order_by("uuid").values_list("state", "state_message"))


LOST = ("DRAINED", "NVML says: GPU is lost")
FINE = ("AVAILABLE", "")
BY_THE_OPERATOR = ("DRAINED", "Drained by the operator on 2026-01-02 12:00.")


@pytest.mark.parametrize("what", ["handle", "memory", "power"])
def test_a_gpu_that_is_lost_is_drained_and_what_runs_there_goes_on(
    node: Node, gpus: Inventory, what: str
) -> None:
    job = make_job(devices=[node.devices.get(index=1)])
    gpus.write(f"fail 1 {what} {GPU_IS_LOST}")
    assert look(node) == [FINE, LOST]
    job.refresh_from_db()
    assert job.is_open and not job.leases.filter(released_at__isnull=False).exists()
    gpus.write()
    assert look(node) == [FINE, LOST]
    draining.undrain(device_ids=[device.pk for device in node.devices.all()], user=None)
    assert look(node) == [FINE, FINE]


def test_a_gpu_that_is_resumed_and_still_fails_is_drained_again(node: Node, gpus: Inventory) -> None:
    gpus.write(f"fail 1 handle {GPU_IS_LOST}")
    look(node)
    draining.undrain(device_ids=[device.pk for device in node.devices.all()], user=None)
    assert look(node) == [FINE, LOST]


def test_a_gpu_that_is_gone_comes_back_by_itself(node: Node, gpus: Inventory) -> None:
    gone, lines = ("GONE", "It is not there any more."), gpus.lines
    gpus.lines = lines[:1]
    gpus.write()
    assert look(node) == [FINE, gone]
    gpus.lines = lines
    gpus.write()
    assert look(node) == [FINE, FINE]


def test_a_gpu_that_a_person_drained_comes_back_drained(node: Node, gpus: Inventory) -> None:
    draining.drain(device_ids=[node.devices.get(index=1).pk], user=None, now=NOW)
    lines = gpus.lines
    for present in (lines[:1], lines):
        gpus.lines = present
        gpus.write()
        states = look(node)
    assert states == [FINE, BY_THE_OPERATOR]


def test_what_a_person_drained_keeps_that_persons_word_when_it_fails_too(node: Node, gpus: Inventory) -> None:
    draining.drain(device_ids=[node.devices.get(index=1).pk], user=None, now=NOW)
    gpus.write(f"fail 1 handle {GPU_IS_LOST}")
    assert look(node) == [FINE, BY_THE_OPERATOR]


def test_a_new_gpu_is_offered_without_a_restart(node: Node, gpus: Inventory) -> None:
    gpus.lines.append(gpu(2))
    gpus.write()
    assert look(node) == [FINE, FINE, FINE]


def test_memory_errors_drain_a_gpu_once_for_each_that_is_new(node: Node, gpus: Inventory) -> None:
    def counted(errors: int) -> tuple[str, str]:
        gpus.lines[1] = gpu(1, ecc=errors)
        gpus.write()
        return look(node)[1]

    state, message = counted(2)
    assert (state, "2 uncorrected memory errors" in message) == ("DRAINED", True)
    draining.undrain(device_ids=[node.devices.get(index=1).pk], user=None)
    assert counted(2) == FINE
    assert counted(3)[0] == "DRAINED"
    draining.undrain(device_ids=[node.devices.get(index=1).pk], user=None)
    assert (counted(0), counted(1)[0]) == (FINE, "DRAINED")  # the driver was loaded anew


def test_a_gpu_in_mig_mode_is_not_offered(node: Node, gpus: Inventory) -> None:
    gpus.lines[1] = gpu(1, mig=1)
    gpus.write()
    state, message = look(node)[1]
    assert (state, "MIG" in message) == ("DRAINED", True)


@pytest.mark.parametrize("code", [MISMATCH, NO_DRIVER])
def test_a_node_whose_driver_breaks_is_not_taken_for_one_of_cpu_slots(
    node: Node, gpus: Inventory, code: int
) -> None:
    gpus.write(f"init {code}")
    nvml.begin_anew()  # as the next worker does
    again = inventory.record(inventory.read_node(name="here", cpu_slots=4))
    assert {device.kind for device in again.devices.all()} == {"gpu"}
    assert [state for state, _ in look(node)] == ["DRAINED", "DRAINED"]
    assert all("NVML says:" in message for _, message in look(node))


def test_a_gpu_that_fails_while_its_worker_starts_keeps_its_row(node: Node, gpus: Inventory) -> None:
    gpus.write(f"fail 0 handle {GPU_IS_LOST}")
    inventory.record(inventory.read_node(name="here", cpu_slots=4))
    rows = node.devices.order_by("uuid").values_list("uuid", "index", "state")
    assert list(rows) == [("GPU-0", 0, "DRAINED"), ("GPU-1", 1, "AVAILABLE")]


def test_each_look_keeps_a_reading_of_each_gpu_and_of_the_host(node: Node, gpus: Inventory) -> None:
    gpus.lines[0] = gpu(0, used=9000, utilisation=87)
    gpus.write("fail 1 power 3")
    look(node)
    first, second = Reading.objects.order_by("device__index")
    assert (first.used_mib, first.utilisation_percent, first.temperature_celsius) == (9000, 87, 34)
    assert (first.power_watts, second.power_watts) == (70.5, None)
    assert first.foreign_mib == 9000  # nobody that can be seen accounts for it
    assert Device.objects.get(index=0).utilisation_percent == 87
    host = HostReading.objects.get()
    assert host.used_mib > 0 and host.load >= 0


def test_simulated_devices_are_not_measured() -> None:
    node = inventory.record(inventory.read_simulated(name="sim", text="2x80GiB"))
    assert look(node) == [FINE, FINE]
    assert not Reading.objects.exists() and not HostReading.objects.exists()


def test_a_host_without_gpus_is_read_all_the_same() -> None:
    node = inventory.record(inventory.read_node(name="plain", cpu_slots=2))
    look(node, at=timezone.now() + timedelta(seconds=1))
    assert HostReading.objects.count() == 1 and not Reading.objects.exists()
