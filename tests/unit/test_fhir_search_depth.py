"""Search beyond one parameter: composites, chains, codes by meaning, includes that go on, sorting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings, strategies as st

from digital_twins.fhir import FhirError, FhirStore
from digital_twins.fhir._http import query_pairs
from digital_twins.fhir.validation import Validator
from fhir_support import LOINC, open_store, patient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UCUM = "http://unitsofmeasure.org"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def concept(code: str, display: str = "", system: str = LOINC) -> dict[str, Any]:
    coding = {"system": system, "code": code, **({"display": display} if display else {})}
    return {"coding": [coding]}


def quantity(value: float, code: str = "mm[Hg]") -> dict[str, Any]:
    return {"value": value, "unit": code, "system": UCUM, "code": code}


def pressure(name: str, systolic: float, diastolic: float) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": concept("85354-9", "Blood pressure panel"),
        "subject": {"reference": "Patient/ann"},
        "component": [
            {"code": concept("8480-6", "Systolic blood pressure"), "valueQuantity": quantity(systolic)},
            {"code": concept("8462-4", "Diastolic blood pressure"), "valueQuantity": quantity(diastolic)},
        ],
    }


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "trust", "name": "Northern Trust"},
    {
        "resourceType": "Organization",
        "id": "ward",
        "name": "Ward",
        "partOf": {"reference": "Organization/trust"},
    },
    {
        "resourceType": "Practitioner",
        "id": "doc",
        "name": [{"family": "Okafor"}],
        "identifier": [{"system": "urn:npi", "value": "1"}],
    },
    patient(
        id="ann",
        generalPractitioner=[{"reference": "Practitioner/doc"}],
        managingOrganization={"reference": "Organization/ward"},
    ),
    patient(id="bob", name=[{"family": "100%_!"}], gender="male"),
    pressure("low", 110, 70),
    pressure("high", 150, 95),
    {
        "resourceType": "Observation",
        "id": "glucose",
        "status": "final",
        "code": {"coding": concept("2339-0", "Glucose in Blood")["coding"], "text": "Sugar"},
        "subject": {"reference": "Patient/bob"},
        "encounter": {"reference": "Encounter/visit"},
        "valueQuantity": quantity(6.3, "mmol/L"),
    },
    {
        "resourceType": "Observation",
        "id": "words",
        "status": "final",
        "code": {"text": "Überweisung geplant"},
        "subject": {"reference": "Group/1"},
        "valueString": "soon",
    },
    {
        "resourceType": "Encounter",
        "id": "visit",
        "status": "finished",
        "class": {"system": ACT, "code": "ACUTE"},
        "subject": {"reference": "Patient/bob"},
        "participant": [{"individual": {"reference": "Practitioner/doc"}}],
    },
    {
        "resourceType": "DocumentReference",
        "id": "new",
        "status": "current",
        "content": [{"attachment": {"url": "urn:x"}}],
        "relatesTo": [
            {"code": "replaces", "target": {"reference": "DocumentReference/old"}},
            {"code": "signs", "target": {"reference": "DocumentReference/other"}},
        ],
    },
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    validator = Validator()
    with open_store(tmp_path_factory.mktemp("depth"), systems=lambda: validator.terminology) as opened:
        for resource in RESOURCES:
            opened.update(resource)
        yield opened


@pytest.mark.parametrize(
    ("kind", "query", "expected"),
    [
        ("Observation", "component-code-value-quantity=8480-6$gt120", {"high"}),
        ("Observation", f"component-code-value-quantity={LOINC}|8480-6$gt120", {"high"}),
        ("Observation", "component-code-value-quantity=8480-6$lt100", set()),  # 70 and 95 are diastolic
        ("Observation", "component-code-value-quantity=|8480-6$gt1", set()),
        ("Observation", "combo-code-value-quantity=8462-4$ge95,2339-0$gt6", {"high", "glucose"}),
        ("Observation", "combo-code-value-quantity=2339-0$6.3||mmol/L", {"glucose"}),
        ("Observation", "code-value-quantity=2339-0$6.3", {"glucose"}),
        ("Observation", "code-value-quantity=2339-0$7", set()),
        ("Observation", "code-value-string=85354-9$soon", set()),
        ("DocumentReference", "relationship=replaces$DocumentReference/old", {"new"}),
        ("DocumentReference", "relationship=replaces$DocumentReference/other", set()),
        ("Observation", "combo-code=8480-6,2339-0", {"low", "high", "glucose"}),
        ("Observation", "combo-value-quantity=gt100", {"low", "high"}),
        ("Observation", "subject:Patient.organization.partof.name=north", {"low", "high"}),
        ("Observation", "patient.general-practitioner.family=okafor", {"low", "high"}),
        ("Observation", "encounter.participant:Practitioner.identifier=urn:npi|1", {"glucose"}),
        ("Observation", "subject.name=muster", {"low", "high"}),
        ("Patient", "_has:Observation:patient:encounter.participant:Practitioner.family=Okafor", {"bob"}),
        ("Practitioner", "_has:Patient:general-practitioner:_has:Observation:subject:code=85354-9", {"doc"}),
        ("Organization", "_has:Patient:organization:_id=ann", {"ward"}),
        ("Observation", "code:text=glucose", {"glucose"}),
        ("Observation", "code:text=BLOOD", {"low", "high", "glucose"}),
        ("Observation", "code:text=sugar", {"glucose"}),
        ("Observation", "code:text=uberweisung", {"words"}),
        ("Observation", "code:missing=true", set()),
        ("Observation", "patient:missing=true", {"words"}),
        ("Observation", "patient=Group/1", set()),
        ("Observation", "subject=Group/1", {"words"}),
        ("Encounter", "class:in=http://terminology.hl7.org/ValueSet/v3-ActEncounterCode", {"visit"}),
        ("Encounter", "class:not-in=http://terminology.hl7.org/ValueSet/v3-ActEncounterCode", set()),
        ("Encounter", f"class:below={ACT}|IMP", {"visit"}),
        ("Encounter", f"class:below={ACT}|AMB", set()),
        ("Encounter", f"class:above={ACT}|ACUTE", {"visit"}),
        ("Encounter", "practitioner=doc", {"visit"}),
        ("Patient", "family:contains=%25_", {"bob"}),
        ("Patient", "family:contains=%25x", set()),
        ("Patient", "gender:not=male", {"ann"}),
    ],
)
def test_finds(store: FhirStore, kind: str, query: str, expected: set[str]) -> None:
    name, _, value = query.partition("=")
    found = store.search(kind, {name: value.replace("%25", "%")}, strict=True)
    assert {hit.id for hit in found.matches} == expected


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Observation", "component-code-value-quantity", "8480-6"),
        ("Observation", "component-code-value-quantity", "8480-6$x"),
        ("Observation", "component-code-value-quantity:missing", "true"),
        ("Observation", "code:in", "http://example.org/ValueSet/unknown"),
        ("Observation", "code:below", f"{LOINC}|2339-0"),
        ("Observation", "code:above", "2339-0"),
        ("Observation", "subject:Nonsense.name", "x"),
        ("Observation", "subject:below", "Patient/1"),
        ("Observation", "_total", "perhaps"),
        ("Patient", "_lastUpdated:not", "2020"),
        ("Patient", "_has:Observation:patient", "x"),
    ],
)
def test_refuses(store: FhirStore, kind: str, name: str, value: str) -> None:
    with pytest.raises(FhirError) as error:
        store.search(kind, {name: value}, strict=True)
    assert error.value.http_status == 400


def test_codes_by_meaning_need_a_terminology(tmp_path: Path) -> None:
    with open_store(tmp_path) as bare:
        bare.update(RESOURCES[5])
        assert [hit.id for hit in bare.search("Observation", {"code:text": "panel"}).hits] == ["low"]
        with pytest.raises(FhirError):
            bare.search("Observation", {"code:in": "http://hl7.org/fhir/ValueSet/observation-codes"})


@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("Observation", {"_include": "Observation:encounter"}, {"Encounter/visit"}),
        ("Observation", {"_include": "Observation:subject:Patient"}, {"Patient/bob"}),
        ("Observation", {"_include": "Observation:subject:Group"}, set()),
        ("Observation", {"_include": "Observation:*"}, {"Encounter/visit", "Patient/bob"}),
        ("Observation", {"_include": "*"}, {"Encounter/visit", "Patient/bob"}),
        (
            "Observation",
            {"_include": "Observation:encounter", "_include:iterate": "Encounter:participant"},
            {"Encounter/visit", "Practitioner/doc"},
        ),
        (
            "Observation",
            {
                "_include": "Observation:encounter",
                "_include:iterate": "Encounter:participant",
                "_revinclude:iterate": "Patient:general-practitioner",
            },
            {"Encounter/visit", "Practitioner/doc", "Patient/ann"},
        ),
        ("Observation", {"_include": "Patient:organization"}, set()),
    ],
)
def test_includes(store: FhirStore, kind: str, params: dict[str, str], expected: set[str]) -> None:
    page = store.search(kind, {"_id": "glucose", **params})
    assert {f"{h.type}/{h.id}" for h in page.hits if h.mode == "include"} == expected
    assert [h.id for h in page.matches] == ["glucose"]


def test_reverse_includes_of_everything_and_up_a_hierarchy(store: FhirStore) -> None:
    page = store.search("Patient", {"_id": "bob", "_revinclude": "*"})
    assert {h.id for h in page.hits} == {"bob", "glucose", "visit"}
    page = store.search(
        "Patient", {"_id": "ann", "_include:iterate": ["Patient:organization", "Organization:partof"]}
    )
    assert {h.id for h in page.hits} == {"ann", "ward", "trust"}


def test_an_update_and_a_delete_take_the_rows_of_composites_away(tmp_path: Path) -> None:
    with open_store(tmp_path) as own:
        own.update(pressure("x", 150, 95))
        query = {"component-code-value-quantity": "8480-6$gt120"}
        assert len(own.search("Observation", query).hits) == 1
        own.update(pressure("x", 110, 95))
        assert own.search("Observation", query).hits == []
        own.update(pressure("x", 150, 95))
        own.delete("Observation", "x")
        assert own.search("Observation", query).hits == []
        tables = ("token", "reference", "date", "string", "quantity", "uri")
        with own.database.read() as connection:
            for table in tables:
                assert connection.execute(f"SELECT count(*) FROM fhir_{table}").fetchone() == (0,)


def test_sorting_by_any_kind_of_parameter(store: FhirStore) -> None:
    kinds = {"code": "token", "subject": "reference", "value-quantity": "quantity", "date": "date"}
    for code in (*kinds, "value-string", "combo-code", "_lastUpdated", "_id"):
        for sort in (code, f"-{code}"):
            page = store.search("Observation", {"_sort": sort}, strict=True)
            assert len({hit.id for hit in page.hits}) == 4
    found = store.search("Observation", {"_sort": "-combo-value-quantity"}).hits
    assert [hit.id for hit in found][:2] == ["high", "low"]


def test_codings_are_written_once(tmp_path: Path) -> None:
    with open_store(tmp_path) as own:
        for number in range(80):
            own.create({**pressure("x", 100 + number, 60), "code": concept(f"c-{number % 40}", "Thing")})
        with own.database.read() as connection:
            rows = connection.execute("SELECT code, words FROM fhir_coding").fetchall()
        assert len(rows) == len(set(rows)) == 42
        assert len(own.search("Observation", {"code:text": "thing", "_count": "1000"}).hits) == 80


@settings(deadline=None)
@given(st.text(alphabet="ab=&%+25Cé|:,;\u00b3 ", max_size=40))
def test_a_query_is_read_as_the_standard_library_reads_it(text: str) -> None:
    assert query_pairs(text) == parse_qsl(text, keep_blank_values=True)
