"""Our client and connector against a FHIR server that others wrote: @medplum/fhir-router on node:http."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins import DigitalTwinError, NotFoundError
from digital_twins.clinical_integration import ClinicalConnector, ClinicalDigitalTwinFactory
from digital_twins.config import load_settings
from digital_twins.dicom import DicomWebClient
from digital_twins.fhir import AsyncFHIRClient, FHIRClient
from digital_twins.samples import sample_patient
from digital_twins.server import Node
from fhir_support import observation, open_store, patient, post, serve, transaction
from foreign import PEERS, missing_peer
from medplum_peer import medplum_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.records import PatientRecord

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def medplum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base address of the foreign server."""
    with medplum_server(tmp_path_factory.mktemp("medplum")) as base:
        yield base


def test_create_read_update_delete(medplum: str) -> None:
    with FHIRClient(base_url=medplum) as client:
        made = client.create("Patient", patient())
        assert client.read("Patient", made.id).name[0].family == "Muster"
        changed = client.update({**made, "active": True})
        assert changed.active is True
        assert changed.meta.versionId != made.meta.versionId
        client.delete("Patient", made.id)
        with pytest.raises(DigitalTwinError):
            client.read("Patient", made.id)
        with pytest.raises(NotFoundError):
            client.read("Patient", "nobody")


def test_a_transaction_and_every_match_of_a_search(medplum: str) -> None:
    """Its memory store names no next page: the client asks for all that it announces at once."""
    urn = "urn:uuid:11111111-1111-4111-8111-111111111111"
    weights = [post(observation(urn, "29463-7", 60 + n)) for n in range(45)]
    with FHIRClient(base_url=medplum) as client:
        done = client.transaction(transaction(post(patient(), urn), *weights))
        owner = done["entry"][0]["resource"]["id"]
        found = client.search("Observation", {"patient": owner, "_count": 10})
        assert sorted(each.valueQuantity.value for each in found) == [60 + n for n in range(45)]
        assert {each.subject.reference for each in found} == {f"Patient/{owner}"}


async def _asynchronous(base: str) -> int:
    async with AsyncFHIRClient(base_url=base) as client:
        made = await client.create("Patient", patient(name=[{"family": "Asynchron"}]))
        return len([p for p in await client.search("Patient", {"name": "Asynchron"}) if p.id == made.id])


def test_the_asynchronous_client(medplum: str) -> None:
    import asyncio

    assert asyncio.run(_asynchronous(medplum)) == 1


def test_a_record_on_that_server_is_the_record_on_ours(medplum: str, tmp_path: Path) -> None:
    sample = sample_patient("lung")
    with open_store(tmp_path) as store, serve(store) as base:
        found = []
        for address in (base, medplum):
            with FHIRClient(base_url=address) as client:
                client.transaction(sample.fhir_bundle())
            connector = ClinicalConnector("http://127.0.0.1:9/dicom-web", address)
            status = connector.test_connection()
            assert status["fhir"]
            assert not status["pacs"]
            found.append(connector.get_patient(sample.patient_id))
            with pytest.raises(NotFoundError):
                connector.get_patient("nobody")
    ours, theirs = found
    assert theirs.diagnosis == ours.diagnosis is not None
    assert (theirs.stage, theirs.biomarkers, theirs.tnm) == (ours.stage, ours.biomarkers, ours.tnm)
    assert theirs.treatments_given == ours.treatments_given != ()
    assert _said(theirs) == _said(ours) != []


def _said(record: PatientRecord) -> list[tuple[str, str, str]]:
    return sorted((fact.kind, fact.name, fact.value) for fact in record.facts)


@pytest.mark.timeout(1800)
def test_a_twin_whose_record_lives_on_that_server(medplum: str, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("a whole tumour twin: at the full counts")
    sample = sample_patient("brain")
    with FHIRClient(base_url=medplum) as client:
        client.transaction(sample.fhir_bundle())
    with Node(load_settings(data_dir=tmp_path, dicom_port=0, http_port=0)) as node:
        archive = f"{node.base_url}/dicom-web"
        DicomWebClient(archive).store(sample.datasets())
        twin = ClinicalConnector(archive, medplum).create_digital_twin(sample.patient_id)
        assert twin.record.diagnosis
        assert twin.current_volume_cm3 > 0


def _mcode() -> list[dict[str, Any]]:
    file = PEERS / "packages" / "hl7.fhir.us.mcode-4.0.0.tgz"
    if not file.is_file():
        missing_peer("npm package hl7.fhir.us.mcode")
    with tarfile.open(file) as opened:
        names = [n for n in opened.getnames() if n.startswith("package/example/") and n.endswith(".json")]
        bodies = [opened.extractfile(name) for name in names]
        return [json.loads(body.read()) for body in bodies if body is not None]


def test_a_patient_of_mcode_on_that_server(medplum: str) -> None:
    with FHIRClient(base_url=medplum) as client:
        for each in _mcode():
            if each["resourceType"] in {"Patient", "Condition", "Observation"} and "jenny-m" in each["id"]:
                client.update(each)
    connector = ClinicalConnector("http://127.0.0.1:9/dicom-web", medplum)
    twin = ClinicalDigitalTwinFactory(connector).create_from_patient("MRN1234", include_imaging=False)
    assert twin.diagnosis == "Primary malignant neoplasm of female left breast (disorder)"
    assert twin.biomarkers["HER2"] == "negative"
    assert set(twin.record.tnm) == {"cT", "cN", "cM", "pT", "pN", "pM"}
