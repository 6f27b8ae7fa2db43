"""The validator against official cases with the Java validator's outcomes, and against US Core's examples."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir.validation import DefinitionSet, Validator

if TYPE_CHECKING:
    from pathlib import Path

MISSED = {
    "dr-example-org": "an option of the Java runner forbids URLs of example.org",
    "bad-markdown-no-html": "an option of the Java runner forbids HTML in markdown",
    "sp-diff-type": "a SearchParameter is not compared with the one it derives from",
    "sp-diff-base": "a SearchParameter is not compared with the one it derives from",
}


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: file.read()
            for member in archive.getmembers()
            if member.isfile() and (file := archive.extractfile(member)) is not None
        }


def errors(validator: Validator, document: dict[str, Any]) -> list[str]:
    found = validator.validate(document)
    return [f"{issue.location}: {issue.text}" for issue in found if issue.severity == "error"]


def test_plain_official_cases(shared_data: Path) -> None:
    files = members(shared_data / "fhir" / "validator-r4-cases.tar.xz")
    cases = json.loads(files["validator-r4/manifest.json"])["test-cases"]
    validator = Validator(unknown_extensions="error", newer_codes="error")
    wrong = set()
    plain = [case for case in cases if case["plain"]]
    for case in plain:
        text = files[f"validator-r4/{case['file']}"]
        try:
            found = bool(errors(validator, json.loads(text)))
        except ValueError:
            found = True  # no JSON
        if found != (case["expected"]["base"]["errors"] > 0):
            wrong.add(case["name"])
    print(f"plain cases: {len(plain) - len(wrong)} of {len(plain)} agree")  # noqa: T201  (what the test reports)
    assert len(plain) == 59
    assert len(plain) - len(wrong) >= 0.92 * len(plain)
    assert wrong == set(MISSED)


def test_every_example_of_us_core_conforms(shared_data: Path) -> None:
    package = shared_data / "fhir" / "us-core" / "us_core_700.tgz"
    validator = Validator(DefinitionSet.from_packages([package]))
    checked = 0
    for name, text in members(package).items():
        if "/example" not in name or not name.endswith(".json"):
            continue
        document = json.loads(text)
        if "resourceType" in document:
            checked += 1
            assert errors(validator, document) == [], name
    assert checked == 183 + 31


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"gender": "unknown-gender"}, "Patient.gender"),
        ({"birthDate": "1970-02-30"}, "Patient.birthDate"),
        ({"name": []}, "Patient.name"),
        ({"contact": [{"gender": "male"}]}, "Patient.contact[0]"),
        ({"colour": "blue"}, "Patient.colour"),
        ({"generalPractitioner": [{"reference": "Patient/1"}]}, "Patient.generalPractitioner[0]"),
        ({"deceasedBoolean": True, "deceasedDateTime": "2020"}, "Patient.deceased"),
        ({"active": "yes"}, "Patient.active"),
        ({"communication": [{"preferred": True}]}, "Patient.communication[0].language"),
        ({"managingOrganization": {"reference": "#nobody"}}, "Patient.managingOrganization"),
    ],
)
def test_a_broken_rule_is_named_with_its_place(change: dict[str, Any], where: str) -> None:
    found = Validator().validate({"resourceType": "Patient", "id": "p", **change})
    places = {issue.location for issue in found if issue.severity == "error"}
    assert places == {where}
