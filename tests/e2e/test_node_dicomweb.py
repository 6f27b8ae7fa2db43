"""DICOMweb through the whole application of a node: guard, CORS, pictures, workitems and their WebSocket."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dicom_support import ct_slice
from digital_twins.config import Settings
from digital_twins.dicom import DicomWebClient
from digital_twins.server import Node

VIEWER = "https://viewer.example.org"
WORKITEM = {
    "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
    "00741200": {"vr": "CS", "Value": ["HIGH"]},
    "00741204": {"vr": "LO", "Value": ["Segment the tumour"]},
    "00404005": {"vr": "DT", "Value": ["20260110093000"]},
    "00404041": {"vr": "CS", "Value": ["READY"]},
}


def test_dicomweb_of_a_node(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        dicom_port=0,
        http_port=0,
        log_level="WARNING",
        study_stable_seconds=60,
        dicomweb_cors_origins=(VIEWER,),
    )
    with Node(settings) as node:
        base = f"{node.base_url}/dicom-web"
        with DicomWebClient(base) as client:
            client.store([ct_slice(1)])
        seen = httpx.get(f"{base}/studies/1.2.3.1/rendered?accept=image/png", headers={"Origin": VIEWER})
        assert (seen.status_code, seen.content[:4]) == (200, b"\x89PNG")
        assert seen.headers["access-control-allow-origin"] == VIEWER
        assert httpx.get(f"{base}/studies/1.2.3.1/thumbnail").headers["content-type"] == "image/jpeg"
        assert httpx.post(f"{base}/workitems?9.1", json=[WORKITEM]).status_code == 201
        place = httpx.post(f"{base}/workitems/9.1/subscribers/WARD").headers["Content-Location"]
        with connect(place, origin=VIEWER) as socket:
            assert json.loads(socket.recv(timeout=20))["00741000"]["Value"] == ["SCHEDULED"]
        with pytest.raises(InvalidStatus), connect(place, origin="https://evil.example.org"):
            pass
