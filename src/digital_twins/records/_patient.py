"""What is known of a patient, apart from images: plain data with the source of every fact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from digital_twins.records._codes import Code
    from digital_twins.records._evidence import Conflict, Fact
    from digital_twins.records._treatment import Treatment


@dataclass(frozen=True, slots=True)
class Condition:
    """A diagnosis: FHIR Condition, mCODE primary cancer condition.

    ``source`` is the resource it comes from, e.g. ``"Condition/123"``; ``stage`` is the stage summary text
    such as ``"IIIA"``.
    """

    code: Code
    text: str
    source: str
    stage: str | None = None
    onset: date | None = None
    body_site: Code | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured or assessed value of the record, with its UCUM unit where it is a quantity."""

    code: Code
    value: float | str
    source: str
    unit: str | None = None
    effective: datetime | None = None


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """The record of one patient as the twin needs it.

    Attributes
    ----------
    patient_id
        The medical record number (DICOM PatientID, FHIR identifier of type MR).
    resource_id
        Logical id of the FHIR Patient resource, or None when the record did not come from FHIR.
    biomarkers
        Marker name to result, e.g. ``{"EGFR": "positive"}``.
    treatments_given, treatments_planned
        Validated treatments; what was given carries the wall-clock start in ``Treatment.start``.
    """

    patient_id: str
    resource_id: str | None = None
    name: str | None = None
    birth_date: date | None = None
    sex: str | None = None
    conditions: tuple[Condition, ...] = ()
    observations: tuple[Observation, ...] = ()
    biomarkers: Mapping[str, str] = field(default_factory=dict)
    treatments_given: tuple[Treatment, ...] = ()
    treatments_planned: tuple[Treatment, ...] = ()
    security_labels: tuple[str, ...] = ()
    """Codes of ``meta.security``, e.g. ``"HTEST"`` for test data."""
    notes: tuple[str, ...] = ()
    """What could not be used or contradicts itself, with the source, e.g. an order for an unknown drug."""

    tnm: Mapping[str, str] = field(default_factory=dict)
    """TNM categories, e.g. ``{"cT": "cT2a", "pN": "pN1"}``; a category in conflict is left out."""
    facts: tuple[Fact, ...] = ()
    """Every statement that was read, with its source; also what `conflicts` disputes."""
    conflicts: tuple[Conflict, ...] = ()
    """Statements that contradict each other; their values are used nowhere."""

    def facts_of(self, kind: str) -> tuple[Fact, ...]:
        """Return the facts of a kind, e.g. ``"lab"``, ``"pathology"``, ``"note"`` or ``"variant"``."""
        return tuple(fact for fact in self.facts if fact.kind == kind)

    def without(self, *kinds: str) -> PatientRecord:
        """Return the record without facts and conflicts of these kinds, and what was read from them.

        ``"diagnosis"`` takes the conditions along, ``"tnm"`` and ``"biomarker"`` their values, ``"lab"`` the
        observations.
        """
        emptied: dict[str, Any] = {
            "diagnosis": {"conditions": ()},
            "tnm": {"tnm": {}},
            "biomarker": {"biomarkers": {}},
            "lab": {"observations": ()},
        }
        changes: dict[str, Any] = {}
        for kind in kinds:
            changes |= emptied.get(kind, {})
        facts = tuple(fact for fact in self.facts if fact.kind not in kinds)
        conflicts = tuple(each for each in self.conflicts if each.kind not in kinds)
        return replace(self, facts=facts, conflicts=conflicts, **changes)

    @property
    def id(self) -> str:
        """The medical record number: what imaging queries take as ``patient_id``."""
        return self.patient_id

    @property
    def diagnosis(self) -> str | None:
        """Text of the first condition: by convention the primary cancer."""
        return self.conditions[0].text if self.conditions else None

    @property
    def stage(self) -> str | None:
        """Stage of the first staged condition, e.g. ``"IIIA"``."""
        return next((c.stage for c in self.conditions if c.stage), None)
