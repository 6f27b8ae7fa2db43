"""Every route that touches a patient writes exactly one event; a route that is not listed fails the test."""

# ruff: noqa: E501  (a table of requests: one a line)
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from starlette.routing import Mount, Route, WebSocketRoute

import twin_page_fixture as made_up
from ct_series import AXIAL, ct_series
from digital_twins.audit import tail_trail
from digital_twins.config import Settings
from digital_twins.dicom import DicomWebClient, dicomweb_routes
from digital_twins.reports import render_pdf
from digital_twins.server import Node
from digital_twins.server._doors import node_app
from report_samples import sample_report

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(1800)  # seventy requests, each waited for, on a busy machine
JSON = {"content-type": "application/fhir+json"}
DICOM_JSON = {"content-type": "application/dicom+json", "accept": "application/dicom+json"}
ITEM = "1.2.826.0.1.3680043.8.498.77"

NO_PATIENT = {
    "GET /": "pages without data",
    "GET /queues": "pages without data",
    "GET /patients/{key}": "pages without data: they ask /api",
    "GET /health": "state of the node",
    "GET /metrics": "counters",
    "GET /api/docs": "documentation",
    "GET /api/openapi.json": "documentation",
    "GET /api/jobs": "jobs by number, without patients",
    "GET /api/jobs/{job_id}": "jobs by number, without patients",
    "GET /api/events": "states of jobs, without patients",
    "GET /api/queues": "numbers of objects",
    "GET /api/peers": "other machines",
    "POST /api/peers/{ae_title}/echo": "other machines",
    "POST /api/retention": "no rule here: see test_dicom_policies",
    "POST /api/prefetch": "no source here: see test_dicom_policies",
    "POST /api/prefetch/{source}/replay": "no source here: see test_dicom_policies",
    "GET /api/twins/{twin_id}/report/signatures": "needs people who sign in: see test_signed_reports",
    "POST /api/twins/{twin_id}/report/signatures": "needs people who sign in: see test_signed_reports",
    "GET /api/twins/{twin_id}/report/signed.pdf": "needs people who sign in: see test_signed_reports",
    "POST /api/twins/{twin_id}/report/signatures/challenge": "needs an authenticator: see test_webauthn",
    "POST /api/twins/{twin_id}/report/signatures/answer": "needs an authenticator: see test_webauthn",
    "GET /api/authenticators": "needs people who sign in, names no patient: see test_webauthn",
    "POST /api/authenticators": "needs an authenticator: see test_webauthn",
    "POST /api/authenticators/challenge": "needs people who sign in: see test_webauthn",
    "DELETE /api/authenticators/{credential}": "needs an authenticator: see test_webauthn",
    "GET /cds-services": "list of services",
    "/fhir/": "the same as /fhir",
    "/fhir/metadata": "what the server can do",
    "/fhir/openapi.json": "what the server can do",
    "/fhir/{rest:path}": "what no other route takes is refused",
    "/fhir/{type}/$validate": "checks what the caller has",
    "/fhir/{type}/{id}/$validate": "checks what the caller has",
    "/fhir/$export": "other methods and types are refused",
    "/fhir/{type}/$export": "other methods and types are refused",
    "/fhir/{type}/{id}/$export": "other methods and types are refused",
    "/fhir/{type}/{id}/$status": "other methods and types are refused",
    "GET /fhir/Subscription/{id}/$status": "state of a subscription",
    "GET /fhir/$export-file/{export}/{name}": "see test_fhir_bulk",
    "DELETE /fhir/$export-status/{export}": "see test_fhir_bulk",
    "GET /fhir/$export-status/{export}": "see test_fhir_bulk",
    "GET /fhir/$export": "see test_fhir_bulk",
    "POST /fhir/$export": "see test_fhir_bulk",
    "GET /fhir/Group/{id}/$export": "see test_fhir_bulk",
    "POST /fhir/Group/{id}/$export": "see test_fhir_bulk",
    "GET /fhir/Patient/$export": "see test_fhir_bulk",
    "POST /fhir/Patient/$export": "see test_fhir_bulk",
    "DELETE /dicom-web/workitems/{uid}/subscribers/{subscriber}": "see test_ups",
    "POST /dicom-web/workitems/{uid}/subscribers/{subscriber}": "see test_ups",
    "POST /dicom-web/workitems/{uid}/subscribers/{subscriber}/suspend": "see test_ups",
    "WebSocketRoute /dicom-web/subscribers/{subscriber}": "see test_ups",
    "Mount /dicom-web": "its routes are listed one by one",
    "Mount /static": "files of the pages",
}
"""Routes without a patient, or whose events another test counts; each with the reason."""


TWO_ACTS = {"POST /api/rejections": ["dicom.reject", "dicom.store"]}
"""The note that rejects objects is an object too, and its storage an event of its own."""


