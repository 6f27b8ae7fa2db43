"""FHIR resources to a patient record: base R4, mCODE and US Core shapes."""

from __future__ import annotations

from typing import Any

import pytest

from digital_twins import ConflictError, InputError, NotFoundError
from digital_twins.fhir import patient_record, structural_issues
from digital_twins.fhir._oncology import stage_text
from digital_twins.fhir._record import body_surface_area_m2
from digital_twins.samples import sample_patient
from fhir_support import LOINC, observation, patient, transaction

SCT = "http://snomed.info/sct"
MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/"
ME = {"reference": "Patient/p"}


def concept(text: str, code: str = "", system: str = SCT) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": text}]} if code else {"text": text}


def condition(text: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": text[:8].replace(" ", ""),
        "code": concept(text, "1"),
        "subject": ME,
        **more,
    }


def marker(name: str, **value: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name.partition(" ")[0],
        "status": "final",
        "code": concept(name),
        "subject": ME,
        **value,
    }


def infusion(
    day: int, dose: float, unit: str = "mg", drug: str = "cisplatin 1 MG/ML injection"
) -> dict[str, Any]:
    return {
        "resourceType": "MedicationAdministration",
        "id": f"a{day}",
        "status": "completed",
        "medicationCodeableConcept": concept(drug),
        "subject": ME,
        "effectivePeriod": {"start": f"2024-03-{day:02d}T08:00:00Z", "end": f"2024-03-{day:02d}T10:00:00Z"},
        "dosage": {"dose": {"value": dose, "code": unit, "system": "http://unitsofmeasure.org"}},
    }


def order(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "order",
        "status": "draft",
        "intent": "proposal",
        "medicationCodeableConcept": concept("Paclitaxel"),
        "subject": ME,
        "dosageInstruction": [
            {
                "timing": {
                    "repeat": {
                        "count": 6,
                        "period": 3,
                        "periodUnit": "wk",
                        "duration": 3,
                        "durationUnit": "h",
                    }
                },
                "doseAndRate": [{"doseQuantity": {"value": 175, "code": "mg/m2", "unit": "mg/m2"}}],
            }
        ],
        **more,
    }


def radiotherapy(**more: Any) -> dict[str, Any]:
    base = "https://digital-twins.example/fhir/StructureDefinition/radiotherapy-"
    return {
        "resourceType": "ServiceRequest",
        "id": "rt",
        "status": "draft",
        "intent": "proposal",
        "subject": ME,
        "code": concept("External beam radiotherapy"),
        "extension": [
            {"url": base + "total-dose-gy", "valueQuantity": {"value": 60, "code": "Gy"}},
            {"url": base + "fractions", "valuePositiveInt": 30},
            {"url": base + "fractions-per-week", "valuePositiveInt": 5},
            {"url": base + "technique", "valueString": "IMRT"},
        ],
        **more,
    }


def record_of(*resources: dict[str, Any]) -> Any:
    for resource in resources:
        assert structural_issues(resource) == []
    return patient_record([patient(id="p"), *resources], mrn="12345678")


def test_who_the_patient_is() -> None:
    label = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
    record = patient_record([patient(id="p", meta=label)])
    assert (record.patient_id, record.resource_id, record.name, record.sex) == (
        "12345678",
        "p",
        "Élodie Muster",
        "female",
    )
    assert record.security_labels == ("HTEST",)
    with pytest.raises(NotFoundError):
        patient_record([])
    with pytest.raises(ConflictError) as error:
        patient_record([patient(id="p")], mrn="999")
    assert "12345678" not in str(error.value)
    with pytest.raises(InputError):
        patient_record([patient(id="p"), patient(id="q")])


def test_facts_of_others_stay_out() -> None:
    other = {**condition("Glioblastoma"), "subject": {"reference": "Patient/q"}}
    two = [patient(id="p"), patient(id="q", identifier=[{"value": "9"}]), other]
    assert patient_record(two, mrn="12345678").conditions == ()
    assert patient_record(two, mrn="9").diagnosis == "Glioblastoma"


def test_bundles_are_opened() -> None:
    urn = "urn:uuid:11111111-1111-4111-8111-111111111111"
    entries = [
        {"fullUrl": urn, "resource": patient()},
        {"resource": {**condition("Lung cancer"), "subject": {"reference": urn}}},
    ]
    assert patient_record([transaction(*entries)]).diagnosis == "Lung cancer"


def test_the_primary_cancer_leads() -> None:
    record = record_of(
        condition("Viral sinusitis (disorder)"),
        condition("Secondary malignant neoplasm of brain"),
        condition(
            "Non-small cell lung cancer",
            stage=[{"summary": concept("Stage IIIA")}],
            onsetDateTime="2024-01-15",
        ),
        condition("Suspected lung cancer", verificationStatus={"coding": [{"code": "refuted"}]}),
    )
    assert record.diagnosis == "Non-small cell lung cancer"
    assert record.stage == "IIIA"
    assert [c.text for c in record.conditions][1:] == [
        "Secondary malignant neoplasm of brain",
        "Viral sinusitis (disorder)",
    ]
    assert str(record.conditions[0].onset) == "2024-01-15"
    assert record.conditions[0].source == "Condition/Non-smal"


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        ("IIIA", "IIIA"),
        ("Stage IV", "IV"),
        ("stage 3b", "IIIB"),
        ("American Joint Committee on Cancer stage IIA2", "IIA2"),
        ("0", "0"),
        ("WHO grade 4", None),
        ("Intermediate", None),
        ("", None),
    ],
)
def test_stage_words(words: str, stage: str | None) -> None:
    assert stage_text(words) == stage


