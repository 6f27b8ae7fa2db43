"""What a client says of the answer it wants, and what a DICOMweb server answers to what it cannot give."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import BasicTextSRStorage

from dicom_support import audited, ct_slice, file_bytes
from digital_twins.dicom import DicomStore
from web_client import parts_of, web_client

STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"
INSTANCE = f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1"
REPORT_SERIES = "1.2.3.1.3"
OCTETS = "application/octet-stream"
Served = tuple[DicomStore, Any]


def requested(number: int) -> Any:
    ds = ct_slice(number)
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "SPS1", "RP1"
    ds.RequestAttributesSequence = [item]
    return ds


def report() -> Any:
    ds = ct_slice(9, series="1.3")
    for keyword in ("Rows", "Columns", "PixelData", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(ds, keyword)
    ds.Modality, ds.SOPClassUID = "SR", BasicTextSRStorage
    ds.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    return ds


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, database_backend: str) -> Iterator[Served]:
    with web_client(tmp_path_factory.mktemp("node"), max_object_bytes=2**20, max_file_bytes=2**20) as (
        store,
        client,
    ):
        store.ingest_many(file_bytes(ds) for ds in (requested(1), ct_slice(2), report()))
        yield store, client


def test_the_query_parameter_accept_goes_before_the_header(served: Served) -> None:
    _store, client = served
    for text in ("application/dicom%2Bjson", "application/dicom+json", "application/json"):
        found = client.get(f"studies?accept={text}", headers={"Accept": "text/html"})
        assert (found.status_code, found.headers["Content-Type"]) == (200, "application/dicom+json")
    xml = client.get(f"studies/{STUDY}/metadata?accept=application/dicom%2Bxml")
    assert xml.headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
    picture = client.get(f"{INSTANCE}/rendered?accept=image/png&charset=utf-8")
    assert picture.headers["Content-Type"] == "image/png"
    assert "Warning" not in picture.headers
    # What the parameter names cannot be given, what the header names can.
    assert client.get(f"{INSTANCE}/rendered?accept=video/mp4").headers["Content-Type"] == "image/jpeg"
    refused = client.get(f"{INSTANCE}/rendered?accept=video/mp4", headers={"Accept": "video/mp4"})
    assert refused.status_code == 406
    assert client.get("workitems?accept=application/json&charset=utf-8").status_code == 204


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # The range that is served says whether the parts come in multipart, not the first one.
        (f'image/jpeg, multipart/related; type="{OCTETS}"', "multipart/related"),
        (f"image/jpeg, {OCTETS}", OCTETS),
        (f'{OCTETS};q=0.2, multipart/related; type="{OCTETS}";q=0.8', "multipart/related"),
        (f'multipart/related; type="{OCTETS}";q=0, {OCTETS}', OCTETS),
    ],
)
@pytest.mark.parametrize("part", ["frames/1", "bulkdata/7FE00010"])
def test_media_range_that_is_served_decides_the_shape(
    served: Served, part: str, accept: str, expected: str
) -> None:
    _store, client = served
    answer = client.get(f"{INSTANCE}/{part}", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] == expected


@pytest.mark.parametrize(
    "part", ["", "/metadata", "/frames/1", "/bulkdata/7FE00010", "/bulkdata", "/pixeldata"]
)
@pytest.mark.parametrize("accept", ["image/bmp", "*/*;q=0", ";;,,"])
def test_what_nobody_can_give_is_406(served: Served, part: str, accept: str) -> None:
    _store, client = served
    assert client.get(INSTANCE + part, headers={"Accept": accept}).status_code == 406


def test_a_broken_frame_goes_on_where_it_broke(served: Served) -> None:
    _store, client = served
    whole = client.get(f"{INSTANCE}/frames/1")
    rest = client.get(
        f"{INSTANCE}/frames/1", headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]}
    )
    assert rest.status_code == 206
    assert rest.headers["Content-Type"] == whole.headers["Content-Type"]
    assert whole.content[100:] == rest.content


def test_two_values_for_one_key_are_refused(served: Served) -> None:
    _store, client = served
    for query in ("studies?PatientID=P1&00100020=P2", f"studies/{STUDY}/series?StudyInstanceUID=1.2.9"):
        answer = client.get(query)
        assert answer.status_code == 400
        assert "two values" in answer.json()["detail"]
    assert client.get(f"studies/{STUDY}/series?StudyInstanceUID={STUDY}").status_code == 200
    assert client.get("studies?PatientID=P1&PatientID=P1").status_code == 200


def test_series_say_which_requests_they_answer(served: Served) -> None:
    _store, client = served
    images, text = client.get(f"studies/{STUDY}/series").json()
    item = {"00400009": {"vr": "SH", "Value": ["SPS1"]}, "00401001": {"vr": "SH", "Value": ["RP1"]}}
    assert images["00400275"] == {"vr": "SQ", "Value": [item]}
    assert "00400275" not in text
    inside = client.get("series?includefield=RequestAttributesSequence.ScheduledProcedureStepID")
    assert inside.json()[0]["00400275"]["Value"][0]["00400009"] == item["00400009"]


def test_an_object_that_cannot_be_read_does_not_break_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digital_twins.dicom import _series_requests

    def broken(*_: Any, **__: Any) -> Dataset:
        raise ValueError

    with web_client(tmp_path) as (store, client):
        store.ingest(file_bytes(ct_slice(1)))
        monkeypatch.setattr(_series_requests, "load", broken)
        assert client.get("series").status_code == 200


def test_a_disk_that_failed_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from digital_twins.dicom import _series_requests

    def failing(*_: Any, **__: Any) -> Dataset:
        raise OSError(errno.EIO, "the device failed")

    with web_client(tmp_path) as (store, client):
        store.ingest(file_bytes(requested(1)))
        with monkeypatch.context() as patched:
            patched.setattr(_series_requests, "load", failing)
            assert "00400275" not in client.get("series").json()[0]
            assert client.get("series?00400275.00401001=RP1").status_code in {200, 204}  # it ends
        assert "00400275" in client.get("series").json()[0]


def test_names_of_foreign_parameters_are_not_repeated_into_headers(served: Served) -> None:
    _store, client = served
    for name in ("a%0d%0aSet-Cookie:%20x", "%E6%97%A5", "%22"):
        answer = client.get(f"{INSTANCE}/rendered?{name}=1")
        assert answer.status_code == 200
        assert answer.headers["Warning"] == '299 digital-twins "a parameter was ignored"'
        assert "Set-Cookie" not in answer.headers


def test_a_study_is_drawn_without_what_has_no_pixels(served: Served) -> None:
    _store, client = served
    drawn = client.get(f"studies/{STUDY}/rendered")
    assert [headers["content-type"] for headers, _body in parts_of(drawn)] == ["image/jpeg"] * 2
    assert drawn.headers["Warning"] == '299 digital-twins "1 objects without pixels were not drawn"'
    assert client.get(f"studies/{STUDY}/series/{REPORT_SERIES}/rendered").status_code == 406


def test_all_bulk_data_and_all_pixels(served: Served) -> None:
    store, client = served
    before = len(audited(store))
    answer = client.get(f"studies/{STUDY}/pixeldata")
    assert len(audited(store)) == before + 1
    for (headers, body), number in zip(parts_of(answer), (1, 2), strict=True):
        assert headers["content-location"].endswith(f"/instances/{SERIES}.{number}/bulkdata/7FE00010")
        assert body == store.dataset(f"{SERIES}.{number}").PixelData
        alone = client.get(headers["content-location"], headers={"Accept": OCTETS})
        assert alone.content == body
    assert client.get(f"studies/{STUDY}/bulkdata", headers={"If-None-Match": "*"}).status_code == 304
    assert parts_of(client.get(f"{INSTANCE}/bulkdata"))[0][1] == parts_of(answer)[0][1]
    for part in ("pixeldata", "bulkdata"):
        assert client.get(f"studies/{STUDY}/series/{REPORT_SERIES}/{part}").status_code == 404
        assert client.get(f"studies/9.9/{part}").status_code == 404


def test_compressed_pixels_come_frame_by_frame_under_one_name(tmp_path: Path) -> None:
    data = Path(get_testdata_file("examples_ybr_color.dcm") or "").read_bytes()
    ds = dcmread(BytesIO(data))
    with web_client(tmp_path) as (store, client):
        stored = store.ingest(data)
        url = f"studies/{stored.study_uid}/series/{stored.series_uid}/instances/{stored.sop_uid}/pixeldata"
        parts = parts_of(client.get(url))
        assert [body for _headers, body in parts] == list(
            generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames))
        )
        assert len({headers["content-location"] for headers, _body in parts}) == 1
        assert client.get(url, headers={"Accept": "multipart/related; type=image/jp2"}).status_code == 406


def test_a_part_says_the_transfer_syntax_that_it_has(served: Served) -> None:
    _store, client = served
    jpeg_ls = "1.2.840.10008.1.2.4.80"
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={jpeg_ls}'
    parts = parts_of(client.get(f"studies/{STUDY}", headers={"Accept": accept}))
    said = [headers["content-type"].rsplit("=", 1)[1] for headers, _body in parts]
    assert said == [dcmread(BytesIO(body)).file_meta.TransferSyntaxUID for _headers, body in parts]
    assert said == [jpeg_ls, jpeg_ls, "1.2.840.10008.1.2.1"]


def test_wado_uri_draws_a_region(served: Served) -> None:
    _store, client = served
    ask = {"requestType": "WADO", "studyUID": STUDY, "seriesUID": SERIES, "objectUID": f"{SERIES}.1"}

    def drawn(**more: str) -> Any:
        answer = client.get("wado", params={**ask, "contentType": "image/png", **more})
        assert answer.status_code == 200
        return np.asarray(Image.open(BytesIO(answer.content)))

    whole = drawn()
    assert np.array_equal(drawn(region="0.25,0.5,0.75,1"), whole[32:64, 16:48])
    assert drawn(region="0.25,0.5,0.75,1", rows="16").shape == (16, 16)
    for region in ("1,2", "0,0,0,1", "0,0,2,1", "a,b,c,d", "nan,0,1,1"):
        assert client.get("wado", params={**ask, "region": region}).status_code == 400
    annotated = client.get("wado", params={**ask, "annotation": "patient"})
    assert annotated.headers["Warning"] == '299 digital-twins "parameter annotation was ignored"'


def test_answer_to_a_store_request_as_xml(served: Served) -> None:
    _store, client = served
    headers = {"Content-Type": "application/dicom"}
    stored = client.post(
        "studies", content=file_bytes(ct_slice(2)), headers={**headers, "Accept": "application/dicom+xml"}
    )
    assert (stored.status_code, stored.headers["Content-Type"]) == (200, "application/dicom+xml")
    tags = [node.get("tag") for node in ET.fromstring(stored.content)]
    assert tags == ["00081190", "00081199"]
    plain = client.post(
        "studies", content=file_bytes(ct_slice(2)), headers={**headers, "Accept": "text/html"}
    )
    assert plain.headers["Content-Type"] == "application/dicom+json"


def test_a_body_in_a_content_coding_or_too_long(served: Served) -> None:
    _store, client = served
    headers = {"Content-Type": "application/dicom", "Content-Encoding": "gzip"}
    assert client.post("studies", content=file_bytes(ct_slice(2)), headers=headers).status_code == 415
    body = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + bytes(2**21) + b"\r\n--cut--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut'}
    assert client.post("studies", content=body, headers=headers).status_code == 413


def test_what_came_before_a_body_broke_off_is_made_known(tmp_path: Path) -> None:
    told: list[str] = []
    with web_client(tmp_path, on_stored=lambda stored: told.append(stored.sop_uid)) as (_store, client):
        body = (
            b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + file_bytes(ct_slice(1)) + b"\r\n--cut\r\n"
        )
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut'}
        assert client.post("studies", content=body, headers=headers).status_code == 400
        assert told == [f"{SERIES}.1"]
        assert client.get(f"studies/{STUDY}").status_code == 200
