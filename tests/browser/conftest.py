"""A headless Chromium, and pages in it that are logged in to the lab."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.lab import Lab

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For one module: while it lives, this thread has an event loop, and Django's ORM refuses to work."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"No browser: install one of {', '.join(NAMES)}, or name it in CHROMIUM."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def admin(context: BrowserContext, lab: Lab) -> Page:
    """The dashboard, after logging in as the administrator that the first start made."""
    page = context.new_page()
    log_in(page, lab)
    return page


def log_in(page: Page, lab: Lab) -> None:
    page.goto(f"{lab.url}/admin/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", lab.admin_password)
    page.click("button[type=submit]")
    page.wait_for_selector("#dashboard")
