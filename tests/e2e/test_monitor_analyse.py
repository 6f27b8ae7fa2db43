"""``twin monitor analyse`` in headless Chromium: the app asks the monitor and draws with Plotly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from browser import Browser, browser
from foreign import python_package
from served_monitor import ServedMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.peers, pytest.mark.full, pytest.mark.timeout(400)]
SHOTS = os.environ.get("TWIN_SCREENSHOTS")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    python_package("streamlit")
    python_package("plotly")
    monitor = ServedMonitor(tmp_path)
    program = [str(Path(sys.executable).with_name("twin")), "monitor", "analyse", "--port", "0"]
    process = subprocess.Popen([*program, "--monitor", monitor.url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = process.stdout.readline().rpartition(" ")[2].strip()
        yield found
    finally:
        process.terminate()
        process.communicate(timeout=60)
        monitor.close()
    with pytest.raises(httpx.ConnectError):  # the app ends with the command
        httpx.get(found)


@pytest.fixture
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def test_history_and_what_if_are_drawn(address: str, chromium: Browser) -> None:
    with chromium.page() as page:
        page.set_default_timeout(120_000)
        page.goto(address)
        page.get_by_label("Your token").fill("n")
        page.keyboard.press("Enter")
        page.get_by_text("N. N., nurse").wait_for()
        shot(page, "analysis-ward")
        page.get_by_text("History", exact=True).click()
        page.get_by_text("HR 1200").wait_for()
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached")
        assert page.locator("[data-testid=stMain]").inner_text().startswith("Monitor analysis")
        shot(page, "analysis-history")
        page.get_by_text("What if", exact=True).click()
        page.get_by_role("button", name="Simulate 30 min").click()
        page.get_by_text("In 30 minutes mean pressure").wait_for()
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached")
        shot(page, "analysis-what-if")
    assert [each for each in chromium.complaints if "request to elsewhere" in each] == []


def shot(page: object, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)  # type: ignore[attr-defined]
