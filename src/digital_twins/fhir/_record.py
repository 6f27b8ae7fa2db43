"""From FHIR resources to the record of one patient that a twin is built from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.fhir._evidence import find_conflicts, read_facts, settled
from digital_twins.fhir._facts import (
    centimetres,
    code_of,
    codings,
    effective,
    has_code,
    kilograms,
    moment,
    quantity,
    source,
    text_of,
)
from digital_twins.fhir._oncology import apply_stages, changed_results, read_conditions, read_stages
from digital_twins.fhir._treatments import read_treatments
from digital_twins.records import Conflict, Fact, Observation, PatientRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from digital_twins.fhir._oncology import StageFact
    from digital_twins.records import Condition

_WEIGHT = frozenset({"29463-7", "3141-9"})
_HEIGHT = frozenset({"8302-2", "3137-7"})
_SURFACE = frozenset({"8277-6", "3140-1"})
_HOLDERS = ("subject", "patient", "beneficiary")
_UNTRUE = {"entered-in-error", "cancelled"}


def _flatten(resources: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return plain resources; bundles are opened, and entries without an id are known by their fullUrl."""
    flat: list[dict[str, Any]] = []
    for resource in resources:
        plain = dict(resource)
        if plain.get("resourceType") != "Bundle":
            flat.append(plain)
            continue
        for entry in plain.get("entry", ()):
            inner = entry.get("resource") if isinstance(entry, dict) else None
            if isinstance(inner, dict):
                flat.extend(_flatten([{**inner, "_fullUrl": entry.get("fullUrl")}]))
    return flat


def _numbers(patient: Mapping[str, Any]) -> list[tuple[bool, str]]:
    """Return ``(is a medical record number, value)`` of every identifier."""
    found = []
    for identifier in patient.get("identifier", ()):
        if isinstance(identifier, dict) and isinstance(identifier.get("value"), str):
            kinds = {c.get("code") for c in codings(identifier.get("type"))}
            found.append(("MR" in kinds or identifier.get("system") == "MRN", identifier["value"]))
    return found


def _choose(patients: Sequence[dict[str, Any]], mrn: str | None) -> tuple[dict[str, Any], str]:
    """Return the patient asked for and its medical record number."""
    if not patients:
        raise NotFoundError(
            "The record has no Patient.", "None of the resources is a Patient.", "Add the Patient resource."
        )
    if mrn is not None:
        matching = [p for p in patients if any(value == mrn for _, value in _numbers(p))]
        if len(matching) != 1:
            raise ConflictError(
                "The record does not belong to the patient asked for.",
                f"{len(matching)} of {len(patients)} Patient resources carry this medical record number.",
                "Check that the study and the record are of the same patient.",
            )
        return matching[0], mrn
    if len(patients) > 1:
        raise InputError(
            "The record holds more than one patient.",
            "Without a medical record number none of them can be chosen.",
            "Pass mrn=.",
        )
    numbers = _numbers(patients[0])
    chosen = next((v for is_mrn, v in numbers if is_mrn), None) or next((v for _, v in numbers), None)
    return patients[0], chosen or str(patients[0].get("id", ""))


