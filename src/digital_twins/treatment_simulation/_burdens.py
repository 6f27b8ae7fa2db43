"""What a protocol costs the patient, as numbers of the protocol alone: doses and time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from digital_twins.records import Treatment

    Burden = Callable[[Sequence[Treatment]], float]


def biologically_effective_dose(alpha_beta_gy: float = 3.0) -> Burden:
    """Measure of radiation: ``sum d (1 + d / (alpha/beta))`` in gray, late tissue by default.

    Full repair between fractions, no regrowth: Fowler, Br J Radiol 1989;62:679,
    doi:10.1259/0007-1285-62-740-679. The dose of the tissue is taken as the prescribed one: an upper bound.
    """

    def measure(treatments: Sequence[Treatment]) -> float:
        return math.fsum(
            f.dose_gy * (1.0 + f.dose_gy / alpha_beta_gy) for t in treatments for f in t.fractions
        )

    return measure


def total_dose_mg(drug: str) -> Burden:
    """Measure of a drug: milligrams in all."""

    def measure(treatments: Sequence[Treatment]) -> float:
        return math.fsum(t.total_dose_mg for t in treatments if t.drug == drug)

    return measure


def dose_intensity_mg_per_week(drug: str) -> Burden:
    """Measure of a drug: milligrams a week from the first dose to one mean interval after the last.

    The usual stand-in for toxicity that accumulates between doses; a single dose counts over one week.
    """

    def measure(treatments: Sequence[Treatment]) -> float:
        doses = sorted((d.day, d.dose_mg) for t in treatments if t.drug == drug for d in t.doses)
        if not doses:
            return 0.0
        span = doses[-1][0] - doses[0][0]
        days = 7.0 if span == 0.0 else span * len(doses) / (len(doses) - 1)
        return math.fsum(mg for _, mg in doses) / days * 7.0

    return measure


def overall_days(treatments: Sequence[Treatment]) -> float:
    """Days from the first administration to the last."""
    first = [t.first_day for t in treatments if t.first_day is not None]
    last = [t.last_day for t in treatments if t.last_day is not None]
    return max(last) - min(first) if first else 0.0
