"""Debian's headless Chromium for the tests of the pages, and axe-core to judge them."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

AXE = Path(__file__).parents[1] / ".peers" / "node_modules" / "axe-core" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def missing(what: str) -> None:
    """Skip with the install line; under CI=true the absence is a failure."""
    message = f"{what} is missing: run `make peers`"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class Browser:
    """Opens pages and keeps every console error, page error and request that left this machine."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium
        self.complaints: list[str] = []

    @contextmanager
    def page(
        self, *, scheme: str = "light", width: int = 1440, reduced_motion: str = "reduce"
    ) -> Iterator[Page]:
        """Give a fresh page in a context of its own."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion=reduced_motion
        )
        page = context.new_page()
        page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._check(request.url))
        try:
            yield page
        finally:
            context.close()

    def _check(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "http://localhost:", "blob:", "data:")):
            self.complaints.append(f"request to elsewhere: {url}")

    def violations(self, page: Page) -> list[str]:
        """Return what axe-core finds against WCAG 2.2 A and AA and its best practices."""
        if not AXE.is_file():
            missing("axe-core")
        page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
        found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
        return [
            f"{v['id']} ({v['impact']}): {[node['html'][:120] for node in v['nodes'][:3]]}" for v in found
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium, or skip the test with the install line."""
    program = shutil.which("chromium")
    if program is None:
        missing("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield Browser(chromium)
        finally:
            chromium.close()
