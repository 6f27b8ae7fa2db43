"""The pages in headless Chromium: they draw, work from the keyboard, and axe-core has nothing to say."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from browser import Browser, browser
from web_node import WebNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import Page

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WebNode, str, str]]:
    node = WebNode(tmp_path_factory.mktemp("web"))
    key = node.add_patient()
    node.add_patient(with_twin=False, waiting_for="the FHIR record")
    with node.serving() as base:
        yield node, base, key
    node.close()


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector("html[data-ready], #rows tr", timeout=60_000, state="attached")
    return page


def painted(page: Page) -> NDArray[np.int64]:
    """The canvas as [row, column, RGB], after two frames so that what was asked for is drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(
        Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"), dtype=np.int64
    )


def orange(page: Page) -> int:
    """Count the canvas pixels that carry the colour of the predicted tumour."""
    r, g, b = np.moveaxis(painted(page), -1, 0)
    return int(np.count_nonzero((r > 110) & (r - b > 35) & (r > g) & (g > b)))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 700)])
def test_pages_have_no_violation_and_no_console_error(
    chromium: Browser, site: tuple[WebNode, str, str], scheme: str, width: int
) -> None:
    _, base, key = site
    chromium.complaints.clear()
    for path in ("/", f"/patients/{key}", "/api/docs"):
        with chromium.page(scheme=scheme, width=width) as page:
            opened(page, base + path)
            assert chromium.violations(page) == []
    assert chromium.complaints == []


def test_list_leads_to_the_twin_which_shows_image_tumour_and_labels(
    chromium: Browser, site: tuple[WebNode, str, str], tmp_path: Path
) -> None:
    _, base, key = site
    with chromium.page() as page:
        opened(page, base)
        assert page.locator("#rows tr").count() == 2
        assert page.get_by_text("Waiting for the FHIR record").is_visible()
        page.get_by_label("Filter").fill("lung")
        assert page.locator("#rows tr").count() == 1
        page.get_by_role("link", name="Example, Ada").click()
        page.wait_for_url(f"**/patients/{key}")
        page.get_by_role("heading", name="Example, Ada").wait_for()
        page.wait_for_selector("html[data-ready]", timeout=60_000, state="attached")
        for text in ("Not a medical device", "SIMULATED FOLLOW-UP", "TEST DATA", "NOT ACQUIRED"):
            assert page.get_by_text(text).first.is_visible()
        page.screenshot(path=tmp_path / "twin.png", full_page=True)
        assert len(np.unique(painted(page).reshape(-1, 3), axis=0)) > 50
        assert orange(page) > 500
        slider_and_treatment_move_the_predicted_tumour(page)


def slider_and_treatment_move_the_predicted_tumour(page: Page) -> None:
    page.get_by_label("60 Gy in 30 fractions").check()
    page.wait_for_selector("#canvas[data-shown='radiation/0']")
    start = orange(page)
    day = page.get_by_label("Predicted day")
    day.focus()
    day.press("End")
    page.wait_for_selector("#canvas[data-shown='radiation/18']")
    end = orange(page)
    assert "PREDICTED day 126, NOT ACQUIRED" in page.locator("#stage-label").inner_text()
    assert (day.get_attribute("aria-valuetext") or "").startswith("Day 126: ")
    assert 0 < end < 0.8 * start


def test_whole_page_works_from_the_keyboard_and_follows_its_job(
    chromium: Browser, site: tuple[WebNode, str, str]
) -> None:
    node, base, key = site
    with chromium.page() as page:
        opened(page, f"{base}/patients/{key}")
        reached: list[str] = []
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("() => (e => e.id || e.name || e.textContent.trim())(document.activeElement)")
            )
        wanted = {"Skip to the twin", "theme", "view", "canvas", "play", "day", "show-measured"}
        assert wanted | {"show-predicted", "opacity", "slice", "treatment"} <= set(reached)
        assert any("Twin report" in where for where in reached)
        before = page.locator("#location").inner_text()
        page.locator("#canvas").focus()
        page.keyboard.press("PageUp")
        page.keyboard.press("ArrowLeft")
        assert page.locator("#location").inner_text() != before
        page.keyboard.press("Home")
        assert page.locator("#location").inner_text() == before
        job_progress_arrives_without_reload(page, node, key)


def job_progress_arrives_without_reload(page: Page, node: WebNode, key: str) -> None:
    node.jobs.enqueue("twin.build", {"patient_key": key}, key="progress")
    job = node.jobs.claim("w", ["twin.build"])
    assert job is not None
    node.jobs.progress(job, 0.4, "calibrating")
    page.get_by_text("Building 40 % · calibrating").wait_for(timeout=60_000)
    node.jobs.succeed(job, {"version": 3})
    page.get_by_text("Version 3 is ready.").wait_for(timeout=60_000)
