"""Compiled kernels of the xenograft model: oral kinetics and tumour growth inhibition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._compiled import jit

FloatArray = NDArray[np.float64]
TRANSITS = 3
"""Transit compartments of damaged cells on their way to death (Simeoni 2004)."""


@jit
def oral_concentration(dose_steps: Any, doses: Any, constants: Any, n_steps: int, step_days: float) -> Any:
    """Plasma concentration after oral doses, one compartment with saturable elimination.

    ``dA/dt = -ka A``, ``dC/dt = ka A / V - Vmax C / (Km + C)`` by the midpoint rule; ``constants`` holds ka
    (1/day), V/F (L/kg), Vmax (mg/L/day) and Km (mg/L); doses in mg/kg enter A at the start of their step.
    Returns ``n_steps + 1`` values in mg/L.
    """
    ka, volume, v_max, k_m = constants
    out = np.zeros(n_steps + 1)
    gut = 0.0
    c = 0.0
    decay = np.exp(-ka * step_days)
    half = np.exp(-0.5 * ka * step_days)
    next_dose = 0
    for i in range(n_steps):
        while next_dose < dose_steps.size and dose_steps[next_dose] <= i:
            gut += doses[next_dose]
            next_dose += 1
        first = ka * gut / volume - v_max * c / (k_m + c)
        middle = max(c + 0.5 * step_days * first, 0.0)
        second = ka * gut * half / volume - v_max * middle / (k_m + middle)
        c = max(c + step_days * second, 0.0)
        gut *= decay
        out[i + 1] = c
    return out


@jit
def tumour_volumes(mice: Any, drive: Any, transit_per_day: float, step_days: float) -> Any:
    """Tumour volumes of many mice under growth and kill.

    Parameters
    ----------
    mice
        [mouse, 4]: volume on day 0 (cm3), exponential rate (1/day), linear rate (cm3/day), potency (1/day).
    drive
        [mouse, step]: mean of the relative drug effect over each step.
    transit_per_day
        Rate between the damaged compartments.

    Returns
    -------
    numpy.ndarray
        [mouse, step + 1] volumes: ``dp/dt = r l / (l + r w) p - k p`` with exponential rate r and linear rate
        l (Koch 2009, whose lambda0 is r / 2), damaged cells through three transits (Simeoni 2004), ``w`` =
        p + damaged; Heun's method.
    """
    n_mice, n_steps = drive.shape
    out = np.empty((n_mice, n_steps + 1))
    for m in range(n_mice):
        p, growth, linear, potency = mice[m, 0], mice[m, 1], mice[m, 2], mice[m, 3]
        d1 = d2 = d3 = 0.0
        out[m, 0] = p
        for i in range(n_steps):
            kill = potency * drive[m, i]
            w = p + d1 + d2 + d3
            rate = growth * linear / (linear + growth * w) - kill
            # Exact in p for a frozen rate, so a strong kill cannot make the volume negative.
            q = p * np.exp(rate * step_days)
            mean = 0.5 * (p + q)
            e1 = max(d1 + step_days * (kill * p - transit_per_day * d1), 0.0)
            e2 = max(d2 + step_days * transit_per_day * (d1 - d2), 0.0)
            e3 = max(d3 + step_days * transit_per_day * (d2 - d3), 0.0)
            w2 = q + e1 + e2 + e3
            rate2 = growth * linear / (linear + growth * w2) - kill
            f1 = kill * mean - transit_per_day * 0.5 * (d1 + e1)
            f2 = transit_per_day * 0.5 * (d1 + e1 - d2 - e2)
            f3 = transit_per_day * 0.5 * (d2 + e2 - d3 - e3)
            p = p * np.exp(0.5 * (rate + rate2) * step_days)
            d1 = max(d1 + step_days * f1, 0.0)
            d2 = max(d2 + step_days * f2, 0.0)
            d3 = max(d3 + step_days * f3, 0.0)
            out[m, i + 1] = p + d1 + d2 + d3
    return out
