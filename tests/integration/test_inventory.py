"""What a machine offers, and that its rows follow without giving up what is held."""

from dataclasses import replace

import pynvml
import pytest
from django.core.exceptions import ImproperlyConfigured

from scheduler import inventory
from scheduler.inventory import NodeReading
from scheduler.models import Device, Node
from tests.factories import make_job

pytestmark = pytest.mark.django_db


def simulated(text: str = "2x80GiB") -> NodeReading:
    return inventory.read_simulated(name="sim", text=text)


def test_a_machine_without_gpus_offers_cpu_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    reading = inventory.read_node(name="here", cpu_slots=3)
    assert [(d.uuid, d.kind) for d in reading.devices] == [(f"here/cpu/{n}", "cpu") for n in range(3)]
    assert sum(d.memory_mib for d in reading.devices) <= reading.host_memory_mib
    assert reading.cpu_threads >= 3


@pytest.mark.parametrize(("text", "count", "mib"), [("8x80GiB", 8, 81920), ("2x4096MiB", 2, 4096)])
def test_simulated_devices_are_as_written(text: str, count: int, mib: int) -> None:
    reading = simulated(text)
    assert reading.is_simulated
    assert [d.memory_mib for d in reading.devices] == [mib] * count


@pytest.mark.parametrize("text", ["8", "8x80", "x80GiB", "-1x80GiB", "8x80GB", " 8x80GiB"])
def test_a_bad_text_is_named(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="is not like 8x80GiB"):
        simulated(text)


def test_recording_twice_changes_nothing() -> None:
    inventory.record(simulated())
    before = list(Device.objects.values())
    inventory.record(simulated())
    assert list(Device.objects.values()) == before


def test_a_device_that_is_gone_is_marked_so_and_stays_held() -> None:
    node = inventory.record(simulated())
    last = node.devices.get(index=1)
    make_job(devices=[last])
    inventory.record(simulated("1x80GiB"))
    last.refresh_from_db()
    assert (last.state, last.allocated_mib) == (Device.State.GONE, last.memory_mib)
    assert "not there any more" in last.state_message


def test_what_a_person_drained_stays_drained() -> None:
    inventory.record(simulated())
    Device.objects.update(state=Device.State.DRAINED)
    inventory.record(simulated())
    assert not Device.objects.exclude(state=Device.State.DRAINED).exists()


def test_a_device_that_comes_back_takes_jobs_again() -> None:
    for text in ("2x80GiB", "1x80GiB", "2x80GiB"):
        inventory.record(simulated(text))
    assert [device.state for device in Device.objects.all()] == [Device.State.AVAILABLE] * 2


def test_a_replaced_device_takes_the_place_of_the_old_one() -> None:
    inventory.record(simulated())
    inventory.record(renamed(simulated(), "other/simulated"))
    present = Device.objects.exclude(state=Device.State.GONE)
    assert [(device.uuid, device.index) for device in present] == [
        ("other/simulated/0", 0),
        ("other/simulated/1", 1),
    ]


def test_devices_may_change_places() -> None:
    first, second = simulated().devices
    inventory.record(simulated())
    swapped = (replace(first, index=1), replace(second, index=0))
    inventory.record(replace(simulated(), devices=swapped))
    assert [(device.uuid, device.index) for device in Device.objects.all()] == [
        (second.uuid, 0),
        (first.uuid, 1),
    ]


def test_what_is_held_is_not_taken_away_when_there_is_less() -> None:
    node = inventory.record(simulated())
    make_job(devices=list(node.devices.all()))
    Node.objects.update(allocated_host_memory_mib=node.host_memory_mib)
    node = inventory.record(simulated("2x40GiB"))
    assert [device.memory_mib for device in node.devices.all()] == [81920, 81920]
    assert node.host_memory_mib == 2 * 81920


def renamed(reading: NodeReading, name: str) -> NodeReading:
    devices = (replace(device, uuid=f"{name}/{device.index}") for device in reading.devices)
    return replace(reading, devices=tuple(devices))
