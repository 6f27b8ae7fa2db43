"""Search in compartments: what belongs to a patient, an encounter, a practitioner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins import auth
from digital_twins.fhir import FhirError, structural_issues
from digital_twins.fhir._access import request_allowed
from fhir_support import observation, open_store, patient, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def measured(name: str) -> dict[str, Any]:
    return observation("Patient/ann", "8480-6", 1, id=name)


MEMBERS: list[dict[str, Any]] = [
    patient(id="ann"),
    patient(id="bob"),
    {"resourceType": "Practitioner", "id": "doc"},
    {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": {"reference": "Patient/ann"},
        "participant": [{"individual": {"reference": "Practitioner/doc"}}],
    },
    {**measured("one"), "encounter": {"reference": "Encounter/stay"}},
    {**measured("two"), "subject": {"reference": "Patient/bob"}},
    {
        **measured("three"),
        "performer": [{"reference": "Patient/ann"}],
        "subject": {"reference": "Patient/bob"},
    },
]
"""Observation three is of bob and was performed by ann: it is in both compartments."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with open_store(tmp_path_factory.mktemp("members")) as opened, serve(opened) as base:
        for resource in MEMBERS:
            opened.update(resource)
        yield base


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Patient/ann/Observation", {"Observation/one", "Observation/three"}),
        ("Patient/ann/Observation?_id=three,two", {"Observation/three"}),
        ("Patient/bob/Observation?code=8480-6&subject=Patient/ann", set()),
        ("Patient/none/Observation", set()),
        ("Patient/ann/*", {"Encounter/stay", "Observation/one", "Observation/three"}),
        ("Patient/ann/*?_type=Encounter", {"Encounter/stay"}),
        ("Encounter/stay/*", {"Encounter/stay", "Observation/one"}),
        ("Encounter/stay/Observation", {"Observation/one"}),
        ("Practitioner/doc/Encounter", {"Encounter/stay"}),
    ],
)
def test_members(base: str, path: str, expected: set[str]) -> None:
    seen: set[str] = set()
    url: str | None = f"{base}/{path}{'&' if '?' in path else '?'}_count=1"
    while url:
        page = httpx.get(url, timeout=60).json()
        assert structural_issues(page) == []
        found = {entry["fullUrl"].removeprefix(f"{base}/") for entry in page.get("entry", ())}
        assert not found & seen
        seen |= found
        url = next((x["url"] for x in page["link"] if x["relation"] == "next"), None)
    assert seen == expected


def test_by_form_and_refusals(base: str) -> None:
    form = httpx.post(f"{base}/Patient/ann/Observation/_search", data={"_id": "one,two"}, timeout=60)
    assert [entry["resource"]["id"] for entry in form.json()["entry"]] == ["one"]
    for path, status in (
        ("Patient/ann/Organization", 404),
        ("Observation/one/Patient", 404),
        ("Patient/ann/Nothing", 404),
        ("Patient/ann/*?_type=Organization", 404),
        ("Patient/ann/Observation?date=x", 400),
    ):
        assert httpx.get(f"{base}/{path}", timeout=60).status_code == status, path
    assert httpx.post(f"{base}/Patient/ann/Observation", json={}, timeout=60).status_code == 405


def test_a_token_of_one_patient_sees_only_that_compartment(tmp_path: Path) -> None:
    scope = auth.parse_fhir_scope("patient/Observation.rs")
    assert scope is not None
    who = auth.Principal("client:x", scopes=(scope,), patient="ann")
    assert request_allowed(who, "GET", "/Patient/bob/Observation")  # the store narrows it
    assert not request_allowed(who, "GET", "/Patient/ann/Encounter")
    with open_store(tmp_path) as opened:
        for resource in MEMBERS:
            opened.update(resource)
        with auth.acting_as(who):
            for owner, expected in (("ann", {"one", "three"}), ("bob", {"three"})):
                query = opened.parse("Observation", [], owner=("Patient", owner))
                assert {hit.id for hit in opened.run(query).hits} == expected
            with pytest.raises(FhirError) as error:
                opened.run(opened.parse("Encounter", [], owner=("Patient", "ann")))
            assert error.value.http_status == 403
            across_all = opened.parse_across([], owner=("Patient", "bob"))
            assert {hit.id for hit in opened.run_across(across_all).hits} == {"three"}
