"""A member's day in the admin: plan, approve, watch, read the result."""

import pytest
import yaml
from playwright.sync_api import BrowserContext, Page, expect

from tests.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.engine, pytest.mark.timeout(600)]

DOCUMENT = {
    "name": "from_the_browser",
    "question": "Does a browser do?",
    "dataset": {"generator": "capitalization", "word_length": 5, "words": 600},
    "factors": {"model": ["tiny-llama-s"], "lora_rank": [4]},
    "fixed": {
        "batch_size": 4,
        "epochs": 1,
        "max_steps_per_epoch": 60,
        "learning_rate": 1e-3,
        "max_seq_len": 128,
    },
    "evaluation": {"split": "test", "scorers": ["exact_match"], "limit": 20},
    "validation": False,
}
MINUTE = 60_000  # in milliseconds


def test_a_member_plans_approves_and_sees_the_run_finish(admin: Page, lab: Lab) -> None:
    errors: list[str] = []
    admin.on("pageerror", lambda error: errors.append(str(error)))

    admin.goto(f"{lab.url}/admin/experiments/experiment/add/")
    admin.fill("textarea[name=document]", yaml.safe_dump(DOCUMENT, sort_keys=False))
    admin.click("text=Plan it")
    expect(admin.locator("#cells")).to_contain_text("tiny-llama-s_rank4")

    admin.click("button.lab-go >> text=Approve")
    admin.click("dialog[open] button[type=submit]")

    # The page follows by itself: nothing here reloads it.
    expect(admin.locator(".lab-head .lab-state")).to_have_text("running", timeout=MINUTE)
    expect(admin.locator(".lab-head .lab-state")).to_have_text("succeeded", timeout=4 * MINUTE)
    expect(admin.locator("#cells .lab-state")).to_have_text("succeeded")

    admin.click("#cells a:text-is('finetune')")
    expect(admin.locator("canvas[data-chart]")).to_be_visible()
    expect(admin.locator(".lab-log")).to_contain_text("Loss:")

    admin.goto(f"{lab.url}/admin/experiments/experiment/")
    admin.click("text=from_the_browser")
    admin.click("text=Summary")
    expect(admin.locator(".lab-table").first).to_contain_text("exact_match")
    expect(admin.locator("canvas[data-chart]").first).to_be_visible()
    assert errors == []


def test_a_document_with_mistakes_comes_back_with_what_to_do(admin: Page, lab: Lab) -> None:
    admin.goto(f"{lab.url}/admin/experiments/experiment/add/")
    admin.fill("textarea[name=document]", "name: wrong\nfactors: {modle: [tiny-llama-s]}\n")
    admin.click("text=Plan it")
    expect(admin.locator("[role=alert]")).to_contain_text("nothing was stored")
    expect(admin.locator("textarea[name=document]")).to_have_value(
        "name: wrong\nfactors: {modle: [tiny-llama-s]}\n"
    )


def test_a_stranger_sees_the_login_form_only(context: BrowserContext, lab: Lab) -> None:
    page = context.new_page()
    page.goto(f"{lab.url}/admin/experiments/experiment/")
    expect(page.locator("input[name=password]")).to_be_visible()
