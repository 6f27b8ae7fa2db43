"""Oral kinetics in mice: one compartment with saturable elimination, fitted to pooled plasma samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from digital_twins._errors import InputError
from digital_twins.treatment_simulation._xenograft_kernels import oral_concentration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.treatment_simulation._xenograft_data import PlasmaSample

FloatArray = NDArray[np.float64]
STEP_DAYS = 0.005
REFERENCE_DOSE_MG_PER_KG = 100.0
_START = np.append(np.log([50.0, 8.0, 40.0, 3.0]), 0.0)
_PRIOR_SD = np.array([1.0, 1.0, 1.5, 1.5, 0.5])
"""Weak normal priors on the logarithms, centred on the order of magnitude of oral small molecules in mice."""


@dataclass(frozen=True, eq=False)
class OralKinetics:
    """Fitted constants: ka (1/day), V/F (L/kg), Vmax (mg/L/day), Km (mg/L), and the absorption loss.

    The absorbed fraction falls with the dose d as ``(d / 100 mg/kg)^-loss`` (limited solubility);
    ``residual_sd_log`` is the robust standard deviation of the logarithm around the curve.
    """

    constants: FloatArray
    residual_sd_log: float
    n_samples: int

    def concentration(self, doses: Sequence[tuple[float, float]], horizon_days: float) -> FloatArray:
        """Plasma concentration in mg/L every ``STEP_DAYS`` from day 0 to the horizon."""
        return concentration(self.constants, doses, horizon_days)


def concentration(
    constants: FloatArray, doses: Sequence[tuple[float, float]], horizon_days: float
) -> FloatArray:
    """Plasma concentration in mg/L every ``STEP_DAYS`` for doses ``(day, mg per kg)``."""
    ordered = sorted(doses)
    steps = np.array([round(day / STEP_DAYS) for day, _ in ordered], dtype=np.int64)
    given = np.array([amount for _, amount in ordered], dtype=np.float64)
    amounts = given * (given / REFERENCE_DOSE_MG_PER_KG) ** -constants[4]
    n_steps = round(horizon_days / STEP_DAYS)
    return np.asarray(oral_concentration(steps, amounts, constants[:4], n_steps, STEP_DAYS))


def _constants(unbounded: FloatArray) -> FloatArray:
    return np.append(np.exp(unbounded[:4]), unbounded[4])


def fit_kinetics(samples: Sequence[PlasmaSample]) -> OralKinetics:
    """Fit the kinetics to samples of many mice by robust least squares on the logarithm.

    Samples not later than the first dose are left out (the model is zero there).

    Raises
    ------
    InputError
        When fewer than eight samples can be used.
    """
    usable = [
        s for s in samples if s.doses and s.day > min(d for d, _ in s.doses) and s.concentration_mg_l > 0
    ]
    if len(usable) < 8:
        raise InputError(
            f"Only {len(usable)} plasma samples can be used.",
            "Five kinetic constants need at least eight samples after a dose.",
            "Pass more samples.",
        )
    groups: dict[tuple[tuple[float, float], ...], list[PlasmaSample]] = {}
    for sample in usable:
        groups.setdefault(sample.doses, []).append(sample)

    def residuals(logs: FloatArray) -> FloatArray:
        parts = [(logs - _START) / _PRIOR_SD * 0.7]
        for doses, members in groups.items():
            days = np.array([s.day for s in members])
            curve = concentration(_constants(logs), doses, float(days.max()) + STEP_DAYS)
            fitted = np.interp(days, np.arange(curve.size) * STEP_DAYS, curve)
            observed = np.array([s.concentration_mg_l for s in members])
            parts.append(np.log(observed) - np.log(np.maximum(fitted, 1e-4)))
        return np.concatenate(parts)

    fit = least_squares(residuals, _START, loss="soft_l1", f_scale=0.7, diff_step=1e-3)
    errors = residuals(fit.x)[_START.size :]
    spread = 1.4826 * float(np.median(np.abs(errors - np.median(errors))))
    return OralKinetics(_constants(fit.x), spread, len(usable))
