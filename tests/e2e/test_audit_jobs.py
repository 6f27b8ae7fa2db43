"""Every run of a job writes exactly one event of its kind, whichever way it ends.

A build that succeeds is in test_node.
"""

# ruff: noqa: E501  (tables)
from __future__ import annotations

import ast
import importlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import digital_twins
from dicom_support import LoopThread, ct_slice, file_bytes
from digital_twins import dicom
from digital_twins.dicom import _commitment
from digital_twins.fhir.bulk import EXPORT
from digital_twins.fhir.bulk._request import ExportRequest
from digital_twins.fhir.subscriptions import NOTIFY, Subscriptions
from digital_twins.hl7v2 import start_mllp
from digital_twins.server import worker
from digital_twins.server._job_events import EVENT_KINDS
from digital_twins.server._results import RESULT
from digital_twins.server._services import BUILD, METADATA, Services, open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from digital_twins.storage import Job

pytestmark = pytest.mark.timeout(1800)
SOURCE = Path(digital_twins.__file__).parent
REPORT = _commitment.REPORT
KINDS = {**EVENT_KINDS, NOTIFY: "fhir.notify", REPORT: "dicom.commitment.report"}
"""Kind of the event of each kind of job: of those that workers run, and of two that threads of the node run."""


def claimed() -> set[str]:
    """Kinds of jobs that some code of the package claims, read from its source."""
    found: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        if file.parent.name == "storage" or ".claim(" not in (text := file.read_text()):
            continue
        module = importlib.import_module(
            ".".join(("digital_twins", *file.relative_to(SOURCE).with_suffix("").parts))
        )
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "claim"
            ):
                found |= set(eval(ast.unparse(node.args[1]), vars(module)))
    return found


def test_every_kind_of_job_is_listed():
    assert set(worker._WORK) == set(EVENT_KINDS)
    assert claimed() == set(KINDS)


@pytest.fixture
def services(tmp_path) -> Iterator[Services]:
    opened = open_services(tmp_path, boot_id="boot")
    yield opened
    opened.close()


def events(services: Services, kind: str) -> list[dict[str, Any]]:
    with services.database.read() as connection:
        rows = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()
    return [event for (body,) in rows if (event := json.loads(str(body)))["kind"] == kind]


def run(services: Services, kind: str, *, stopping: bool = False) -> Job:
    job = services.jobs.claim("worker-1", [kind])
    assert job is not None
    told = threading.Event()
    if stopping:
        told.set()
    worker.run_job(services, job, told)
    return job


def enqueue(services: Services, kind: str, payload: dict[str, Any]) -> None:
    services.jobs.enqueue(kind, payload, key=json.dumps([kind, payload]))


def test_a_build_that_is_refused(services):
    enqueue(services, BUILD, {"patient_id": "NOBODY", "patient_key": "k", "state": "s"})
    run(services, BUILD)
    (event,) = events(services, "twin.build")
    assert (event["outcome"], event["patient"]) == ("refused", services.auditor.patient("NOBODY"))
    assert "NOBODY" not in json.dumps(event)


def test_metadata(services):
    services.dicom.ingest(file_bytes(ct_slice(1, size=8)))
    enqueue(services, METADATA, {"patient_key": "k"})
    run(services, METADATA)
    (event,) = events(services, "dicom.metadata.build")
    assert (event["outcome"], event["detail"]["instances"]) == ("success", 1)


def test_an_export(services):
    request = ExportRequest("system").to_payload()
    enqueue(services, EXPORT, {"request": request, "agent": "rita", "url": "http://x"})
    run(services, EXPORT)
    (event,) = events(services, "fhir.export.written")
    assert (event["outcome"], event["agent"]) == ("success", "rita")


@pytest.mark.parametrize("kind", sorted(EVENT_KINDS))
@pytest.mark.parametrize("how", ["refused", "failed", "broken", "stopped", "cancelled"])
def test_a_run_that_ends_otherwise(services, monkeypatch, kind, how):
    errors = {
        "refused": digital_twins.InputError("It was refused.", "Because.", "Mend it."),
        "failed": digital_twins.DigitalTwinError("It failed.", "Because.", "Mend it."),
        "broken": ValueError("Doe^Jane"),
        "stopped": worker.StoppedError(),
        "cancelled": worker.StoppedError(),
    }

    def work(*_: object) -> None:
        raise errors[how]

    monkeypatch.setitem(worker._WORK, kind, work)
    enqueue(services, kind, {"patient_key": "k"})
    job = run(services, kind, stopping=how == "stopped")
    (event,) = events(services, KINDS[kind])
    assert event["outcome"] == ("refused" if how == "refused" else "failure")
    assert (event["detail"]["job"], event["detail"]["attempt"]) == (job.job_id, 1)
    assert "Doe" not in json.dumps(event)


