"""Concentration curves and log-kill rates of drug treatments; the rates are sums of exponentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.pharmacology._compartments import Exponentials, infusion
from digital_twins.pharmacology._library import Drug, drug
from digital_twins.pharmacology._saturable import course, stepped
from digital_twins.units import HOURS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from digital_twins.pharmacology._saturable import Administration, Course, SaturableModel
    from digital_twins.records import DrugDose, Treatment

FloatArray = NDArray[np.float64]

_REFERENCE_GFR_ML_MIN = 95.0
_CALVERT_ML_MIN = 25.0
"""Calvert 1989: carboplatin's clearance is the filtration rate + 25 mL/min [verify]."""


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

    def fading(self, rate_per_day: float, *, since_day: float) -> KillTerms:
        """Return ``rate(t) exp(-rate_per_day (t - since_day))``, exactly: amplitudes and decays change."""
        lost = np.exp(-rate_per_day * (self.dose_days - since_day))
        return KillTerms(self.dose_days, self.amplitude_per_day * lost, self.decay_per_day + rate_per_day)


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


def _course(
    model: SaturableModel, doses: Iterable[DrugDose], kinetics: Drug
) -> tuple[Course, tuple[Administration, ...]]:
    given = tuple(
        (dose.day * HOURS_PER_DAY, dose.dose_mg, dose.duration_hours or kinetics.infusion_hours)
        for dose in doses
    )
    return course(model, given), given


def concentration_mg_l(name: str | Drug, doses: Iterable[DrugDose], days: ArrayLike) -> FloatArray:
    """Plasma concentration in mg/L of a drug at each day.

    Of the typical adult of :func:`drug_library`, or of the :class:`Drug` that is handed in (see
    :func:`individual_kinetics`); the analyte is that of the library (ultrafilterable platinum for the
    platinum drugs). Infusions last as long as the dose says, or the drug's usual length. Doses of linear
    drugs superpose; saturable ones are integrated together.
    """
    kinetics = name if isinstance(name, Drug) else drug(name)
    when = np.asarray(days, dtype=np.float64)
    given = tuple(doses)
    if (model := kinetics.saturable) is not None:
        return (
            _course(model, given, kinetics)[0].concentration_mg_l(when * HOURS_PER_DAY) if given else 0 * when
        )
    in_hours = kinetics.response
    in_days = Exponentials(in_hours.amplitude, in_hours.rate * HOURS_PER_DAY)
    terms = _laid_out(in_days, given, kinetics)
    elapsed = when[..., None] - terms.dose_days
    active = elapsed >= 0.0
    values = np.where(active, np.exp(-terms.decay_per_day * np.where(active, elapsed, 0.0)), 0.0)
    return np.asarray(values @ terms.amplitude_per_day)


def reference_area_mg_h_l(name: str) -> float:
    """Area under the concentration of one reference cycle in the typical adult, in mg h/L."""
    kinetics = drug(name)
    if (model := kinetics.saturable) is None:
        return kinetics.response.total * kinetics.reference_dose_mg
    count = kinetics.reference_administrations
    # Administrations a day apart do not meet: the saturable drugs are gone by then.
    single = (0.0, kinetics.reference_dose_mg / count, kinetics.infusion_hours)
    return course(model, (single,)).total_mg_h_l * count


def kill_terms(
    treatment: Treatment,
    sensitivity: float,
    *,
    resistance_per_day: float = 0.0,
    since_day: float | None = None,
    kinetics: Drug | None = None,
) -> KillTerms:
    """Kill rate in 1/day of a drug treatment.

    The cells die at the rate ``k(t) = sensitivity * Ce(t) / AUC_ref * exp(-resistance (t - since))``, where
    ``Ce`` is the concentration at the effect site (plasma, delayed by the drug's effect half-life) and
    ``AUC_ref`` its area under one reference cycle of a typical adult. So without resistance a dose d of a
    linear drug kills ``sensitivity * d / reference_dose`` natural logs of cells in all, and the kinetics only
    spread this over time; of a saturable drug as much as its area says. Carboplatin's area follows the
    filtration rate when the treatment was given with one (``gfr_ml_min``): ``dose / (GFR + 25)``.

    Parameters
    ----------
    treatment
        A treatment with a drug.
    sensitivity
        Natural-log kill of one reference cycle, >= 0.
    resistance_per_day
        Rate at which the effect is lost, >= 0 (Claret et al. 2009, doi:10.1200/JCO.2008.21.0807).
    since_day
        Day of the first exposure to the drug; default the first dose of this treatment.
    kinetics
        The patient's own kinetics, if other than the library's typical ones.

    Raises
    ------
    InputError
        When the treatment has no drug, the drug no kinetics, or a rate is negative.
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
    if not (np.isfinite(resistance_per_day) and resistance_per_day >= 0.0):
        raise InputError(
            "A drug resistance is negative or not a number.",
            "It is the rate at which the drug's effect is lost, so it is finite and >= 0.",
            "Pass a resistance >= 0, or leave it out.",
        )
    scale = sensitivity * _renal_factor(treatment) / reference_area_mg_h_l(treatment.drug)
    terms = _effect(kinetics or drug(treatment.drug), treatment, scale)
    first = treatment.first_day if since_day is None else since_day
    if resistance_per_day == 0.0 or first is None:
        return terms
    return terms.fading(resistance_per_day, since_day=first)


def _effect(kinetics: Drug, treatment: Treatment, scale: float) -> KillTerms:
    """``scale`` times the delayed concentration of a treatment; scale in (log kill) per (mg h/L)."""
    rate = float(np.log(2.0) / kinetics.effect_half_life_days.value)
    if (model := kinetics.saturable) is not None and treatment.doses:
        hours, steps = stepped(*_course(model, treatment.doses, kinetics))
        size = steps * scale * HOURS_PER_DAY
        # A step through the first-order delay: 1 - exp(-rate t).
        return KillTerms(
            np.tile(hours / HOURS_PER_DAY, 2),
            np.concatenate([size, -size]),
            np.repeat([0.0, rate], hours.size),
        )
    in_hours = kinetics.response
    in_days = Exponentials(in_hours.amplitude, in_hours.rate * HOURS_PER_DAY)
    return _laid_out(in_days.through(rate).scaled(scale * HOURS_PER_DAY), treatment.doses, kinetics)


def _renal_factor(treatment: Treatment) -> float:
    """Area of a carboplatin dose over that at the reference filtration rate."""
    filtration = treatment.as_given.get("gfr_ml_min") if treatment.drug == "carboplatin" else None
    if filtration is None:
        return 1.0
    return (_REFERENCE_GFR_ML_MIN + _CALVERT_ML_MIN) / (float(filtration) + _CALVERT_ML_MIN)


def log_kill_integral(treatment: Treatment, sensitivity: float, days: ArrayLike) -> FloatArray:
    """Cumulative natural-log kill of a drug treatment up to each day (see :func:`kill_terms`)."""
    return kill_terms(treatment, sensitivity).integral(days)
