"""UPS-RS: the state machine of PS3.4 annex CC, searches, and events over WebSocket with a foreign client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from dicom_support import audited
from digital_twins.dicom import DicomStore
from web_client import web_client

Served = tuple[DicomStore, httpx.Client]
GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, database_backend: str) -> Iterator[Served]:
    with web_client(tmp_path_factory.mktemp("node")) as served:
        yield served


def workitem(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
        "00741200": {"vr": "CS", "Value": ["HIGH"]},
        "00741204": {"vr": "LO", "Value": ["Segment the tumour"]},
        "00404005": {"vr": "DT", "Value": ["20260110093000"]},
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00404025": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["STATION7"]}}]},
    }
    return {**item, **{tag.lstrip("_"): value for tag, value in changes.items()}}


def create(client: httpx.Client, uid: str, **changes: Any) -> None:
    answer = client.post(f"workitems?{uid}", json=[workitem(**changes)])
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"].endswith(f"/workitems/{uid}")


def state(client: httpx.Client, uid: str, to: str, transaction: str = "") -> httpx.Response:
    body: dict[str, Any] = {"00741000": {"vr": "CS", "Value": [to]}}
    if transaction:
        body["00081195"] = {"vr": "UI", "Value": [transaction]}
    return client.put(f"workitems/{uid}/state", json=[body])


def performed() -> dict[str, Any]:
    done = {
        "00404050": {"vr": "DT", "Value": ["20260110100000"]},
        "00404051": {"vr": "DT", "Value": ["20260110101000"]},
        "00404019": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["110005"]}}]},
    }
    return {"00741216": {"vr": "SQ", "Value": [done]}}


def test_life_of_a_workitem(served: Served) -> None:
    store, client = served
    before = len(audited(store))
    create(client, "1.1")
    assert client.post("workitems?1.1", json=[workitem()]).status_code == 409
    assert state(client, "1.1", "COMPLETED", "9.1").status_code == 409
    assert state(client, "1.1", "IN PROGRESS").status_code == 400
    assert state(client, "1.1", "SCHEDULED", "9.1").status_code == 400
    assert state(client, "1.1", "IN PROGRESS", "9.1").status_code == 200
    assert state(client, "1.1", "IN PROGRESS", "9.2").status_code == 409
    model = client.get("workitems/1.1").json()[0]
    assert model["00741000"]["Value"] == ["IN PROGRESS"]
    assert "00081195" not in model
    label = {"00741204": {"vr": "LO", "Value": ["Segment again"]}}
    assert client.post("workitems/1.1", json=[label]).status_code == 400
    assert client.post("workitems/1.1?9.2", json=[label]).status_code == 400
    assert client.post("workitems/1.1?transaction-uid=9.1", json=[label]).status_code == 200
    assert state(client, "1.1", "COMPLETED", "9.2").status_code == 400
    assert state(client, "1.1", "COMPLETED", "9.1").status_code == 409
    assert client.post("workitems/1.1?9.1", json=[performed()]).status_code == 200
    assert state(client, "1.1", "COMPLETED", "9.1").status_code == 200
    again = state(client, "1.1", "COMPLETED", "9.1")
    assert (again.status_code, "already" in again.headers["Warning"]) == (200, True)
    assert state(client, "1.1", "CANCELED", "9.1").status_code == 409
    assert client.post("workitems/1.1?9.1", json=[label]).status_code == 409
    assert client.post("workitems/1.1/cancelrequest", json=[{}]).status_code == 409
    assert client.get("workitems/1.1").json()[0]["00741204"]["Value"] == ["Segment again"]
    kinds = [event["kind"] for event in audited(store)[before:]]
    assert kinds == [
        "dicom.workitem.create",
        "dicom.workitem.state",
        "dicom.workitem.read",
        "dicom.workitem.update",
        "dicom.workitem.update",
        "dicom.workitem.state",
        "dicom.workitem.state",
        "dicom.workitem.read",
    ]


def test_cancelling(served: Served) -> None:
    _store, client = served
    create(client, "2.1")
    reason = {"00741238": {"vr": "LT", "Value": ["Patient left"]}}
    assert client.post("workitems/2.1/cancelrequest", json=[reason]).status_code == 202
    model = client.get("workitems/2.1").json()[0]
    assert model["00741000"]["Value"] == ["CANCELED"]
    assert model["00741002"]["Value"][0]["00741238"]["Value"] == ["Patient left"]
    assert client.post("workitems/2.1/cancelrequest").headers["Warning"].endswith('CANCELED."')
    create(client, "2.2")
    assert state(client, "2.2", "IN PROGRESS", "9.1").status_code == 200
    assert client.post("workitems/2.2/cancelrequest").status_code == 202
    assert client.get("workitems/2.2").json()[0]["00741000"]["Value"] == ["IN PROGRESS"]
    assert state(client, "2.2", "CANCELED", "9.1").status_code == 200
    assert client.post("workitems/nowhere/cancelrequest").status_code == 404


def test_unfit_workitems(served: Served) -> None:
    client = served[1]
    for changes in (
        {"_00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}},
        {"_00081195": {"vr": "UI", "Value": ["9.9"]}},
        {"_00741204": {"vr": "LO"}},
    ):
        assert client.post("workitems", json=[workitem(**changes)]).status_code == 400
    assert client.post("workitems", content=b"{").status_code == 400
    assert client.post("workitems", json=[1]).status_code == 400
    assert client.post("workitems", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    made = client.post("workitems", json=workitem(_00100020={"vr": "LO", "Value": ["P9"]}))
    assert made.status_code == 201
    assert "/workitems/2.25." in made.headers["Location"]
    uid = made.headers["Location"].rsplit("/", 1)[1]
    for changes in ({"00741000": {"vr": "CS", "Value": ["CANCELED"]}}, {"00100020": {"vr": "LO"}}):
        assert client.post(f"workitems/{uid}", json=[changes]).status_code == 400


def test_searching(served: Served) -> None:
    client = served[1]
    for number, label in enumerate(("alpha", "alpine", "beta")):
        changes = {
            "_00741204": {"vr": "LO", "Value": [label]},
            "_00100020": {"vr": "LO", "Value": ["SEARCH"]},
            "_00404005": {"vr": "DT", "Value": [f"2026020{number + 1}120000"]},
        }
        create(client, f"3.{number}", **changes)

    def found(**query: str) -> list[str]:
        answer = client.get("workitems", params={"PatientID": "SEARCH", **query})
        return [] if answer.status_code == 204 else [i["00080018"]["Value"][0] for i in answer.json()]

    assert found() == ["3.0", "3.1", "3.2"]
    assert found(ProcedureStepLabel="alp*") == ["3.0", "3.1"]
    assert found(ScheduledProcedureStepStartDateTime="20260202-") == ["3.1", "3.2"]
    assert found(ScheduledProcedureStepStartDateTime="20260201") == ["3.0"]
    assert found(**{"ScheduledStationNameCodeSequence.CodeValue": "STATION7"}) == ["3.0", "3.1", "3.2"]
    assert found(**{"00404025.00080100": "STATION8"}) == []
    assert found(PatientName="doe^jane", limit="1", offset="1") == ["3.1"]
    assert found(SOPInstanceUID=r"3.0\3.2") == ["3.0", "3.2"]
    assert "299" in client.get("workitems", params={"PatientID": "SEARCH", "limit": "2"}).headers["Warning"]
    assert client.get("workitems", params={"Nonsense": "1"}).status_code == 400


def receive(socket: Any) -> tuple[int, str, dict[str, Any]]:
    body = json.loads(socket.recv(timeout=20))
    assert body["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.4"]
    return body["00001002"]["Value"][0], body["00001000"]["Value"][0], body


def test_events(served: Served) -> None:
    client = served[1]
    create(client, "4.1")
    subscribed = client.post("workitems/4.1/subscribers/VIEWER?deletionlock=false")
    assert subscribed.status_code == 201
    with connect(subscribed.headers["Content-Location"]) as socket:
        assert receive(socket)[:2] == (1, "4.1")
        state(client, "4.1", "IN PROGRESS", "9.1")
        kind, _uid, body = receive(socket)
        assert (kind, body["00741000"]["Value"]) == (1, ["IN PROGRESS"])
        progress = {"00741002": {"vr": "SQ", "Value": [{"00741004": {"vr": "DS", "Value": ["40"]}}]}}
        client.post("workitems/4.1?9.1", json=[progress])
        kind, _uid, body = receive(socket)
        assert (kind, body["00741002"]) == (3, progress["00741002"])
        client.post("workitems/4.1/cancelrequest", json=[{"00741238": {"vr": "LT", "Value": ["stop"]}}])
        kind, _uid, body = receive(socket)
        assert (kind, body["00741238"]["Value"]) == (2, ["stop"])
    # What happens while nobody listens waits, and comes once.
    state(client, "4.1", "CANCELED", "9.1")
    with connect(subscribed.headers["Content-Location"]) as socket:
        assert receive(socket)[2]["00741000"]["Value"] == ["CANCELED"]
    assert client.delete("workitems/4.1/subscribers/VIEWER").status_code == 200
    assert client.post("workitems/4.9/subscribers/VIEWER").status_code == 404


def test_global_subscriptions(served: Served) -> None:
    client = served[1]
    wanted = client.post(f"workitems/{FILTERED}/subscribers/PICKY?filter=PatientID=PICKED")
    assert wanted.status_code == 201
    with connect(wanted.headers["Content-Location"]) as socket:
        create(client, "5.1", _00100020={"vr": "LO", "Value": ["OTHER"]})
        create(client, "5.2", _00100020={"vr": "LO", "Value": ["PICKED"]})
        assert receive(socket)[1] == "5.2"
        assert client.post(f"workitems/{GLOBAL}/subscribers/PICKY/suspend").status_code == 200
        create(client, "5.3", _00100020={"vr": "LO", "Value": ["PICKED"]})
        state(client, "5.2", "IN PROGRESS", "9.1")
        assert receive(socket)[1] == "5.2"
    assert client.delete(f"workitems/{GLOBAL}/subscribers/PICKY").status_code == 200
    assert client.post("workitems/5.1/subscribers/PICKY/suspend").status_code == 400
