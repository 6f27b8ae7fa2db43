"""Radiation survival: the linear-quadratic law with incomplete repair, hypoxia and high doses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

HOURS_PER_DAY = 24.0


@dataclass(frozen=True, slots=True)
class Radiosensitivity:
    """How cells answer to fractions of dose.

    The defaults are the plain linear-quadratic law: full repair between fractions, instant delivery, no
    hypoxia, no straightening at high doses.

    Attributes
    ----------
    alpha_per_gy, alpha_beta_gy
        Linear coefficient in 1/Gy, and its ratio to the quadratic one in Gy.
    repair_half_life_hours
        Half-life of sublethal damage; 0 means full repair between fractions. Thames, Int J Radiat Biol
        1985;47:319, doi:10.1080/09553008514550461; Dale, Br J Radiol 1985;58:515,
        doi:10.1259/0007-1285-58-690-515.
    delivery_minutes
        Duration of each fraction, at a constant dose rate. Sublethal damage is repaired meanwhile
        (Lea-Catcheside factor).
    hypoxic_fraction, oxygen_enhancement
        Part of the clonogens that are hypoxic at the start, and the dose that these need over that of oxic
        ones for the same effect.
    reoxygenation_half_life_days
        Half-life of the hypoxic state after each fraction; infinite keeps survivors hypoxic.
    linear_above_gy
        Dose of a fraction above which log survival goes on as a straight line along its tangent (LQ-L):
        Astrahan, Med Phys 2008;35:4161, doi:10.1118/1.2969065. Infinite for the plain law.

    Raises
    ------
    InputError
        When a value is out of range.
    """

    alpha_per_gy: float
    alpha_beta_gy: float
    repair_half_life_hours: float = 0.0
    delivery_minutes: float = 0.0
    hypoxic_fraction: float = 0.0
    oxygen_enhancement: float = 1.0
    reoxygenation_half_life_days: float = math.inf
    linear_above_gy: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha_per_gy) and self.alpha_per_gy >= 0.0 and self.alpha_beta_gy > 0.0):
            raise InputError(
                "A radiosensitivity coefficient is out of range.",
                f"alpha is {self.alpha_per_gy:g} per Gy and alpha/beta is {self.alpha_beta_gy:g} Gy.",
                "Use alpha >= 0 per Gy and alpha/beta > 0 Gy.",
            )
        usable = (
            0.0 <= self.repair_half_life_hours < math.inf
            and 0.0 <= self.delivery_minutes < math.inf
            and 0.0 <= self.hypoxic_fraction <= 1.0
            and 1.0 <= self.oxygen_enhancement < math.inf
            and self.reoxygenation_half_life_days > 0.0
            and self.linear_above_gy > 0.0
        )
        if not usable:
            raise InputError(
                "A modifier of the radiation response is out of range.",
                "Half-lives and times are not negative, a hypoxic fraction is 0 to 1, an oxygen enhancement "
                "ratio at least 1, a transition dose positive.",
                "Correct the value, or leave it out.",
            )

    @property
    def repair_per_day(self) -> float:
        """Rate of repair in 1/day; infinite for full repair."""
        if self.repair_half_life_hours == 0.0:
            return math.inf
        return math.log(2.0) * HOURS_PER_DAY / self.repair_half_life_hours


def lq_log_survival(dose_gy: ArrayLike, alpha_per_gy: float, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Natural logarithm of the surviving fraction, ``-(alpha d + beta d^2)``, beta = alpha/(alpha/beta).

    One acute exposure with full repair before the next. Fowler, Br J Radiol 1989;62:679,
    doi:10.1259/0007-1285-62-740-679.

    Parameters
    ----------
    dose_gy
        Dose of each fraction in gray, any shape, not negative.
    alpha_per_gy
        Linear coefficient in 1/Gy, not negative.
    alpha_beta_gy
        Ratio of the linear to the quadratic coefficient in Gy, positive.

    Returns
    -------
    numpy.ndarray
        Log survival (<= 0) with the shape of ``dose_gy``.

    Raises
    ------
    InputError
        When a dose is negative or not finite, or a coefficient is out of range.
    """
    dose = _usable_dose(dose_gy)
    sensitivity = Radiosensitivity(alpha_per_gy, alpha_beta_gy)
    return -sensitivity.alpha_per_gy * dose * (1.0 + dose / alpha_beta_gy)


