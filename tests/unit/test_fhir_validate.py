"""Structural validation: names, cardinality, types, formats, with the place of the fault."""

from __future__ import annotations

import copy
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir import FhirError, structural_issues
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._json import dumps, loads
from digital_twins.fhir._validate import check
from fhir_support import observation, patient

if TYPE_CHECKING:
    from pathlib import Path


def broken(base: dict[str, Any], change: Any) -> dict[str, Any]:
    resource = copy.deepcopy(base)
    change(resource)
    return resource


FAULTS: list[tuple[Any, str]] = [
    (lambda p: p.update(colour="red"), "Patient.colour"),
    (lambda p: p.update(gender=7), "Patient.gender"),
    (lambda p: p.update(active="yes"), "Patient.active"),
    (lambda p: p.update(birthDate="1961-13"), "Patient.birthDate"),
    (lambda p: p.update(birthDate="1961-04-01T00:00:00Z"), "Patient.birthDate"),
    (lambda p: p.update(name={"family": "Muster"}), "Patient.name"),
    (lambda p: p.update(name=[]), "Patient.name"),
    (lambda p: p["name"][0].update(given="Élodie"), "Patient.name[0].given"),
    (lambda p: p["name"][0].update(family=["Muster"]), "Patient.name[0].family"),
    (lambda p: p["name"].append({}), "Patient.name[1]"),
    (lambda p: p.update(deceasedBoolean=True, deceasedDateTime="2020"), "Patient.deceased"),
    (lambda p: p.update(multipleBirthInteger=1.5), "Patient.multipleBirthInteger"),
    (lambda p: p.update(link=[{"type": "seealso"}]), "Patient.link[0].other"),
    (lambda p: p.update(contained=[{"resourceType": "Nobody"}]), "Patient.contained[0]"),
    (lambda p: p.update(extension=[{"valueString": "x"}]), "Patient.extension[0].url"),
    (lambda p: p.update(_birthDate={"value": 1}), "Patient.birthDate"),
]


@pytest.mark.parametrize(("change", "where"), FAULTS, ids=[f"{n}-{w}" for n, (_, w) in enumerate(FAULTS)])
def test_a_fault_is_found_at_its_place(change: Any, where: str) -> None:
    assert structural_issues(patient()) == []
    assert where in [issue.location for issue in structural_issues(broken(patient(), change))]


def test_required_elements_and_choices() -> None:
    found = {i.location for i in structural_issues({"resourceType": "Observation"})}
    assert {"Observation.status", "Observation.code"} <= found
    assert "MedicationRequest.medication" in {
        i.location for i in structural_issues({"resourceType": "MedicationRequest"})
    }
    weight = observation(
        "Patient/1", "29463-7", 70.0, effectiveDateTime="2024", effectivePeriod={"start": "2024"}
    )
    assert [i.location for i in structural_issues(weight)] == ["Observation.effective"]


def test_check_says_what_is_no_resource_and_hides_values() -> None:
    with pytest.raises(FhirError) as error:
        check({"resourceType": "Nonsense"})
    assert error.value.http_status == 400
    with pytest.raises(FhirError) as error:
        check(patient(gender="not a code  secret"))
    assert error.value.http_status == 422
    assert "secret" not in str(error.value)
    with pytest.raises(FhirError):
        check([], kind="Patient")


def test_issues_are_bounded() -> None:
    many = patient(name=[{"family": 1} for _ in range(1000)])
    assert len(structural_issues(many)) == 50


def test_decimals_keep_their_digits() -> None:
    for text in ("1.10", "0.000000000000000000001", "1E3", "12345678901234.123456", "3", "-0.0500"):
        assert dumps(loads(b'{"value":' + text.encode() + b"}")) == b'{"value":' + text.encode() + b"}"
    assert loads(b'{"value": 1.10}')["value"] == 1.1


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 5000, b'{"a":' * 200 + b"1" + b"}" * 200])
def test_bad_json_is_refused(raw: bytes) -> None:
    with pytest.raises(FhirError) as error:
        loads(raw)
    assert error.value.http_status == 400


def test_every_type_has_a_shape_and_parameters() -> None:
    table = definitions()
    assert len(table.types) == 147
    assert sum(len(p) for p in table.parameters.values()) > 1600
    owners: dict[int, str] = {}
    for kind, rows in table.parameters.items():
        for each in rows.values():  # two parameters of a type may share their rows, two types may not
            assert each.number != each.identifier_number
            assert owners.setdefault(each.number, kind) == kind
            assert owners.setdefault(each.identifier_number, kind) == kind


def test_official_examples_pass(shared_data: Path) -> None:
    """Every example of the US Core 7.0.0 package is R4: the structure of each must be accepted."""
    wrong = {}
    count = 0
    with tarfile.open(shared_data / "fhir" / "us-core" / "us_core_700.tgz") as archive:
        for member in archive:
            if "/example/" in member.name and member.name.endswith(".json"):
                stream = archive.extractfile(member)
                assert stream is not None
                resource = json.load(stream)
                if "resourceType" in resource:
                    count += 1
                    issues = structural_issues(resource)
                    if issues:
                        wrong[member.name] = issues[:2]
    assert count > 200
    assert not wrong
