"""``_filter``: its syntax, each operator by hand, and whole filters against FHIRPath on records."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir import FhirError, FhirStore
from digital_twins.fhir._filter_syntax import Comparison, Logical, parse_filter
from digital_twins.fhir.fhirpath import compile_expression
from digital_twins.fhir.validation import Validator
from fhir_support import LOINC, open_store, patient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UCUM = "http://unitsofmeasure.org"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def measured(name: str, code: str, value: float, when: Any, subject: str = "Patient/peter") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": subject},
        "valueQuantity": {"value": value, "unit": "mg", "system": UCUM, "code": "mg"},
        **({"effectivePeriod": when} if isinstance(when, dict) else {"effectiveDateTime": when}),
    }


RESOURCES: list[dict[str, Any]] = [
    patient(
        id="peter",
        name=[{"given": ["Peter", "James"], "family": "Chalmers"}],
        gender="male",
        birthDate="1974-12-25",
    ),
    patient(id="petra", name=[{"given": ["Petra"], "family": "Ångström (née Ohm)"}], birthDate="2015"),
    {"resourceType": "Patient", "id": "nobody"},
    measured("low", "1234-5", 5.4, "2014-10-10"),
    measured("high", "AB-1", 150, {"start": "2014-01-01", "end": "2014-12-31"}, "Patient/petra"),
    {**measured("bare", "1234-5", 7, "2015-03"), "subject": {"reference": "Group/g"}},
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
    {
        "resourceType": "Encounter",
        "id": "visit",
        "status": "finished",
        "class": {"system": ACT, "code": "ACUTE"},
        "subject": {"reference": "Patient/petra"},
    },
    {"resourceType": "ValueSet", "id": "vs", "status": "draft", "url": "http://example.org/fhir/ValueSet/a"},
    {"resourceType": "Location", "id": "here", "position": {"latitude": 10, "longitude": 20}},
    {
        "resourceType": "RiskAssessment",
        "id": "risk",
        "status": "final",
        "subject": {"reference": "Patient/peter"},
        "prediction": [{"probabilityDecimal": 0.25}],
    },
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirStore]:
    validator = Validator()
    with open_store(tmp_path_factory.mktemp("filter"), systems=lambda: validator.terminology) as opened:
        for resource in RESOURCES:
            opened.update(resource)
        yield opened


def found(store: FhirStore, kind: str, text: str) -> set[str]:
    return {hit.id for hit in store.search(kind, {"_filter": text, "_count": "1000"}, strict=True).matches}


class TestSyntax:
    def test_from_the_left_without_precedence(self) -> None:
        tree = parse_filter("a eq 1 or b eq 2 and c eq 3")
        assert isinstance(tree, Logical)
        assert tree.operator == "and"
        assert isinstance(tree.parts[0], Logical)
        assert tree.parts[0].operator == "or"

    def test_brackets_and_values(self) -> None:
        tree = parse_filter('related[type eq "has component" and not(x lt y)].target re Observation/4')
        assert isinstance(tree, Comparison)
        assert [s.name for s in tree.path] == ["related", "target"]
        assert isinstance(tree.path[0].within, Logical)
        assert (tree.operator, tree.value) == ("re", "Observation/4")
        quoted = parse_filter(r'name eq "a \"b\") \u00e9"')
        assert isinstance(quoted, Comparison)
        assert quoted.value == 'a "b") é'

    @pytest.mark.parametrize(
        "text",
        [
            *('userName eq "bjensen"', "name eq loinc|1234", "name in http://loinc.org/vs/LP234"),
            *("date ge 2010-10-10", "code sb snomed|diabetes", "code ss snomed|diabetes-NIDDM-stage-1"),
            *(
                "related[type eq comp].target pr false",
                "related[type eq comp and this lt that].target pr false",
            ),
            '((userName eq "bjensen") or (userName eq "jdoe")) and (code sb snomed|diabetes)',
            *("this eq that and this1 eq that1", "not (name eq x)", "_has:Observation:patient:code eq x"),
        ],
    )
    def test_what_the_standard_shows_is_read(self, text: str) -> None:
        assert parse_filter(text)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "name", "name eq", "name is x", "name eq x and", "name eq x name eq y", "(name eq x"),
            *("name eq x)", "related[type eq x] eq y", "related[type eq x.target eq y", 'name eq "x', "eq x"),
            *("not name eq x", "1name eq x", 'name eq "\\x"', "name eq"),
            "(" * 30 + "name eq x" + ")" * 30,
            " or ".join(["name eq x"] * 101),
        ],
    )
    def test_what_is_no_filter_is_refused(self, store: FhirStore, text: str) -> None:
        with pytest.raises(FhirError) as error:
            store.search("Patient", {"_filter": text or " "}, strict=True)
        assert error.value.http_status == 400


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("Patient", 'name co "pet"', {"peter", "petra"}),
        ("Patient", 'given eq "peter" and birthdate ge 1974-10-10', {"peter"}),
        ("Patient", "given eq PETER", {"peter"}),
        ("Patient", "given eq pete", set()),
        ("Patient", "given ne peter", {"peter", "petra"}),  # James is another given name
        ("Patient", "family ne chalmers", {"petra"}),
        ("Patient", "given sw pet", {"peter", "petra"}),
        ("Patient", "given ew mes", {"peter"}),
        ("Patient", "family co ngstr", {"petra"}),
        ("Patient", 'family eq "angstrom (nee ohm)"', {"petra"}),
        ("Patient", "family gt b", {"peter"}),
        ("Patient", "family lt b", {"petra"}),
        ("Patient", "family ge chalmers and family le chalmers", {"peter"}),
        ("Patient", "family pr false", {"nobody"}),
        ("Patient", "family pr true and not (gender eq male)", {"petra"}),
        ("Patient", "gender eq MALE", {"peter"}),
        ("Patient", "gender ne male", {"petra"}),
        ("Patient", "identifier eq urn:example:mrn|12345678", {"peter", "petra"}),
        ("Patient", "identifier ne urn:example:mrn|12345678", set()),
        ("Patient", "identifier ne urn:other|12345678", {"peter", "petra"}),
        ("Patient", "id eq peter or _id eq nobody", {"peter", "nobody"}),
        ("Patient", "id ne peter", {"petra", "nobody"}),
        ("Patient", "_lastUpdated gt 2020-01-01 and id eq peter", {"peter"}),
        ("Patient", "_lastUpdated lt 2020-01-01", set()),
        ("Patient", "birthdate eq 1974-12", {"peter"}),
        ("Patient", "birthdate ne 1974-12", {"petra"}),
        ("Patient", "birthdate co 2015-06-01", {"petra"}),
        ("Patient", "birthdate po 2014-12-30", set()),
        ("Patient", "birthdate sa 1999", {"petra"}),
        ("Patient", "birthdate eb 1999", {"peter"}),
        ("Patient", "birthdate ap 1974-12-26", {"peter"}),
        ("Patient", "id eq peter or id eq petra and gender eq male", {"peter"}),
        ("Patient", "id eq peter or (id eq petra and gender eq male)", {"peter"}),
        ("Patient", "id eq nobody or (id eq petra and gender eq male)", {"nobody"}),
        ("Patient", "id eq nobody or id eq petra and gender eq male", set()),
        ("Patient", "_has:Observation:patient:code eq loinc|1234-5", {"peter"}),
        ("Patient", "_has:Observation:subject:value-quantity gt 100", {"petra"}),
        ("Observation", f"code eq {LOINC}|1234-5", {"low", "bare"}),
        ("Observation", "code eq loinc|ab-1", {"high"}),
        ("Observation", "code ne loinc|1234-5", {"high"}),
        ("Observation", "code eq snomed|1234-5", set()),
        ("Observation", "code ne snomed|1234-5", {"low", "high", "bare"}),
        ("Observation", "code eq loinc|", {"low", "high", "bare"}),
        ("Observation", 'subject.name co "pet"', {"low", "high"}),
        ("Observation", "subject:Patient.name co tra", {"high"}),
        ("Observation", "subject.id eq peter", {"low"}),
        ("Observation", "subject[gender eq male].birthdate lt 2000", {"low"}),
        ("Observation", "subject[gender eq female].birthdate lt 2000", set()),
        ("Observation", "subject re Patient/petra", {"high"}),
        ("Observation", "subject eq Group/g", {"bare"}),
        ("Observation", "patient pr false", {"bare"}),
        ("Observation", "date po 2014-06", {"high"}),
        ("Observation", "date co 2014-10-10", {"low", "high"}),
        ("Observation", "date eq 2014", {"low", "high"}),
        ("Observation", "date gt 2014-12", {"bare"}),
        ("Observation", "value-quantity eq 5.4", {"low"}),
        ("Observation", "value-quantity eq 5.4|ucum|mg", {"low"}),
        ("Observation", "value-quantity eq 5.4|ucum|g", set()),
        ("Observation", "value-quantity gt 6|http://unitsofmeasure.org|mg", {"high", "bare"}),
        ("Observation", "value-quantity ne 7", {"low", "high"}),
        ("Observation", "value-quantity ap 6.9", {"bare"}),
        ("Observation", "value-quantity co 150", {"high"}),
        ("Observation", "value-quantity sa 7 or value-quantity eb 6", {"low", "high"}),
        ("Observation", "code-value-quantity eq loinc|1234-5$gt6", {"bare"}),
        ("RiskAssessment", "probability ge 0.25 and probability lt 0.3", {"risk"}),
        ("RiskAssessment", "probability gt 0.25", set()),
        ("DocumentReference", "relatesTo[code eq replaces].target re DocumentReference/old", {"new"}),
        ("DocumentReference", "relatesTo[code eq replaces].target re DocumentReference/other", set()),
        ("DocumentReference", "relatesTo[code eq signs].target pr true", {"new"}),
        ("DocumentReference", "relatesTo[code eq appends].target pr false", {"new"}),
        ("Encounter", f"class ss {ACT}|IMP", {"visit"}),
        ("Encounter", f"class ss {ACT}|AMB", set()),
        ("Encounter", f"class sb {ACT}|ACUTE", {"visit"}),
        ("Encounter", "class in http://terminology.hl7.org/ValueSet/v3-ActEncounterCode", {"visit"}),
        ("Encounter", "class ni http://terminology.hl7.org/ValueSet/v3-ActEncounterCode", set()),
        ("ValueSet", "url sw http://example.org/", {"vs"}),
        ("ValueSet", "url eq http://example.org/fhir/ValueSet/a", {"vs"}),
        ("ValueSet", "url ne http://example.org/fhir/ValueSet/a", set()),
        ("Location", "near eq 10|20|1|km", {"here"}),
        ("Location", "near pr true", {"here"}),
    ],
)
def test_operators(store: FhirStore, kind: str, text: str, expected: set[str]) -> None:
    assert found(store, kind, text) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Patient", "nothing eq x"),
        ("Patient", "gender co x"),
        ("Patient", "birthdate ge soon"),
        ("Patient", "birthdate sw 19"),
        ("Patient", "family pr maybe"),
        ("Patient", "family ss a|b"),
        ("Patient", "id gt a"),
        ("Patient", "family.given eq x"),
        ("Observation", "subject gt Patient/1"),
        ("Observation", "subject.nothing eq x"),
        ("Observation", "value-quantity eq much"),
        ("Observation", "code-value-quantity gt a$1"),
        ("Observation", "related[type eq x].target pr true"),  # no parameter of R4 4.0.1
        ("DocumentReference", "relatesTo[status eq x].target pr true"),
        ("Patient", "_has:Nothing:patient:code eq x"),
        ("Encounter", "class in http://example.org/unknown"),
    ],
)
def test_refusals(store: FhirStore, kind: str, text: str) -> None:
    with pytest.raises(FhirError) as error:
        found(store, kind, text)
    assert error.value.http_status == 400


BRUTE = [
    (
        "Patient",
        "gender eq female and birthdate lt 1980-01-01",
        "gender = 'female' and birthDate < @1980-01-01",
    ),
    (
        "Patient",
        "family sw s or given co an",
        "name.family.exists(lower().startsWith('s')) or "
        "name.given.exists(lower().contains('an') or lower().contains('án'))",  # accents do not count
    ),
    (
        "Patient",
        "not (gender eq female) and address-city pr true",
        "(gender = 'female').not() and address.city.exists()",
    ),
    (
        "Patient",
        "death-date pr true",
        "deceased.ofType(dateTime).exists()",
    ),
    (
        "Observation",
        "code eq loinc|8302-2 and value-quantity ge 150",
        "code.coding.where(system = 'http://loinc.org' and code = '8302-2').exists() and "
        "value.ofType(Quantity).value >= 150",
    ),
    (
        "Observation",
        "value-quantity lt 20||mmol/L or value-quantity gt 200",
        "value.ofType(Quantity).where((code = 'mmol/L' or unit = 'mmol/L') and value < "
        "20).exists() or value.ofType(Quantity).where(value > 200).exists()",
    ),
    (
        "Observation",
        "date ge 2015-01-01 and date lt 2016-01-01 and status eq final",
        "effective.ofType(dateTime) >= @2015-01-01T00:00:00Z and effective.ofType(dateTime) < "
        "@2016-01-01T00:00:00Z and status = 'final'",
    ),
    (
        "Observation",
        "category eq vital-signs and not (code eq loinc|8302-2 or code eq loinc|29463-7)",
        "category.coding.where(code = 'vital-signs').exists() and code.coding.where(code = "
        "'8302-2' or code = '29463-7').exists().not()",
    ),
    (
        "Encounter",
        "class eq AMB and date ge 2010",
        "class.code = 'AMB' and period.end >= @2010-01-01T00:00:00Z",
    ),
    (
        "Condition",
        "clinical-status ne active",
        "clinicalStatus.coding.where(code != 'active').exists()",
    ),
    (
        "Procedure",
        "status eq completed and code pr true and not (encounter pr true)",
        "status = 'completed' and code.exists() and encounter.exists().not()",
    ),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, full: bool) -> Iterator[FhirStore]:
    with (
        tarfile.open(shared_data / "fhir" / "synthea-bundles.tar.xz") as archive,
        open_store(tmp_path_factory.mktemp("records")) as opened,
    ):
        names = sorted((m for m in archive if m.name.endswith(".json")), key=lambda m: m.size)
        for member in names[: None if full else 3]:
            stream = archive.extractfile(member)
            assert stream is not None
            opened.transaction(stream.read())
        with tarfile.open(shared_data / "fhir" / "synthea-bulk-10.tar.xz") as bulk:
            (people,) = [m for m in bulk if m.name.endswith("/Patient.000.ndjson")]
            stream = bulk.extractfile(people)
            assert stream is not None
            for line in stream:
                opened.update(line)
        yield opened


@pytest.mark.parametrize(("kind", "text", "expression"), BRUTE)
def test_agrees_with_fhirpath_over_records(records: FhirStore, kind: str, text: str, expression: str) -> None:
    with records.database.read() as connection:
        rows = connection.execute("SELECT body FROM fhir_resource WHERE type=?", (kind,)).fetchall()
    resources = [json.loads(bytes(body)) for (body,) in rows]
    assert resources
    test = compile_expression(expression)
    expected = {r["id"] for r in resources if test.evaluate(r) == [True]}
    assert 0 < len(expected) < len(resources) or kind == "Procedure"
    total = records.search(kind, {"_filter": text, "_summary": "count"}, strict=True).total
    assert total == len(expected)
    assert found(records, kind, text) <= expected
