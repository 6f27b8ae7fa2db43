"""Concentration curves and log-kill rates of drug treatments, all as sums of exponentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.pharmacology._compartments import Exponentials, infusion
from digital_twins.pharmacology._library import Drug, drug
from digital_twins.units import HOURS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from digital_twins.records import DrugDose, Treatment

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KillTerms:
    """A kill rate as exponentials that start on given days.

    ``rate(t) = sum_i amplitude_per_day[i] exp(-decay_per_day[i] (t - dose_days[i]))`` over dose_days[i] <= t.
    """

    dose_days: FloatArray
    amplitude_per_day: FloatArray
    decay_per_day: FloatArray

    def integral(self, days: ArrayLike) -> FloatArray:
        """Return the integral of the rate from -infinity to each day: the cumulative natural-log kill."""
        elapsed = np.maximum(np.asarray(days, dtype=np.float64)[..., None] - self.dose_days, 0.0)
        decaying = self.decay_per_day > 0.0
        decay = np.where(decaying, self.decay_per_day, 1.0)
        exposure = np.where(decaying, -np.expm1(-decay * elapsed) / decay, elapsed)
        return np.asarray(exposure @ self.amplitude_per_day)


def _laid_out(response: Exponentials, doses: Iterable[DrugDose], kinetics: Drug) -> KillTerms:
    """Place a response in days at each dose, as infusions where the drug is infused."""
    days: list[FloatArray] = []
    amplitudes: list[FloatArray] = []
    decays: list[FloatArray] = []
    for dose in doses:
        hours = dose.duration_hours or kinetics.infusion_hours
        parts = [(dose.day, response)]
        if hours > 0.0:
            first, second = infusion(response, hours / HOURS_PER_DAY)
            parts = [(dose.day, first), (dose.day + hours / HOURS_PER_DAY, second)]
        for day, part in parts:
            days.append(np.full(part.rate.size, day))
            amplitudes.append(part.amplitude * dose.dose_mg)
            decays.append(part.rate)
    if not days:
        return KillTerms(np.zeros(0), np.zeros(0), np.zeros(0))
    return KillTerms(np.concatenate(days), np.concatenate(amplitudes), np.concatenate(decays))


def concentration_mg_l(name: str, doses: Iterable[DrugDose], days: ArrayLike) -> FloatArray:
    """Plasma concentration in mg/L of a drug at each day, doses superposed.

    Typical adult, see :func:`drug_library`; the analyte is that of the library (ultrafilterable platinum
    for the platinum drugs). Infusions last as long as the dose says, or the drug's usual length.
    """
    kinetics = drug(name)
    in_hours = kinetics.response
    in_days = Exponentials(in_hours.amplitude, in_hours.rate * HOURS_PER_DAY)
    terms = _laid_out(in_days, doses, kinetics)
    elapsed = np.asarray(days, dtype=np.float64)[..., None] - terms.dose_days
    active = elapsed >= 0.0
    values = np.where(active, np.exp(-terms.decay_per_day * np.where(active, elapsed, 0.0)), 0.0)
    return np.asarray(values @ terms.amplitude_per_day)


def kill_terms(treatment: Treatment, sensitivity: float) -> KillTerms:
    """Kill rate in 1/day of a drug treatment.

    The cells die at the rate ``k(t) = sensitivity * Ce(t) / AUC_ref``, where ``Ce`` is the concentration at
    the effect site (plasma, delayed by the drug's effect half-life) and ``AUC_ref`` its area under one
    reference dose. So a dose d kills ``sensitivity * d / reference_dose`` natural logs of cells in all, and
    the kinetics only spread this over time.

    Parameters
    ----------
    treatment
        A treatment with a drug.
    sensitivity
        Natural-log kill of one reference dose (one standard cycle), >= 0.

    Raises
    ------
    InputError
        When the treatment has no drug, the drug no kinetics, or the sensitivity is negative.
    """
    if treatment.drug is None:
        raise InputError(
            f"The {treatment.kind} treatment has no drug.",
            "A drug's kill rate follows from its kinetics.",
            "Pass a chemotherapy treatment.",
        )
    if not (np.isfinite(sensitivity) and sensitivity >= 0.0):
        raise InputError(
            "A drug sensitivity is negative or not a number.",
            "It is the natural-log kill of one reference dose, so it is finite and >= 0.",
            "Calibrate again or pass a sensitivity >= 0.",
        )
    kinetics = drug(treatment.drug)
    in_hours = kinetics.response
    in_days = Exponentials(in_hours.amplitude, in_hours.rate * HOURS_PER_DAY)
    density = in_days.scaled(1.0 / in_days.total)
    delayed = density.through(np.log(2.0) / kinetics.effect_half_life_days.value)
    return _laid_out(delayed.scaled(sensitivity / kinetics.reference_dose_mg), treatment.doses, kinetics)


def log_kill_integral(treatment: Treatment, sensitivity: float, days: ArrayLike) -> FloatArray:
    """Cumulative natural-log kill of a drug treatment up to each day (see :func:`kill_terms`)."""
    return kill_terms(treatment, sensitivity).integral(days)
