"""Compiled inner loops of the extended Kalman filter (numba, one thread, the GIL released)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from digital_twins.monitoring.twin._physiology import LONGEST_STEP_S, OBSERVED, SIZE, changes, shown, unmoved

if TYPE_CHECKING:
    from collections.abc import Callable

_SEEN = len(OBSERVED)
# Not "reassoc", "nnan" or "ninf": sums keep their order and a NaN stays visible.
_FASTMATH = {"contract", "nsz", "arcp"}


class _OneBody(NamedTuple):
    weight_kg: float
    heart_rate_per_min: float
    mean_pressure_mmhg: float
    respiratory_rate_per_min: float
    temperature_cel: float
    haemoglobin_g_dl: float


class _OneInput(NamedTuple):
    oxygen_fraction: float
    fluid_ml_per_min: float
    vasopressor: float


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use; keep the machine code on disk where any cache folder can be written."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no writable cache folder: compile anew in each process
        compiled = numba.njit(**options)(function)
    return compiled  # type: ignore[no-any-return]


@_jit
def moved_and_slopes(states, bodies, inputs, dt_s, perturb, moved, slopes):  # type: ignore[no-untyped-def]  # noqa: C901  (plain loops compile fast)
    """Set moved[row] to the state after dt_s, slopes[row] to its derivative by forward differences.

    Heun's method in equal steps of at most `LONGEST_STEP_S`.
    """
    slope, end, there, state = np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE)
    for row in range(len(states)):
        b, u = bodies[row], inputs[row]
        body, given = _OneBody(b[0], b[1], b[2], b[3], b[4], b[5]), _OneInput(u[0], u[1], u[2])
        count = max(1, int(np.ceil(dt_s[row] / LONGEST_STEP_S - 1e-9)))
        h = dt_s[row] / count
        for column in range(SIZE + 1):
            for n in range(SIZE):
                state[n] = states[row, n]
            if column:
                state[column - 1] += perturb[column - 1]
            fixed = unmoved(state, body)
            for _ in range(count):
                changes(slope, state, body, given, fixed)
                for n in range(SIZE):
                    there[n] = state[n] + h * slope[n]
                changes(end, there, body, given, fixed)
                for n in range(SIZE):
                    state[n] += h / 2.0 * (slope[n] + end[n])
            if column == 0:
                for n in range(SIZE):
                    moved[row, n] = state[n]
            else:
                for n in range(SIZE):
                    slopes[row, n, column - 1] = (state[n] - moved[row, n]) / perturb[column - 1]


@_jit
def seen_and_slopes(states, bodies, perturb, seen, slopes):  # type: ignore[no-untyped-def]
    """Set seen[row] to what the monitor would show, slopes[row] to its derivative by forward differences."""
    state = np.zeros(SIZE)
    for row in range(len(states)):
        b = bodies[row]
        body = _OneBody(b[0], b[1], b[2], b[3], b[4], b[5])
        for column in range(SIZE + 1):
            for n in range(SIZE):
                state[n] = states[row, n]
            if column:
                state[column - 1] += perturb[column - 1]
            each = shown(state, body, unmoved(state, body))
            if column == 0:
                for n in range(_SEEN):
                    seen[row, n] = each[n]
            else:
                for n in range(_SEEN):
                    slopes[row, n, column - 1] = (each[n] - seen[row, n]) / perturb[column - 1]


@_jit
def carried(covariance, transition, noise):  # type: ignore[no-untyped-def]
    """Replace each covariance by F P F' + the noise, [row, SIZE], on its diagonal."""
    half = np.zeros((SIZE, SIZE))
    for row in range(len(covariance)):
        before, f = covariance[row], transition[row]
        for n in range(SIZE):
            for m in range(SIZE):
                half[n, m] = 0.0
            for k in range(SIZE):
                for m in range(SIZE):
                    half[n, m] += f[n, k] * before[k, m]
        for n in range(SIZE):
            for m in range(n + 1):
                total = 0.0
                for k in range(SIZE):
                    total += half[n, k] * f[m, k]
                before[n, m] = total
                before[m, n] = total
            before[n, n] += noise[row, n]


@_jit
def taken_in(mean, covariance, off, slopes, reading_variance, innovation, variance, nis):  # type: ignore[no-untyped-def]  # noqa: C901  (plain loops compile fast)
    """Take the readings in one after the other, all linearised at the same mean; all arrays are set in place.

    That equals the joint update, as the noise of the readings is independent, and lets each be missing.
    """
    cross, moved = np.zeros(SIZE), np.zeros(SIZE)
    for row in range(len(mean)):
        p = covariance[row]
        nis[row] = 0.0
        for n in range(SIZE):
            moved[n] = 0.0
        for place in range(off.shape[1]):
            innovation[row, place] = np.nan
            variance[row, place] = np.nan
            if not np.isfinite(off[row, place]):
                continue
            h = slopes[row, place]
            for n in range(SIZE):
                cross[n] = 0.0
            for k in range(SIZE):
                for n in range(SIZE):
                    cross[n] += p[k, n] * h[k]
            spread, left = reading_variance[place], off[row, place]
            for n in range(SIZE):
                spread += h[n] * cross[n]
                left -= h[n] * moved[n]
            for n in range(SIZE):
                gain = cross[n] / spread
                moved[n] += gain * left
                for m in range(SIZE):
                    p[n, m] -= gain * cross[m]
            innovation[row, place], variance[row, place] = left, spread
            nis[row] += left * left / spread
        for n in range(SIZE):
            mean[row, n] += moved[n]
