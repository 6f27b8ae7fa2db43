"""Probabilities of tumour control and of complications."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class ComplicationModel:
    """Parameters of the Lyman-Kutcher-Burman model with where they were read.

    ``td50_gy`` is the uniform dose of a 50 % risk, ``m`` the steepness, ``n`` the volume exponent (1: the
    mean dose counts, near 0: the maximum).
    """

    endpoint: str
    td50_gy: float
    m: float
    n: float
    source: str


COMPLICATIONS: dict[str, ComplicationModel] = {
    "lung": ComplicationModel(
        "radiation pneumonitis, SWOG grade 2 and above, both lungs, doses as EQD2",
        30.8,
        0.37,
        1.0,
        "Seppenwoolde 2003, Int J Radiat Oncol Biol Phys 55:724 (abstract read), 382 patients",
    ),
    "lung_symptomatic": ComplicationModel(
        "symptomatic pneumonitis, both lungs",
        31.4,
        0.45,
        1.0,
        "QUANTEC, Marks 2010, doi:10.1016/j.ijrobp.2009.06.091 [verify]",
    ),
}
"""Complication models by organ."""


def tumour_control_probability(
    clonogens: ArrayLike, log_survival: ArrayLike, *, alpha_relative_sd: float = 0.0
) -> float:
    """Probability that no clonogen survives: Poisson, ``exp(-sum N S)``.

    Munro & Gilbert, Br J Radiol 1961;34:246, doi:10.1259/0007-1285-34-400-246; with a spread of alpha between
    patients Webb & Nahum, Phys Med Biol 1993;38:653, doi:10.1088/0031-9155/38/6/001.

    Parameters
    ----------
    clonogens
        Number of clonogens, in all or in each voxel.
    log_survival
        Log survival after the course with regrowth included (may be above 0), of the same shape.
    alpha_relative_sd
        Standard deviation of alpha between patients over its mean, alpha/beta fixed; the probability is then
        the mean over patients (normal, cut at 0).

    Raises
    ------
    InputError
        Negative numbers, or shapes that do not fit.
    """
    number = np.asarray(clonogens, dtype=np.float64)
    survival = np.asarray(log_survival, dtype=np.float64)
    try:
        number, survival = np.broadcast_arrays(number, survival)
    except ValueError:
        number = np.array([-1.0])
    if not np.isfinite(survival).all() or not np.isfinite(number).all() or (number < 0).any():
        raise InputError(
            "The tumour control probability cannot be computed.",
            "It needs clonogen numbers of 0 or more and a finite log survival for each.",
            "Give arrays of one shape.",
        )
    if alpha_relative_sd <= 0.0:
        return _poisson(number, survival, 1.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    scales = 1.0 + alpha_relative_sd * nodes
    kept = scales > 0.0
    parts = np.array([_poisson(number, survival, float(scale)) for scale in scales[kept]])
    return float(parts @ weights[kept] / weights[kept].sum())


def _poisson(number: NDArray[np.float64], survival: NDArray[np.float64], scale: float) -> float:
    return math.exp(-float(np.sum(number * np.exp(np.minimum(scale * survival, 700.0)))))


def dose_response_tcp(dose_gy: ArrayLike, *, d50_gy: float, gamma50: float) -> NDArray[np.float64]:
    """Poisson dose-response curve by its dose of 50 % control and normalised slope there.

    ``2 ** -exp(2 gamma50 (1 - D / D50) / ln 2)``: Poisson control with log survival linear in dose.
    Bentzen & Tucker, Int J Radiat Biol 1997;71:531, doi:10.1080/095530097143860 [verify].

    Raises
    ------
    InputError
        When D50 or the slope are not positive.
    """
    if not (d50_gy > 0.0 and gamma50 > 0.0):
        raise InputError(
            "The dose-response curve cannot be computed.",
            f"D50 is {d50_gy:g} Gy and gamma50 {gamma50:g}; both must be positive.",
            "Use published values of the endpoint.",
        )
    dose = np.asarray(dose_gy, dtype=np.float64)
    exponent = 2.0 * gamma50 / math.log(2.0) * (1.0 - dose / d50_gy)
    return np.asarray(np.exp(-math.log(2.0) * np.exp(np.minimum(exponent, 700.0))))


def generalised_eud_gy(dose_gy: ArrayLike, volume: ArrayLike, exponent: float) -> float:
    """Generalised equivalent uniform dose ``(sum v_i d_i^a)^(1/a)`` with relative volumes v, in Gy.

    Niemierko, Med Phys 1999;26:1100 (abstract). ``exponent`` a is 1/n of the Lyman model.

    Raises
    ------
    InputError
        No volume, or an exponent that is not positive.
    """
    dose, weight = np.asarray(dose_gy, dtype=np.float64), np.asarray(volume, dtype=np.float64)
    if not (exponent > 0.0 and weight.sum() > 0.0 and dose.shape == weight.shape and (dose >= 0.0).all()):
        raise InputError(
            "The equivalent uniform dose cannot be computed.",
            "It needs doses of 0 Gy and more with their volumes, and a positive exponent.",
            "Give a differential dose-volume histogram.",
        )
    largest = float(dose.max(initial=0.0))
    if largest == 0.0:
        return 0.0
    mean = float(np.sum(weight * (dose / largest) ** exponent) / weight.sum())
    return float(largest * mean ** (1.0 / exponent))


def complication_probability(dose_gy: ArrayLike, volume: ArrayLike, model: ComplicationModel) -> float:
    """Normal tissue complication probability, Lyman-Kutcher-Burman: ``Phi((gEUD - TD50) / (m TD50))``.

    Lyman, Radiat Res 1985;104:S13; Kutcher & Burman, Int J Radiat Oncol Biol Phys 1989;16:1623,
    doi:10.1016/0360-3016(89)90972-3. Doses in the fractionation of the model (EQD2 where it says so).

    Parameters
    ----------
    dose_gy, volume
        Differential dose-volume histogram of the organ: dose of each bin in gray, and its volume in any unit.
    model
        One of :data:`COMPLICATIONS`, or your own.
    """
    uniform = generalised_eud_gy(dose_gy, volume, 1.0 / model.n)
    return float(ndtr((uniform - model.td50_gy) / (model.m * model.td50_gy)))