def _belongs(resource: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether a resource speaks of the patient, or of nobody in particular (Medication, Organization)."""
    for holder in _HOLDERS:
        reference = resource.get(holder)
        if isinstance(reference, dict) and isinstance(reference.get("reference"), str):
            text = reference["reference"].partition("/_history/")[0]
            return text in names or any(text.endswith("/" + name) for name in names)
    return resource.get("resourceType") != "Patient"


def _name(patient: Mapping[str, Any]) -> str | None:
    names = [n for n in patient.get("name", ()) if isinstance(n, dict)]
    best = next((n for n in names if n.get("use") == "official"), names[0] if names else None)
    if best is None:
        return None
    parts = [*best.get("given", ()), best.get("family")]
    return best.get("text") or " ".join(str(p) for p in parts if p) or None


def _values(resource: Mapping[str, Any]) -> list[tuple[Any, float | str, str | None]]:
    """Return ``(concept, value, unit)`` of an Observation and of its components."""
    found: list[tuple[Any, float | str, str | None]] = []
    for part in [resource, *(c for c in resource.get("component", ()) if isinstance(c, dict))]:
        number = quantity(part.get("valueQuantity"))
        words = text_of(part.get("valueCodeableConcept")) or part.get("valueString")
        if number:
            found.append((part.get("code"), number[0], number[1] or None))
        elif isinstance(part.get("valueInteger"), int):
            found.append((part.get("code"), float(part["valueInteger"]), None))
        elif words:
            found.append((part.get("code"), str(words), None))
    return found


def _observations(resources: Iterable[Mapping[str, Any]]) -> list[Observation]:
    found = []
    for resource in resources:
        if resource.get("resourceType") != "Observation" or resource.get("status") in _UNTRUE:
            continue
        when = effective(resource)
        for concept, value, unit in _values(resource):
            found.append(Observation(code_of(concept), value, source(resource), unit, when))
    return found


def _latest(resources: Iterable[Mapping[str, Any]], codes: frozenset[str]) -> tuple[float, str] | None:
    found: list[tuple[float, tuple[float, str]]] = []
    for resource in resources:
        if resource.get("resourceType") == "Observation" and has_code(resource.get("code"), codes):
            value, when = quantity(resource.get("valueQuantity")), effective(resource)
            if value and value[0] > 0 and resource.get("status") not in _UNTRUE:
                found.append((when.timestamp() if when else 0.0, value))
    return max(found)[1] if found else None


def body_surface_area_m2(resources: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the latest body surface in square metres: as observed (LOINC 8277-6), else by Mosteller.

    Mosteller RD. N Engl J Med 1987;317:1098: sqrt(height_cm * weight_kg / 3600), from LOINC 8302-2 and
    29463-7. None when height or weight are missing.
    """
    if area := _latest(resources, _SURFACE):
        return area[0]
    weight, height = _latest(resources, _WEIGHT), _latest(resources, _HEIGHT)
    mass = kilograms(weight) if weight else None
    length = centimetres(height) if height else None
    return math.sqrt(mass * length / 3600.0) if mass and length else None


def _stage_facts(conditions: Sequence[Condition], stages: Sequence[StageFact]) -> list[Fact]:
    stated = [Fact("stage", "stage", c.stage, c.source) for c in conditions if c.stage]
    return [*stated, *(Fact("stage", "stage", s.stage, s.source, s.effective) for s in stages)]


def _stage_conflicts(
    stated: Sequence[Condition], conditions: Sequence[Condition], stages: Sequence[StageFact]
) -> list[Conflict]:
    """Return where an observed stage contradicts what a Condition says of itself."""
    found = []
    for before, after in zip(stated, conditions, strict=True):
        rivals = [
            Fact("stage", "stage", s.stage, s.source, s.effective)
            for s in stages
            if before.stage
            and s.stage != before.stage
            and (s.focus.endswith(before.source) if s.focus else before is stated[0])
        ]
        if rivals:
            own = Fact("stage", "stage", str(after.stage), before.source)
            found.append(Conflict("stage", before.text, (own, *rivals)))
    return found


def _conflict_note(conflict: Conflict) -> str:
    sources = ", ".join(fact.source for fact in conflict.facts)
    return f"{sources}: they contradict each other on {conflict.name}; none of them is used."


def patient_record(resources: Iterable[Mapping[str, Any]], *, mrn: str | None = None) -> PatientRecord:
    """Return what FHIR resources say of one patient, each fact with its source.

    Parameters
    ----------
    resources
        Patient, Condition, Observation, MedicationAdministration, MedicationRequest, ServiceRequest,
        Procedure and Medication resources, or bundles of them, in base R4, US Core or mCODE shape.
    mrn
        Medical record number: chooses the Patient by its identifiers; resources of others are left out.
        None takes the only patient there is.

    Raises
    ------
    NotFoundError
        There is no Patient.
    ConflictError
        No Patient, or more than one, carries the number.
    InputError
        Several patients and no number.
    """
    flat = _flatten(resources)
    patient, number = _choose([r for r in flat if r.get("resourceType") == "Patient"], mrn)
    names = frozenset(n for n in (f"Patient/{patient.get('id')}", patient.get("_fullUrl")) if n)
    own = [r for r in flat if _belongs(r, names)]
    stages = read_stages(own)
    read = read_conditions(own)
    conditions, notes = apply_stages(read, stages)
    facts = [*read_facts(own), *_stage_facts(read, stages)]
    conflicts = [*find_conflicts(facts), *_stage_conflicts(read, conditions, stages)]
    disputed = {conflict.name for conflict in conflicts if conflict.kind == "biomarker"}
    more = [
        *changed_results(f for f in facts if f.name not in disputed),
        *(_conflict_note(conflict) for conflict in conflicts if conflict.kind != "stage"),
    ]
    treatments = read_treatments(own, body_surface_area_m2=body_surface_area_m2(own))
    born = moment(patient.get("birthDate"))
    labels = dict.fromkeys(
        str(label.get("code"))
        for resource in [patient, *own]
        for label in resource.get("meta", {}).get("security", ())
        if isinstance(label, dict) and label.get("code")
    )
    return PatientRecord(
        patient_id=number,
        resource_id=patient.get("id"),
        name=_name(patient),
        birth_date=born.date() if born else None,
        sex=patient.get("gender"),
        conditions=tuple(conditions),
        observations=tuple(_observations(own)),
        biomarkers=settled(facts, "biomarker", conflicts),
        tnm=settled(facts, "tnm", conflicts),
        facts=tuple(facts),
        conflicts=tuple(conflicts),
        treatments_given=treatments.given,
        treatments_planned=treatments.planned,
        security_labels=tuple(labels),
        notes=(*notes, *more, *treatments.notes),
    )
