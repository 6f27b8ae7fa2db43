"""A disk that is full or read-only: a clear answer at each door, nothing half-written, and work goes on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from phantom_study import assert_alive, outcome, part10, phantom, remote, send_all, transaction

from digital_twins import DigitalTwinError, StorageError
from digital_twins.audit import verify_trail
from digital_twins.config import load_settings
from digital_twins.dicom import find, send
from digital_twins.server import Node

if TYPE_CHECKING:
    from pathlib import Path

    from small_volume import SmallVolume


def test_full_disk_and_room_again(small_volume: SmallVolume) -> None:
    folder = small_volume("size=48m")
    patient = phantom("FULL", 900)
    study = str(patient.images[0].StudyInstanceUID)
    ballast = folder / "ballast"
    with Node(load_settings(data_dir=folder, dicom_port=0, http_port=0, study_stable_seconds=0.5)) as node:
        send(remote(node), patient.images[:3])
        small_volume.fill(ballast)
        with pytest.raises(DigitalTwinError, match="A7"):
            send(remote(node), patient.images[3:])
        _refused_by_http(node.base_url, patient.resources, part10(patient.images[3]))
        kept = find(remote(node), {"StudyInstanceUID": study, "NumberOfStudyRelatedInstances": ""})
        assert [int(match.NumberOfStudyRelatedInstances) for match in kept] == [3]
        ballast.unlink()
        send_all(node, patient)
        shown = outcome(node, patient, until=lambda mine: mine["twin_count"] == 1)
        assert shown["latest_job"]["state"] == "succeeded"
        assert len(list((folder / "blobs" / "tmp").glob("*/*[!k]"))) == 0
        assert_alive(node)
    assert verify_trail(folder / "audit.sqlite").ok


def _written_until_refused(base_url: str, resources: list[dict[str, object]]) -> httpx.Response:
    """Write large notes: the room that the database's log has kept for itself is used up first.

    What is accepted meanwhile is kept. Returns the refusal.
    """
    notes = [{"text": "x" * 65_536}]
    for number in range(300):
        large = [
            {**each, "note": notes} if each["resourceType"] == "Condition" else each for each in resources
        ]
        answer = httpx.post(f"{base_url}/fhir", json=transaction(large), timeout=30)
        if answer.status_code != 200:
            return answer
        seen = httpx.get(f"{base_url}/fhir/Condition/{resources[1]['id']}", timeout=30)
        assert seen.json()["meta"]["versionId"] == str(number + 1)
    raise AssertionError("20 MB were written to a volume that is full")


def _refused_by_http(base_url: str, resources: list[dict[str, object]], file: bytes) -> None:
    """FHIR, STOW-RS and the API each say that the volume is full; what was there is still read."""
    fhir = _written_until_refused(base_url, resources)
    assert fhir.status_code == 507, fhir.text
    assert fhir.json()["resourceType"] == "OperationOutcome"
    assert "full" in fhir.json()["issue"][0]["diagnostics"]
    assert httpx.get(f"{base_url}/fhir/Patient/{resources[0]['id']}", timeout=30).status_code in {200, 507}
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--x--"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    stow = httpx.post(
        f"{base_url}/dicom-web/studies", content=body, headers={"Content-Type": kind}, timeout=30
    )
    assert stow.status_code in {409, 503, 507}, stow.text
    assert httpx.get(f"{base_url}/health", timeout=30).status_code in {200, 503}


def test_a_disk_that_fills_while_the_twin_is_built(small_volume: SmallVolume) -> None:
    folder = small_volume("size=48m")
    patient = phantom("FILLING", 901)
    ballast = folder / "ballast"
    with Node(load_settings(data_dir=folder, dicom_port=0, http_port=0, study_stable_seconds=0.5)) as node:
        send_all(node, patient)
        outcome(node, patient, until=lambda mine: (mine["latest_job"] or {}).get("state") == "running")
        small_volume.fill(ballast)
        with pytest.raises(DigitalTwinError, match="A7"):
            send(remote(node), phantom("FILLING-2", 902).images)
        ballast.unlink()
        shown = outcome(node, patient)
        if shown["latest_job"]["state"] == "failed":  # given up before there was room: a person retries it
            assert "full" in shown["latest_job"]["error"]["why"]
            job = shown["latest_job"]["job_id"]
            httpx.post(f"{node.base_url}/api/jobs/{job}/retry", timeout=30).raise_for_status()
        outcome(node, patient, until=lambda mine: mine["twin_count"] == 1)
        assert_alive(node)
    assert verify_trail(folder / "audit.sqlite").ok


def test_read_only_data_folder(small_volume: SmallVolume) -> None:
    folder = small_volume("size=8m")
    small_volume.remount("ro")
    with (
        pytest.raises(StorageError) as refused,
        Node(load_settings(data_dir=folder / "data", dicom_port=0, http_port=0)),
    ):
        pass
    assert "read-only" in refused.value.why.lower()
    assert refused.value.fix


def test_serve_says_it_in_three_lines(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    command = [sys.executable, "-m", "digital_twins.cli", "serve", "--data", str(file / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 3, done.stderr
    assert "Traceback" not in done.stderr
