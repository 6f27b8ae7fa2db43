"""dicomweb-client and Orthanc's DICOMweb plugin against ours, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array

from dicom_support import ct_slice, file_bytes
from digital_twins.dicom import DicomStore, DicomWebClient
from foreign import missing_peer
from orthanc_web import Orthanc, orthanc, orthanc_program
from web_client import web_client

pytestmark = pytest.mark.peers
STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"
Served = tuple[DicomStore, httpx.Client]


def picture_slice(number: int) -> Any:
    ds = ct_slice(number)
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.WindowCenter, ds.WindowWidth = 40, 400
    ds.PixelData = np.tile(np.arange(64, dtype="<u2") * 32, (64, 1)).tobytes()
    return ds


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with web_client(tmp_path_factory.mktemp("node")) as (store, client):
        store.ingest_many(file_bytes(picture_slice(n)) for n in range(1, 4))
        store.ingest(Path(get_testdata_file("SC_rgb_rle_2frame.dcm")).read_bytes())
        yield store, client


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Iterator[Orthanc]:
    if orthanc_program() is None:
        missing_peer("orthanc with orthanc-dicomweb")
    root = str(served[1].base_url)
    ours = {
        "Url": root,
        "HasDelete": False,
        "ChunkedTransfers": True,
        "HasWadoRsUniversalTransferSyntax": True,
    }
    with orthanc(tmp_path_factory.mktemp("orthanc"), {"ours": ours}) as peer:
        yield peer


def test_dicomweb_client_queries_and_retrieves(served: Served) -> None:
    store, http = served
    client = DICOMwebClient(str(http.base_url).rstrip("/"))
    studies = client.search_for_studies(search_filters={"PatientID": "P1"}, fields=["StudyDescription"])
    assert [s["0020000D"]["Value"][0] for s in studies] == [STUDY]
    assert client.search_for_studies(search_filters={"PatientName": "doe"}, fuzzymatching=True)
    assert len(client.search_for_instances(STUDY, limit=2, offset=1)) == 2
    assert len(client.search_for_series(STUDY)) == 1
    for got in (client.retrieve_study(STUDY), client.retrieve_series(STUDY, SERIES)):
        assert [file_bytes(ds) for ds in got] == [store.read(f"{SERIES}.{n}") for n in (1, 2, 3)]
    assert client.retrieve_instance(STUDY, SERIES, f"{SERIES}.2").InstanceNumber == 2
    assert len(client.retrieve_study_metadata(STUDY)) == 3
    metadata = client.retrieve_instance_metadata(STUDY, SERIES, f"{SERIES}.1")
    bulk = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert bulk == [picture_slice(1).PixelData]
    assert client.retrieve_instance_frames(STUDY, SERIES, f"{SERIES}.1", [1]) == [picture_slice(1).PixelData]


def test_dicomweb_client_renders_and_transcodes(served: Served) -> None:
    client = DICOMwebClient(str(served[1].base_url).rstrip("/"))
    png = client.retrieve_instance_rendered(
        STUDY, SERIES, f"{SERIES}.1", media_types=("image/png",), params={"window": "40,400,linear"}
    )
    assert np.asarray(Image.open(BytesIO(png))).shape == (64, 64)
    jpeg = client.retrieve_instance_frames_rendered(
        STUDY, SERIES, f"{SERIES}.1", [1], media_types=("image/jpeg",), params={"quality": 95}
    )
    assert Image.open(BytesIO(jpeg)).format == "JPEG"
    packed = client.retrieve_instance(
        STUDY, SERIES, f"{SERIES}.1", media_types=(("application/dicom", "1.2.840.10008.1.2.4.90"),)
    )
    assert packed.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"
    assert np.array_equal(pixel_array(packed), pixel_array(picture_slice(1)))
    ds = dcmread(get_testdata_file("SC_rgb_rle_2frame.dcm"))
    uids = ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID
    decoded = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
    frames = client.retrieve_instance_frames(*uids, [1, 2], media_types=decoded)
    assert b"".join(frames) == pixel_array(ds, raw=True).tobytes()


def test_dicomweb_client_stores(served: Served) -> None:
    store, http = served
    client = DICOMwebClient(str(http.base_url).rstrip("/"))
    new = ct_slice(1, patient="PX", study="77", series="77.1")
    answer = client.store_instances([new])
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == new.SOPInstanceUID
    assert store.dataset(new.SOPInstanceUID).PixelData == new.PixelData


def test_our_client_to_orthanc(peer: Orthanc) -> None:
    with DicomWebClient(peer.dicom_web) as client:
        answer = client.store([picture_slice(n) for n in (1, 2, 3)])
        assert len(answer.ReferencedSOPSequence) == 3
        assert [s.StudyInstanceUID for s in client.search_studies(PatientID="P1")] == [STUDY]
        assert client.search_studies(StudyDate="20240101-20240131", PatientName="Doe*")
        assert len(client.search_instances(STUDY, SERIES)) == 3
        got = sorted(client.retrieve_study(STUDY), key=lambda ds: int(ds.InstanceNumber))
        assert [ds.PixelData for ds in got] == [picture_slice(n).PixelData for n in (1, 2, 3)]
        assert len(client.retrieve_metadata(STUDY)) == 3


def test_orthanc_pulls_from_ours_and_pushes_to_ours(served: Served, peer: Orthanc) -> None:
    store, _http = served
    with httpx.Client(base_url=peer.rest, timeout=120) as rest:
        found = rest.post(
            "/dicom-web/servers/ours/qido", json={"Uri": "/studies", "Arguments": {"PatientID": "P1"}}
        )
        assert STUDY in found.text
        for study in rest.get("/studies").json():
            rest.delete(f"/studies/{study}")
        pulled = rest.post(
            "/dicom-web/servers/ours/retrieve", json={"Resources": [{"Study": STUDY}], "Synchronous": True}
        )
        assert pulled.status_code == 200, pulled.text
        instances = rest.get("/instances").json()
        assert len(instances) == 3
        tags = [rest.get(f"/instances/{i}/simplified-tags").json()["SOPInstanceUID"] for i in instances]
        assert sorted(tags) == [f"{SERIES}.{n}" for n in (1, 2, 3)]
        pushed = ct_slice(1, patient="PUSH", study="55", series="55.1")
        sent = rest.post("/instances", content=file_bytes(pushed)).json()["ID"]
        answer = rest.post("/dicom-web/servers/ours/stow", json={"Resources": [sent], "Synchronous": True})
        assert answer.status_code == 200, answer.text
    assert store.dataset(pushed.SOPInstanceUID).PixelData == pushed.PixelData


def test_our_pictures_equal_orthancs(served: Served, peer: Orthanc) -> None:
    _store, http = served
    httpx.post(f"{peer.rest}/instances", content=file_bytes(picture_slice(2)))
    url = f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.2/rendered"
    shown = []
    for root in (str(http.base_url), f"{peer.dicom_web}/"):
        # httpx writes a comma as %2C, which Orthanc does not read as one
        request = Request(f"{root}{url}?window=40,400,linear", headers={"Accept": "image/png"})
        with urlopen(request, timeout=60) as answer:
            shown.append(np.asarray(Image.open(BytesIO(answer.read())).convert("L")).astype(int))
    # Orthanc maps center - width/2 to black, a half and a whole grey level from C.11.2.1.2.1.
    assert np.abs(shown[0] - shown[1]).max() <= 1
