"""Facts of a record: mCODE and US Core shapes, each with its source; contradictions are told, not guessed."""

from __future__ import annotations

import base64
import json
import tarfile
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.clinical_integration import ClinicalConnector, ClinicalDigitalTwinFactory
from digital_twins.fhir import patient_record
from digital_twins.fhir.validation import Validator
from fhir_support import LOINC, open_store, patient, serve, transaction

if TYPE_CHECKING:
    from pathlib import Path

SCT = "http://snomed.info/sct"
AJCC = "http://cancerstaging.org"
MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
ME = {"reference": "Patient/p"}
FOCUS = {"reference": "Condition/primary"}
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def coded(code: str, display: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def seen(name: str, profile: str, code: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "meta": {"profile": [MCODE + profile]},
        "status": "final",
        "code": code,
        "subject": ME,
        "effectiveDateTime": "2026-01-10",
        **more,
    }


def amount(number: float, unit: str) -> dict[str, Any]:
    return {"value": number, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def part(code: str, words: str, found: str, system: str) -> dict[str, Any]:
    return {"code": coded(code, words), "valueCodeableConcept": coded(found, found, system)}


def value(text: str, system: str = AJCC) -> dict[str, Any]:
    return {"valueCodeableConcept": coded(text, text, system)}


def cancer_record() -> list[dict[str, Any]]:
    """An invented patient with lung cancer in the shapes of mCODE 4.0.0 and US Core."""
    primary = {
        "resourceType": "Condition",
        "id": "primary",
        "meta": {"profile": [MCODE + "primary-cancer-condition"]},
        "clinicalStatus": coded(
            "active", "Active", "http://terminology.hl7.org/CodeSystem/condition-clinical"
        ),
        "verificationStatus": coded(
            "confirmed", "Confirmed", "http://terminology.hl7.org/CodeSystem/condition-ver-status"
        ),
        "category": [
            coded("problem-list-item", "Problem", "http://terminology.hl7.org/CodeSystem/condition-category")
        ],
        "code": coded("254637007", "Non-small cell lung cancer", SCT),
        "subject": ME,
        "onsetDateTime": "2025-12-20",
    }
    lab = [coded("laboratory", "Laboratory", CATEGORY)]
    note = base64.b64encode(b"Walks two kilometres a day.").decode()
    return [
        patient(id="p"),
        primary,
        seen("t", "tnm-primary-tumor-category", coded("21905-5", "Primary tumor.clinical"), **value("cT2a")),
        seen("n", "tnm-regional-nodes-category", coded("399534004", "cN category", SCT), **value("cN1")),
        seen("m", "tnm-distant-metastases-category", coded("21907-1", "Metastases"), **value("cM0")),
        seen(
            "stage", "tnm-stage-group", coded("21908-9", "Stage group"), **value("Stage IIB"), focus=[FOCUS]
        ),
        seen(
            "egfr",
            "genomic-variant",
            coded("69548-6", "Genetic variant assessment"),
            **value("LA9633-4", LOINC),
            component=[
                part("48018-6", "Gene studied", "EGFR", "http://www.genenames.org"),
                part("48004-6", "DNA change", "c.2573T>G", "http://varnomen.hgvs.org"),
            ],
        ),
        seen(
            "pdl1",
            "tumor-marker-test",
            coded("85147-7", "PD-L1 by immune stain"),
            valueQuantity=amount(60, "%"),
        ),
        seen(
            "size",
            "tumor-size",
            coded("21889-1", "Size Tumor"),
            component=[{"code": coded("33728-7", "Max"), "valueQuantity": amount(3.4, "cm")}],
        ),
        seen("ecog", "ecog-performance-status", coded("89247-1", "ECOG"), valueInteger=1),
        seen("hb", "", coded("718-7", "Hemoglobin"), category=lab, valueQuantity=amount(13.2, "g/dL")),
        {
            "resourceType": "DiagnosticReport",
            "id": "path",
            "status": "final",
            "category": [coded("PAT", "Pathology", "http://terminology.hl7.org/CodeSystem/v2-0074")],
            "code": coded("60568-3", "Pathology Synoptic report"),
            "subject": ME,
            "effectiveDateTime": "2025-12-22",
            "conclusion": "Adenocarcinoma, acinar.",
        },
        {
            "resourceType": "DocumentReference",
            "id": "note",
            "status": "current",
            "type": coded("11506-3", "Progress note"),
            "subject": ME,
            "date": "2026-01-11T08:00:00Z",
            "content": [{"attachment": {"contentType": "text/plain", "data": note}}],
        },
    ]


def test_every_fact_has_its_source() -> None:
    validator = Validator()
    assert [i for r in cancer_record() for i in validator.validate(r) if i.severity == "error"] == []
    record = patient_record(cancer_record())
    assert record.tnm == {"cT": "cT2a", "cN": "cN1", "cM": "cM0"}
    assert (record.diagnosis, record.stage) == ("Non-small cell lung cancer", "IIB")
    assert record.biomarkers == {"EGFR": "c.2573T>G", "PD-L1": "60%"}
    found = {(f.kind, f.name): (f.value, f.source) for f in record.facts}
    assert found["variant", "EGFR"] == ("c.2573T>G", "Observation/egfr")
    assert found["tumour-size", "maximum dimension"] == ("3.4 cm", "Observation/size")
    assert found["performance-status", "ECOG"] == ("1", "Observation/ecog")
    assert found["lab", "Hemoglobin"] == ("13.2 g/dL", "Observation/hb")
    assert found["pathology", "Pathology Synoptic report"] == (
        "Adenocarcinoma, acinar.",
        "DiagnosticReport/path",
    )
    assert found["note", "Progress note"] == ("Walks two kilometres a day.", "DocumentReference/note")
    assert found["stage", "stage"] == ("IIB", "Observation/stage")
    assert record.conflicts == ()
    assert all(
        fact.source in {f"{r['resourceType']}/{r['id']}" for r in cancer_record()} for fact in record.facts
    )
    assert next(f for f in record.facts if f.name == "cT").effective.date() == date(2026, 1, 10)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "code", "first", "other", "kind"),
    [
        ("cT", coded("21905-5", "T"), value("cT2a"), value("cT3"), "tnm"),
        (
            "EGFR",
            coded("1", "EGFR gene"),
            {"valueString": "positive"},
            {"valueString": "negative"},
            "biomarker",
        ),
    ],
)
def test_a_contradiction_of_one_day_is_used_nowhere(
    name: str, code: dict[str, Any], first: dict[str, Any], other: dict[str, Any], kind: str
) -> None:
    rivals = [seen("one", "", code, **first), seen("two", "", code, **other)]
    record = patient_record([patient(id="p"), *rivals])
    (conflict,) = record.conflicts
    assert (conflict.kind, conflict.name) == (kind, name)
    assert [fact.source for fact in conflict.facts] == ["Observation/one", "Observation/two"]
    assert name not in (record.tnm if kind == "tnm" else record.biomarkers)
    assert any("none of them is used" in note for note in record.notes)
    later = {**rivals[1], "effectiveDateTime": "2026-02-01"}
    settled = patient_record([patient(id="p"), rivals[0], later])
    assert settled.conflicts == ()
    assert name in (settled.tnm if kind == "tnm" else settled.biomarkers)
    same = patient_record([patient(id="p"), rivals[0], {**rivals[0], "id": "three"}])
    assert same.conflicts == ()


