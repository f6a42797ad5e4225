"""A plan in the browser: from a figure to its observations, and from a question to the approval."""

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

DOCUMENT = {
    "name": "asks_in_the_browser",
    "dataset": {"generator": "capitalization", "word_length": 5, "words": 200},
    "factors": {"model": ["tiny-llama-s"], "lora_rank": [4]},
    # Packed, as no run of the other tests is: nothing that they measured speaks for it.
    "fixed": {"batch_size": 4, "learning_rate": 1e-3, "max_seq_len": 128, "packed": True},
}
TOLD = ["--set", "model=tiny-llama-s", "--set", "batch_size=4", "--set", "packed=true", "--by", "anna"]


@pytest.fixture
def plan(admin: Page, lab: Lab) -> Page:
    """The page of a draft with two open questions and a figure that a person told."""
    lab.manage("observe", "peak_device_memory_mib", "1234", *TOLD)
    admin.goto(f"{lab.url}/admin/experiments/experiment/add/")
    admin.fill("textarea[name=document]", yaml.safe_dump(DOCUMENT, sort_keys=False))
    admin.click("text=Plan it")
    return admin


@pytest.mark.parametrize("width", [1440, 800])
def test_one_click_leads_from_a_figure_to_its_observations_and_back(plan: Page, width: int) -> None:
    plan.set_viewport_size({"width": width, "height": 900})
    expect(plan.locator("#cells")).to_contain_text("told, n = 1")
    assert not _is_wider_than_the_window(plan)
    plan.click("#cells a:text-is('1,234 MiB')")
    expect(plan.locator("#observations tbody tr")).to_have_count(1)
    expect(plan.locator("#observations")).to_contain_text("told by anna")
    assert not _is_wider_than_the_window(plan)
    plan.click("text=Back to asks_in_the_browser")
    expect(plan.locator("#cells")).to_be_visible()


def test_questions_are_answered_with_the_approval(plan: Page, lab: Lab) -> None:
    questions = plan.locator("#questions")
    expect(questions).to_contain_text("How many epochs?")
    epochs = questions.locator("input[name='answer:fixed.epochs']")
    epochs.fill("none")
    questions.locator("button").click()
    expect(plan.locator("body")).to_contain_text("fixed.epochs")
    expect(plan.locator(".lab-head .lab-state")).to_have_text("draft")
    epochs.fill("2")
    questions.locator("button").click()
    expect(plan.locator("#questions")).to_have_count(0)
    expect(plan.locator(".lab-head .lab-state")).not_to_have_text("draft")
    expect(plan.locator("#log")).to_contain_text("Answered: fixed.epochs = 2, validation = False.")
    lab.manage("cancel", str(DOCUMENT["name"]))


def _is_wider_than_the_window(page: Page) -> bool:
    root = "document.documentElement"
    return bool(page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))
