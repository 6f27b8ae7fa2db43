"""Small FHIR R4 building blocks of the report's bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.reports._model import RESEARCH_USE

if TYPE_CHECKING:
    from digital_twins.records import Code, Quantity
    from digital_twins.reports._model import TwinReport

Json = dict[str, Any]

RESULT_SYSTEM = "urn:digital-twins:CodeSystem:digital-twin-result"
"""The project's own CodeSystem: no LOINC code exists for a twin's results, so none is borrowed."""

UCUM = "http://unitsofmeasure.org"
_DISPLAY = {
    "digital-twin-analysis": "Digital twin analysis",
    "tumour-volume": "Tumour volume",
    "longest-diameter": "Longest diameter of the tumour",
    "growth-rate": "Tumour growth rate (model estimate)",
    "modelled-volume": "Current tumour volume by the model (not measured)",
    "predicted-volume": "Predicted tumour volume (not measured)",
    "predicted-volume-change": "Predicted change of tumour volume",
    "model-result": "Result of a model, not measured",
    "interval-low": "Lower limit of the interval",
    "interval-high": "Upper limit of the interval",
    "prediction-day": "Day of the prediction after the twin's baseline",
}
_UNITS = {"cm3": "cm³", "/d": "per day", "%": "%", "d": "days", "mm": "mm"}


def own_coding(code: str, display: str | None = None) -> Json:
    """Return a coding of the project's CodeSystem."""
    return {"system": RESULT_SYSTEM, "code": code, "display": display or _DISPLAY[code]}


def concept(code: str, *standard: Code) -> Json:
    """Return a CodeableConcept: the project's code, and standard codes where they are true."""
    codings = [{"system": c.system, "code": c.value, "display": c.meaning} for c in standard]
    return {"coding": [*codings, own_coding(code)], "text": _DISPLAY[code]}


def fhir_quantity(value: float, unit: str) -> Json:
    """Return a UCUM Quantity with nine significant digits."""
    return {
        "value": float(f"{value:.9g}"),
        "unit": _UNITS.get(unit, unit),
        "system": UCUM,
        "code": unit,
    }


def interval_components(quantity: Quantity) -> list[Json]:
    """Return the limits of an interval as Observation components; empty without an interval."""
    if quantity.low is None or quantity.high is None:
        return []
    share = f"{100 * quantity.level:g} % interval"
    found = []
    for code, limit in (("interval-low", quantity.low), ("interval-high", quantity.high)):
        found.append(
            {
                "code": {"coding": [own_coding(code)], "text": f"{_DISPLAY[code]} ({share})"},
                "valueQuantity": fhir_quantity(limit, quantity.unit),
            }
        )
    return found


_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
PROFILES = {
    "DiagnosticReport": f"{_US_CORE}us-core-diagnosticreport-note",
    "Observation": f"{_US_CORE}us-core-simple-observation",
    "Provenance": f"{_US_CORE}us-core-provenance",
}
"""Profiles of US Core 7.0.0 to which what is written back conforms; there is none for the other kinds."""


def meta(report: TwinReport, kind: str) -> Json:
    """Return ``meta`` with the label "asserted by artificial intelligence", and HTEST where it applies.

    Kinds of resources in `PROFILES` name their profile.

    AIAST is of v3-ObservationValue, HTEST of v3-ActReason.
    """
    security = [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
            "code": "AIAST",
            "display": "Artificial Intelligence asserted",
        }
    ]
    if "HTEST" in report.record.security_labels:
        security.append(
            {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
                "code": "HTEST",
                "display": "test health data",
            }
        )
    return ({"profile": [PROFILES[kind]]} if kind in PROFILES else {}) | {"security": security}


def subject(report: TwinReport) -> Json:
    """Return the reference to the patient: literal when the record came from FHIR, else by identifier."""
    record = report.record
    if record.resource_id:
        return {"reference": f"Patient/{record.resource_id}"}
    return {"type": "Patient", "identifier": {"value": record.patient_id}}


def imaging_study(report: TwinReport) -> Json:
    """Return the logical reference to the ImagingStudy by its Study Instance UID."""
    return {
        "type": "ImagingStudy",
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{report.study.study_uid}"},
    }


def note() -> list[Json]:
    """Return the research-use sentence as an annotation."""
    return [{"text": RESEARCH_USE}]