def fraction_log_survival(
    dose_gy: ArrayLike, days: ArrayLike, sensitivity: Radiosensitivity
) -> NDArray[np.float64]:
    """Log survival of each fraction of a course, given those before it.

    The quadratic effect of fraction j is ``beta (g d_j^2 + 2 d_j R_j)``: R_j is the dose before it that is
    not repaired yet, ``sum_i<j c d_i exp(-mu (t_j - t_i))``; g and c are the Lea-Catcheside factors of
    fractions of finite duration T, ``g = 2 (x - 1 + exp(-x)) / x^2`` and ``c = (2 sinh(x/2) / x)^2`` with
    x = mu T (times are those of the middle of a fraction). Summed over the course this is the generalised
    Lea-Catcheside dose-protraction factor, exactly. Hypoxic clonogens receive the dose over the oxygen
    enhancement ratio and turn oxic between fractions; the survival is that of both together. Oxygenation
    after Horsman & Overgaard, J Radiat Res 2016;57:i90, doi:10.1093/jrr/rrw007 [verify].

    Parameters
    ----------
    dose_gy
        [fraction] in gray, or [fraction, ...] for a dose that differs from voxel to voxel.
    days
        Day of each fraction, in rising order.
    sensitivity
        Coefficients and modifiers.

    Returns
    -------
    numpy.ndarray
        Log survival (<= 0) of each fraction, with the shape of ``dose_gy``; their sum is that of the course.

    Raises
    ------
    InputError
        A dose is negative or not finite, or days are not in order or do not fit the doses.
    """
    dose = _usable_dose(dose_gy)
    day = np.asarray(days, dtype=np.float64)
    if day.ndim != 1 or dose.shape[:1] != day.shape or not np.isfinite(day).all() or (np.diff(day) < 0).any():
        raise InputError(
            "The days of the fractions cannot be used.",
            f"{day.size} days in an array of {day.ndim} dimensions for doses of shape {dose.shape}.",
            "Give one finite day a fraction, in rising order.",
        )
    oxic = _course_effect(dose, day, sensitivity)
    if sensitivity.hypoxic_fraction == 0.0 or sensitivity.oxygen_enhancement == 1.0:
        return -oxic
    hypoxic = _course_effect(dose / sensitivity.oxygen_enhancement, day, sensitivity)
    return _of_both(oxic, hypoxic, day, sensitivity)


def _usable_dose(dose_gy: ArrayLike) -> NDArray[np.float64]:
    dose = np.asarray(dose_gy, dtype=np.float64)
    if not np.all(np.isfinite(dose)) or np.any(dose < 0.0):
        raise InputError(
            "A radiation dose is negative or not a number.",
            "The linear-quadratic law is defined for doses of 0 Gy and more.",
            "Give every fraction as a finite dose in gray.",
        )
    return dose


def _course_effect(
    dose: NDArray[np.float64], day: NDArray[np.float64], sensitivity: Radiosensitivity
) -> NDArray[np.float64]:
    """Effect -ln S of each fraction on one population."""
    alpha, ratio = sensitivity.alpha_per_gy, sensitivity.alpha_beta_gy
    beta = alpha / ratio
    within, between = _protraction(sensitivity)
    effect = np.empty_like(dose)
    unrepaired = np.zeros(dose.shape[1:])
    for j, d in enumerate(dose):
        if j and math.isfinite(sensitivity.repair_per_day):
            left = between * dose[j - 1]
            unrepaired = (unrepaired + left) * math.exp(-sensitivity.repair_per_day * (day[j] - day[j - 1]))
        low = np.minimum(d, sensitivity.linear_above_gy)
        tangent = alpha + 2.0 * beta * within * low
        effect[j] = alpha * low + beta * within * low**2 + tangent * (d - low) + 2.0 * beta * d * unrepaired
    return effect


def _protraction(sensitivity: Radiosensitivity) -> tuple[float, float]:
    """Lea-Catcheside factors within a fraction and between two, for a constant dose rate."""
    rate = sensitivity.repair_per_day
    x = rate * sensitivity.delivery_minutes / (60.0 * HOURS_PER_DAY) if math.isfinite(rate) else 0.0
    if x < 1e-4:
        return 1.0 - x / 3.0, 1.0
    return 2.0 * (x - 1.0 + math.exp(-x)) / x**2, (2.0 * math.sinh(x / 2.0) / x) ** 2


