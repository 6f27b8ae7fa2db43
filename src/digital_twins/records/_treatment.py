"""Treatments as data: the dictionaries that users write, validated into frozen protocols."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from digital_twins.records._treatment_radiation import RadiationEffect

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
    ``assumptions`` lists, in words, every value that the caller did not give (an assumed body surface, an
    assumed start weekday): whoever shows a result of the treatment shows them too. ``day`` is the day of
    a treatment without doses or fractions (surgery). ``radiation`` holds what a radiation treatment states of
    its biology; ``dose_map`` the dose of one fraction by voxel (an ``imaging.Volume`` in gray), where every
    fraction has that map and ``Fraction.dose_gy`` is nominal. Of a surgery, ``margin_mm`` is what is taken
    out around the visible lesion, ``extent_of_resection`` the part of the lesion taken out instead, and
    ``resection`` a mask on the twin's grid as text (the twin makes it from ``as_given["resection_mask"]``).
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
    assumptions: tuple[str, ...] = ()
    day: float | None = None
    radiation: RadiationEffect | None = None
    dose_map: Any = None
    margin_mm: float | None = None
    extent_of_resection: float | None = None
    resection: str | None = None

    @property
    def first_day(self) -> float | None:
        """Day of the first administration, or None for a treatment without any."""
        days = [d.day for d in self.doses] + [f.day for f in self.fractions]
        return min(days) if days else self.day

    @property
    def last_day(self) -> float | None:
        """Day of the last administration, or None for a treatment without any."""
        days = [d.day for d in self.doses] + [f.day for f in self.fractions]
        return max(days) if days else self.day

    @property
    def total_dose_gy(self) -> float:
        """Sum of the prescribed fraction doses in gray (physical dose, not equivalent dose)."""
        return float(sum(f.dose_gy for f in self.fractions))

    @property
    def total_dose_mg(self) -> float:
        """Sum of the drug doses in milligrams."""
        return float(sum(d.dose_mg for d in self.doses))
