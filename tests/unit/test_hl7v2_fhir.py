"""Messages as FHIR: valid resources, the right values, stored in one transaction, and ORU both ways."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from digital_twins.fhir import structural_issues
from digital_twins.fhir.validation import Validator
from digital_twins.hl7v2 import (
    HL7Error,
    SiteMapping,
    bundle_of,
    merged_bundle,
    oru_of,
    parse,
    worklist_items,
)
from hl7_messages import PID, PV1, TYPES, adt, header, message, omi, orm, oru

if TYPE_CHECKING:
    from collections.abc import Mapping

HOW = SiteMapping(systems={"HOSP": "urn:oid:1.2.3"})


def resources(data: bytes, kind: str) -> list[dict[str, Any]]:
    entries = bundle_of(parse(data), HOW)["entry"]
    return [each["resource"] for each in entries if each["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_resource_is_valid_and_the_bundle_repeats(kind: str) -> None:
    bundle = bundle_of(parse(TYPES[kind]))
    assert structural_issues(bundle) == []
    assert [structural_issues(each["resource"]) for each in bundle["entry"]] == [[]] * len(bundle["entry"])
    assert bundle == bundle_of(parse(TYPES[kind]))
    assert len(bundle["entry"]) >= 2


def test_the_full_validator_finds_no_error() -> None:
    validator = Validator()
    found = [
        (kind, issue.location, issue.text)
        for kind, data in TYPES.items()
        for entry in bundle_of(parse(data))["entry"]
        for issue in validator.validate(entry["resource"])
        if issue.severity == "error"
    ]
    assert found == []


def test_patient() -> None:
    (found,) = resources(adt("A31"), "Patient")
    assert found["identifier"][0]["system"] == "urn:oid:1.2.3"
    assert found["identifier"][0]["value"] == "4711"
    assert found["identifier"][1]["system"] == "urn:oid:2.16.840.1.113883.2.1.4.1"
    assert found["name"] == [
        {"use": "official", "family": "Muster", "given": ["Eva", "Maria"], "prefix": ["Dr"]}
    ]
    assert (found["gender"], found["birthDate"]) == ("female", "1962-03-14")
    assert found["address"][0]["city"] == "Bern"
    assert found["telecom"] == [{"system": "phone", "value": "+41 31 000 00 00", "use": "home"}]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("A01", "in-progress"),
        ("A02", "in-progress"),
        ("A03", "finished"),
        ("A04", "in-progress"),
        ("A08", "in-progress"),
        ("A11", "cancelled"),
        ("A12", "in-progress"),
        ("A13", "in-progress"),
    ],
)
def test_encounter_follows_the_event(event: str, status: str) -> None:
    (found,) = resources(adt(event), "Encounter")
    assert found["status"] == status
    assert found["class"]["code"] == "IMP"
    assert found["identifier"][0]["value"] == "V100"
    assert found["location"][0]["location"]["display"] == "ONK 12 2 HOSP"
    assert found["period"] == {"start": "2026-03-01T08:15:00+01:00"}
    assert found["participant"][0]["individual"]["display"] == "Dr Anna Arzt"


def test_merge_links_both_patients() -> None:
    gone, survivor = bundle_of(parse(TYPES["A40"]), HOW)["entry"]
    assert gone["request"]["url"] == "Patient?identifier=urn%3Aoid%3A1.2.3|0815"
    assert gone["resource"]["active"] is False
    assert gone["resource"]["link"] == [{"other": {"reference": survivor["fullUrl"]}, "type": "replaced-by"}]
    assert survivor["resource"]["link"] == [{"other": {"reference": gone["fullUrl"]}, "type": "replaces"}]


def test_results() -> None:
    observations = resources(oru(), "Observation")
    (report,) = resources(oru(), "DiagnosticReport")
    assert len(observations) == len(report["result"]) == 10
    first, last = observations[0], observations[9]
    assert first["code"]["coding"] == [
        {"system": "http://loinc.org", "code": "2001-8", "display": "Analyte 1"}
    ]
    assert first["valueQuantity"] == {
        "value": 1.5, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL",
    }  # fmt: skip
    assert first["referenceRange"][0]["low"]["value"] == 1.0
    assert last["interpretation"][0]["coding"][0]["code"] == "H"
    assert (report["status"], report["issued"]) == ("final", "2026-03-01T10:00:00+01:00")
    assert [each["value"] for each in report["identifier"]] == ["F88", "P77"]


@pytest.mark.parametrize(
    ("obx", "value"),
    [
        ("SN|1-1^A^LN||<^5", {"valueQuantity": {"value": 5, "comparator": "<", "unit": "g"}}),
        ("SN|1-1^A^LN||^1^:^128", {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}),
        (
            "SN|1-1^A^LN||^2^-^4",
            {"valueRange": {"low": {"value": 2, "unit": "g"}, "high": {"value": 4, "unit": "g"}}},
        ),
        ("TX|1-1^A^LN||one~two\\.br\\three", {"valueString": "one\ntwo\nthree"}),
        (
            "CWE|1-1^A^LN||260385009^Negative^SCT",
            {
                "valueCodeableConcept": {
                    "coding": [
                        {"system": "http://snomed.info/sct", "code": "260385009", "display": "Negative"}
                    ],
                    "text": "Negative",
                }
            },
        ),
        ("DT|1-1^A^LN||20260102", {"valueDateTime": "2026-01-02"}),
        ("TM|1-1^A^LN||0930", {"valueTime": "09:30:00"}),
        ('NM|1-1^A^LN||""', {}),
    ],
)
def test_values_of_every_type(obx: str, value: Mapping[str, Any]) -> None:
    data = message(header("ORU^R01"), PID, "OBR|1||F1|1-1^A^LN", f"OBX|1|{obx}|g||||||F")
    (found,) = resources(data, "Observation")
    assert {name: each for name, each in found.items() if name.startswith("value")} == value
    assert structural_issues(found) == []


def test_a_document_is_the_form_of_the_report() -> None:
    data = message(
        header("ORU^R01"), PID, "OBR|1||F1|1-1^A^LN", "OBX|1|ED|1-1^Report^LN||^AP^PDF^Base64^JVBERi0=||||||F"
    )
    (report,) = resources(data, "DiagnosticReport")
    form = {"contentType": "application/pdf", "data": "JVBERi0=", "title": "Report"}
    assert report["presentedForm"] == [form]


@pytest.mark.parametrize(
    ("control", "status", "step"), [("NW", "active", "SCHEDULED"), ("CA", "revoked", "DISCONTINUED")]
)
def test_order(control: str, status: str, step: str) -> None:
    (found,) = resources(orm(control), "ServiceRequest")
    assert (found["status"], found["intent"], found["priority"]) == (status, "order", "stat")
    assert found["occurrenceDateTime"] == "2026-03-02T10:00:00+01:00"
    assert found["requester"] == {"display": "Otto Order"}
    assert found["note"] == [{"text": "Contrast\nif renal function allows"}]
    (item,) = worklist_items(parse(orm(control)), SiteMapping(zone=ZoneInfo("Europe/Zurich")))
    assert (item.study_uid, item.step_id, item.modality) == ("1.2.3.4.5", "SPS1", "CT")
    assert (item.start_date, item.start_time, item.priority) == ("20260302", "100000", "STAT")
    assert (item.patient_name, item.accession_number, item.status) == ("Muster^Eva^Maria^Dr", "ACC1", step)


def test_imaging_order() -> None:
    (item,) = worklist_items(parse(omi()))
    assert (item.study_uid, item.station_ae_title, item.location) == ("1.2.3.4.6", "CT2", "Room 4")
    assert item.start_time == "103000"  # 11:30 +01:00 in UTC
    assert item.procedure_code == ("24627-2", "LN", "CT Chest")


def test_a_laboratory_order_is_no_step() -> None:
    data = message(header("ORM^O01"), PID, "ORC|NW|P3", "OBR|1|P3||2345-7^Glucose^LN")
    assert worklist_items(parse(data)) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (message(header("MDM^T02"), PID), "200"),
        (message(header("ADT^A99"), PID), "201"),
        (message(header("ADT^A01"), "PID|1||||SECRET", PV1), "101"),
        (adt("A01", pv1="PV1|1|I"), "101"),
        (adt("A40"), "101"),
        (message(header("ADT^A31"), "PID|1||1||SECRET||19621399"), "102"),
        (message(header("ADT^A31"), "PID|1||1||X||SECRET"), "102"),
        (message(header("ORU^R01"), PID), "101"),
        (message(header("ORU^R01"), PID, "OBR|1||F1|1-1^A^LN", "OBX|1|NM|1-1^A^LN||SECRET"), "102"),
        (message(header("ORU^R01"), PID, "OBR|1||F1|1-1^A^LN", "OBX|1|QQ|1-1^A^LN||SECRET"), "103"),
        (message(header("ORM^O01"), PID, "ORC|QQ|P3", "OBR|1|P3||2345-7^SECRET^LN"), "103"),
    ],
)
def test_refusals_name_the_code_and_no_value(data: bytes, code: str) -> None:
    with pytest.raises(HL7Error) as refusal:
        bundle_of(parse(data))
    assert refusal.value.code == code
    assert "SECRET" not in str(refusal.value)


def test_a_report_goes_out_as_oru_and_comes_back() -> None:
    hl7apy = pytest.importorskip("hl7apy.parser")
    (patient,) = resources(oru(), "Patient")
    observations = resources(oru(), "Observation")
    (report,) = resources(oru(), "DiagnosticReport")
    ours = oru_of(report, patient=patient, observations=observations)
    theirs = hl7apy.parse_message(ours.to_bytes().decode())
    assert theirs.validate()
    back = ours.to_bytes()
    for before, after in zip(observations, resources(back, "Observation"), strict=True):
        for name in (
            "status",
            "code",
            "valueQuantity",
            "effectiveDateTime",
            "interpretation",
            "referenceRange",
        ):
            assert before[name] == after[name], name
    (again,) = resources(back, "DiagnosticReport")
    for name in ("status", "identifier", "category", "effectiveDateTime", "issued"):
        assert report[name] == again[name]
    assert resources(back, "Patient")[0]["identifier"][0] == patient["identifier"][0]


def test_broken_messages_are_refused_or_valid(*, full: bool) -> None:
    """Random edits of the ward's messages: HL7Error, or a bundle that the structures allow; nothing else."""
    dice = random.Random(3)
    outcomes = {"refused": 0, "mapped": 0}
    for kind in ("A17", "OML", "RDE", "RDS", "R40"):
        for _ in range(600 if full else 60):
            data = bytearray(TYPES[kind])
            for _ in range(dice.randrange(1, 6)):
                place = dice.randrange(len(data))
                match dice.randrange(3):
                    case 0:
                        data[place] = dice.choice(b'|^~\\&\r"0Az')
                    case 1:
                        del data[place : place + dice.randrange(1, 30)]
                    case _:
                        data[place:place] = dice.choice([b"|", b"^", b'""', b"\r", b"|||", b"2026"])
            try:
                message_ = parse(bytes(data))
                bundle = bundle_of(message_)
            except HL7Error:
                outcomes["refused"] += 1
                continue
            assert structural_issues(bundle) == []
            assert merged_bundle(bundle, message_, lambda *_: None) == bundle
            outcomes["mapped"] += 1
    assert min(outcomes.values()) > 50
