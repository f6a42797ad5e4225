"""Flower shows the workers, their queues and the running task under its run's name, and can only look."""

import os
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.lab import Lab, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def flower(chromium: Browser, lab: Lab) -> Page:
    credentials = {"username": "lab", "password": lab.flower_password}
    page = chromium.new_context(http_credentials=credentials).new_page()  # closed with the browser
    page.goto(lab.flower_url)
    return page


@pytest.fixture
def running(lab: Lab, tmp_path: Path) -> str:
    """An experiment whose run waits at a gate, then is let through."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"print('up', flush=True); open({str(gate)!r}).read()"
    name = lab.start({"name": "seen_in_flower", "command": {"argv": [sys.executable, "-c", script]}})
    lab.wait_for_log(name, name, "up")
    return name


def test_the_running_task_goes_by_its_runs_name(flower: Page, lab: Lab, running: str) -> None:
    flower.goto(f"{lab.flower_url}/tasks")
    row = flower.locator("#tasks-table tr", has_text=f"{running}/")
    until(lambda: "STARTED" in _text_after_reload(flower, row), seconds=60)
    lab.manage("cancel", running)
    lab.wait_for_state(running, running, "CANCELLED")


def test_the_workers_and_their_device_queues_are_listed(flower: Page, lab: Lab) -> None:
    expect(flower.locator("#workers-table")).to_contain_text("node@")
    flower.goto(f"{lab.flower_url}/broker")
    for queue in ("gpu.here.0", "gpu.here.1"):
        expect(flower.locator("table")).to_contain_text(queue)


def test_nobody_gets_in_without_the_password(lab: Lab, chromium: Browser) -> None:
    context = chromium.new_context()
    answer = context.request.get(lab.flower_url)
    assert answer.status == 401
    context.close()


def test_a_worker_cannot_be_shut_down_from_it(flower: Page, lab: Lab) -> None:
    before = lab.pid("node")
    name = flower.locator("#workers-table a").first.inner_text()
    flower.request.post(f"{lab.flower_url}/api/worker/shutdown/{name}")
    flower.goto(lab.flower_url)
    expect(flower.locator("#workers-table")).to_contain_text("Online")
    assert lab.pid("node") == before


def _text_after_reload(page: Page, row: Locator) -> str:
    """The list of tasks does not follow by itself."""
    page.reload()
    page.wait_for_load_state("networkidle")
    return " ".join(row.all_inner_texts())
