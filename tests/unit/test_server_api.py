"""The /api door: shapes, problems, audit of each access, security headers."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import httpx
import nibabel
import numpy as np
import pytest

import twin_page_fixture as made_up
from web_node import WebNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[WebNode]:
    made = WebNode(tmp_path)
    yield made
    made.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def client(node: WebNode, host: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=node.app), base_url=f"http://{host}:8042")


@pytest.mark.anyio
async def test_list_detail_and_twin(node: WebNode) -> None:
    key = node.add_patient()
    waiting = node.add_patient(with_twin=False, waiting_for="the FHIR record")
    async with client(node) as http:
        listed = {row["key"]: row for row in (await http.get("/api/patients")).json()}
        detail = (await http.get(f"/api/patients/{key}")).json()
        twin = (await http.get("/api/twins/twin-1")).json()
    assert set(listed) == {key, waiting}
    assert listed[key]["twin_count"] == 1
    assert listed[waiting]["waiting_for"] == "the FHIR record"
    assert detail["twins"][0]["twin_id"] == twin["twin_id"] == "twin-1"
    assert "not acquired" in twin["research_use"]
    for scenario in twin["scenarios"]:
        change = scenario["volume_change_percent"]
        assert change["low"] < change["value"] < change["high"]
        assert len(scenario["days"]) == len(scenario["low_cm3"]) == len(scenario["high_cm3"])


@pytest.mark.anyio
async def test_every_access_to_a_patient_is_one_audit_event(node: WebNode) -> None:
    key = node.add_patient()
    patient_id = made_up.patient().patient_id
    asked = {
        "/api/patients": ("R", "api.patients.list", "patients", None),
        f"/api/patients/{key}": ("R", "api.patient.read", key, patient_id),
        "/api/twins/twin-1": ("R", "api.twin.read", "twin-1", patient_id),
        "/api/twins/twin-1/image.nii.gz": ("R", "api.twin.file", "twin-1/image", patient_id),
        "/api/twins/twin-1/report.pdf": ("R", "api.twin.file", "twin-1/pdf", patient_id),
    }
    async with client(node) as http:
        for path, event in asked.items():
            node.events.clear()
            assert (await http.get(path)).status_code == 200
            assert node.events == [event]
        node.events.clear()
        assert (await http.get("/api/twins/none")).status_code == 404
        assert node.events == []


@pytest.mark.anyio
async def test_one_day_of_the_predicted_tumour_is_its_frame(node: WebNode) -> None:
    node.add_patient()
    async with client(node) as http:
        whole = await http.get("/api/twins/twin-1/predicted.nii.gz?treatment=chemo")
        day = await http.get("/api/twins/twin-1/predicted.nii.gz?treatment=chemo&day=42")
        wrong = await http.get("/api/twins/twin-1/predicted.nii.gz?treatment=chemo&day=43")
        unknown = await http.get("/api/twins/twin-1/predicted.nii.gz?treatment=surgery")
    frames, frame = (nibabel.Nifti1Image.from_bytes(gzip.decompress(r.content)) for r in (whole, day))
    index = made_up.DAYS.index(42.0)
    assert np.array_equal(np.asarray(frames.dataobj)[..., index], np.asarray(frame.dataobj))
    assert np.allclose(frames.affine, frame.affine)
    assert (wrong.status_code, unknown.status_code) == (400, 404)


@pytest.mark.anyio
async def test_errors_are_problem_documents(node: WebNode) -> None:
    async with client(node) as http:
        for path, status in (
            ("/api/patients/none", 404),
            ("/api/jobs?limit=0", 422),
            ("/api/nothing", 404),
            ("/api/jobs/none", 404),
        ):
            answer = await http.get(path)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert {"title", "status", "detail", "what", "why", "fix"} <= set(answer.json())


@pytest.mark.anyio
async def test_security_headers_and_host_check(node: WebNode) -> None:
    async with client(node) as http:
        page = await http.get("/")
        health = await http.get("/health")
        metrics = await http.get("/metrics")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert health.json()["status"] == "ok"
    assert 'twin_http_requests_total{door="web",status="2xx"} 1' in metrics.text
    async with client(node, "attacker.example") as http:
        refused = await http.get("/api/patients")
    assert refused.status_code == 421
    assert refused.json()["fix"]


@pytest.mark.anyio
async def test_jobs_are_shown_without_payload_and_can_be_cancelled(node: WebNode) -> None:
    job_id = node.jobs.enqueue("twin.build", {"patient_id": "SECRET-MRN", "patient_key": "k"}, key="a")
    async with client(node) as http:
        listed = await http.get("/api/jobs")
        cancelled = await http.post(f"/api/jobs/{job_id}/cancel")
    assert "SECRET-MRN" not in listed.text
    assert listed.json()[0]["patient"] == "k"
    assert cancelled.json()["state"] == "cancelled"


def test_events_stream_the_states_of_jobs(node: WebNode) -> None:
    node.jobs.enqueue("twin.build", {"patient_key": "k"}, key="a")
    with node.serving() as base, httpx.stream("GET", f"{base}/api/events", timeout=20) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        job = node.jobs.claim("w", ["twin.build"])
        assert job is not None
        node.jobs.progress(job, 0.5, "calibrating")
        following = next(line for line in lines if "calibrating" in line)
    assert '"state":"queued"' in first
    assert '"fraction":0.5' in following


@pytest.mark.anyio
async def test_openapi_names_every_route_and_docs_are_local(node: WebNode) -> None:
    async with client(node) as http:
        document = (await http.get("/api/openapi.json")).json()
        docs = await http.get("/api/docs")
    assert {"/patients", "/patients/{key}", "/twins/{twin_id}", "/jobs/{job_id}/cancel", "/events"} <= set(
        document["paths"]
    )
    assert "://" not in docs.text
