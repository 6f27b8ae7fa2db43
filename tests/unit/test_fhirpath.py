"""FHIRPath: what the official suite does not ask, and hostile expressions."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st

from digital_twins._errors import InputError
from digital_twins.fhir._xml import resource_from_xml
from digital_twins.fhir.fhirpath import Environment, FhirPathError, Quantity, compile_expression, evaluate
from digital_twins.fhir.fhirpath._ucum import unit_of

PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [{"given": ["Ada", "M"], "family": "Lovelace"}],
    "birthDate": "1815-12-10",
    "_birthDate": {"extension": [{"url": "urn:x", "valueString": "noon"}]},
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Analytical Society"}],
    "managingOrganization": {"reference": "#o"},
    "deceasedBoolean": False,
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("birthDate.extension('urn:x').value", ["noon"]),
        ("managingOrganization.resolve().name", ["Analytical Society"]),
        ("deceased", [False]),
        ("deceased is boolean", [True]),
        ("%resource.id", ["p"]),
        ("%threshold > 3", [True]),
        ("name.given contains 'Ada'", [True]),
        ("now()", ["2026-11-25T12:00:00.000+00:00"]),
        ("1 'mg/dL' = 10 'mg/L'", [True]),
        ("37 'Cel' < 310 'K'", []),
        ("getResourceKey()", ["Patient/p"]),
        ("name.given.first().lastIndexOf('a')", [2]),
        ("coalesce(name.suffix, name.family)", ["Lovelace"]),
    ],
)
def test_values(expression: str, expected: list[object]) -> None:
    environment = Environment(variables={"threshold": [4]}, now=datetime(2026, 11, 25, 12, tzinfo=UTC))
    found = evaluate(expression, PATIENT, environment=environment)
    assert [value if isinstance(value, bool | int) else str(value) for value in found] == expected


@pytest.mark.parametrize(
    ("code", "factor"), [("mg/dL", "10"), ("mm[Hg]", "133322.387415"), ("10*3/uL", "1e12")]
)
def test_units(code: str, factor: str) -> None:
    unit = unit_of(code)
    assert unit is not None
    assert unit.factor == Decimal(factor)


def test_unknown_units_compare_only_with_themselves() -> None:
    assert Quantity(Decimal(1), "blob").comparable(Quantity(Decimal(2), "blob"))
    assert not Quantity(Decimal(1), "blob").comparable(Quantity(Decimal(2), "g"))


def test_an_invariant_of_the_base_specification() -> None:
    rule = compile_expression("contained.contained.empty()")
    assert rule.holds(PATIENT)
    assert compile_expression("name.exists() implies active.exists()").holds(PATIENT)


@pytest.mark.parametrize(
    "expression",
    ["", "(", "name.", "name.given(1", "%undefined", "nothing()", "name.where()", "'open",
     "a" * 30_000, "(" * 5000,
     "'x'.matches('(')", "name is Nothing", "@2020-13-01", "not(", "1 +"],
)  # fmt: skip
def test_bad_expressions_are_refused(expression: str) -> None:
    with pytest.raises(FhirPathError) as caught:
        evaluate(expression, PATIENT)
    assert "Lovelace" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="name.given()'\"@0123456789TZ:+-*/|&=<>~!%$`{}[] ,isoraxdiv", max_size=40))
def test_nothing_but_a_clear_error_leaves_the_engine(expression: str) -> None:
    told = ""
    try:
        evaluate(expression, PATIENT)
    except FhirPathError as error:
        told = str(error)
    assert "Lovelace" not in told


@pytest.mark.parametrize(
    "document",
    [b"", b"<Patient/>", b"<a xmlns='http://hl7.org/fhir'/>",
     b"<Patient xmlns='http://hl7.org/fhir'><x value='1'/></Patient>",
     b"<!DOCTYPE p [<!ENTITY a 'b'>]><Patient xmlns='http://hl7.org/fhir'/>", b"<Patient xmlns='http://hl7.org/fhir'>"],
)  # fmt: skip
def test_hostile_xml_is_refused(document: bytes) -> None:
    with pytest.raises(InputError):
        resource_from_xml(document)


def test_xml_says_the_same_as_json() -> None:
    text = b"""<Patient xmlns="http://hl7.org/fhir"><id value="p"/><text><status value="generated"/>
      <div xmlns="http://www.w3.org/1999/xhtml"><p>Ada &amp; co</p></div></text>
      <active value="true"/>
      <name><given value="Ada"/>
      <given value="M"><extension url="urn:x"><valueInteger value="3"/></extension></given>
      </name><birthDate value="1815-12-10"/></Patient>"""
    found = resource_from_xml(text)
    assert found["text"]["div"] == '<div xmlns="http://www.w3.org/1999/xhtml"><p>Ada &amp; co</p></div>'
    assert found["name"] == [
        {"given": ["Ada", "M"], "_given": [None, {"extension": [{"url": "urn:x", "valueInteger": 3}]}]}
    ]
    assert found["active"] is True
