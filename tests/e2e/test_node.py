"""A whole node in this process: what arrives over the network becomes a twin, documents, audit events."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins import ConflictError, StorageError
from digital_twins.audit import tail_trail, verify_trail
from digital_twins.config import Settings
from digital_twins.dicom import Remote, send
from digital_twins.samples import sample_patient
from digital_twins.server import Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.timeout(280)]


def settings(folder: Path, **more: Any) -> Settings:
    chosen = {"dicom_port": 0, "http_port": 0, "study_stable_seconds": 0.5, "log_level": "WARNING"} | more
    return Settings(data_dir=folder, **chosen)


def until(condition: Callable[[], Any], seconds: float = 150.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def get(node: Node, path: str) -> Any:
    answer = httpx.get(node.base_url + path, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def the_patient(node: Node) -> dict[str, Any] | None:
    return next(iter(get(node, "/api/patients")), None)


def ended(node: Node) -> dict[str, Any] | None:
    patient = the_patient(node)
    job = (patient or {}).get("latest_job") or {}
    return patient if job.get("state") in {"succeeded", "failed"} else None


def post_record(node: Node, bundle: dict[str, Any]) -> None:
    answer = httpx.post(f"{node.base_url}/fhir", json=bundle, timeout=60)
    assert answer.status_code == 200, answer.text


def test_images_wait_for_the_record_and_become_a_twin(tmp_path: Path) -> None:
    sample = sample_patient("lung")
    folder = tmp_path / "data"
    with Node(settings(folder)) as node:
        send(Remote("127.0.0.1", node.dicom_port), sample.datasets())
        # until all objects are there it waits for the lesion's outline
        waiting = until(lambda: (p := the_patient(node)) and p["waiting_for"] == "the FHIR record" and p)
        assert waiting["latest_job"] is None
        post_record(node, sample.fhir_bundle())
        patient = until(lambda: ended(node))
        assert patient["latest_job"]["state"] == "succeeded", patient["latest_job"]["error"]
        assert patient["waiting_for"] is None
        twin = get(node, f"/api/twins/{patient['twin_id']}")
        check_twin(twin)
        check_documents(node, twin)
        until(lambda: {job["state"] for job in get(node, "/api/jobs")} == {"succeeded"})
        jobs = len(get(node, "/api/jobs"))
        builds = sorted(job["job_id"] for job in get(node, "/api/jobs") if job["kind"] == "twin.build")
        with pytest.raises(ConflictError, match="in use"), Node(settings(folder)):
            pass
    assert verify_trail(folder / "audit.sqlite").ok
    trail = [row.event for row in tail_trail(folder / "audit.sqlite", n=100_000)]
    told = [(e.detail["job"], e.outcome) for e in trail if e.kind == "twin.build"]
    assert sorted(told) == [(job, "success") for job in builds]  # each build is one event
    with Node(settings(folder)) as node:
        again = get(node, f"/api/twins/{patient['twin_id']}")
        until(lambda: get(node, "/health")["status"] == "ok")
        post_record(node, sample.fhir_bundle())  # the same content again is no new state
        time.sleep(1.5)
        assert again == twin
        assert len(get(node, "/api/jobs")) == jobs


def check_twin(twin: dict[str, Any]) -> None:
    assert twin["version"] == 2
    assert twin["simulated"]
    assert "SIMULATED FOLLOW-UP" in twin["labels"]
    assert [point["simulated"] for point in twin["observed"]] == [False, True, True, True]
    kinds = [scenario["kind"] for scenario in twin["scenarios"]]
    assert kinds[0] == "observation"
    assert {"chemotherapy", "radiation"} <= set(kinds)
    for scenario in twin["scenarios"]:
        change = scenario["volume_change_percent"]
        assert change["low"] <= change["value"] <= change["high"]


def check_documents(node: Node, twin: dict[str, Any]) -> None:
    kinds = {}
    for document in twin["documents"]:
        answer = httpx.get(node.base_url + document["href"], headers={"accept": "*/*"}, timeout=60)
        assert answer.status_code == 200
        kinds[document["kind"]] = answer
    assert set(kinds) == {"PDF", "SEG", "SR", "DICOM PDF", "FHIR"}
    assert kinds["PDF"].content.startswith(b"%PDF-")
    assert "inline" in kinds["PDF"].headers["content-disposition"]
    assert kinds["SR"].content[128:132] == b"DICM"
    assert kinds["FHIR"].json()["status"] == "preliminary"
    page = httpx.get(f"{node.base_url}/patients/{twin['patient_key']}")
    assert page.status_code == 200


def test_record_of_another_person_is_refused_and_a_correction_is_taken(tmp_path: Path) -> None:
    sample = sample_patient("lung")
    wrong = sample.fhir_bundle()
    person = next(e["resource"] for e in wrong["entry"] if e["resource"]["resourceType"] == "Patient")
    right_date = person["birthDate"]
    person["birthDate"] = "1931-01-01"
    with Node(settings(tmp_path / "data")) as node:
        post_record(node, wrong)
        send(Remote("127.0.0.1", node.dicom_port), sample.datasets())
        patient = until(lambda: ended(node))
        error = patient["latest_job"]["error"]
        assert patient["latest_job"]["state"] == "failed"
        assert "different patients" in error["what"]
        assert error["why"]
        assert error["fix"]
        assert "1931" not in str(error)
        stored = get(node, "/fhir/Patient")["entry"][0]["resource"]
        stored["birthDate"] = right_date
        answer = httpx.put(f"{node.base_url}/fhir/Patient/{stored['id']}", json=stored, timeout=60)
        assert answer.status_code == 200
        corrected = until(lambda: (p := the_patient(node)) and p["latest_job"]["state"] == "running" and p)
        assert corrected["latest_job"]["job_id"] != patient["latest_job"]["job_id"]
        cancelled = httpx.post(f"{node.base_url}/api/jobs/{corrected['latest_job']['job_id']}/cancel")
        assert cancelled.status_code == 200
        until(lambda: the_patient(node)["latest_job"]["state"] == "cancelled")


def test_dead_worker_is_started_again(tmp_path: Path) -> None:
    with Node(settings(tmp_path / "data")) as node:
        worker = node._workers._processes[0]
        assert worker is not None
        worker.kill()
        until(lambda: node._workers._processes[0] is not worker)
        until(lambda: get(node, "/health")["status"] == "ok")
        second = node._workers._processes[0]
    assert isinstance(second, subprocess.Popen)
    assert second.poll() is not None


@pytest.mark.parametrize("door", ["dicom_port", "http_port"])
def test_occupied_port_says_what_why_and_how_to_mend(tmp_path: Path, door: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StorageError) as caught, Node(settings(tmp_path / "data", **{door: port})):
            pass
    assert str(port) in caught.value.what
    assert f"--{door.replace('_', '-')}" in caught.value.fix
    with Node(settings(tmp_path / "data")) as node:  # nothing of the failed start holds the folder
        assert get(node, "/health")["parts"]["database"] == "ok"


def test_folder_that_cannot_be_written_says_what_why_and_how_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError) as caught, Node(settings(tmp_path / "file" / "data")):
        pass
    assert "cannot be written" in caught.value.what
    assert "--data" in caught.value.fix
