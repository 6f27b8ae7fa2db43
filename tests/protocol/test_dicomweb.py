"""Our DICOMweb routes through uvicorn, with our own clients and plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.data import get_testdata_file

from dicom_support import ct_slice, file_bytes, http_serving, open_store
from digital_twins import InputError, NotFoundError, dicom
from digital_twins.dicom import AsyncDicomWebClient, DicomStore, DicomWebClient, DicomWebError

STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[DicomStore, str]]:
    with open_store(tmp_path) as store:
        store.ingest_many(file_bytes(ct_slice(n)) for n in range(1, 6))
        store.ingest(file_bytes(ct_slice(1, patient="P2", study="2", series="2.1")))
        with http_serving(dicom.dicomweb_routes(store)) as base:
            yield store, base


def test_search(served: tuple[DicomStore, str]) -> None:
    with DicomWebClient(served[1]) as client:
        assert len(client.search_studies()) == 2
        (study,) = client.search_studies(PatientID="P1", fields=["SOPClassesInStudy"])
        assert study.StudyInstanceUID == STUDY
        assert study.NumberOfStudyRelatedInstances == 5
        assert study.ModalitiesInStudy == "CT"
        assert study.PatientName == "Doe^Jane"
        assert study.RetrieveURL == f"{served[1]}/studies/{STUDY}"
        assert "SOPClassesInStudy" in study
        (series,) = client.search_series(STUDY, Modality="CT")
        assert series.NumberOfSeriesRelatedInstances == 5
        assert len(client.search_instances(STUDY, SERIES, limit=2, offset=4)) == 1
        assert client.search_instances(STUDY, SERIES, InstanceNumber=3)[0].InstanceNumber == 3
        assert client.search_studies(PatientID="nobody") == []
        (with_spacing,) = client.search_instances(STUDY, limit=1, fields=["PixelSpacing"])
        assert with_spacing.PixelSpacing == [1, 1]


def test_search_statuses(served: tuple[DicomStore, str]) -> None:
    base = served[1]
    assert httpx.get(f"{base}/studies", params={"PatientID": "nobody"}).status_code == 204
    assert httpx.get(f"{base}/studies", params={"NoSuchThing": "1"}).status_code == 400
    assert httpx.get(f"{base}/studies", params={"StudyDate": "yesterday"}).status_code == 400
    assert httpx.get(f"{base}/studies", params={"limit": "-1"}).status_code == 400
    assert httpx.get(f"{base}/studies", headers={"Accept": "image/jpeg"}).status_code == 406
    ignored = httpx.get(f"{base}/studies", params={"PatientWeight": "80"})
    assert ignored.status_code == 200
    assert "299" in ignored.headers["Warning"]
    assert httpx.get(f"{base}/studies/9.9/metadata").status_code == 404
    assert httpx.get(f"{base}/studies/9.9").json()["title"].startswith("The study")


def test_retrieve_is_byte_exact(served: tuple[DicomStore, str]) -> None:
    with DicomWebClient(served[1]) as client:
        got = list(client.retrieve_series(STUDY, SERIES))
        assert [ds.InstanceNumber for ds in got] == [1, 2, 3, 4, 5]
        assert got[2].PixelData == ct_slice(3).PixelData
        assert client.retrieve_instance(STUDY, SERIES, f"{SERIES}.2").InstanceNumber == 2
        with pytest.raises(NotFoundError):
            list(client.retrieve_study("9.9"))
    url = f"{served[1]}/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.2"
    single = httpx.get(url, headers={"Accept": "application/dicom"})
    assert single.content == served[0].read(f"{SERIES}.2")
    whole = httpx.get(f"{served[1]}/studies/{STUDY}")
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    again = httpx.get(f"{served[1]}/studies/{STUDY}", headers={"If-None-Match": whole.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_metadata_and_bulk_data(served: tuple[DicomStore, str]) -> None:
    url = f"{served[1]}/studies/{STUDY}/metadata"
    first, second = httpx.get(url).json(), httpx.get(url).json()
    assert first == second
    assert len(first) == 5
    assert first[0]["00280010"] == {"vr": "US", "Value": [64]}
    bulk = httpx.get(first[1]["7FE00010"]["BulkDataURI"], headers={"Accept": "application/octet-stream"})
    assert bulk.content == ct_slice(2).PixelData
    assert dicom.build_pending(served[0]) == 1
    assert dicom.build_pending(served[0]) == 0


@pytest.mark.parametrize(
    "name",
    ["JPEG2000.dcm", "SC_rgb_rle_2frame.dcm", "rtdose.dcm", "image_dfl.dcm"],
)
def test_frames(tmp_path: Path, name: str) -> None:
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("not in the installed pydicom")
    ds = dcmread(path)
    with open_store(tmp_path) as store:
        store.ingest(Path(path).read_bytes())
        with http_serving(dicom.dicomweb_routes(store)) as base:
            url = f"{base}/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
            url += f"/instances/{ds.SOPInstanceUID}"
            got = httpx.get(url + "/frames/1", headers={"Accept": "application/octet-stream"})
            assert httpx.get(url + "/frames/99999").status_code == 404
            assert httpx.get(url + "/frames/x").status_code == 400
            stored = httpx.get(url + "/frames/1")
    assert got.status_code == 200, got.text
    assert stored.status_code == 200
    expected = pixel_array(ds, index=0, raw=True)
    if ds.BitsAllocated > 1:
        assert got.content == expected.astype(expected.dtype.newbyteorder("<")).tobytes()


def test_store(served: tuple[DicomStore, str]) -> None:
    with DicomWebClient(served[1]) as client:
        answer = client.store([ct_slice(6), ct_slice(7)])
        assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
            f"{SERIES}.6",
            f"{SERIES}.7",
        ]
        assert len(list(client.retrieve_study(STUDY))) == 7
        partly = client.store([ct_slice(8), ct_slice(9, patient="other")])
        assert partly.FailedSOPSequence[0].FailureReason == 0xA900
        assert len(partly.ReferencedSOPSequence) == 1
        with pytest.raises(InputError):
            client.store([ct_slice(9, patient="other")])
    for body, kind, status in (
        (b"x", "text/plain", 415),
        (b"x", 'multipart/related; type="application/dicom"', 400),
        (b"--b\r\n\r\nnonsense\r\n--b--\r\n", 'multipart/related; type="application/dicom"; boundary=b', 409),
        (b"--b\r\n\r\ncut", 'multipart/related; type="application/dicom"; boundary=b', 400),
    ):
        got = httpx.post(f"{served[1]}/studies", content=body, headers={"Content-Type": kind})
        assert got.status_code == status
    elsewhere = file_bytes(ct_slice(20, study="5", series="5.1"))
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + elsewhere + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    got = httpx.post(f"{served[1]}/studies/{STUDY}", content=body, headers={"Content-Type": kind})
    assert got.status_code == 409


def test_async_client(served: tuple[DicomStore, str]) -> None:
    async def work() -> tuple[int, int, int]:
        async with AsyncDicomWebClient(served[1]) as client:
            await client.store([ct_slice(6)])
            studies = await client.search_studies(StudyDate="20240101-20241231")
            got = [ds async for ds in client.retrieve_series(STUDY, SERIES)]
            return len(studies), len(got), len(await client.retrieve_metadata(STUDY))

    assert asyncio.run(work()) == (2, 6, 6)


def test_client_retries_then_explains() -> None:
    calls = []

    def busy(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return (
            httpx.Response(200, json=[])
            if len(calls) == 3
            else httpx.Response(503, headers={"Retry-After": "0"})
        )

    with DicomWebClient("http://node/dicom-web", transport=httpx.MockTransport(busy)) as client:
        assert client.search_studies() == []
    assert len(calls) == 3

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    with (
        DicomWebClient("http://node/dicom-web", transport=httpx.MockTransport(gone), retries=1) as client,
        pytest.raises(DicomWebError, match="could not be reached"),
    ):
        client.search_studies()
