"""WADO-RS and WADO-URI: transfer syntaxes, ranges, entity tags, compression, pictures."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_windowing

from dicom_support import audited, ct_slice, file_bytes
from digital_twins.dicom import DicomStore
from web_client import parts_of, web_client

STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"
INSTANCE = f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.2"
Served = tuple[DicomStore, Any]


def ramp(number: int) -> Any:
    """A CT slice whose columns rise from -1024 HU in steps of 32."""
    ds = ct_slice(number)
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = np.tile(np.arange(64, dtype="<u2") * 32, (64, 1)).tobytes()
    ds.WindowCenter, ds.WindowWidth = [0, 50], [1000, 350]
    return ds


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, database_backend: str) -> Iterator[Served]:
    with web_client(tmp_path_factory.mktemp("node")) as (store, client):
        store.ingest_many(file_bytes(ramp(n)) for n in range(1, 4))
        yield store, client


def url_of(ds: Any) -> str:
    return f"studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def grey(content: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(content)).convert("L"))


@pytest.mark.parametrize(
    "part", ["", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/bulkdata/7FE00010"]
)
def test_every_retrieval_is_audited_once_and_knows_its_tag(served: Served, part: str) -> None:
    store, client = served
    before = len(audited(store))
    first = client.get(INSTANCE + part)
    assert first.status_code == 200, first.text
    assert len(audited(store)) == before + 1
    assert audited(store)[-1]["kind"].startswith("dicom.")
    again = client.get(INSTANCE + part, headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head(INSTANCE + part).status_code == 200


def test_ranges_fit_together(served: Served) -> None:
    _store, client = served
    for url, accept in ((f"studies/{STUDY}", ""), (INSTANCE, "application/dicom")):
        headers = {"Accept": accept} if accept else {}
        whole = client.get(url, headers=headers)
        size, tag = len(whole.content), whole.headers["ETag"]
        assert whole.headers["Accept-Ranges"] == "bytes"
        head = client.get(url, headers={**headers, "Range": "bytes=0-999"})
        rest = client.get(url, headers={**headers, "Range": "bytes=1000-", "If-Range": tag})
        assert (head.status_code, rest.status_code) == (206, 206)
        assert head.content + rest.content == whole.content
        assert rest.headers["Content-Range"] == f"bytes 1000-{size - 1}/{size}"
        last = client.get(url, headers={**headers, "Range": "bytes=-7"})
        assert last.content == whole.content[-7:]
        assert client.get(url, headers={**headers, "Range": f"bytes={size}-"}).status_code == 416
        stale = client.get(url, headers={**headers, "Range": "bytes=1000-", "If-Range": '"old"'})
        assert (stale.status_code, stale.content) == (200, whole.content)


def test_metadata_is_compressed_when_wanted(served: Served) -> None:
    _store, client = served
    plain = client.get(f"studies/{STUDY}/metadata", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", f"studies/{STUDY}/metadata", headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content)
    assert "@@" not in plain.text


def test_default_transfer_syntax_is_explicit_little_endian(served: Served) -> None:
    path = get_testdata_file("JPEG2000.dcm", download=False)
    ds = dcmread(path)
    url = url_of(ds)
    store, client = served
    store.ingest(Path(path).read_bytes())
    stored = client.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert stored.content[-1000:] == Path(path).read_bytes()[-1000:]
    for kind in ("application/dicom", 'multipart/related; type="application/dicom"'):
        answer = client.get(url, headers={"Accept": kind})
        body = answer.content if kind == "application/dicom" else parts_of(answer)[0][1]
        got = dcmread(BytesIO(body))
        assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert got.SOPInstanceUID == ds.SOPInstanceUID
        assert np.array_equal(pixel_array(got), pixel_array(ds))
    refused = client.get(url, headers={"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50"})
    assert refused.status_code == 406


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"],
)
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "SC_rgb_rle_2frame.dcm"])
def test_transcoding_is_lossless(served: Served, name: str, syntax: str) -> None:
    path = get_testdata_file(name, download=False)
    ds = dcmread(path)
    store, client = served
    store.ingest(Path(path).read_bytes())
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    answer = client.get(url_of(ds), headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    ((headers, body),) = parts_of(answer)
    got = dcmread(BytesIO(body))
    assert syntax in headers["content-type"]
    assert got.file_meta.TransferSyntaxUID == syntax
    assert got.SOPInstanceUID == ds.SOPInstanceUID
    assert np.array_equal(pixel_array(got, raw=True), pixel_array(ds, raw=True))
    assert got.PatientName == ds.PatientName


def test_several_frames_and_bulk_data(served: Served) -> None:
    path = get_testdata_file("SC_rgb_rle_2frame.dcm", download=False)
    ds = dcmread(path)
    url = url_of(ds)
    store, client = served
    store.ingest(Path(path).read_bytes())
    stored = parts_of(client.get(url + "/frames/2,1"))
    assert [headers["content-type"].split(";")[0] for headers, _body in stored] == ["image/dicom-rle"] * 2
    every = parts_of(client.get(url + "/bulkdata/7FE00010"))
    assert [body for _headers, body in every] == [stored[1][1], stored[0][1]]
    octets = 'multipart/related; type="application/octet-stream"'
    decoded = parts_of(client.get(url + "/frames/1,2", headers={"Accept": octets}))
    assert b"".join(body for _headers, body in decoded) == pixel_array(ds, raw=True).tobytes()


def test_bulk_data_in_ranges(served: Served) -> None:
    store, client = served
    whole = client.get(INSTANCE + "/bulkdata/7FE00010", headers={"Accept": "application/octet-stream"})
    assert whole.content == store.dataset(f"{SERIES}.2").PixelData
    part = client.get(INSTANCE + "/bulkdata/7FE00010", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_rendered_window_equals_pydicom(served: Served, function: str) -> None:
    _store, client = served
    ds = ramp(2)
    hounsfield = pixel_array(ds).astype(float) - 1024
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 40, 400, function
    expected = apply_windowing(hounsfield, ds)
    low, high = expected.min(), expected.max()
    name = function.lower().replace("_", "-")
    answer = client.get(
        INSTANCE + "/rendered", params={"window": f"40,400,{name}"}, headers={"Accept": "image/png"}
    )
    assert answer.headers["Content-Type"] == "image/png"
    shown = grey(answer.content).astype(float)
    if function == "SIGMOID":
        scaled = 255 / (1 + np.exp(-4 * (hounsfield - 40) / 400))
    else:
        scaled = (expected - low) / (high - low) * 255
    assert np.abs(shown - scaled).max() <= 0.51


def test_rendered_uses_the_first_window_of_the_object(served: Served) -> None:
    _store, client = served
    by_object = client.get(INSTANCE + "/rendered", headers={"Accept": "image/png"})
    by_query = client.get(INSTANCE + "/rendered?window=0,1000,linear", headers={"Accept": "image/png"})
    assert np.array_equal(grey(by_object.content), grey(by_query.content))
    assert grey(by_object.content)[0, 0] == 0
    assert grey(by_object.content)[0, -1] == 255


def test_viewport_crops_mirrors_and_scales(served: Served) -> None:
    _store, client = served
    accept = {"Accept": "image/png"}
    full = grey(client.get(INSTANCE + "/rendered", headers=accept).content)
    crop = client.get(INSTANCE + "/rendered", params={"viewport": "16,16,8,0,16,16"}, headers=accept)
    assert np.array_equal(grey(crop.content), full[:16, 8:24])
    flipped = client.get(INSTANCE + "/rendered", params={"viewport": "64,64,0,0,-64,64"}, headers=accept)
    assert np.array_equal(grey(flipped.content), full[:, ::-1])
    scaled = client.get(INSTANCE + "/rendered", params={"viewport": "32,100"}, headers=accept)
    assert grey(scaled.content).shape == (32, 32)
    assert grey(client.get(INSTANCE + "/thumbnail").content).shape == (128, 128)
    small, large = (
        len(client.get(INSTANCE + "/rendered", params={"quality": str(q)}).content) for q in (10, 95)
    )
    assert small < large
    for query in (
        "viewport=0,1",
        "viewport=a",
        "quality=0",
        "window=1",
        "window=1,0,linear",
        "viewport=9,9,70,0,1,1",
    ):
        assert client.get(f"{INSTANCE}/rendered?{query}").status_code == 400, query
    warned = client.get(f"{INSTANCE}/rendered?annotation=patient")
    assert "annotation" in warned.headers["Warning"]
    assert client.get(f"{INSTANCE}/rendered", headers={"Accept": "text/html"}).status_code == 406
    assert client.get(f"{INSTANCE}/frames/2/rendered").status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        "SC_ybr_full_422_uncompressed.dcm",
        "693_J2KI.dcm",
        "examples_palette.dcm",
        "liver_1frame.dcm",
        "rtdose_1frame.dcm",
        "examples_ybr_color.dcm",
    ],
)
def test_pictures_of_other_kinds(served: Served, name: str) -> None:
    path = get_testdata_file(name, download=False)
    ds = dcmread(path)
    store, client = served
    store.ingest(Path(path).read_bytes())
    answer = client.get(url_of(ds) + "/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    picture = Image.open(BytesIO(answer.content))
    assert picture.size == (ds.Columns, ds.Rows)
    assert np.asarray(picture).std() > 0


def test_movies_and_documents(served: Served) -> None:
    path = get_testdata_file("SC_rgb_rle_2frame.dcm", download=False)
    ds = dcmread(path)
    pdf = ct_slice(9, study="4", series="4.1")
    for keyword in ("Rows", "Columns", "PixelData", "BitsAllocated"):
        delattr(pdf, keyword)
    pdf.SOPClassUID = pdf.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    pdf.EncapsulatedDocument, pdf.EncapsulatedDocumentLength = b"%PDF-1.7 x\0", 10
    pdf.MIMETypeOfEncapsulatedDocument = "application/pdf"
    store, client = served
    store.ingest(Path(path).read_bytes())
    store.ingest(file_bytes(pdf))
    movie = client.get(url_of(ds) + "/rendered", headers={"Accept": "image/gif"})
    assert Image.open(BytesIO(movie.content)).n_frames == 2
    document = client.get("studies/1.2.3.4/rendered", headers={"Accept": "application/pdf"})
    assert (document.headers["Content-Type"], document.content) == ("application/pdf", b"%PDF-1.7 x")
    assert client.get("studies/1.2.3.4/rendered", headers={"Accept": "image/png"}).status_code == 406


def test_rendered_series_is_multipart(served: Served) -> None:
    _store, client = served
    pictures = parts_of(client.get(f"studies/{STUDY}/series/{SERIES}/rendered"))
    assert [headers["content-type"] for headers, _body in pictures] == ["image/jpeg"] * 3


def test_wado_uri(served: Served) -> None:
    store, client = served
    ask = {"requestType": "WADO", "studyUID": STUDY, "seriesUID": SERIES, "objectUID": f"{SERIES}.2"}
    before = len(audited(store))
    picture = client.get("wado", params=ask)
    assert (picture.headers["Content-Type"], grey(picture.content).shape) == ("image/jpeg", (64, 64))
    assert len(audited(store)) == before + 1
    object_ = client.get("wado", params={**ask, "contentType": "application/dicom"})
    assert object_.content == store.read(f"{SERIES}.2")
    packed = client.get(
        "wado",
        params={**ask, "contentType": "application/dicom", "transferSyntax": "1.2.840.10008.1.2.4.80"},
    )
    assert dcmread(BytesIO(packed.content)).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
    small = client.get("wado", params={**ask, "contentType": "image/png", "rows": "16"})
    assert grey(small.content).shape == (16, 16)
    window = {"windowCenter": "40", "windowWidth": "400", "contentType": "image/png"}
    direct = client.get(f"{INSTANCE}/rendered?window=40,400,linear", headers={"Accept": "image/png"})
    assert client.get("wado", params={**ask, **window}).content == direct.content
    assert client.get("wado", params={**ask, "requestType": "X"}).status_code == 400
    assert client.get("wado", params={**ask, "anonymize": "yes"}).status_code == 400
    assert client.get("wado", params={**ask, "windowCenter": "1"}).status_code == 400
    assert client.get("wado", params={**ask, "seriesUID": "9"}).status_code == 404
