"""Treatments as data: the dictionaries that users write, validated into frozen protocols."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

TreatmentKind = Literal["chemotherapy", "radiation", "targeted", "immunotherapy", "surgery", "observation"]


@dataclass(frozen=True, slots=True)
class DrugDose:
    """One administration: absolute milligrams on a day after the twin's baseline."""

    day: float
    dose_mg: float
    duration_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Fraction:
    """One radiation fraction: prescribed dose in gray on a day (fractional days give BID schedules)."""

    day: float
    dose_gy: float


@dataclass(frozen=True, slots=True)
class Treatment:
    """A protocol with every administration laid out in days since the twin's baseline.

    ``label`` is short and readable ("paclitaxel 175 mg/m2 every 3 weeks x6"); ``source`` names the FHIR
    resource it came from, if any; ``as_given`` keeps the caller's own dictionary for provenance.
    """

    kind: TreatmentKind
    label: str
    drug: str | None = None
    doses: tuple[DrugDose, ...] = ()
    fractions: tuple[Fraction, ...] = ()
    technique: str | None = None
    start: datetime | None = None
    source: str | None = None
    as_given: Mapping[str, Any] = field(default_factory=dict)
