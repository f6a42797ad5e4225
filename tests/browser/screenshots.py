"""Makes the pictures of the README: the demo's plan, dashboard, run and summary, and a plan estimated from it.

    var/env/control/bin/python -m tests.browser.screenshots

A lab in a temporary folder, real engines, Chromium; some three minutes, and those of installing the ML environment unless
LABMGR_ML_PYTHON names one. Writes docs/images/*.png.
"""

import os
import shutil
import tempfile
from pathlib import Path

import yaml
from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import FLAGS, NAMES, log_in
from tests.lab import REPOSITORY, Lab, until

IMAGES = REPOSITORY / "docs" / "images"
DOCUMENT = REPOSITORY / "experiments" / "demo" / "experiment.yaml"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lab-") as folder, sync_playwright() as playwright:
        lab = Lab(Path(folder))
        lab.up()
        try:
            shutil.copytree(REPOSITORY / "experiments/demo/models", lab.home / "models", dirs_exist_ok=True)
            found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)))
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            log_in(page, lab)
            _pictures(page, lab)
            browser.close()
        finally:
            lab.run("stop")


def _pictures(page: Page, lab: Lab) -> None:
    document = yaml.safe_load(DOCUMENT.read_text())
    lab.manage("plan", str(DOCUMENT))
    _open(page, lab, document["name"])
    _shoot(page, "plan")
    lab.manage("approve", document["name"])
    until(lambda: _finetunes(lab) >= 1, seconds=600)
    page.goto(f"{lab.url}/admin/")
    _shoot(page, "dashboard")
    page.click("#dashboard a[href*='/run/']:text-is('tiny-llama-m_rank4/finetune')")
    page.wait_for_selector("canvas")
    _shoot(page, "run")
    until(
        lambda: {row["state"] for row in lab.summary(document["name"]).values()} == {"SUCCEEDED"}, seconds=900
    )
    _open(page, lab, document["name"])
    page.click("text=Summary")
    _shoot(page, "summary")
    again = lab.home / "again.yaml"
    again.write_text(yaml.safe_dump({**document, "name": "once_more"}))
    lab.manage("plan", str(again))
    _open(page, lab, "once_more")
    _shoot(page, "estimates")


def _open(page: Page, lab: Lab, name: str) -> None:
    page.goto(f"{lab.url}/admin/experiments/experiment/")
    page.click(f"#result_list >> text={name}")
    page.wait_for_selector("#cells")


def _finetunes(lab: Lab) -> int:
    return len(lab.rows("SELECT id FROM experiments_run WHERE kind = 'finetune' AND state = 'SUCCEEDED'"))


def _shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)  # charts are drawn with an animation
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