def _of_both(
    oxic: NDArray[np.float64],
    hypoxic: NDArray[np.float64],
    day: NDArray[np.float64],
    sensitivity: Radiosensitivity,
) -> NDArray[np.float64]:
    """Log survival of oxic and hypoxic clonogens together; survivors reoxygenate between fractions.

    The shares are kept relative to all survivors, so that no course is too long for floating point.
    """
    share = np.full(oxic.shape[1:], sensitivity.hypoxic_fraction)
    result = np.empty_like(oxic)
    for j in range(len(oxic)):
        if j:
            gone = 0.5 ** ((day[j] - day[j - 1]) / sensitivity.reoxygenation_half_life_days)
            share = share * gone
        # exp of the difference only: the weaker effect is taken out of both
        least = np.minimum(oxic[j], hypoxic[j])
        left_oxic = (1.0 - share) * np.exp(least - oxic[j])
        left_hypoxic = share * np.exp(least - hypoxic[j])
        total = left_oxic + left_hypoxic
        result[j] = np.log(total) - least
        share = left_hypoxic / total
    return np.minimum(result, 0.0)


def bed_gy(
    dose_gy: ArrayLike,
    fractions: float,
    alpha_beta_gy: float,
) -> NDArray[np.float64]:
    """Biologically effective dose ``D (1 + (D/n) / (alpha/beta))`` of a total dose in equal fractions, in Gy.

    Full repair between fractions, no repopulation. Fowler 1989, doi:10.1259/0007-1285-62-740-679.

    Raises
    ------
    InputError
        A dose is negative or not finite, or fractions or alpha/beta are not positive.
    """
    dose = _usable_dose(dose_gy)
    if not (fractions > 0 and alpha_beta_gy > 0 and math.isfinite(fractions)):
        raise InputError(
            "An equivalent dose cannot be computed.",
            f"{fractions:g} fractions, alpha/beta {alpha_beta_gy:g} Gy; both must be positive.",
            "Give the number of fractions and alpha/beta of the tissue.",
        )
    return np.asarray(dose * (1.0 + dose / fractions / alpha_beta_gy))


def eqd2_gy(dose_gy: ArrayLike, fractions: float, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Total dose in fractions of 2 Gy with the same biologically effective dose (:func:`bed_gy`), in Gy."""
    return np.asarray(bed_gy(dose_gy, fractions, alpha_beta_gy) / (1.0 + 2.0 / alpha_beta_gy))


def repopulation_log_growth(
    overall_days: ArrayLike, *, kick_off_day: float, doubling_days: float
) -> NDArray[np.float64]:
    """Natural log of the growth of clonogens by accelerated repopulation, ``ln 2 max(0, T - Tk) / Td``.

    T is the overall time since the first fraction, Tk the kick-off time, Td the doubling time after it.
    Fowler 1989, doi:10.1259/0007-1285-62-740-679; Withers et al., Acta Oncol 1988;27:131,
    doi:10.3109/02841868809090333.

    Raises
    ------
    InputError
        When the doubling time is not positive.
    """
    if not (doubling_days > 0.0 and math.isfinite(kick_off_day)):
        raise InputError(
            "The repopulation cannot be computed.",
            f"Kick-off on day {kick_off_day:g}, doubling in {doubling_days:g} days.",
            "Use a finite kick-off day and a positive doubling time.",
        )
    late = np.maximum(np.asarray(overall_days, dtype=np.float64) - kick_off_day, 0.0)
    return np.asarray(math.log(2.0) * late / doubling_days)


def dose_lost_gy_per_day(
    dose_per_fraction_gy: float, sensitivity: Radiosensitivity, doubling_days: float
) -> float:
    """Dose a day that makes up for repopulation: ``ln 2 / (alpha (1 + d / (alpha/beta)) Td)``, in Gy.

    Raises
    ------
    InputError
        When alpha or the doubling time are not positive.
    """
    effect = -float(
        lq_log_survival(1.0, sensitivity.alpha_per_gy, sensitivity.alpha_beta_gy / dose_per_fraction_gy)
    )
    if not (doubling_days > 0.0 and effect > 0.0):
        raise InputError(
            "The dose lost to repopulation cannot be computed.",
            "Cells without radiosensitivity, or a doubling time that is not positive.",
            "Use alpha > 0 per Gy and a positive doubling time.",
        )
    return math.log(2.0) / (doubling_days * effect)