def test_a_stage_that_contradicts_its_condition_is_a_conflict() -> None:
    resources = cancer_record()
    resources[1]["stage"] = [{"summary": {"text": "Stage IIIA"}}]
    (conflict,) = patient_record(resources).conflicts
    assert (conflict.kind, [f.value for f in conflict.facts]) == ("stage", ["IIIA", "IIB"])


def test_the_factory_reads_it_all_from_a_server(tmp_path: Path) -> None:
    resources = cancer_record()
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
        for r in resources
    ]
    with open_store(tmp_path) as store, serve(store) as base:
        store.transaction(transaction(*entries))
        factory = ClinicalDigitalTwinFactory(ClinicalConnector("http://127.0.0.1:9/none", base))
        whole = factory.create_from_patient("12345678", include_imaging=False)
        assert whole.tnm == {"cT": "cT2a", "cN": "cN1", "cM": "cM0"}
        assert {f.kind for f in whole.record.facts} >= {"pathology", "note", "lab", "variant"}
        bare = factory.create_from_patient(
            "12345678", include_imaging=False, include_pathology=False, include_genomics=False
        )
        assert (bare.diagnosis, bare.stage, bare.tnm, bare.biomarkers) == (None, None, {}, {})
        assert {f.kind for f in bare.record.facts} == {"performance-status", "lab", "note"}


def test_synthea_records_are_read_without_a_guess(shared_data: Path, *, full: bool) -> None:
    """Every Synthea bundle at hand: facts have sources that exist, laboratory values are all there."""
    with tarfile.open(shared_data / "fhir" / "synthea-bundles.tar.xz") as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".json"))
        bundles = [json.load(stream) for name in names if (stream := archive.extractfile(name))]
    people = [b for b in bundles if any(e["resource"]["resourceType"] == "Patient" for e in b["entry"])]
    assert people
    for bundle in people if full else people[:3]:
        resources = [entry["resource"] for entry in bundle["entry"]]
        record = patient_record([bundle])
        sources = {f"{r['resourceType']}/{r['id']}" for r in resources if r.get("id")}
        assert all(fact.source in sources for fact in record.facts)
        labs = [
            r
            for r in resources
            if r["resourceType"] == "Observation"
            and any(c.get("code") == "laboratory" for x in r.get("category", ()) for c in x.get("coding", ()))
            and any(name.startswith("value") for name in r)
        ]
        assert len(record.facts_of("lab")) == len(labs)
        conditions = [r for r in resources if r["resourceType"] == "Condition"]
        assert len(record.facts_of("diagnosis")) == len(conditions)
