"""Compiled reactions of growth laws other than the logistic; apart, so that only they compile them."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _first_from, _jit, _log_kill


@_jit
def apply_moebius(density, share, numbers):  # type: ignore[no-untyped-def]
    """Set ``N <- a N / (1 + b n)`` with ``n = share N``, the part of the voxel's capacity."""
    a, b = numbers
    one = density.dtype.type(1.0)
    for i in range(density.size):
        density[i] = a * density[i] / (one + b * share[i] * density[i])


@_jit
def apply_power(density, share, numbers):  # type: ignore[no-untyped-def]
    """Set ``n <- exp(b) n^a`` with ``n = share N``; nothing grows from nothing."""
    a, b = numbers
    zero = density.dtype.type(0.0)
    one = density.dtype.type(1.0)
    for i in range(density.size):
        n = share[i] * density[i]
        density[i] = density[i] * np.exp((a - one) * np.log(n) + b) if n > zero else zero


@_jit
def apply_table(density, share, table, per_unit):  # type: ignore[no-untyped-def]
    """Set ``N <- N psi(n)`` with ``n = share N`` by cubic interpolation of psi at ``k / per_unit``."""
    last = table.size - 3
    one = density.dtype.type(1.0)
    two = density.dtype.type(2.0)
    sixth = density.dtype.type(1.0 / 6.0)
    half = density.dtype.type(0.5)
    for i in range(density.size):
        x = share[i] * density[i] * per_unit
        k = min(max(int(x), 1), last)
        t = x - density.dtype.type(k)
        factor = (
            -sixth * t * (t - one) * (t - two) * table[k - 1]
            + half * (t + one) * (t - one) * (t - two) * table[k]
            - half * (t + one) * t * (t - two) * table[k + 1]
            + sixth * (t + one) * t * (t - one) * table[k + 2]
        )
        density[i] *= max(factor, density.dtype.type(0.0))


@_jit
def _polynomial(coefficients, n):  # type: ignore[no-untyped-def]
    value = 0.0
    for j in range(coefficients.size - 1, -1, -1):
        value = value * n + coefficients[j]
    return value


@_jit
def _grow(log_factor, nodes, coefficients, kill, length):  # type: ignore[no-untyped-def]
    """Runge-Kutta (order 4) of ``w' = r(n0 e^w) - c(t)`` over a piece without events, the kill exact."""
    rate, decay = kill
    quickest = 0.0
    for j in range(coefficients.size):
        quickest += abs(coefficients[j])
    slowest = quickest
    for g in range(decay.size):
        if abs(rate[g]) > 1.0e-13 * (1.0 + decay[g]):
            quickest = max(quickest, decay[g])
    now, width = 0.0, 0.05 / (quickest + 1.0e-12)
    while now < length:
        width = length - now if width > 0.999 * (length - now) else width
        middle = _log_kill(rate, decay, now + 0.5 * width) - _log_kill(rate, decay, now)
        whole = _log_kill(rate, decay, now + width) - _log_kill(rate, decay, now)
        for i in range(nodes.size):
            w = log_factor[i]
            one = _polynomial(coefficients, nodes[i] * np.exp(w))
            two = _polynomial(coefficients, nodes[i] * np.exp(w + 0.5 * width * one - middle))
            three = _polynomial(coefficients, nodes[i] * np.exp(w + 0.5 * width * two - middle))
            four = _polynomial(coefficients, nodes[i] * np.exp(w + width * three - whole))
            log_factor[i] = w + width / 6.0 * (one + 2.0 * two + 2.0 * three + four) - whole
        now += width
        width = max(width, min(1.12 * width, 0.05 / (slowest + 1.0e-12)))
    for g in range(decay.size):
        rate[g] *= np.exp(-decay[g] * length)


@_jit
def growth_tables(times, nodes, coefficients, jumps, doses, terms):  # type: ignore[no-untyped-def]
    """Factor psi(n0) = n / n0 at the nodes over each interval for ``n' = n (r(n) - c(t))`` with jumps.

    ``coefficients`` are r's, in rising powers of n; ``jumps`` (day, log), ``doses`` days, ``terms`` (term,
    amplitude, decays of the terms). A jump at ``times[k]`` belongs to the interval that starts there.
    """
    jump_day, jump_log = jumps
    term, amplitude, decay = terms
    tables = np.empty((times.size - 1, nodes.size))
    rate = np.zeros(decay.size)
    jump, dose = _first_from(jump_day, times[0]), _first_from(doses, times[0])
    for i in range(dose):
        rate[term[i]] += amplitude[i] * np.exp(-decay[term[i]] * (times[0] - doses[i]))
    for k in range(times.size - 1):
        log_factor = np.zeros(nodes.size)
        now, end = times[k], times[k + 1]
        while now < end:
            while dose < doses.size and doses[dose] <= now:
                rate[term[dose]] += amplitude[dose]
                dose += 1
            while jump < jump_day.size and jump_day[jump] <= now:
                log_factor += jump_log[jump]
                jump += 1
            until = end
            if dose < doses.size:
                until = min(until, doses[dose])
            if jump < jump_day.size:
                until = min(until, jump_day[jump])
            _grow(log_factor, nodes, coefficients, (rate, decay), until - now)
            now = until
        tables[k] = np.exp(log_factor)
    return tables
