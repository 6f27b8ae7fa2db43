"""STOW-RS: partial failures, and metadata with bulk data apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from dicom_support import audited, ct_slice, file_bytes
from digital_twins.dicom import DicomStore
from web_client import web_client

Served = tuple[DicomStore, httpx.Client]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with web_client(tmp_path, max_object_bytes=2**20, max_file_bytes=2**20) as served:
        yield served


def multipart(kind: str, parts: list[tuple[dict[str, str], bytes]]) -> dict[str, Any]:
    body = b""
    for headers, content in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body += b"--cut\r\n" + lines.encode() + b"\r\n" + content + b"\r\n"
    content_type = f'multipart/related; type="{kind}"; boundary=cut'
    return {"content": body + b"--cut--\r\n", "headers": {"Content-Type": content_type}}


def bulk_request(ds: Any, pixels: list[tuple[str, bytes]]) -> dict[str, Any]:
    """The request that stores a data set with its pixels apart."""
    model = {tag: value for tag, value in ds.to_json_dict().items() if tag != "7FE00010"}
    model["7FE00010"] = {"vr": "OW", "BulkDataURI": "pixels/1"}
    parts = [({"Content-Type": "application/dicom+json"}, json.dumps([model]).encode())]
    parts += [({"Content-Type": kind, "Content-Location": "pixels/1"}, body) for kind, body in pixels]
    return multipart("application/dicom+json", parts)


def test_partial_failure_names_what_failed(served: Served) -> None:
    store, client = served
    good, other = ct_slice(1), ct_slice(2, patient="somebody else")
    parts = [({"Content-Type": "application/dicom"}, file_bytes(ds)) for ds in (good, other)]
    parts.append(({"Content-Type": "application/dicom"}, file_bytes(ct_slice(3))[:-20]))
    parts.append(({"Content-Type": "application/dicom"}, b"no DICOM"))
    answer = client.post("studies", **multipart("application/dicom", parts))
    assert answer.status_code == 202
    body = answer.json()
    failed = body["00081198"]["Value"]
    assert [item["00081197"]["Value"][0] for item in failed] == [0xA900, 0xC000, 0xC000]
    assert failed[0]["00081155"]["Value"] == ["1.2.3.1.1.2"]
    assert failed[0]["00081150"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    assert failed[1]["00081155"]["Value"] == ["1.2.3.1.1.3"]
    assert "00081155" not in failed[2]
    assert body["00081199"]["Value"][0]["00081155"]["Value"] == ["1.2.3.1.1.1"]
    assert [event["outcome"] for event in audited(store)] == ["success", "refused", "refused", "refused"]


def test_one_file_without_multipart(served: Served) -> None:
    _store, client = served
    ds = ct_slice(1)
    answer = client.post("studies", content=file_bytes(ds), headers={"Content-Type": "application/dicom"})
    assert answer.status_code == 200
    long = client.post("studies", content=bytes(2**20 + 1), headers={"Content-Type": "application/dicom"})
    assert long.status_code == 413


def test_metadata_and_native_bulk_data(served: Served) -> None:
    store, client = served
    ds = ct_slice(1)
    ds.PatientName = "山田^太郎"
    ds.SpecificCharacterSet = "ISO_IR 192"
    answer = client.post("studies", **bulk_request(ds, [("application/octet-stream", ds.PixelData)]))
    assert answer.status_code == 200, answer.text
    got = store.dataset(ds.SOPInstanceUID)
    assert got.PixelData == ds.PixelData
    assert got.PatientName == ds.PatientName
    assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert {e.tag for e in got} == {e.tag for e in ds}
    assert [event["kind"] for event in audited(store)] == ["dicom.store"]


def test_metadata_and_compressed_frames(served: Served) -> None:
    store, client = served
    path = get_testdata_file("SC_rgb_rle_2frame.dcm", download=False)
    ds = dcmread(path)
    frames = [("image/dicom-rle", frame) for frame in generate_frames(ds.PixelData, number_of_frames=2)]
    assert client.post("studies", **bulk_request(ds, frames)).status_code == 200
    got = store.dataset(ds.SOPInstanceUID)
    assert got.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert np.array_equal(pixel_array(got), pixel_array(ds))


def test_broken_metadata(served: Served) -> None:
    _store, client = served
    ds = ct_slice(1)
    missing = client.post("studies", **bulk_request(ds, []))
    assert missing.status_code == 409
    assert missing.json()["00081198"]["Value"][0]["00081155"]["Value"] == [ds.SOPInstanceUID]
    kind = "application/dicom+json"
    for parts in (
        [({"Content-Type": kind}, b"{no json")],
        [({"Content-Type": kind}, b"[1]")],
        [({"Content-Type": "image/jpeg"}, b"x")],
    ):
        assert client.post("studies", **multipart(kind, parts)).status_code == 400
    long = [({"Content-Type": kind}, b"{}"), ({"Content-Location": "a"}, bytes(2**20))]
    assert client.post("studies", **multipart(kind, long)).status_code == 413
    strange = [({"Content-Type": kind}, b'[{"00080018": {"vr": "UI", "Value": [{}]}, "7": 3}]')]
    assert client.post("studies", **multipart(kind, strange)).status_code == 409
