"""Priors on order, from an archive with DICOMweb and for scheduled workitems."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dicom_peers import free_port
from dicom_support import audited, ct_slice, file_bytes, http_serving, open_store
from digital_twins import dicom

RULE = dicom.PrefetchRule("ARCHIVE", modalities=("CT",), body_parts=("CHEST",), max_studies=2)


def fill(archive: dicom.DicomStore) -> None:
    """Studies 1 (chest, two objects) and 2 (no body part) are wanted; 3 to 5 are not."""
    for number, part, day, modality in (
        (1, "CHEST", "20240110", "CT"),
        (2, "", "20230110", "CT"),
        (3, "FOOT", "20240110", "CT"),
        (4, "CHEST", "19990101", "CT"),
        (5, "CHEST", "20240110", "US"),
    ):
        for instance in (1, 2) if number == 1 else (1,):
            ds = ct_slice(instance, study=str(number), series=f"{number}.1", size=8)
            ds.StudyDate, ds.Modality = day, modality
            if part:
                ds.BodyPartExamined = part
            archive.ingest(file_bytes(ds))
    archive.ingest(file_bytes(ct_slice(1, patient="P10", study="6", series="6.1", size=8)))


@contextmanager
def node_and_archive(folder: Path) -> Iterator[tuple[dicom.DicomStore, dicom.DicomStore]]:
    with open_store(folder / "node") as store, open_store(folder / "archive") as archive:
        fill(archive)
        yield store, archive


def studies(store: dicom.DicomStore) -> list[str]:
    return sorted(str(each["StudyInstanceUID"]) for each in store.search(dicom.Query(dicom.Level.STUDY)))


def test_priors_come_by_qido_and_wado(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[dicom.Stored] = []
    with node_and_archive(tmp_path) as (store, archive), http_serving(dicom.dicomweb_routes(archive)) as web:
        queue = dicom.PrefetchQueue(store, [RULE], dicom.Backoff(first_s=0.0))
        down = dicom.web_source(
            f"http://127.0.0.1:{free_port()}/dicom-web", store, headers={}, source="ARCHIVE"
        )
        source = dicom.web_source(web, store, headers={}, source="ARCHIVE", on_stored=told.append)
        (entry,) = queue.request("P1", agent="ward")
        failed = queue.run(entry, down)
        assert (failed.state, failed.attempts, bool(failed.error)) == ("waiting", 1, True)
        done = queue.run(failed, source)
        assert (done.state, done.found, done.fetched, done.error) == ("done", 2, 3, "")
        assert studies(store) == ["1.2.3.1", "1.2.3.2"]
        assert store.read("1.2.3.1.1.2") == archive.read("1.2.3.1.1.2")
        assert sorted(each.sop_uid for each in told) == ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.2.1.1"]
        (again,) = queue.request("P1", agent="ward")
        assert queue.run(again, source).fetched == 0  # nothing is lacking
        events = [each for each in audited(store) if each["kind"] == "dicom.prefetch"]
        assert [(each["agent"], each["detail"]) for each in events] == [
            ("ARCHIVE", {"objects": 3, "priors": 2}),
            ("ARCHIVE", {"objects": 0, "priors": 2}),
        ]
    assert list(tmp_path.glob("study-*")) == []  # the files on their way are gone


def test_the_archive_gets_the_headers_of_its_profile(tmp_path: Path) -> None:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    seen: list[str | None] = []

    async def search(request: Request) -> Response:
        seen.append(request.headers.get("x-api-key"))
        return JSONResponse([], media_type="application/dicom+json")

    with open_store(tmp_path) as store, http_serving([Route("/studies", search)]) as web:
        queue = dicom.PrefetchQueue(store, [RULE])
        source = dicom.web_source(web, store, headers={"X-Api-Key": "secret"}, source="ARCHIVE")
        (entry,) = queue.request("P1")
        assert queue.run(entry, source).state == "done"
    assert seen == ["secret"]


def workitem(patient: str, study: str) -> dict[str, object]:
    return {
        "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
        "00741200": {"vr": "CS", "Value": ["MEDIUM"]},
        "00741204": {"vr": "LO", "Value": ["CT chest"]},
        "00404005": {"vr": "DT", "Value": ["20300110093000"]},
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00100020": {"vr": "LO", "Value": [patient] if patient else []},
        "0020000D": {"vr": "UI", "Value": [study]},
    }


def test_a_scheduled_workitem_orders_priors_once(tmp_path: Path) -> None:
    with (
        node_and_archive(tmp_path) as (store, archive),
        http_serving(dicom.dicomweb_routes(archive)) as far,
        http_serving(dicom.dicomweb_routes(store)) as here,
    ):
        queue = dicom.PrefetchQueue(store, [RULE])
        assert queue.take_orders() == 0
        for uid, patient, study in (("1.1", "P1", "1.2.3.1"), ("1.2", "", "1.2.3.99"), ("1.3", "P*", "1.9")):
            answer = httpx.post(f"{here}/workitems?{uid}", json=[workitem(patient, study)])
            assert answer.status_code == 201, answer.text
        assert queue.take_orders() == 3
        assert queue.take_orders() == 0
        entries = {each.order_key: each for each in queue.entries()}
        assert entries["ups 1.2"].state == "dead"
        assert entries["ups 1.2"].error == "The order names no patient."
        source = dicom.web_source(far, store, headers={}, source="ARCHIVE")
        pattern = queue.run(entries["ups 1.3"], source)
        assert (pattern.state, "wildcard" in pattern.error) == ("waiting", True)
        done = queue.run(entries["ups 1.1"], source)
        # the ordered study itself is no prior of itself: the older ones come
        assert (done.state, done.found) == ("done", 2)
        assert studies(store) == ["1.2.3.2", "1.2.3.4"]