def steps(study: str, series: str, one: str, twin: str, key: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Route, address and further arguments of one request each, in an order that works."""
    web, api = "/dicom-web", "/api"
    observation = {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "x"},
                   "subject": {"reference": "Patient/p1"}}  # fmt: skip
    where = f"{web}/studies/{study}/series/{series}/instances/{one}"
    route = "/dicom-web/studies/{study}/series/{series}/instances/{instance}"
    multipart = {"headers": {"accept": 'multipart/related; type="application/octet-stream"'}}
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [
        {"resource": observation | {"id": "o2"}, "request": {"method": "PUT", "url": "Observation/o2"}}]}  # fmt: skip
    hook = {"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
            "context": {"userId": "Practitioner/1", "patientId": "p1"}}  # fmt: skip
    feedback = {
        "feedback": [{"card": "c1", "outcome": "accepted", "outcomeTimestamp": "2026-01-10T09:00:00Z"}]
    }
    item = {
        "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
        "00741200": {"vr": "CS", "Value": ["HIGH"]},
        "00741204": {"vr": "LO", "Value": ["Segment the tumour"]},
        "00404005": {"vr": "DT", "Value": ["20260110093000"]},
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
    }
    return [
        ("/fhir/{type}/{id}", "PUT /fhir/Patient/p1", {"json": {"resourceType": "Patient", "id": "p1"}, "headers": JSON}),
        ("/fhir/{type}/{id}", "PUT /fhir/Observation/o1", {"json": observation, "headers": JSON}),
        ("/fhir/{type}/{id}", "GET /fhir/Observation/o1", {}),
        ("/fhir/{type}/{id}", "GET /fhir/Patient/p1", {}),
        ("/fhir/{type}", "GET /fhir/Observation?subject=Patient/p1", {}),
        ("/fhir/{type}", "POST /fhir/Observation", {"json": {k: v for k, v in observation.items() if k != "id"}, "headers": JSON}),
        ("/fhir/{type}/_search", "POST /fhir/Patient/_search", {"data": {"_id": "p1"}}),
        ("/fhir/{type}/_history", "GET /fhir/Patient/_history", {}),
        ("/fhir/_search", "POST /fhir/_search", {"data": {"_type": "Patient,Observation", "_id": "p1"}}),
        ("/fhir/{type}/{id}/{member}", "GET /fhir/Patient/p1/Observation", {}),
        (
            "/fhir/{type}/{id}/{member}/_search",
            "POST /fhir/Patient/p1/Observation/_search",
            {"data": {"_id": "o1"}},
        ),
        ("/fhir/_history", "GET /fhir/_history", {}),
        ("/fhir/{type}/{id}/_history", "GET /fhir/Patient/p1/_history", {}),
        ("/fhir/{type}/{id}/_history/{version}", "GET /fhir/Patient/p1/_history/1", {}),
        ("/fhir/{type}/{id}/$everything", "GET /fhir/Patient/p1/$everything", {}),
        ("/fhir/{type}/{id}", "DELETE /fhir/Observation/o1", {}),
        ("/fhir", "POST /fhir", {"json": batch, "headers": JSON}),
        ("POST /cds-services/{service}", "POST /cds-services/twin-findings", {"json": hook}),
        ("POST /cds-services/{service}/feedback", "POST /cds-services/twin-findings/feedback", {"json": feedback}),
        ("GET /api/queues/{destination}", f"GET {api}/queues/PACS", {}),
        ("POST /api/queues/{destination}/pause", f"POST {api}/queues/PACS/pause", {}),
        ("POST /api/queues/{destination}/resume", f"POST {api}/queues/PACS/resume", {}),
        ("POST /api/queues/{destination}/replay", f"POST {api}/queues/PACS/replay", {}),
        ("POST /api/jobs/{job_id}/cancel", f"POST {api}/jobs/{{job}}/cancel", {}),
        ("POST /api/jobs/{job_id}/retry", f"POST {api}/jobs/{{job}}/retry", {}),
        (f"GET {route}/bulkdata/{{tag}}", f"GET {where}/bulkdata/7FE00010", multipart),
        (f"GET {route}/bulkdata", f"GET {where}/bulkdata", multipart),
        (f"GET {route}/pixeldata", f"GET {where}/pixeldata", multipart),
        ("GET /dicom-web/studies/{study}/series/{series}/bulkdata", f"GET {web}/studies/{study}/series/{series}/bulkdata", multipart),
        ("GET /dicom-web/studies/{study}/series/{series}/pixeldata", f"GET {web}/studies/{study}/series/{series}/pixeldata", multipart),
        ("GET /dicom-web/studies/{study}/bulkdata", f"GET {web}/studies/{study}/bulkdata", multipart),
        ("GET /dicom-web/studies/{study}/pixeldata", f"GET {web}/studies/{study}/pixeldata", multipart),
        ("GET /api/patients", f"GET {api}/patients", {}),
        ("GET /api/patients/{key}", f"GET {api}/patients/{key}", {}),
        ("GET /api/twins/{twin_id}", f"GET {api}/twins/{twin}", {}),
        ("GET /api/twins/{twin_id}/image.nii.gz", f"GET {api}/twins/{twin}/image.nii.gz", {}),
        ("GET /api/twins/{twin_id}/lesion.nii.gz", f"GET {api}/twins/{twin}/lesion.nii.gz", {}),
        ("GET /api/twins/{twin_id}/predicted.nii.gz", f"GET {api}/twins/{twin}/predicted.nii.gz?treatment=observation", {}),
        ("GET /api/twins/{twin_id}/report.pdf", f"GET {api}/twins/{twin}/report.pdf", {}),
        ("GET /dicom-web/studies", f"GET {web}/studies", {}),
        ("GET /dicom-web/series", f"GET {web}/series", {}),
        ("GET /dicom-web/instances", f"GET {web}/instances", {}),
        ("GET /dicom-web/studies/{study}/series", f"GET {web}/studies/{study}/series", {}),
        ("GET /dicom-web/studies/{study}/instances", f"GET {web}/studies/{study}/instances", {}),
        ("GET /dicom-web/studies/{study}/series/{series}/instances", f"GET {web}/studies/{study}/series/{series}/instances", {}),
        ("GET /dicom-web/studies/{study}", f"GET {web}/studies/{study}", {}),
        ("GET /dicom-web/studies/{study}/metadata", f"GET {web}/studies/{study}/metadata", {}),
        ("GET /dicom-web/studies/{study}/rendered", f"GET {web}/studies/{study}/rendered", {}),
        ("GET /dicom-web/studies/{study}/thumbnail", f"GET {web}/studies/{study}/thumbnail", {}),
        ("GET /dicom-web/studies/{study}/series/{series}", f"GET {web}/studies/{study}/series/{series}", {}),
        ("GET /dicom-web/studies/{study}/series/{series}/metadata", f"GET {web}/studies/{study}/series/{series}/metadata", {}),
        ("GET /dicom-web/studies/{study}/series/{series}/rendered", f"GET {web}/studies/{study}/series/{series}/rendered", {}),
        ("GET /dicom-web/studies/{study}/series/{series}/thumbnail", f"GET {web}/studies/{study}/series/{series}/thumbnail", {}),
        (f"GET {route}", f"GET {where}", {}),
        (f"GET {route}/metadata", f"GET {where}/metadata", {}),
        (f"GET {route}/rendered", f"GET {where}/rendered", {}),
        (f"GET {route}/thumbnail", f"GET {where}/thumbnail", {}),
        (f"GET {route}/frames/{{frames}}", f"GET {where}/frames/1", multipart),
        (f"GET {route}/frames/{{frames}}/rendered", f"GET {where}/frames/1/rendered", {}),
        (f"GET {route}/frames/{{frames}}/thumbnail", f"GET {where}/frames/1/thumbnail", {}),
        ("GET /dicom-web/wado", f"GET {web}/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={one}", {}),
        ("POST /dicom-web/workitems", f"POST {web}/workitems?{ITEM}", {"json": [item], "headers": DICOM_JSON}),
        ("GET /dicom-web/workitems", f"GET {web}/workitems", {"headers": DICOM_JSON}),
        ("GET /dicom-web/workitems/{uid}", f"GET {web}/workitems/{ITEM}", {"headers": DICOM_JSON}),
        ("POST /dicom-web/workitems/{uid}", f"POST {web}/workitems/{ITEM}", {"json": [{"00741200": {"vr": "CS", "Value": ["LOW"]}}], "headers": DICOM_JSON}),
        ("PUT /dicom-web/workitems/{uid}/state", f"PUT {web}/workitems/{ITEM}/state", {"json": [{"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00081195": {"vr": "UI", "Value": ["1.2.3"]}}], "headers": DICOM_JSON}),
        ("POST /dicom-web/workitems/{uid}/cancelrequest", f"POST {web}/workitems/{ITEM}/cancelrequest", {"json": [{}], "headers": DICOM_JSON}),
        ("PUT /api/holds/{study_uid}", f"PUT {api}/holds/{study}", {"json": {"reason": "court order 7"}}),
        ("GET /api/holds", f"GET {api}/holds", {}),
        ("DELETE /api/holds/{study_uid}", f"DELETE {api}/holds/{study}", {}),
        ("GET /api/retention", f"GET {api}/retention", {}),
        ("GET /api/prefetch", f"GET {api}/prefetch", {}),
        ("POST /api/patients/{key}/merge", f"POST {api}/patients/{key}/merge", {"json": {"into": "SURVIVOR"}}),
        ("GET /api/merges", f"GET {api}/merges", {}),
        ("POST /api/merges/{merge_id}/undo", f"POST {api}/merges/1/undo", {}),
        ("POST /api/rejections", f"POST {api}/rejections", {"json": {"study_uid": study, "reason": "113001"}}),
        ("GET /api/rejections", f"GET {api}/rejections", {}),
        ("POST /api/rejections/{note}/restore", f"POST {api}/rejections/{{note}}/restore", {}),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("node"), http_port=0, dicom_port=0, study_stable_seconds=3600
    )
    with Node(settings) as running:
        yield running


def names(routes: Any, prefix: str = "") -> Iterator[str]:
    for route in routes:
        if isinstance(route, Mount) and route.routes:
            yield from names(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            methods = (route.methods or {"GET"}) - {"HEAD"}
            path = prefix + route.path
            if path.startswith("/fhir") and len(methods) > 2:  # one handler for all methods
                yield path
            else:
                yield from (f"{method} {path}" for method in methods)
        else:
            assert isinstance(route, Mount | WebSocketRoute)
            yield f"{type(route).__name__} {prefix}{route.path}"


def application(app: Any) -> Any:
    while not hasattr(app, "routes"):
        cells = [c.cell_contents for c in getattr(app, "__closure__", None) or ()]
        inside = (c for c in cells if callable(c) and (hasattr(c, "_app") or hasattr(c, "routes")))
        app = getattr(app, "_app", None) or next(inside)
    return app


def served(node: Node) -> set[str]:
    nothing: Any = lambda *_: None  # noqa: E731
    app = node_app(
        node.services, subscriptions=nothing, health=nothing, on_stored=nothing, on_record=nothing,
        stopping=lambda: False, settings=node.settings,
    )  # fmt: skip
    found = set(names(application(app).routes))
    return found | set(names(dicomweb_routes(node.services.dicom), "/dicom-web"))


def kinds(node: Node, before: int, least: int) -> list[str]:
    """Kinds of the events after a number of them, once nothing waits in the outbox any more."""
    end, quiet_since = time.monotonic() + 90, time.monotonic()
    found: list[str] = []
    while time.monotonic() < end:
        with node.services.database.read() as connection:
            ((left,),) = connection.execute("SELECT count(*) FROM audit_outbox").fetchall()
        rows = tail_trail(node.services.data_dir / "audit.sqlite", n=100_000)[before:]
        now = [row.event.kind for row in rows]
        if now != found or left:
            found, quiet_since = now, time.monotonic()
        elif time.monotonic() - quiet_since > (0.12 if len(found) >= least else 20):
            break
        time.sleep(0.02)
    return found


def test_every_route_is_listed(node):
    listed = {route for route, _, _ in steps("", "", "", "", "")}
    assert not listed & set(NO_PATIENT)
    assert served(node) - {"POST /dicom-web/studies", "POST /dicom-web/studies/{study}"} == listed | set(
        NO_PATIENT
    )


def test_every_access_to_a_patient_is_one_event(node):
    services = node.services
    (one,) = ct_series(np.zeros((1, 16, 16), "int16"), AXIAL)
    with DicomWebClient(f"{node.base_url}/dicom-web") as client:
        client.store([one])
    assert kinds(node, 0, 1) == ["dicom.store"]
    key = services.catalogue.patient_key(str(one.PatientID))
    view, pdf = made_up.twin(key), render_pdf(sample_report(images=False))
    files = {"pdf": services.blobs.put(pdf), **{n: services.blobs.put(b"x") for n in
             ("image", "lesion", "predicted/observation")}}  # fmt: skip
    services.database.write(lambda cursor: services.catalogue.keep_in(cursor, view, files))
    done, wrong, note = len(kinds(node, 0, 1)), [], ""
    job = services.jobs.enqueue("no.worker.has.it", {}, key="audit")
    services.database.write(
        lambda cursor: cursor.execute("INSERT INTO dicom_queue (destination) VALUES ('PACS')") and None
    )
    uids = str(one.StudyInstanceUID), str(one.SeriesInstanceUID), str(one.SOPInstanceUID)
    with httpx.Client(base_url=node.base_url, headers={"origin": node.base_url}, timeout=30) as client:
        for route, request, more in steps(*uids, view.twin_id, key):
            method, path = request.replace("{note}", note).replace("{job}", job).split(" ", 1)
            answer = client.request(method, path, **more)
            if answer.status_code >= 400:
                wrong.append((request, answer.status_code, answer.text[:300]))
            if route == "POST /api/rejections":
                note = answer.json().get("note", "")
            found = kinds(node, done, 1)
            done += len(found)
            if found != TWO_ACTS.get(route, found[:1]) or not found:
                wrong.append((request, found))
    assert wrong == [], "\n".join(map(str, wrong))
