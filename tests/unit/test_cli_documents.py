"""`twin report documents`: every file is there, says what this installation is, and invents nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.cli import main
from digital_twins.config import Settings
from digital_twins.server import Node
from tumour_phantom import RADIATION, follow_up, new_twin

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)
ALWAYS = {
    "mds2.md", "mds2.json", "hipaa-technical-safeguards.md", "hipaa-technical-safeguards.json",
    "dicom-conformance.md", "dicom-conformance.json", "sbom.cdx.json",
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twin.toml").write_text('data_dir = "data"\nauthentication = true\n')
    return tmp_path


def run(capsys: Any, *words: str) -> tuple[int, dict[str, Any], str]:
    code = main(["report", "documents", "out", *words, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {}, said.err


def test_documents_of_an_installation(place, capsys):
    code, said, err = run(capsys)
    assert code == 0, err
    assert {path.name for path in (place / "out").iterdir()} == ALWAYS
    assert said["not_asked_for"] == ["--http", "--twin"]
    answers = {each["id"]: each["answer"] for each in json.loads((place / "out" / "mds2.json").read_text())}
    assert set(answers.values()) == {"Yes", "No", "[operator to supply]"}
    bill = json.loads((place / "out" / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "digital-twins")
    (place / "twin.toml").write_text('data_dir = "data"\nauthentication = false\n')
    run(capsys)
    less = {each["id"]: each["answer"] for each in json.loads((place / "out" / "mds2.json").read_text())}
    assert sum(a == "Yes" for a in less.values()) < sum(a == "Yes" for a in answers.values())


def test_documents_of_a_twin_and_of_a_running_node(place, capsys):
    twin = new_twin()
    twin.calibrate(follow_up(new_twin(), {"proliferation_per_day": 0.03}, [28.0, 56.0]).scans, [RADIATION])
    twin.save(place / "a.twin")
    settings = Settings(data_dir=place / "node", http_port=0, dicom_port=0)
    with Node(settings) as node:
        code, said, err = run(capsys, "--twin", "a.twin", "--http", node.base_url, "--safety-class", "B")
    assert code == 0, err
    statement = json.loads((place / "out" / "fhir-capability-statement.json").read_text())
    assert (statement["resourceType"], statement["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    assert len(said["files"]) == len(set(said["files"])) > len(ALWAYS) + 10
    texts = [path.read_text() for path in (place / "out").rglob("*") if path.is_file()]
    assert all(text.strip() for text in texts)
    assert not any(twin.patient_id in text for text in texts)
    assert "class B" in (place / "out" / "iec62304" / "01-development-plan.md").read_text()


def test_a_node_that_does_not_answer(place, capsys):
    code, _, err = run(capsys, "--http", "http://127.0.0.1:9")
    assert code == 1
    assert "CapabilityStatement was not written" in err
