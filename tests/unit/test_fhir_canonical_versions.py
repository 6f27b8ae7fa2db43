"""Canonical URLs with a version: the version that is named decides, never another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir import FhirError
from digital_twins.fhir.validation import DefinitionSet, Validator
from fhir_support import open_store

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://example.org/StructureDefinition/person"
SET = "http://example.org/ValueSet/colours"
OUTER = "http://example.org/ValueSet/outer"
SYSTEM = "http://example.org/CodeSystem/colours"


def profile(version: str, element: str, base: str = "http://hl7.org/fhir/StructureDefinition/Patient") -> Any:
    """A profile of Patient that asks for one element."""
    return {
        "resourceType": "StructureDefinition",
        "url": URL,
        "version": version,
        "name": "Person",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": "Patient",
        "baseDefinition": base,
        "derivation": "constraint",
        "differential": {"element": [{"id": f"Patient.{element}", "path": f"Patient.{element}", "min": 1}]},
    }


def code_system(version: str, *codes: str) -> dict[str, Any]:
    concepts = [{"code": code} for code in codes]
    return {
        "resourceType": "CodeSystem",
        "url": SYSTEM,
        "version": version,
        "content": "complete",
        "concept": concepts,
    }


def value_set(url: str, version: str, /, **include: Any) -> dict[str, Any]:
    return {"resourceType": "ValueSet", "url": url, "version": version, "compose": {"include": [include]}}


DEFINITIONS = [
    profile("1.9.0", "birthDate"),
    profile("1.10.0", "gender"),
    profile("1.10.0-ballot", "telecom"),
    profile("2.0.0", "name", "http://hl7.org/fhir/StructureDefinition/Patient|9.0.0"),
    code_system("1.0.0", "red"),
    code_system("2.0.0", "red", "green"),
    value_set(SET, "1", system=SYSTEM, version="1.0.0"),
    value_set(SET, "2", system=SYSTEM, version="2.0.0"),
    value_set(SET, "3", system=SYSTEM, version="3.0.0"),
    value_set(SET, "4", system=SYSTEM),
    value_set(OUTER, "1", valueSet=[f"{SET}|1"]),
    value_set(OUTER, "2", valueSet=[f"{SET}|2"]),
]


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator(DefinitionSet(DEFINITIONS))


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        ("|1.9.0", "birthDate"),
        ("|1.10.0", "gender"),
        ("|1.10.0-ballot", "telecom"),
        ("|1.9", "birthDate"),  # its first two numbers
        ("|1.9.7", "birthDate"),
        ("|3.0.0", None),
        ("|1.8.0", None),
        ("|2.0.0", None),  # its base is not at hand in that version
    ],
)
def test_profiles(version: str, missing: str | None) -> None:
    person = {"resourceType": "Patient", "meta": {"profile": [URL + version]}}
    issues = Validator(DefinitionSet(DEFINITIONS)).validate(person)
    errors = [issue.location for issue in issues if issue.severity == "error"]
    if missing is None:
        assert errors == []
        assert "not-found" in {i.code for i in issues if i.severity == "warning"}
    else:
        assert errors == [f"Patient.{missing}"]


def test_without_a_version_the_latest_answers() -> None:
    definitions = DefinitionSet(DEFINITIONS)
    # 2.0.0 is the latest, but its base is not at hand.
    for _ in range(2):
        latest = definitions.structure(URL)
        assert latest is not None
        assert latest["version"] == "1.10.0"
    backwards = DefinitionSet(DEFINITIONS[:3][::-1]).structure(URL)
    assert backwards is not None
    assert backwards["version"] == "1.10.0"


@pytest.mark.parametrize(
    ("value_set_url", "code", "inside"),
    [
        (f"{SET}|1", "red", True),
        (f"{SET}|1", "green", False),
        (f"{SET}|2", "green", True),
        (f"{SET}|3", "red", None),  # of a code system version that is not at hand
        (f"{SET}|7", "red", None),
        (f"{SET}|4", "green", True),  # the latest code system
        (SET, "green", True),
        (f"{OUTER}|1", "green", False),
        (f"{OUTER}|2", "green", True),
        ("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", None, True),
        ("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.0", None, True),
        ("http://hl7.org/fhir/ValueSet/administrative-gender|5.0.0", None, None),
    ],
)
def test_value_sets_and_code_systems(
    validator: Validator, value_set_url: str, code: str | None, inside: bool | None
) -> None:
    system = SYSTEM if code else "http://hl7.org/fhir/administrative-gender"
    assert validator.terminology.contains(value_set_url, system, code or "male") is inside


@pytest.mark.parametrize(
    ("version", "known"), [("4.0.1", True), ("4.0", True), ("5.0.0", False), ("3.0.2", False)]
)
def test_the_base_has_its_version(validator: Validator, version: str, known: bool) -> None:
    url = f"http://hl7.org/fhir/StructureDefinition/Patient|{version}"
    assert (validator.definitions.structure(url) is not None) is known


def test_a_search_names_the_version_of_a_value_set(tmp_path: Path) -> None:
    definitions = Validator(DefinitionSet(DEFINITIONS))
    with open_store(tmp_path, systems=lambda: definitions.terminology) as store:
        for code in ("red", "green"):
            coding = {"system": SYSTEM, "code": code}
            store.update({"resourceType": "Basic", "id": code, "code": {"coding": [coding]}})
        for version, expected in (("|1", {"red"}), ("|2", {"red", "green"}), ("", {"red", "green"})):
            found = store.search("Basic", {"code:in": f"{SET}{version}"}).matches
            assert {hit.id for hit in found} == expected
        with pytest.raises(FhirError) as error:
            store.search("Basic", {"code:in": f"{SET}|9"})
        assert error.value.http_status == 400
