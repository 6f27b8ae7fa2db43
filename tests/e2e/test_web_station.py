"""The central station in headless Chromium: a hundred beds at 1 Hz, alerts by keyboard, axe-core content."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from browser import Browser, browser
from digital_twins.monitoring import (
    Association,
    MonitorService,
    Reading,
    SimulatedWaveforms,
    StaffMember,
    WardPart,
    monitor_app,
)
from icu_stays import small_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]
BEDS = 100
ILL = 7
SHOTS = os.environ.get("TWIN_SCREENSHOTS")
"""Folder for pictures of the pages, for people to look at."""


class Ward:
    """A monitor of a hundred simulated beds at 1 Hz, served from a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = ""
        self._opened, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Ward:
        self._thread.start()
        assert self._opened.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    async def _run(self) -> None:
        import uvicorn

        part = WardPart(risk=await asyncio.to_thread(small_model, self.folder))
        async with MonitorService(self.folder, capacity=BEDS, part=part) as service:
            self.service = service
            for n in range(BEDS):
                service.associate(Association("device", f"D{n}", f"ICU-{n + 1}", 0.0))
                service.associate(Association("bed", f"ICU-{n + 1}", f"SIM-{n + 1}", 0.0))
            app = monitor_app(
                service,
                devices={},
                staff={"nurse-token": StaffMember("N. N.", "nurse"), "guest": StaffMember("G.", "visitor")},
            )
            server = uvicorn.Server(
                uvicorn.Config(
                    app, port=0, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1
                )
            )
            task = asyncio.create_task(server.serve())
            feed = asyncio.create_task(self._feed(service))
            while not server.started:
                await asyncio.sleep(0.02)
            self.base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            self._opened.set()
            while not self._end.is_set():
                await asyncio.sleep(0.1)
            feed.cancel()
            server.should_exit = True
            await asyncio.gather(task, feed, return_exceptions=True)

    async def _feed(self, service: MonitorService) -> None:
        rng = np.random.default_rng(0)
        middle = np.array([75.0, 92.0, 97.0, 15.0, 36.9])
        spread = np.array([1.0, 1.5, 0.3, 0.6, 0.03])
        drawn, drawn_s = SimulatedWaveforms(0), time.time()
        while True:
            now_s = time.time()
            for piece in drawn.piece(
                drawn_s, 1.0, {"HR": 75.0, "RR": 15.0, "ART_SYS": 82.0, "ART_DIA": 41.0}
            ):
                service.waveforms.offer(f"D{ILL}", piece, received_s=now_s)
            drawn_s += 1.0
            values = middle + spread * rng.standard_normal((BEDS, 5))
            values[ILL, 1] = 55.0 + rng.standard_normal()
            for n in range(BEDS):
                known = dict(zip(("HR", "ART_MEAN", "SPO2", "RR", "TEMP"), values[n].tolist(), strict=True))
                if n == ILL:
                    known["NIBP_SYS"] = 68.0
                service.intake.offer(Reading(f"D{n}", now_s, known, ()), received_s=now_s)
            await asyncio.sleep(1.0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with Ward(tmp_path_factory.mktemp("ward")) as served:
        yield served


def signed_in(page: Page, ward: Ward, token: str = "nurse-token") -> Page:
    page.goto(ward.base)
    page.get_by_label("Your token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => document.querySelectorAll('#grid .tile').length === {BEDS}")
    return page


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def frames(page: Page) -> int:
    return int(page.evaluate("() => Number(document.documentElement.dataset.frames)"))


def test_hundred_beds_hold_one_hertz_and_are_painted_in_time(chromium: Browser, ward: Ward) -> None:
    chromium.complaints.clear()
    with chromium.page() as page:
        signed_in(page, ward)
        page.wait_for_selector(".tile[data-status='critical']")
        page.wait_for_timeout(2000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        at, busy = time.monotonic(), _task_s(session)
        delays = page.evaluate(_WATCH, 12_000)
        passed = time.monotonic() - at
        rate, load = len(delays) / passed, (_task_s(session) - busy) / passed
        usual, worst = np.quantile(delays, [0.5, 0.95])
        page.evaluate("() => scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function("() => document.querySelectorAll('#grid canvas').length > 90")
        page.evaluate("() => scrollTo(0, 0)")
        if SHOTS:
            line = f"{rate:.2f} Hz, paint p50 {usual:.0f} p95 {worst:.0f} ms, main thread {load:.3f} core"
            (Path(SHOTS) / "station.txt").write_text(line, encoding="utf-8")
        assert rate > 0.9
        assert usual < 250  # the 95 % point is a figure of the machine's other load, too: see station.txt
        assert load < 0.25
        shot(page, "station-light")
    assert chromium.complaints == []


_FITS = "() => [...document.querySelectorAll('figure')].every(f => f.scrollWidth <= f.clientWidth + 1)"
_WATCH = """span => new Promise(done => {
  const root = document.documentElement, found = []
  const seen = new MutationObserver(() => found.push(Number(root.dataset.paintMs)))
  seen.observe(root, {attributeFilter: ['data-frames']})
  setTimeout(() => { seen.disconnect(); done(found) }, span)
})"""


def _task_s(session: Any) -> float:
    """CPU seconds of the page's main thread."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 480)])
def test_station_and_bed_page_have_no_violation(
    chromium: Browser, ward: Ward, scheme: str, width: int
) -> None:
    chromium.complaints.clear()
    with chromium.page(scheme=scheme, width=width) as page:
        page.goto(ward.base)
        page.get_by_label("Your token").wait_for()
        assert chromium.violations(page) == []
        signed_in(page, ward)
        page.wait_for_selector(".tile[data-status='critical']")
        assert chromium.violations(page) == []
        shot(page, f"station-{scheme}-{width}")
        page.locator(".tile[data-status='critical']").click()
        page.wait_for_selector("#bed tbody tr")
        page.get_by_role("button", name="Simulate 30 min").click()
        page.get_by_text("In 30 minutes mean pressure").wait_for()
        assert page.locator("#bed .charts canvas").count() == 9
        assert page.locator("#waves canvas").count() == 4
        assert page.evaluate(_FITS)
        assert chromium.violations(page) == []
        shot(page, f"bed-{scheme}-{width}")
        page.evaluate("() => scrollTo(0, 0)")
        shot(page, f"bed-top-{scheme}-{width}")
        page.keyboard.press("Escape")
        page.locator("#grid").wait_for()
    assert chromium.complaints == []


def test_alert_is_acknowledged_by_keyboard_and_says_more_than_a_colour(chromium: Browser, ward: Ward) -> None:
    with chromium.page() as page:
        signed_in(page, ward)
        page.wait_for_selector(".alert[data-priority='high'][data-known='no']")
        first = page.locator("#alerts > li").first
        assert "*** high" in first.inner_text()
        assert "High priority: ICU-8" in page.locator("#urgent").inner_text()
        number = int(first.get_attribute("data-id") or 0)
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.wait_for_selector(f".alert[data-id='{number}'][data-known='yes']")
        assert "acknowledged by N. N." in page.locator(f".alert[data-id='{number}']").inner_text()
        steps = ward.service.store.steps(number)
        assert ("acknowledged", "N. N.") in [(name, by) for name, _, by, _ in steps]
        assert "***" in page.locator(".tile[data-status='critical']").inner_text()


def test_learned_risk_is_shown_with_its_reasons(chromium: Browser, ward: Ward) -> None:
    chromium.complaints.clear()
    watch, patient = ward.service.monitor.risk, f"SIM-{ILL + 1}"
    assert watch is not None
    with chromium.page() as page:
        signed_in(page, ward)
        watch._begin_s[ward.service.monitor.row_of(patient)] = time.time() - 6 * 3600.0 - 1.0
        page.goto(f"{ward.base}/#/bed/{patient}")
        page.locator("#bed .risk").get_by_text("asked at hour 6").wait_for()
        text = page.locator("#bed .risk").inner_text()
        assert text.count("log-odds") == 3
        assert "Learned risk of in-hospital death: " in text
        assert chromium.violations(page) == []
        shot(page, "bed-risk")
    assert chromium.complaints == []


def test_waveforms_are_drawn_as_they_come(chromium: Browser, ward: Ward) -> None:
    chromium.complaints.clear()
    with chromium.page() as page:
        signed_in(page, ward)
        page.locator(f".tile[href='#/bed/SIM-{ILL + 1}']").click()
        page.wait_for_function("() => document.querySelectorAll('#waves canvas').length === 4")
        titles = page.locator("#waves figcaption").all_inner_texts()
        assert [each.split("\u00b7")[0].strip() for each in titles] == [
            "ECG II, mV",
            "Arterial pressure, mmHg",
            "Plethysmogram",
            "Respiration (impedance), Ohm",
        ]
        page.wait_for_function(_INKED, arg=0.6)
        shot(page, "bed-waves")
        page.goto(f"{ward.base}/#/bed/SIM-1")
        page.get_by_text("No waveform has come from this bed.").wait_for()
        assert page.locator("#waves canvas").count() == 0
    assert chromium.complaints == []


_INKED = """share => {
  const { width, height } = document.querySelector('#waves canvas')
  const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })
  copy.drawImage(document.querySelector('#waves canvas'), 0, 0)
  const { data } = copy.getImageData(0, 0, width, height)
  const ground = [0, 1, 2].map((n) => data[n])
  let columns = 0
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      const at = 4 * (y * width + x)
      const inked = [0, 1, 2].some((n) => Math.abs(data[at + n] - ground[n]) > 60)
      if (data[at + 3] && inked) { columns += 1; break }
    }
  }
  return columns > share * width
}"""
"""Whether a waveform is drawn over that share of the first canvas."""


def test_pause_keeps_every_reading(chromium: Browser, ward: Ward) -> None:
    with chromium.page() as page:
        signed_in(page, ward)
        page.keyboard.press("p")
        page.get_by_text("TRENDS PAUSED").wait_for()
        held = page.locator(".tile dd").first.inner_text()
        start = frames(page)
        page.wait_for_function(f"() => Number(document.documentElement.dataset.frames) >= {start + 4}")
        assert page.locator(".tile dd").first.inner_text() == held
        assert "updates are kept" in page.locator("#banner").inner_text()
        page.keyboard.press("p")
        page.wait_for_selector("#banner", state="hidden")
        assert page.locator("#pause").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 480)])
def test_patient_and_device_are_placed_on_the_page(
    chromium: Browser, ward: Ward, scheme: str, width: int
) -> None:
    chromium.complaints.clear()
    log, bed = ward.service.associations, f"NEW-{width}"
    with chromium.page(scheme=scheme, width=width) as page:
        signed_in(page, ward)
        page.get_by_role("link", name="Beds and devices").click()
        page.locator("#places tbody tr", has_text="D99").wait_for()
        old = log.bed_of("SIM-100", time.time())
        page.get_by_label("Patient", exact=True).fill("SIM-100")
        page.get_by_label("Bed", exact=True).fill(bed)
        page.get_by_role("button", name="Lies in this bed").click()
        page.get_by_text(f"SIM-100 lies in {bed} from now on.").wait_for()
        now_s = time.time()
        assert (log.bed_of("SIM-100", now_s), log.patient_in(str(old), now_s)) == (bed, None)
        page.locator("#places tbody tr", has_text="nobody: readings wait").wait_for()
        assert log.patient_of("D99", now_s) is None
        page.get_by_label("Device", exact=True).fill("D99")
        page.get_by_label("or is the patient’s").fill("SIM-100")
        page.get_by_role("button", name="From now on").click()
        page.get_by_text("D99 speaks of SIM-100 from now on.").wait_for()
        assert log.carried_by("SIM-100", time.time()) == ["D99"]
        assert page.evaluate(_FITS)
        assert chromium.violations(page) == []
        shot(page, f"places-{scheme}-{width}")
        page.get_by_role("button", name="From now on").click()  # with a bed too: neither is guessed
        page.get_by_label("Stands at bed").fill(str(old))
        page.get_by_role("button", name="From now on").click()
        page.get_by_text("Name either a bed or a patient").wait_for()
        page.get_by_role("button", name="Speaks of nobody").click()
        page.get_by_text("D99 speaks of nobody from now on.").wait_for()
        assert log.patient_of("D99", time.time()) is None
        page.get_by_role("link", name="All beds").click()
        page.locator("#grid .tile", has_text=bed).wait_for()
        ward.service.associate(Association("device", "D99", bed, time.time()))
    assert chromium.complaints == []


def test_visitor_sees_and_may_not_acknowledge(chromium: Browser, ward: Ward) -> None:
    with chromium.page() as page:
        signed_in(page, ward, "guest")
        page.wait_for_selector(".alert")
        assert page.get_by_role("button", name="Acknowledge").count() == 0
        page.get_by_role("link", name="Beds and devices").click()
        page.get_by_text("Your role may not say who lies where.").wait_for()
        assert page.locator("#places form").count() == 0
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Your token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("The token is missing or unknown.").wait_for()


def test_vendored_charts_are_the_files_that_were_published() -> None:
    folder = Path(str(files("digital_twins.monitoring.station"))) / "static" / "vendor" / "uplot"
    listed = [line.split()[1:] for line in (folder / "VERSION").read_text("utf-8").splitlines()[1:]]
    assert len(listed) == 2
    for digest, name in listed:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
