"""Compiled inner loops of the extended Kalman filter (numba, one thread, the GIL released)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from digital_twins.monitoring.signals import cached_by
from digital_twins.monitoring.twin import _physiology, _slopes
from digital_twins.monitoring.twin._physiology import (
    LONGEST_STEP_S,
    OBSERVED,
    SIZE,
    STATES,
    changes,
    shown,
    unmoved,
)
from digital_twins.monitoring.twin._slopes import DERIVATIVES, change_slopes, shown_slopes, times

if TYPE_CHECKING:
    from collections.abc import Callable

_SEEN = len(OBSERVED)
CHANGED = len(STATES)
_WIDE = 16  # SIZE and three unused columns: rows of whole vectors
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
    cached_by(function, _physiology, _slopes)
    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no writable cache folder: compile anew in each process
        compiled = numba.njit(**options)(function)
    return compiled  # type: ignore[no-any-return]


@_jit
def moved_and_slopes(states, bodies, inputs, dt_s, moved, slopes):  # type: ignore[no-untyped-def]
    """Set moved[row] to the state after dt_s, slopes[row] to the derivative of just that.

    Heun's method in equal steps of at most `LONGEST_STEP_S`; its derivative goes through the same steps.
    """
    work = np.empty((3, SIZE)), np.empty((4, SIZE, _WIDE)), np.empty(DERIVATIVES)
    for row in range(len(states)):
        b, u = bodies[row], inputs[row]
        body, given = _OneBody(b[0], b[1], b[2], b[3], b[4], b[5]), _OneInput(u[0], u[1], u[2])
        state, passed, half = moved[row], work[1][0], work[1][1]
        for n in range(SIZE):
            state[n] = states[row, n]
            for m in range(_WIDE):
                passed[n, m] = half[n, m] = 1.0 if n == m else 0.0
        fixed = unmoved(state, body)
        count = max(1, int(np.ceil(dt_s[row] / LONGEST_STEP_S - 1e-9)))
        for _ in range(count):
            _heun(state, body, given, fixed, dt_s[row] / count, work)
        for n in range(SIZE):
            for m in range(SIZE):
                slopes[row, n, m] = passed[n, m]


@_jit
def _heun(state, body, given, fixed, h, work):  # type: ignore[no-untyped-def]
    """Move one state, and the derivative that has come to it, by a step of h."""
    (slope, end, there), (passed, half, first, second), each = work
    changes(slope, state, body, given, fixed)
    for n in range(CHANGED):
        there[n] = state[n] + h * slope[n]
    for n in range(CHANGED, SIZE):
        there[n] = state[n]
    changes(end, there, body, given, fixed)
    change_slopes(each, state, body, given, fixed)
    times(each, passed, first)
    for n in range(CHANGED):
        for m in range(_WIDE):
            half[n, m] = passed[n, m] + h * first[n, m]
    change_slopes(each, there, body, given, fixed)
    times(each, half, second)
    for n in range(CHANGED):
        state[n] += h / 2.0 * (slope[n] + end[n])
        for m in range(_WIDE):
            passed[n, m] += h / 2.0 * (first[n, m] + second[n, m])


@_jit
def seen_and_slopes(states, bodies, seen, slopes):  # type: ignore[no-untyped-def]
    """Set seen[row] to what the monitor would show, slopes[row] to its derivative."""
    for row in range(len(states)):
        b, state, slope = bodies[row], states[row], slopes[row]
        body = _OneBody(b[0], b[1], b[2], b[3], b[4], b[5])
        fixed = unmoved(state, body)
        each = shown(state, body, fixed)
        for n in range(_SEEN):
            seen[row, n] = each[n]
            for m in range(SIZE):
                slope[n, m] = 0.0
        shown_slopes(slope, state, body, fixed)


@_jit
def carried(covariance, transition, noise):  # type: ignore[no-untyped-def]
    """Replace each covariance by F P F' + the noise, [row, SIZE], on its diagonal.

    Only the first `CHANGED` rows of F are more than those of the identity.
    """
    half, turned = np.empty((CHANGED, SIZE)), np.empty((SIZE, CHANGED))
    for row in range(len(covariance)):
        before = covariance[row]
        _halfway(before, transition[row], half, turned)
        for n in range(CHANGED):
            for m in range(CHANGED):
                before[n, m] = 0.0
            for k in range(SIZE):
                for m in range(CHANGED):
                    before[n, m] += half[n, k] * turned[k, m]
            for m in range(n):  # equal but for rounding
                before[n, m] = before[m, n]
            for m in range(CHANGED, SIZE):
                before[n, m] = half[n, m]
                before[m, n] = half[n, m]
        for n in range(SIZE):
            before[n, n] += noise[row, n]


@_jit
def _halfway(covariance, transition, half, turned):  # type: ignore[no-untyped-def]
    """Set half to F P and turned to F', of the rows that differ from the identity's; F is sparse."""
    for n in range(CHANGED):
        for m in range(SIZE):
            half[n, m] = 0.0
        for k in range(SIZE):
            turned[k, n] = transition[n, k]
            if transition[n, k] != 0.0:
                for m in range(SIZE):
                    half[n, m] += transition[n, k] * covariance[k, m]


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
                if h[k] != 0.0:  # a reading shows few of the states
                    for n in range(SIZE):
                        cross[n] += p[k, n] * h[k]
            spread, left = reading_variance[place], off[row, place]
            for n in range(SIZE):
                spread += h[n] * cross[n]
                left -= h[n] * moved[n]
            inverse = 1.0 / spread
            for n in range(SIZE):
                moved[n] += cross[n] * inverse * left
                for m in range(SIZE):  # the product of the two first: so the covariance stays symmetric
                    p[n, m] -= cross[n] * cross[m] * inverse
            innovation[row, place], variance[row, place] = left, spread
            nis[row] += left * left / spread
        for n in range(SIZE):
            mean[row, n] += moved[n]
