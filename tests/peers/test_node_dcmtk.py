"""Debian's programs against a running node that has built the demo's twin: dcmtk, curl, dciodvfy, poppler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from node_process import NodeProcess, node_process, start_hospital, wait_for_twin

from dicom_support import ct_slice, file_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

PACKAGES = {
    "echoscu": "dcmtk",
    "storescu": "dcmtk",
    "findscu": "dcmtk",
    "curl": "curl",
    "dciodvfy": "dicom3tools",
    "pdftoppm": "poppler-utils",
}
MRN = "SAMPLE-LUNG-001"


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    missing = sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None})
    if missing:
        message = f"needs: apt-get install {' '.join(missing)} (make peers)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


@pytest.fixture(scope="module")
def node(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("demo")
    with node_process(folder / "data") as running:
        hospital = start_hospital(running, "lung", folder / "acknowledged.jsonl")
        try:
            assert hospital.wait(timeout=180) == 0
        finally:
            hospital.kill()
            hospital.wait()
        wait_for_twin(running)
        yield running


@pytest.fixture(scope="module")
def twin(node: NodeProcess) -> dict[str, Any]:
    return wait_for_twin(node)


def run(*command: str) -> str:
    environment = {**os.environ, "TCP_NODELAY": "1"}  # dcmtk otherwise waits 40 ms for each message
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def values(found: str, keyword: str) -> set[str]:
    """Values of an attribute in the dump that findscu prints, without their padding."""
    lines = (line for line in found.splitlines() if line.endswith(f" {keyword}") and "[" in line)
    return {line.split("[")[1].split("]")[0].strip("\0 ") for line in lines}


def curl(node: NodeProcess, path: str, accept: str, *more: str) -> str:
    return run(
        "curl", "--silent", "--show-error", "--fail", "-H", f"Accept: {accept}", *more, node.base_url + path
    )


def test_echoscu(node: NodeProcess) -> None:
    run("echoscu", "-aec", "TWIN", "127.0.0.1", str(node.dicom_port))


def test_storescu_then_findscu(node: NodeProcess, tmp_path: Path) -> None:
    for number in range(1, 4):
        (tmp_path / f"{number}.dcm").write_bytes(file_bytes(ct_slice(number, patient="DCMTK")))
    address = ("-aec", "TWIN", "127.0.0.1", str(node.dicom_port))
    run("storescu", "+sd", *address, str(tmp_path))
    wanted = ("-k", "PatientID=DCMTK", "-k", "StudyInstanceUID", "-k", "NumberOfStudyRelatedInstances")
    found = run("findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", *wanted, *address)
    assert values(found, "StudyInstanceUID") == {"1.2.3.1"}
    assert values(found, "NumberOfStudyRelatedInstances") == {"3"}


def test_findscu_finds_the_demo_study_and_its_documents(node: NodeProcess, twin: dict[str, Any]) -> None:
    address = ("-aec", "TWIN", "127.0.0.1", str(node.dicom_port))
    study = ("-k", f"PatientID={MRN}", "-k", "StudyInstanceUID", "-k", "ModalitiesInStudy")
    found = run("findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", *study, *address)
    assert values(found, "PatientID") == {MRN}
    assert any("CT" in text for text in values(found, "ModalitiesInStudy"))
    uid = places(twin)["SR"].split("/")[3]
    series = ("-k", f"StudyInstanceUID={uid}", "-k", "SeriesInstanceUID", "-k", "Modality")
    more = ("-k", "SeriesDescription")
    found = run("findscu", "-S", "-k", "QueryRetrieveLevel=SERIES", *series, *more, *address)
    assert {"CT", "SEG", "SR", "DOC"} <= values(found, "Modality")
    assert any("NOT ACQUIRED" in text for text in values(found, "SeriesDescription"))


def test_curl_gets_report_and_study_list(node: NodeProcess, twin: dict[str, Any]) -> None:
    (reference,) = (document["id"] for document in twin["documents"] if document["kind"] == "FHIR")
    report = json.loads(curl(node, f"/fhir/{reference}", "application/fhir+json"))
    assert report["resourceType"] == "DiagnosticReport"
    assert report["status"] == "preliminary"
    studies = json.loads(curl(node, f"/dicom-web/studies?PatientID={MRN}", "application/dicom+json"))
    assert len(studies) >= 2
    assert {study["00100020"]["Value"][0] for study in studies} == {MRN}


def places(twin: dict[str, Any]) -> dict[str, str]:
    """Kind of each DICOM document to its WADO-RS address, without the accept parameter."""
    kinds = {"SR", "SEG", "DICOM PDF"}
    return {d["kind"]: d["href"].split("?")[0] for d in twin["documents"] if d["kind"] in kinds}


@pytest.mark.parametrize("kind", ["SR", "SEG", "DICOM PDF"])
def test_dciodvfy_finds_no_error(node: NodeProcess, twin: dict[str, Any], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "document.dcm"
    address = places(twin)[kind]
    curl(node, address, "application/dicom", "--output", str(file))
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert said.strip()
    assert not [line for line in said.splitlines() if line.startswith("Error")]


def test_pdftoppm_renders_one_page(node: NodeProcess, twin: dict[str, Any], tmp_path: Path) -> None:
    (address,) = (document["href"] for document in twin["documents"] if document["kind"] == "PDF")
    curl(node, address, "application/pdf", "--output", str(tmp_path / "report.pdf"))
    run("pdftoppm", "-r", "40", "-gray", str(tmp_path / "report.pdf"), str(tmp_path / "page"))
    (page,) = tmp_path.glob("page*.pgm")
    assert len(set(page.read_bytes()[-20_000:])) > 20
