"""The quick plans, with what they remember, against the full walk on real resources with random changes."""

from __future__ import annotations

import copy
import json
import random
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir.fhirpath import compile_expression
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation import Validator
from digital_twins.fhir.validation._quick import Quick

if TYPE_CHECKING:
    from pathlib import Path

ODD: list[Any] = [
    None, "", " ", [], {}, 0, 1, True, 1.5, "x", "#referral", "#", "#nobody", "Patient/1", "Patient/1/2",
    "urn:uuid:x", "urn:x", "2024-02-30", "2024-12-31", "2024-06-31", [{}], {"id": "x"},
    {"reference": "Patient/1", "display": "P"},
    {"reference": "#referral"}, {"coding": [{"system": "http://loinc.org", "code": "1"}], "text": "t"},
    {"coding": [{"system": "http://loinc.org", "code": "1", "display": "t"}] * 2}, {"text": "only"},
    {"system": "http://loinc.org", "code": "1"}, {"extension": [{"url": "http://x.org/y", "valueCode": "a"}]},
]  # fmt: skip
ADDED = ("id", "text", "extension", "display", "_status", "type", "colour", "contained", "code", "reference")


def real_resources(shared_data: Path, most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with tarfile.open(shared_data / "fhir" / "synthea-bundles.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".json") else None
            found += [e["resource"] for e in json.load(file)["entry"]] if file else []
            if len(found) >= 1500:
                break
    return found[: 1500 : 1500 // most]


def places(value: Any) -> list[Any]:
    """Every object and array of a resource."""
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(each for item in inner if isinstance(item, dict | list) for each in places(item))]


def changed(resource: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    made = copy.deepcopy(resource)
    for _ in range(chance.choice([0, 1, 1, 1, 2])):
        place = chance.choice(places(made))
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place))) if place else None
        what = chance.randrange(4)
        if isinstance(place, dict) and (what == 0 or key is None):
            place[chance.choice(ADDED)] = copy.deepcopy(chance.choice(ODD))
        elif what == 1 and key not in {None, "resourceType"}:
            del place[key]
        elif what == 2 and isinstance(place, list) and place:
            place.append(copy.deepcopy(place[0]))
        elif key not in {None, "resourceType"}:
            place[key] = copy.deepcopy(chance.choice(ODD))
    return made


def said(validator: Validator, resource: dict[str, Any]) -> list[tuple[str, str, str]]:
    return sorted({(i.severity, i.location or "", i.text) for i in validator.validate(resource)})


def test_quick_plans_and_their_memory_say_what_the_full_walk_says(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    chance, validator = random.Random(51), Validator()
    real = real_resources(shared_data, 1500 if full else 150)
    documents = [changed(resource, chance) for resource in real for _ in range(3)]
    first = [said(validator, document) for document in documents]
    again = [said(validator, document) for document in documents]  # now out of what is remembered
    accepted = sum(validator.accepts(document) for document in documents)
    assert len(documents) / 10 < accepted < len(documents) * 9 / 10
    monkeypatch.setattr(Quick, "issues", lambda *_: None)
    monkeypatch.setattr(Quick, "alone", lambda *_: None)
    for document, one, two in zip(documents, first, again, strict=True):
        assert one == two == said(validator, document), document


def test_a_contained_resource_counts_as_used_only_where_fhirpath_finds_its_reference() -> None:
    """dom-3 by the references that the plan met, against its FHIRPath."""
    rule = compile_expression(
        "contained.where((('#'+id in (%resource.descendants().reference)) or "
        "descendants().where(reference = '#').exists()).not()).empty()"
    )
    validator, chance = Validator(), random.Random(7)
    accepted = 0
    for _ in range(200):
        inner = [
            {
                "resourceType": "Patient",
                "id": name,
                **chance.choice([{}, {"managingOrganization": {"reference": "#b"}}]),
            }
            for name in chance.sample("abc", chance.randrange(1, 4))
        ]
        link: Any = {"reference": chance.choice(["#a", "#b", "#c", "Patient/a"])}
        resource = {
            "resourceType": "Observation",
            "status": "final",
            "code": {
                "text": "x",
                **chance.choice([{}, {"extension": [{"url": "urn:x", "valueReference": link}]}]),
            },
            "contained": inner,
            **chance.choice([{}, {"subject": {"reference": f"#{chance.choice('abc')}"}}]),
            **chance.choice([{}, {"performer": [link, {"reference": "Practitioner/1"}]}]),
        }
        if validator.accepts(resource):
            accepted += 1
            assert rule.holds(Node(resource, "Observation"), root=Node(resource, "Observation")), resource
    assert accepted > 10