def test_stage_group_observation_and_contradiction() -> None:
    stage = marker(
        "stage", code=concept("Stage group", "21908-9", LOINC), valueCodeableConcept=concept("IIIB")
    )
    assert record_of(condition("Lung cancer"), stage).stage == "IIIB"
    record = record_of(condition("Lung cancer", stage=[{"summary": {"text": "IIIA"}}]), stage)
    assert record.stage == "IIIA"
    assert any("contradicts" in note for note in record.notes)


def test_biomarkers() -> None:
    variant = marker(
        "variant",
        code=concept("Genetic variant assessment", "69548-6", LOINC),
        valueCodeableConcept=concept("Present", "LA9633-4", LOINC),
        component=[
            {
                "code": concept("Gene studied", "48018-6", LOINC),
                "valueCodeableConcept": concept("EGFR", "HGNC:3236", "http://www.genenames.org"),
            }
        ],
    )
    record = record_of(
        variant,
        marker("PD-L1 tumour proportion score", valueQuantity={"value": 60, "unit": "%", "code": "%"}),
        marker("MGMT promoter methylation", valueString="methylated"),
        marker("Target level", valueString="not a marker", effectiveDateTime="2024"),
        marker("odd", meta={"profile": [MCODE + "mcode-tumor-marker-test"]}, valueString="high"),
    )
    assert record.biomarkers == {"EGFR": "positive", "PD-L1": "60%", "MGMT": "methylated", "odd": "high"}


def test_body_surface_by_mosteller() -> None:
    height = observation("Patient/p", "8302-2", 1.8, valueQuantity={"value": 1.8, "code": "m"})
    weight = observation("Patient/p", "29463-7", 80.0)
    assert body_surface_area_m2([height, weight]) == pytest.approx(2.0)
    assert body_surface_area_m2([weight]) is None
    assert body_surface_area_m2([observation("Patient/p", "8277-6", 1.7)]) == 1.7


def test_treatments_given_are_grouped_with_their_wall_clock() -> None:
    record = record_of(
        infusion(22, 140.0),
        infusion(1, 150.0),
        infusion(5, 1.0, drug="Moonlight"),
        {**infusion(8, 1.0), "status": "not-done"},
    )
    (given,) = record.treatments_given
    assert given.drug == "cisplatin"
    assert [(d.day, d.dose_mg, d.duration_hours) for d in given.doses] == [
        (0.0, 150.0, 2.0),
        (21.0, 140.0, 2.0),
    ]
    assert given.start.isoformat() == "2024-03-01T08:00:00+00:00"
    assert given.source == "MedicationAdministration/a1"
    assert any(note.startswith("MedicationAdministration/a5") for note in record.notes)


def test_planned_courses() -> None:
    height = observation("Patient/p", "8302-2", 180.0, valueQuantity={"value": 180.0, "code": "cm"})
    record = record_of(order(), radiotherapy(), height, observation("Patient/p", "29463-7", 80.0))
    drug, radiation = record.treatments_planned
    assert [d.day for d in drug.doses] == [0.0, 21.0, 42.0, 63.0, 84.0, 105.0]
    assert drug.doses[0].dose_mg == pytest.approx(350.0)
    assert drug.doses[0].duration_hours == 3.0
    assert drug.source == "MedicationRequest/order"
    assert (radiation.total_dose_gy, len(radiation.fractions), radiation.technique) == (60.0, 30, "IMRT")
    assert radiation.source == "ServiceRequest/rt"


def test_mcode_radiotherapy_course_summary_in_centigray() -> None:
    dose = {
        "url": MCODE + "mcode-radiotherapy-dose-delivered-to-volume",
        "extension": [
            {"url": "totalDoseDelivered", "valueQuantity": {"value": 5000, "code": "cGy"}},
            {"url": "fractionsDelivered", "valueUnsignedInt": 25},
        ],
    }
    course = {
        "resourceType": "Procedure",
        "id": "course",
        "status": "completed",
        "subject": ME,
        "code": concept("Radiotherapy course of treatment (regime/therapy)", "1217123003"),
        "performedPeriod": {"start": "2024-02-05"},
        "extension": [dose],
    }
    (given,) = record_of(course).treatments_given
    assert (given.total_dose_gy, len(given.fractions)) == (50.0, 25)
    assert given.start.date().isoformat() == "2024-02-05"


def test_orders_that_cannot_be_read_are_noted_not_guessed() -> None:
    strange = order(dosageInstruction=[{"doseAndRate": [{"doseQuantity": {"value": 2, "unit": "drops"}}]}])
    record = record_of(strange, radiotherapy(id="empty", extension=[{"url": "urn:x", "valueString": "none"}]))
    assert record.treatments_planned == ()
    assert len(record.notes) == 2


@pytest.mark.parametrize("name", ["lung", "brain"])
def test_the_sample_records_are_read_whole(name: str) -> None:
    bundle = sample_patient(name).fhir_bundle()
    assert structural_issues(bundle) == []
    record = patient_record([bundle])
    assert record.diagnosis
    assert record.stage
    assert record.biomarkers
    assert "HTEST" in record.security_labels
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert len(record.treatments_planned) == kinds.count("MedicationRequest") + kinds.count("ServiceRequest")
    given = sum(len(t.doses) for t in record.treatments_given)
    assert given == kinds.count("MedicationAdministration")
    assert record.notes == ()
