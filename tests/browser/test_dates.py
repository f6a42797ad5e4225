"""Dates on the dashboard stay on one line, however narrow the window is."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

WIDTHS = range(360, 1440, 24)
# Every date in the page's text, with the number of lines that it is on.
DATES = """() => {
    const found = [], walker = document.createTreeWalker(document.querySelector("#dashboard"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        for (const date of walker.currentNode.data.matchAll(/\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d/g)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, date.index);
            range.setEnd(walker.currentNode, date.index + date[0].length);
            found.push([date[0], new Set([...range.getClientRects()].map(box => box.top)).size]);
        }
    }
    return found;
}"""


@pytest.fixture
def paused(lab: Lab) -> Iterator[None]:
    """The queue, with a run that waits for it and says so."""
    lab.manage("pause")
    name = lab.start({"name": "waits_in_the_browser", "command": {"argv": ["true"]}})
    yield
    lab.manage("cancel", name)
    lab.manage("unpause")


def test_no_date_is_broken_in_two(paused: None, admin: Page, lab: Lab) -> None:
    admin.goto(f"{lab.url}/admin/")
    for width in WIDTHS:
        admin.set_viewport_size({"width": width, "height": 900})
        dates = admin.evaluate(DATES)
        assert len(dates) >= 2
        assert {lines for _, lines in dates} == {1}, f"{dates} at {width} px"
