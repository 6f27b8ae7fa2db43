"""Every door of the monitor that shows or changes a patient writes exactly one event; one not listed fails."""

# ruff: noqa: E501  (a table of requests: one a line)
from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from digital_twins.audit import Auditor
from digital_twins.monitoring import MonitorService, StaffMember, WardPart, monitor_app
from digital_twins.monitoring.storage import AccessTrail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW_S = 1_764_064_500.0
NURSE, DEVICE = {"authorization": "Bearer n"}, {"authorization": "Bearer one"}
LOW = {"t": NOW_S, "v": {"NIBP_SYS": 70}}
OBSERVATION = {
    "resourceType": "Observation",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    "device": {"reference": "Device/D1"},
    "effectiveDateTime": "2025-11-25T09:55:00Z",
    "valueQuantity": {"value": 80, "code": "/min"},
}
HISTORY = f"/history?patient=P1&codes=HR&since_s={NOW_S - 600}&until_s={NOW_S}"
WAVE = {"t": NOW_S, "c": "MDC_ECG_ELEC_POTL_II", "hz": 250, "v": [0.0] * 25}
NO_ACCESS = {
    "GET /": "page without data",
    "GET /session": "who is signed in",
    "GET /models": "models, without patients",
    "Mount /static": "files of the page",
}
STEPS: list[tuple[str, str, str, Any, list[str]]] = [
    ("POST", "/associations", "/associations", {"kind": "device", "subject": "D1", "target": "B1", "since_s": 0}, ["monitor.associate"]),
    ("GET", "/associations", "/associations", None, ["monitor.associations"]),
    ("POST", "/associations", "/associations", {"kind": "bed", "subject": "B1", "target": "P1", "since_s": 0}, ["monitor.associate P"]),
    ("POST", "/readings/{device}", "/readings/D1", LOW, []),
    ("POST", "/fhir/Observation", "/fhir/Observation", OBSERVATION, []),
    ("POST", "/fhir", "/fhir", {"resourceType": "Bundle", "entry": [{"resource": OBSERVATION}]}, []),
    ("POST", "/waveforms/{device}", "/waveforms/D1", WAVE, []),
    ("GET", "/patients", "/patients", None, ["monitor.tiles"]),
    ("GET", "/patients/{patient:path}", "/patients/P1", None, ["monitor.bed P"]),
    ("POST", "/patients/{patient:path}/what-if", "/patients/P1/what-if", {"fluid_ml": 500}, ["monitor.what-if P"]),
    ("GET", "/trends", "/trends?code=HR", None, ["monitor.trends"]),
    ("GET", "/history", HISTORY, None, ["monitor.history P"]),
    ("GET", "/thresholds", "/thresholds", None, ["monitor.thresholds"]),
    ("GET", "/alerts", "/alerts", None, ["monitor.alerts"]),
    ("POST", "/alerts/{alert:int}/acknowledge", "/alerts/1/acknowledge", {}, ["monitor.alert.acknowledged P"]),
    ("POST", "/shelves", "/shelves", {"patient": "P1", "key": "cuff_low", "for_s": 60}, ["monitor.alert.shelved P"]),
    ("POST", "/session", "/session", {"token": "n"}, ["monitor.sign-in"]),
    ("DELETE", "/session", "/session", None, ["monitor.sign-out"]),
]  # fmt: skip
"""Method, route, address, body, and the events with P for one that names the patient."""


