"""The page of queues and peers in headless Chromium: it shows what is there, its buttons work."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

import twin_page_fixture as made_up
from browser import Browser, browser
from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.server import create_app, open_services
from digital_twins.server._api import ApiParts
from digital_twins.server._models import Health
from digital_twins.server._operations import follow_operations
from digital_twins.server._operations_api import Operations
from digital_twins.server._routing import _show_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.server import Services

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, str]]:
    folder = tmp_path_factory.mktemp("queues")
    services = open_services(folder, boot_id="test")
    with open_store(folder) as archive, listening(archive, ae_title="PACS") as pacs:
        fill(services, pacs.port)
        with serving(services) as base:
            yield services, base
    services.close()


def fill(services: Services, port: int) -> None:
    """Two queues, one with a dead letter; three peers, one that answers; two orders with priors."""
    routes = [dicom.Route("PACS"), dicom.Route("RESEARCH")]
    services.queues.backoff = dicom.Backoff(300.0, attempts=1)
    services.dicom.on_new = dicom.route_new(
        routes, services.queues, stable_s=1, pseudonym=services.dicom.pseudonym
    )
    for number in (1, 2, 3):
        services.dicom.ingest(file_bytes(ct_slice(number)), source="CT1")
    services.queues.refused(services.queues.due("RESEARCH")[0], "Status A700.").result()
    services.queues.unreachable("PACS", "The connection was refused.").result()
    services.peers.know(
        [
            dicom.DicomPeer("PACS", "127.0.0.1", port),
            dicom.DicomPeer("CT1"),
            dicom.DicomPeer("RESEARCH", web_url="https://research.example/dicom-web"),
        ],
        ae_title="TWIN",
        tls=None,
    )
    services.peers.called("CT1", "127.0.0.1", True)
    services.peers.called("STRANGER", "127.0.0.1", False)
    services.peers.show(services.metrics)
    _show_metrics(services)
    rule = dicom.PrefetchRule("PACS")
    services.prefetch = dicom.PrefetchQueue(services.dicom, [rule], dicom.Backoff(attempts=1))
    services.prefetch.request("P1", order="1")
    services.prefetch.run(services.prefetch.due()[0], Failing())
    services.prefetch.request("P1", order="2")


def test_a_twin_whose_images_were_withdrawn_says_so(
    chromium: Browser, site: tuple[Services, str], tmp_path: Path
) -> None:
    services, base = site
    key = services.catalogue.patient_key("P1")
    view = made_up.twin(key)
    twin = view.twin_id, view.version
    services.database.write(lambda cursor: services.catalogue.keep_in(cursor, view, {}))
    services.database.write(lambda cursor: services.stale.depends_in(cursor, twin, ["1.2.3.1.1.3"]))
    follow_operations(services)
    services.rejections.reject(("1.2.3.1.1.3",), "113037")
    answer = httpx.get(f"{base}/api/twins/{view.twin_id}").json()
    assert [mark["reason"] for mark in answer["stale"]] == ["Rejected for Patient Safety Reasons"]
    assert httpx.get(f"{base}/api/patients/{key}").json()["twins"][0]["stale"] is True
    with chromium.page() as page:
        page.goto(f"{base}/patients/{key}")
        page.get_by_text("STALE. Images behind this twin were withdrawn").wait_for(timeout=60_000)
        assert chromium.violations(page) == []
        page.screenshot(path=tmp_path / "stale.png")


class Failing:
    """An archive that does not answer."""

    def studies(self, patient_id: str) -> list[dicom.Prior]:
        raise dicom.DimseFailedError("No answer.", "The archive did not answer.", "Try again.")

    def fetch(self, study_uid: str) -> int:
        raise AssertionError(study_uid)


@contextmanager
def serving(services: Services) -> Iterator[str]:
    parts = ApiParts(
        services.catalogue,
        services.jobs,
        lambda *_: None,
        queues=services.queues,
        stale=services.stale,
        operations=Operations(services),
    )
    health = Health(status="ok", version="0", parts={})
    app: Any = create_app(parts, metrics=services.metrics, health=lambda: health)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 700)])
def test_the_page_has_no_violation(
    chromium: Browser, site: tuple[Services, str], scheme: str, width: int, tmp_path: Path
) -> None:
    chromium.complaints.clear()
    with chromium.page(scheme=scheme, width=width) as page:
        page.goto(f"{site[1]}/queues")
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        assert chromium.violations(page) == []
        page.screenshot(path=tmp_path / "queues.png", full_page=True)
        assert (tmp_path / "queues.png").stat().st_size > 20_000
    assert chromium.complaints == []


def test_it_shows_what_is_there_and_its_buttons_work(chromium: Browser, site: tuple[Services, str]) -> None:
    services, base = site
    with chromium.page() as page:
        page.goto(f"{base}/queues")
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        shown = page.locator("#queues").inner_text()
        assert "The connection was refused. Next attempt in" in shown
        assert "Status A700." in page.locator("#letters").inner_text()
        assert "1.2.3.1.1.1" in page.locator("#letters").inner_text()
        assert "(others)" in page.locator("#peers").inner_text()
        assert "The archive did not answer." in page.locator("#priors").inner_text()
        page.get_by_role("button", name="Pause PACS").press("Enter")
        page.get_by_text("PACS is paused.").wait_for()
        assert services.queues.is_paused("PACS")
        page.get_by_role("button", name="Resume PACS").click()
        page.get_by_text("PACS goes on.").wait_for()
        assert not services.queues.is_paused("PACS")
        page.get_by_role("button", name="Replay dead letters of RESEARCH").click()
        page.get_by_text("Dead letters of RESEARCH are sent again.").wait_for()
        assert services.queues.state("RESEARCH").dead == 0
        assert page.locator("#letters-card").is_hidden()
        page.get_by_role("button", name="Echo PACS").click()
        page.get_by_text("PACS was asked.").wait_for()
        assert "Answers" in page.locator("#peers").inner_text()
        page.get_by_role("button", name="Replay order 1 of PACS").click()
        page.get_by_text("Tried again.").wait_for()
        assert {each.state for each in services.prefetch.entries()} == {"waiting"}
    exposition = services.metrics.exposition()
    assert 'twin_dicom_peer_associations_total{peer="CT1"} 1' in exposition
    assert 'twin_dicom_peer_refused_total{peer="(others)"} 1' in exposition
    assert 'twin_dicom_peer_echo_ok{peer="PACS"} 1' in exposition
