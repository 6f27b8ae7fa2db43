"""The central station in headless Chromium at 100 beds, beside a Streamlit page of the same beds.

Browser CPU is that of all Chromium processes, in cores. Both pages get one frame a second; what they paint of
it is counted. Needs chromium and playwright, and for the ratio streamlit and plotly (`make peers`).
TWIN_BENCH_SECONDS (20) is the length of each window.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from digital_twins.monitoring import Association, MonitorService, Reading, StaffMember, monitor_app

Figure = tuple[str, float, str, float | None]
BEDS = 100
SECONDS = float(os.environ.get("TWIN_BENCH_SECONDS", "20"))
WAIT_MS = 300_000
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
MIDDLE, SPREAD = np.array([75, 92, 97, 15, 36.9]), np.array([1, 1.5, 0.3, 0.6, 0.03])
WATCH = """span => new Promise(done => {
  const root = document.documentElement, found = []
  const seen = new MutationObserver(() => found.push(Number(root.dataset.paintMs)))
  seen.observe(root, {attributeFilter: ['data-frames']})
  setTimeout(() => { seen.disconnect(); done(found) }, span)
})"""


def figures() -> Iterator[Figure]:
    program = shutil.which("chromium")
    if program is None or importlib.util.find_spec("playwright") is None:
        sys.stderr.write("station: needs chromium and playwright, run `make peers`\n")
        return
    with _station() as base:
        delays, cores, passed = _watch(program, base, _ours)
    held = len(delays) / passed
    yield "beds", float(BEDS), "beds", None
    yield "browser", cores, "cores", None
    yield "updates", held, "Hz", None
    yield "paint_p50", float(np.quantile(delays, 0.5)), "ms", None
    yield "paint_p95", float(np.quantile(delays, 0.95)), "ms", None
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("plotly") is None:
        return
    with _streamlit() as base:
        (first, last), theirs, span = _watch(program, base, _peer)
    yield "browser_streamlit", theirs, "cores", cores / theirs
    rate = (last - first) / span
    yield "updates_streamlit", rate, "Hz", held / rate if rate else None
    if rate:
        yield "browser_a_frame", cores / held, "cpu_s", (cores / held) / (theirs / rate)


def _watch(program: str, base: str, look: Any) -> tuple[Any, float, float]:
    """Open a page, let it settle, and return what a look found, browser cores and seconds."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            page = chromium.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(WAIT_MS)
            page.goto(base)
            found, busy, passed = look(page)
        finally:
            chromium.close()
    return found, busy / passed, passed


def _ours(page: Any) -> tuple[list[float], float, float]:
    page.get_by_label("Your token").fill("nurse-token")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => document.querySelectorAll('#grid canvas').length >= {BEDS * 0.8}")
    page.wait_for_timeout(3000)
    begin, busy = time.monotonic(), _browser_s()
    delays = page.evaluate(WATCH, SECONDS * 1000)
    return delays, _browser_s() - busy, time.monotonic() - begin


def _peer(page: Any) -> tuple[tuple[int, int], float, float]:
    page.locator(".js-plotly-plot").first.wait_for(state="attached")
    page.wait_for_timeout(10_000)
    begin, busy, first = time.monotonic(), _browser_s(), _frame(page)
    page.wait_for_timeout(SECONDS * 1000)
    last = max(first, _frame(page))  # half a frame has no number
    return (first, last), _browser_s() - busy, time.monotonic() - begin


def _frame(page: Any) -> int:
    """Return the number of the last frame that is there as a whole; 0: none yet."""
    found = page.get_by_text("frame ")
    return int(found.first.inner_text().rpartition(" ")[2]) if found.count() else 0


def _browser_s() -> float:
    """CPU seconds of every Chromium process that descends from this one."""
    parents: dict[int, tuple[int, str, float]] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, tail = each.read_text().rpartition(")")
            fields = tail.split()
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            parents[int(each.parent.name)] = (int(fields[1]), head.partition("(")[2], used)

    def ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid][0]
        return pid == os.getpid()

    return sum(used for pid, (_, name, used) in parents.items() if "chrom" in name and ours(pid))


@contextlib.contextmanager
def _streamlit() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = Path(__file__).with_name("_station_streamlit_peer.py")
    options = ["--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true"]
    options += ["--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    words = [sys.executable, "-m", "streamlit", "run", str(page), *options]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def _station() -> Iterator[str]:
    opened, end, address = threading.Event(), threading.Event(), []
    with tempfile.TemporaryDirectory() as folder:
        thread = threading.Thread(target=lambda: asyncio.run(_serve(Path(folder), address, opened, end)))
        thread.start()
        try:
            if not opened.wait(120):
                raise RuntimeError("the station did not start")
            yield address[0]
        finally:
            end.set()
            thread.join(60)


async def _serve(folder: Path, address: list[str], opened: threading.Event, end: threading.Event) -> None:
    import uvicorn

    async with MonitorService(folder, capacity=BEDS) as service:
        for n in range(BEDS):
            service.associate(Association("device", f"D{n}", f"ICU-{n + 1}", 0.0))
            service.associate(Association("bed", f"ICU-{n + 1}", f"SIM-{n + 1}", 0.0))
        app = monitor_app(service, devices={}, staff={"nurse-token": StaffMember("N. N.", "nurse")})
        config = uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.02)
        address.append(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
        opened.set()
        rng = np.random.default_rng(0)
        while not end.is_set():
            at_s = time.time()
            values = MIDDLE + SPREAD * rng.standard_normal((BEDS, 5))
            for n, row in enumerate(values.tolist()):
                known = dict(zip(("HR", "ART_MEAN", "SPO2", "RR", "TEMP"), row, strict=True))
                service.intake.offer(Reading(f"D{n}", at_s, known, ()), received_s=at_s)
            await asyncio.sleep(1.0)
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