def test_a_result_by_hl7(services):
    services.fhir.update(
        {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:x", "value": "P1"}]}
    )
    report = {"resourceType": "DiagnosticReport", "id": "r1", "identifier": [{"system": "urn:x", "value": "R1"}], "status": "preliminary", "code": {"text": "Twin"},
              "effectiveDateTime": "2026-01-01", "issued": "2026-01-01T10:00:00Z", "subject": {"reference": "Patient/p1"}}  # fmt: skip
    services.fhir.update(report)

    async def take(_message: object) -> None:
        return None

    thread = LoopThread()
    server = thread.run(start_mllp(take))
    try:
        enqueue(services, RESULT, {"report": "DiagnosticReport/r1", "to": f"127.0.0.1:{server.port}"})
        run(services, RESULT)
    finally:
        thread.run(server.close())
        thread.close()
    (event,) = events(services, "hl7.result")
    assert (event["outcome"], event["entity"]) == ("success", "DiagnosticReport/r1"), event
    assert event["patient"] == services.auditor.patient("p1")
    services.jobs.enqueue(RESULT, {"report": "DiagnosticReport/r1", "to": "127.0.0.1:9"}, key="away")
    run(services, RESULT)
    assert [each["outcome"] for each in events(services, "hl7.result")] == ["success", "failure"]
    (away,) = [job for job in services.jobs.list(kind=RESULT) if job.state != "succeeded"]
    assert away.state == "queued"  # it is tried again


def test_notifications(services):
    """One that nobody takes, and one whose subscription is gone."""
    wanted = {"resourceType": "Subscription", "id": "s1", "status": "active", "reason": "test", "criteria": "Patient?",
              "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook"}}  # fmt: skip
    services.fhir.update(wanted)
    subscriptions = Subscriptions(services.fhir, services.jobs, base_url="http://node/fhir", attempts=1)
    for name in ("s1", "gone"):
        enqueue(services, NOTIFY, {"subscription": name, "focus": "Patient/p1", "number": 1, "at_us": 0})
        assert subscriptions.deliver_one()
    subscriptions.close()
    found = [(each["entity"], each["outcome"]) for each in events(services, "fhir.notify")]
    assert found == [("Subscription/s1", "failure"), ("Subscription/gone", "refused")]


def test_commitment_reports(services, monkeypatch):
    """A peer that nobody knows, then one that takes its report."""
    monkeypatch.setattr(_commitment, "_POLL_S", 0.05)
    monkeypatch.setattr(_commitment, "_RETRY_S", 0.05)
    known: dict[str, dicom.Remote] = {}
    with _taking() as port, ThreadPoolExecutor(2) as threads:
        wanted = {"peer": "PACS", "transaction": "1.2.5", "references": [("1.2", "1.2.3")]}
        services.jobs.enqueue(REPORT, wanted, key="report", max_attempts=50)
        thread = LoopThread()
        reporter = thread.run(_reporter(services, threads, known.get))
        _until(lambda: events(services, REPORT))
        known["PACS"] = dicom.Remote("127.0.0.1", port)
        _until(lambda: events(services, REPORT)[-1]["outcome"] == "success")
        thread.run(reporter.close())
        thread.close()
    (job,) = services.jobs.list(kind=REPORT)
    outcomes = [each["outcome"] for each in events(services, REPORT)]
    assert outcomes == ["failure"] * (job.attempts - 1) + ["success"]


async def _reporter(services: Services, threads: ThreadPoolExecutor, remote: Any) -> _commitment.Reporter:
    return _commitment.Reporter(services.dicom, services.jobs, threads, remote=remote)


@contextmanager
def _taking() -> Iterator[int]:
    from pynetdicom import AE, evt

    from digital_twins.dicom._contexts import COMMITMENT

    ae = AE(ae_title="PACS")
    ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda _: (0, None))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def _until(happened: Callable[[], object]) -> None:
    import time

    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)
