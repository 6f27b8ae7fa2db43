"""Document 000: connect, query, download, make a twin, and read DICOM, against the embedded node."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pypdf import PdfReader
from seed_blocks import block
from seed_hospital import credentials_in, hospital_with

from digital_twins.audit import tail_trail
from digital_twins.auth import AccessDeniedError, NotSignedInError, Principal, acting_as
from digital_twins.governance import SignatureRequiredError
from digital_twins.patient_modeling import TumorTwinPipeline
from digital_twins.samples import sample_patient
from foreign import python_package
from tumour_phantom import new_twin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from digital_twins.server import Node

Run = "Callable[[str, dict[str, Any], Path], str]"
MRN = "12345678"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
FIRST_STUDY = date(2025, 9, 1)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that holds the sample patient under the document's number."""
    with hospital_with(tmp_path_factory.mktemp("node"), MRN, FIRST_STUDY) as node:
        yield node


@pytest.fixture(scope="module")
def connected(hospital: Node, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Replacements for the host names and the credentials path of the document."""
    return {
        "https://pacs.hospital.local": f"{hospital.base_url}/dicom-web",
        "https://fhir.hospital.local/R4": f"{hospital.base_url}/fhir",
        "/secure/credentials.json": credentials_in(tmp_path_factory.mktemp("secure")),
    }


def test_quick_start_1_to_3(
    seeds: Path,
    connected: dict[str, str],
    tmp_path: Path,
    run_block: Callable[[str, dict[str, Any], Path], str],
) -> None:
    namespace: dict[str, Any] = {}
    source = block(seeds, "000", "1. Hospital System Connection").with_substitutions(connected)
    assert run_block(source, namespace, tmp_path).startswith("PACS: connected")
    assert namespace["status"]["pacs"]
    assert namespace["status"]["fhir"]

    printed = run_block(block(seeds, "000", "2. Patient Data Retrieval").source, namespace, tmp_path)
    sample = sample_patient("lung")
    images = len(sample.baseline_images()) + 1
    assert f"Downloaded {images} images from {FIRST_STUDY.isoformat()}" in printed
    assert namespace["patient"].patient_id == MRN
    assert namespace["patient"].diagnosis is not None

    printed = run_block(
        block(seeds, "000", "3. Digital Twin Creation from Clinical Data").source, namespace, tmp_path
    )
    twin = namespace["patient_dt"]
    assert f"Tumor type: {twin.diagnosis}" in printed
    assert "Stage: IIIA" in printed
    assert twin.biomarkers["EGFR"] in printed
    assert twin.twin.baseline_volume_cm3 == pytest.approx(sample.lesion.volume_cm3, rel=0.1)
    assert twin.twin.version == 2


def test_recommendations_and_structured_report(
    seeds: Path,
    connected: dict[str, str],
    tmp_path: Path,
    run_block: Callable[[str, dict[str, Any], Path], str],
) -> None:
    """Both blocks to the letter.

    The preamble is the connector and the twin of the blocks before, ``handler`` (made by the block before,
    and given the study's images) and ``prediction``, which the document takes from its simulator.
    """
    from digital_twins.clinical_integration import DICOMHandler
    from digital_twins.treatment_simulation import TreatmentSimulator

    namespace: dict[str, Any] = {}
    source = block(seeds, "000", "1. Hospital System Connection").with_substitutions(connected)
    run_block(source, namespace, tmp_path)
    run_block(block(seeds, "000", "3. Digital Twin Creation from Clinical Data").source, namespace, tmp_path)
    run_block(block(seeds, "000", "4. Treatment Recommendation Integration").source, namespace, tmp_path)
    connector, twin, found = (namespace[name] for name in ("connector", "patient_dt", "recommendations"))
    assert {each.option for each in found} == {"surgery", "chemoradiation", "immunotherapy"}
    assert "each day under treatment" in found.target
    (task,) = connector.fhir.search("Task")
    assert task.code.text == "Tumor board review"
    group = connector.fhir.read(*task.focus.reference.split("/"))
    assert [a.title for a in group.action] == [each.option for each in found]
    assert "AIAST" in [label.code for label in group.meta.security]
    (trace,) = connector.fhir.search("Provenance", {"target": f"Task/{task.id}"})
    assert trace.agent[0].who.reference.startswith("Device/")

    study = twin.course.image_datasets[0].StudyInstanceUID
    handler = namespace["handler"] = DICOMHandler()
    connector.download_study(study, folder=tmp_path / "study")
    handler.load_series(tmp_path / "study", series_uid=twin.course.image_datasets[0].SeriesInstanceUID)
    namespace["prediction"] = TreatmentSimulator(twin.twin).predict_response(
        {"type": "radiation", "total_dose_gy": 60, "fractions": 30}, horizon_days=90
    )
    run_block(block(seeds, "000", "DICOM SR (Structured Reports)").source, namespace, tmp_path)
    sr = namespace["sr"]
    (kept,) = [i for i in connector.download_study(study) if i.SOPInstanceUID == sr.SOPInstanceUID]
    assert (kept.Modality, kept.PreliminaryFlag, kept.VerificationFlag) == ("SR", "PRELIMINARY", "UNVERIFIED")


def test_fhir_client_usage(
    seeds: Path,
    hospital: Node,
    connected: dict[str, str],
    tmp_path: Path,
    run_block: Callable[[str, dict[str, Any], Path], str],
) -> None:
    """To the letter; the preamble adds the identifier and the imaging studies that the block asks for."""
    from digital_twins.fhir import FHIRClient

    client = FHIRClient(base_url=f"{hospital.base_url}/fhir")
    known = {p.id for p in client.search("Patient")}
    (name,) = known
    patient = client.read("Patient", name)
    body = json.loads(json.dumps(patient))
    body["identifier"] = [*body.get("identifier", []), {"system": "MRN", "value": MRN}]
    client.update(body)
    for modality in ("CT", "MR", "US"):
        # R4 searches the modality of the series, not that of the study.
        series = [{"uid": f"1.2.3.{len(modality)}", "modality": {"system": DCM, "code": modality}}]
        study = {"resourceType": "ImagingStudy", "status": "available", "series": series}
        client.create("ImagingStudy", {**study, "subject": {"reference": f"Patient/{name}"}})
    namespace: dict[str, Any] = {}
    host = {"https://fhir.hospital.local/R4": connected["https://fhir.hospital.local/R4"]}
    run_block(block(seeds, "000", "FHIR Client Usage").with_substitutions(host), namespace, tmp_path)
    assert [p.id for p in namespace["patients"]] == [name]
    assert sorted(s.series[0].modality.code for s in namespace["imaging"]) == ["CT", "MR"]
    stored = client.search("DiagnosticReport", {"patient": name})  # the node adds reports of its own builds
    (report,) = [r for r in stored if r.conclusion == "Digital twin predicts partial response to treatment"]
    # 59776-5 is "Procedure findings": the client corrects the document's code to our own.
    assert "59776-5" not in [c.code for c in report.code.coding]
    assert "AIAST" in [s.code for s in report.meta.security]


def test_dicom_reading_block(
    seeds: Path, lung_files: Path, tmp_path: Path, run_block: Callable[[str, dict[str, Any], Path], str]
) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir()
    sample = sample_patient("lung")
    for number, instance in enumerate(sample.baseline_images()):
        instance.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    namespace: dict[str, Any] = {}
    source = block(seeds, "000", "Reading DICOM Studies").with_substitutions({"/path/to/dicom/": str(folder)})
    printed = run_block(source, namespace, tmp_path)
    assert "Modality: CT" in printed
    assert "Patient: Sample^Lung" in printed or "Patient: Lung" in printed
    assert f"Volume shape: {sample.image.array.shape}" in printed
    assert (namespace["volume"] == sample.image.array).all()


def test_model_documentation(
    seeds: Path, lung_files: Path, tmp_path: Path, run_block: Callable[[str, dict[str, Any], Path], str]
) -> None:
    twin = TumorTwinPipeline().create_twin(
        patient_id=MRN,
        imaging_data={"ct": lung_files / "image.nii.gz"},
        tumor_segmentation=lung_files / "tumor_mask.nii.gz",
    )
    source = block(seeds, "000", "Model Documentation").with_substitutions(
        {"/docs/regulatory/": f"{tmp_path}/"}
    )
    namespace: dict[str, Any] = {"patient_dt": twin}
    run_block(source, namespace, tmp_path)
    card = namespace["model_card"]
    assert {"Intended use", "Validation", "Limitations", "Parameters"} <= set(card.sections)
    assert "not calibrated" in card.sections["Validation"][0]
    assert len(list(tmp_path.glob("*.md"))) == 8
    assert "class C" in (tmp_path / "04-soup.md").read_text(encoding="utf-8")


@pytest.mark.peers
def test_data_protection(
    seeds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_block: Callable[[str, dict[str, Any], Path], str],
) -> None:
    for package in ("moto", "boto3"):
        python_package(package)
    import boto3
    import moto

    twin = new_twin()
    twin.patient_id, twin.baseline = MRN, datetime(2025, 9, 1, 9, 30, tzinfo=UTC)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "for-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    namespace: dict[str, Any] = {"patient_dt": twin, "load_patient_dt": {MRN: twin}.__getitem__}
    with moto.mock_aws():
        kms = boto3.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/digital-twins", TargetKeyId=key)
        run_block(block(seeds, "000", "Data Protection").source, namespace, tmp_path)
        encrypted = namespace["security"].encrypt_data(twin, key_management="aws_kms")
        assert namespace["security"].decrypt_data(encrypted).content_digest == twin.content_digest
    cleaned = namespace["deidentified_dt"]
    assert MRN not in cleaned.patient_id
    assert (cleaned.baseline.year, cleaned.baseline.month, cleaned.baseline.day) == (2025, 1, 1)
    view = namespace["view_patient_dt"]
    with pytest.raises(NotSignedInError):
        view(MRN)
    with acting_as(Principal("user:adam", roles=frozenset({"admin"}))), pytest.raises(AccessDeniedError):
        view(MRN)
    with acting_as(Principal("user:anna", roles=frozenset({"oncologist"}))):
        assert view(MRN) is twin


def test_part_11_compliance(
    seeds: Path, tmp_path: Path, run_block: Callable[[str, dict[str, Any], Path], str]
) -> None:
    names = {"/audit/": f"{tmp_path}/audit/", "/reports/": f"{tmp_path}/reports/"}
    namespace: dict[str, Any] = {}
    run_block(block(seeds, "000", "21 CFR Part 11 Compliance").with_substitutions(names), namespace, tmp_path)
    with namespace["compliance"]:
        with pytest.raises(SignatureRequiredError):
            namespace["approve_treatment_plan"](None, "anna")
        report = PdfReader(tmp_path / "reports" / "compliance_report.pdf")
        text = " ".join(" ".join(page.extract_text().split()) for page in report.pages)
        assert "0 events in this period" in text
        assert "The audit trail is whole." in text
        refused = tail_trail(tmp_path / "audit" / "digital_twin_audit.log")[-1].event
        assert (refused.kind, refused.outcome) == ("governance.signed-call", "refused")
