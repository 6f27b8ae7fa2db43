"""Linear compartment models as sums of exponentials: macro-constants from micro-constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]
_SEPARATION = 1e-5
"""Rates closer than this (relative) are moved apart by it, so that no term is a confluent ``t exp(-at)``."""


@dataclass(frozen=True, eq=False)
class Exponentials:
    """The function ``f(t) = sum_i amplitude[i] exp(-rate[i] t)`` for t >= 0, and 0 before.

    ``rate`` holds reciprocals of the unit of t, all >= 0; amplitudes are signed.
    """

    amplitude: FloatArray
    rate: FloatArray

    def __call__(self, t: ArrayLike) -> FloatArray:
        """Return f at each time."""
        elapsed = np.asarray(t, dtype=np.float64)[..., None]
        active = elapsed >= 0.0
        values = np.where(active, np.exp(-self.rate * np.where(active, elapsed, 0.0)), 0.0)
        return np.asarray(values @ self.amplitude)

    @property
    def total(self) -> float:
        """Integral from 0 to infinity."""
        return float(np.sum(self.amplitude / self.rate))

    def scaled(self, factor: float) -> Exponentials:
        """Return ``factor * f``."""
        return Exponentials(self.amplitude * factor, self.rate)

    def through(self, rate: float) -> Exponentials:
        """Return f convolved with ``rate exp(-rate t)``: a first-order delay that keeps the integral."""
        apart = self.rate - rate
        close = np.abs(apart) < _SEPARATION * rate
        moved = np.where(close, rate * (1.0 + _SEPARATION), self.rate)
        # Moving a rate would change the integral a/rate; the amplitude is moved with it.
        amplitude = np.where(close, self.amplitude * moved / self.rate, self.amplitude)
        gain = amplitude * rate / (moved - rate)
        return Exponentials(np.append(-gain, gain.sum()), np.append(moved, rate))


def _system(
    clearance: float, central_volume: float, peripherals: Sequence[tuple[float, float]]
) -> FloatArray:
    """Rate matrix of amounts, central compartment first."""
    n = 1 + len(peripherals)
    rates = np.zeros((n, n))
    rates[0, 0] = -clearance / central_volume
    for i, (flow, volume) in enumerate(peripherals, start=1):
        rates[0, 0] -= flow / central_volume
        rates[i, 0] = flow / central_volume
        rates[0, i] = flow / volume
        rates[i, i] = -flow / volume
    return rates


def compartment_model(
    *,
    clearance_l_h: float,
    central_volume_l: float,
    peripherals: Sequence[tuple[float, float]] = (),
    absorption_per_h: float | None = None,
) -> Exponentials:
    """Concentration in mg/L after 1 mg, as exponentials in hours.

    The mammillary model ``dA/dt = K A`` with the amounts A, elimination ``clearance / V1`` from the central
    compartment and exchange flows Q_i with peripheral volumes V_i; eigenvalues of K are the macro rates
    (Gibaldi and Perrier, Pharmacokinetics, 2nd ed., appendix B).

    Parameters
    ----------
    clearance_l_h, central_volume_l
        CL in L/h and V1 in L (CL/F and V/F for oral drugs).
    peripherals
        ``(flow in L/h, volume in L)`` of each peripheral compartment.
    absorption_per_h
        First-order absorption rate; None is a bolus into the central compartment.

    Raises
    ------
    InputError
        When a constant is not positive.
    """
    constants = [clearance_l_h, central_volume_l, *(x for pair in peripherals for x in pair)]
    if absorption_per_h is not None:
        constants.append(absorption_per_h)
    if not all(np.isfinite(c) and c > 0 for c in constants):
        raise InputError(
            "A pharmacokinetic constant is not positive.",
            "Clearances, volumes, flows and absorption rates of a compartment model must be > 0.",
            "Correct the drug's parameters.",
        )
    system = _system(clearance_l_h, central_volume_l, peripherals)
    # Similar to a symmetric matrix by the square roots of the volumes, so eigenvalues are real and accurate.
    root = np.sqrt(np.array([central_volume_l, *(volume for _, volume in peripherals)]))
    symmetric = system * root[None, :] / root[:, None]
    eigenvalues, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2.0)
    bolus = Exponentials(vectors[0] ** 2 / central_volume_l, -eigenvalues)
    return bolus if absorption_per_h is None else bolus.through(absorption_per_h)


def infusion(response: Exponentials, duration: float) -> tuple[Exponentials, Exponentials]:
    """Response to one unit given at a constant rate over ``duration``: a term that starts, one that stops.

    The input is 1/duration for 0 <= t < duration. The answer at t is ``first(t) + second(t - duration)``
    with the returned exponentials (constant terms have rate 0).
    """
    steady = response.amplitude / (response.rate * duration)
    amplitude = np.append(-steady, steady.sum())
    rate = np.append(response.rate, 0.0)
    return Exponentials(amplitude, rate), Exponentials(-amplitude, rate)
