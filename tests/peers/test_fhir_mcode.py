"""HL7's mCODE package 4.0.0: added, served and validated, and its patients read from a server."""

from __future__ import annotations

import copy
import json
import tarfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.cli import main
from digital_twins.clinical_integration import ClinicalConnector, ClinicalDigitalTwinFactory
from digital_twins.fhir.validation import PACKAGES_FOLDER, DefinitionSet, ResourceValidation, Validator
from fhir_support import open_store, serve
from foreign import PEERS, missing_peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.fhir import FhirStore

pytestmark = pytest.mark.peers
MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/"
JENNY, ADAM, BRIAN = "MRN1234", "22ea1d1b-03a5-47d6-81e0-b9b4cbb15ccf", "MRN5678"


@pytest.fixture(scope="module")
def archive() -> Path:
    file = PEERS / "packages" / "hl7.fhir.us.mcode-4.0.0.tgz"
    return file if file.is_file() else missing_peer("npm package hl7.fhir.us.mcode")


@pytest.fixture(scope="module")
def us_core(shared_data: Path) -> Path:
    return shared_data / "fhir" / "us-core" / "us_core_610.tgz"


@pytest.fixture(scope="module")
def validator(archive: Path, us_core: Path) -> Validator:
    return Validator(DefinitionSet.from_packages([us_core, archive]))


def resources(archive: Path, folder: str) -> list[dict[str, Any]]:
    with tarfile.open(archive) as opened:
        found = []
        for member in opened.getmembers():
            if member.name.rpartition("/")[0] == folder and member.name.endswith(".json"):
                file = opened.extractfile(member)
                assert file is not None
                found.append(json.loads(file.read()))
    return [each for each in found if "resourceType" in each]


@pytest.fixture(scope="module")
def examples(archive: Path) -> list[dict[str, Any]]:
    return resources(archive, "package/example")


def errors(validator: Validator, resource: dict[str, Any]) -> set[str]:
    return {i.location or "" for i in validator.validate(resource) if i.severity == "error"}


def test_every_example_conforms_to_its_profile(validator: Validator, examples: list[dict[str, Any]]) -> None:
    claimed = [p for each in examples for p in each.get("meta", {}).get("profile", ()) if MCODE in p]
    wrong = {f"{each['resourceType']}/{each['id']}" for each in examples if errors(validator, each)}
    print(f"mCODE examples: {len(examples) - len(wrong)} of {len(examples)} valid")  # noqa: T201  (what the test reports)
    assert wrong == set()
    assert len(examples) == 179
    assert len(claimed) >= 90


def required(archive: Path) -> dict[str, list[str]]:
    """Profile -> the elements at the top of its resource that it demands."""
    found: dict[str, list[str]] = {}
    for each in resources(archive, "package"):
        if each["resourceType"] == "StructureDefinition" and each["kind"] == "resource":
            found[each["url"]] = [
                element["path"].partition(".")[2]
                for element in each["snapshot"]["element"]
                if element["path"].count(".") == 1 and element["min"] > 0 and "sliceName" not in element
            ]
    return found


def test_an_example_without_what_its_profile_demands_is_refused_at_that_place(
    archive: Path, validator: Validator, examples: list[dict[str, Any]]
) -> None:
    demanded, broken, missed = required(archive), 0, set()
    for each in examples:
        kind = each["resourceType"]
        for profile in each.get("meta", {}).get("profile", ()):
            for name in demanded.get(profile, ()):
                stem = name.removesuffix("[x]")
                there = [k for k in each if k == name or (name != stem and k.startswith(stem))]
                mutant = {k: copy.deepcopy(v) for k, v in each.items() if k not in there}
                if there:
                    broken += 1
                    if not any(place.startswith(f"{kind}.{stem}") for place in errors(validator, mutant)):
                        missed.add((profile.rpartition("/")[2], name))
    print(f"mCODE mutants: {broken}")  # noqa: T201  (what the test reports)
    assert missed == set()
    assert broken >= 200