class Place:
    """A monitor with its outbox; its application is called in this process."""

    def __init__(self, folder: Path) -> None:
        auditor = Auditor("MONITOR", b"k" * 32, agent="monitor")
        self.name = auditor.patient("P1")
        self.service = MonitorService(folder, capacity=2, clock=lambda: NOW_S, part=WardPart(auditor=auditor))
        staff = {"n": StaffMember("N. N.", "nurse")}
        trail = AccessTrail(self.service.database, auditor)
        self.app = monitor_app(self.service, devices={"D1": "one"}, staff=staff, trail=trail)
        self.seen = 0
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, port=0, log_config=None, ws="websockets-sansio")
        )
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        end = time.monotonic() + 60
        while not self.server.started and time.monotonic() < end:
            time.sleep(0.02)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(60)
        self.service.close()

    def stream(self, path: str, headers: dict[str, str] | None = None) -> Any:
        return connect(f"ws://127.0.0.1:{self.port}{path}", additional_headers=headers)

    def rows(self) -> list[dict[str, Any]]:
        """The events since the last call, once no more come."""
        self.service.work()
        found: list[Any] = []
        end, quiet_since = time.monotonic() + 30, time.monotonic()
        while time.monotonic() < end and time.monotonic() - quiet_since < 0.15:
            with self.service.database.read() as connection:
                now = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()[self.seen :]
            if len(now) != len(found):
                found, quiet_since = now, time.monotonic()
            time.sleep(0.01)
        self.seen += len(found)
        return [json.loads(str(body)) for (body,) in found]

    def told(self) -> list[str]:
        """Kinds of the new events, but for the alerts that the monitor itself raises."""
        rows = [each for each in self.rows() if each["agent"] != "monitor"]
        return [each["kind"] + (" P" if each["patient"] == self.name else "") for each in rows]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_every_door_is_listed(place: Place) -> None:
    found = set()
    for route in place.app.routes:
        if isinstance(route, Route):
            found |= {f"{method} {route.path}" for method in (route.methods or set()) - {"HEAD"}}
        else:
            assert isinstance(route, Mount | WebSocketRoute)
            found.add(f"{type(route).__name__} {route.path}")
    sockets = {
        f"WebSocketRoute {p}" for p in ("/stream/{device}", "/live", "/patients/{patient:path}/waveforms")
    }
    assert found == {f"{method} {route}" for method, route, *_ in STEPS} | set(NO_ACCESS) | sockets


def test_every_access_is_one_event(place: Place) -> None:
    wrong = []
    for method, _, address, body, events in STEPS:
        headers = DEVICE if address.startswith(("/readings", "/waveforms", "/fhir")) else NURSE
        answer = place.client.request(method, address, json=body, headers=headers)
        told = place.told()
        if answer.status_code >= 400 or told != events:
            wrong.append((method, address, answer.status_code, answer.text[:200], told))
    assert wrong == [], "\n".join(map(str, wrong))


@pytest.mark.parametrize("path", ["/live", "/patients/P1/waveforms"])
def test_a_stream_is_one_event_as_it_opens(place: Place, path: str) -> None:
    kind = "monitor.live" if path == "/live" else "monitor.waveforms P"
    with place.stream(path, NURSE) as socket:
        socket.recv()
        socket.recv()
        assert place.told() == [kind]
    with pytest.raises((ConnectionClosed, InvalidStatus)), place.stream(path) as socket:
        socket.recv()
    (row,) = place.rows()
    assert (row["outcome"], row["agent"]) == ("refused", "anonymous")


def test_what_is_refused_or_finds_nothing_is_one_event_too(place: Place) -> None:
    for method, _, address, body, events in STEPS:
        if address == "/session":
            continue
        assert place.client.request(method, address, json=body).status_code == 401
        (row,) = place.rows()
        assert (row["outcome"], row["agent"]) == ("refused", "anonymous"), address
        if events and not events[0].startswith("monitor.alert."):
            assert row["kind"] == events[0].removesuffix(" P")
    assert place.client.post("/session", json={"token": "wrong"}).status_code == 401
    (row,) = place.rows()
    assert (row["kind"], row["outcome"], row["agent"]) == ("monitor.sign-in", "refused", "anonymous")
    assert place.client.get("/patients/P9", headers=NURSE).status_code == 404
    (row,) = place.rows()
    assert (row["kind"], row["outcome"], row["agent"]) == ("monitor.bed", "refused", "N. N.")
    assert place.client.post("/alerts/99/acknowledge", headers=NURSE).status_code == 404
    (row,) = place.rows()
    assert (row["kind"], row["outcome"], row["agent"]) == ("monitor.acknowledge", "refused", "N. N.")
    with pytest.raises((ConnectionClosed, InvalidStatus)), place.stream("/stream/D1") as socket:
        socket.recv()
    (row,) = place.rows()
    assert (row["kind"], row["outcome"]) == ("monitor.reading", "refused")
    assert "P9" not in json.dumps(place.rows())