def test_the_package_is_added_by_the_command_and_its_profiles_are_served(
    archive: Path,
    us_core: Path,
    examples: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    added = {}
    for file in (us_core, archive):
        assert main(["fhir", "package", "add", str(file), "--data", str(tmp_path), "--json"]) == 0
        added = json.loads(capsys.readouterr().out)
    assert (added["name"], added["version"]) == ("hl7.fhir.us.mcode", "4.0.0")
    validation = ResourceValidation(tmp_path / PACKAGES_FOLDER)
    with (
        open_store(tmp_path, validate=validation.check) as store,
        serve(store, validation=validation) as base,
    ):
        statement = httpx.get(f"{base}/metadata", timeout=120).json()
        served = {p for each in statement["rest"][0]["resource"] for p in each.get("supportedProfile", ())}
        assert set(required(archive)) <= served
        good = next(e for e in examples if e["id"] == "primary-cancer-condition-jenny-m")
        assert httpx.post(f"{base}/Condition", json=good, timeout=60).status_code == 201
        bad = {name: value for name, value in good.items() if name != "code"}
        refused = httpx.post(f"{base}/Condition", json=bad, timeout=60)
        assert refused.status_code == 422
        assert "Condition.code" in refused.text


@pytest.fixture(scope="module")
def hospital(
    examples: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FhirStore, str]]:
    """A FHIR server that holds the package's patients."""
    with open_store(tmp_path_factory.mktemp("mcode")) as store, serve(store) as base:
        for each in examples:
            if each["resourceType"] != "Bundle":
                store.update(each)
        yield store, base


def factory(base: str) -> ClinicalDigitalTwinFactory:
    return ClinicalDigitalTwinFactory(ClinicalConnector("http://127.0.0.1:9/dicom-web", base))


def test_a_breast_cancer_patient_of_the_package(hospital: tuple[FhirStore, str]) -> None:
    twin = factory(hospital[1]).create_from_patient(JENNY, include_imaging=False)
    record = twin.record
    assert twin.diagnosis == "Primary malignant neoplasm of female left breast (disorder)"
    assert twin.biomarkers == {
        "ER": "positive",
        "PR": "negative",
        "HER2": "negative",
        "PALB2": "positive",
        "Oncotype DX Breast Recurrence Score Assay": "47",
    }
    assert {name: value.split()[-3] for name, value in record.tnm.items() if name != "pM"} == {
        "cT": "cT3",
        "cN": "cN0",
        "cM": "cM0",
        "pT": "pT3",
        "pN": "pN0",
    }
    said = {(fact.kind, fact.name): (fact.value, fact.source) for fact in record.facts}
    assert said["tumour-size", "maximum dimension"] == ("2.5 cm", "Observation/tumor-size-jenny-m")
    assert said["performance-status", "ECOG"] == ("0", "Observation/ecog-performance-status-jenny-m")
    assert said["histology", "Histologic type"][0].startswith("Infiltrating duct carcinoma")
    # The example contradicts itself: the condition says IIIC, both stage groups say IIB. It is reported.
    (conflict,) = [each for each in record.conflicts if each.kind == "stage"]
    assert {fact.value for fact in conflict.facts} == {"IIIC", "IIB"}
    assert all(fact.source.partition("/")[2] for fact in record.facts)
    bare = factory(hospital[1]).create_from_patient(JENNY, include_imaging=False, include_genomics=False)
    assert bare.biomarkers == {}


def test_variants_of_several_genes_and_markers_without_a_display(hospital: tuple[FhirStore, str]) -> None:
    record = factory(hospital[1]).create_from_patient(ADAM, include_imaging=False).record
    found = record.biomarkers
    assert found["MSI"] == "MSI-H"
    assert found["TMB"] == "57.1 1/1000000{Base}"
    assert found["BAP1"] == "NM_004656.4:c.1768C>T"
    assert (found["MET"], found["ALK"]) == ("positive", "positive")  # one fusion
    assert {found[gene] for gene in ("NRAS", "KIT", "BRAF")} == {"negative"}  # one pertinent negative
    assert len(record.facts_of("variant")) == 13
    assert record.facts_of("lab") == tuple(f for f in record.facts_of("lab") if f.name != "69548-6")


def test_a_child_with_leukaemia_of_the_package(hospital: tuple[FhirStore, str]) -> None:
    record = factory(hospital[1]).create_from_patient(BRIAN, include_imaging=False).record
    assert record.diagnosis == "B-cell acute lymphoblastic leukemia (disorder)"
    labs = {fact.name: fact.value for fact in record.facts_of("lab")}
    assert labs["Hgb Bld-mCnc"] == "6.7 g/dL"
    assert labs["WBC # Bld"] == "88.5 10*3/uL"
    assert any("idarubicin-brian-l" in note for note in record.notes)  # a drug we have no model of is told
