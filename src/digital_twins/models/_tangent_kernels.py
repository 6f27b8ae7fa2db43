"""Compiled forward-mode derivatives of the reaction-diffusion scheme: field and tangents in one sweep."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _copy, _euler, _first_from, _jit, _log_kill


@_jit
def _finish_density(density, rows, reaction):  # type: ignore[no-untyped-def]
    """Second Runge-Kutta stage and reaction of one row; leave in ``rows`` what the tangents need.

    ``rows`` are the second stage, the first stage, and room for the reaction's slope. On return the second
    holds ``v / (1 + saturation v)`` and the first ``(A + A^2) N``, what the diffusion moved.
    """
    second, first, slope = rows
    gain, saturation = reaction
    half = density.dtype.type(0.5)
    one = density.dtype.type(1.0)
    for i in range(density.size):
        v = half * (density[i] + second[i])
        q = one / (one + saturation * v)
        first[i] = second[i] - first[i]
        second[i] = v * q
        slope[i] = gain * q * q
        density[i] = gain * v * q


@_jit
def _finish_tangent(tangent, second, rows, seeds):  # type: ignore[no-untyped-def]
    """Second stage and reaction of one row of a tangent; ``seeds`` by log diffusion, gain and saturation."""
    ratio, moved, slope = rows
    by_diffusion, by_gain, by_saturation = seeds
    half = tangent.dtype.type(0.5)
    for i in range(tangent.size):
        along = half * (tangent[i] + second[i]) + by_diffusion * moved[i]
        r = ratio[i]
        tangent[i] = slope[i] * along + r * (by_gain - by_saturation * r)


@_jit
def _sweep(fields, scratch, geometry, step, reaction, seeds):  # type: ignore[no-untyped-def]
    """One diffusion of all fields, slice after slice, with the reaction as in ``_kernels``."""
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    count = fields.shape[0]
    second, ratio, moved, slope = scratch[3, 0], scratch[3, 1], scratch[3, 2], scratch[3, 3]
    for z in range(1, fields.shape[1]):
        p = z - 1
        span = (spans[z, 0], spans[z, 1])
        lo, hi = spans[p, 0], spans[p, 1]
        for j in range(count):
            if span[1] > span[0]:
                field = (fields[j, p], fields[j, z], fields[j, z + 1])
                _euler(scratch[z % 3, j], field, (fz[p], fz[z], fy[z], fx[z]), span, stride, step)
            if hi <= lo:
                continue
            field = (scratch[(p - 1) % 3, j], scratch[p % 3, j], scratch[z % 3, j])
            target = ratio if j == 0 else second
            _euler(target, field, (fz[p - 1], fz[p], fy[p], fx[p]), (lo, hi), stride, step)
            rows = (ratio[lo:hi], moved[lo:hi], slope[lo:hi])
            if j == 0:
                _copy(moved[lo:hi], scratch[p % 3, 0, lo:hi])
                _finish_density(fields[0, p, lo:hi], rows, reaction)
            else:
                by = (seeds[0, j - 1], seeds[1, j - 1], reaction[0] * seeds[2, j - 1])
                _finish_tangent(fields[j, p, lo:hi], second[lo:hi], rows, by)


@_jit
def diffuse_and_react_tangents(fields, scratch, geometry, step, repeats, reaction, seeds):  # type: ignore[no-untyped-def]
    """Advance density ``fields[0]`` and tangents ``fields[1:]`` through one splitting step.

    ``fields`` are [field, slice, pixel] and swept slice by slice, so that faces serve all of them while
    cached; ``scratch`` is [4, fields and at least 4, pixel], zero outside the spans. ``repeats`` diffusions
    of scale ``step``, the last with the ``reaction`` (gain, saturation); ``seeds`` [3, tangent] are the
    derivatives of log diffusion, gain and saturation.
    """
    one = fields.dtype.type(1.0)
    zero = fields.dtype.type(0.0)
    still = np.zeros_like(seeds)
    _copy(still[0], seeds[0])
    for _ in range(repeats - 1):
        _sweep(fields, scratch, geometry, step, (one, zero), still)
    _sweep(fields, scratch, geometry, step, reaction, seeds)


@_jit
def react_tangents(fields, reaction, seeds):  # type: ignore[no-untyped-def]
    """Apply a reaction alone to density and tangents [field, slice, pixel]."""
    gain, saturation = reaction
    one = fields.dtype.type(1.0)
    for z in range(fields.shape[1]):
        density = fields[0, z]
        for j in range(1, fields.shape[0]):
            tangent = fields[j, z]
            by_gain, by_saturation = seeds[1, j - 1], gain * seeds[2, j - 1]
            for i in range(density.size):
                q = one / (one + saturation * density[i])
                r = density[i] * q
                tangent[i] = gain * q * q * tangent[i] + r * (by_gain - by_saturation * r)
        for i in range(density.size):
            density[i] = gain * density[i] / (one + saturation * density[i])


@_jit
def _piece(rates, decay, growth, piece, seeds):  # type: ignore[no-untyped-def]  # noqa: C901  (plain loops compile fast)
    """Moebius map over a piece without events, and its derivatives; ``rates`` decay to the piece's end.

    ``rates`` are [1 + tangent, term]: the kill rates and their derivatives. ``piece`` is (length, days since
    the interval's start), ``seeds`` the derivatives of the growth rate and of the log gain so far. Returns
    gain, saturation and the derivatives of log gain and of the saturation.
    """
    node = np.array([0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363])
    weight = np.array([0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763])
    length, by_growth, by_level = piece, seeds[0], seeds[1]
    count = by_growth.size
    fastest = abs(growth) + 1.0e-12
    for g in range(decay.size):
        for j in range(count + 1):
            if abs(rates[j, g]) > 1.0e-13 * (1.0 + decay[g]):
                fastest = max(fastest, decay[g])
        if abs(rates[0, g]) > 1.0e-13 * (1.0 + decay[g]):
            fastest = max(fastest, abs(rates[0, g]))
    left, width, integral, bent = 0.0, 0.5 / fastest, 0.0, np.zeros(count)
    while left < length:
        width = length - left if width > 0.999 * (length - left) else width
        for i in range(8):
            s = left + 0.5 * width * (1.0 + node[i // 2] * (1 - 2 * (i % 2)))
            e = 0.5 * width * weight[i // 2] * np.exp(growth * s - _log_kill(rates[0], decay, s))
            integral += e
            for j in range(count):
                log = by_growth[j] * s + by_level[j] - _log_kill(rates[j + 1], decay, s)
                bent[j] += e * (by_growth[j] + growth * log)
        left += width
        width = max(width, left)
    gain = np.exp(growth * length - _log_kill(rates[0], decay, length))
    levels = np.zeros(count)
    for j in range(count):
        levels[j] = by_level[j] + by_growth[j] * length - _log_kill(rates[j + 1], decay, length)
    for g in range(decay.size):
        waned = np.exp(-decay[g] * length)
        for j in range(count + 1):
            rates[j, g] *= waned
    return gain, growth * integral, levels, bent


@_jit
def moebius_tangents(times, jumps, doses, growth, seeds):  # type: ignore[no-untyped-def]  # noqa: C901  (plain loops compile fast)
    """``moebius_maps`` and its derivatives along directions.

    ``jumps`` are (day, log), ``doses`` (day, term, amplitude, decays of the terms), sorted by day; ``seeds``
    the directions' derivatives (of growth [tangent], jump logs [tangent, jump], amplitudes [tangent, dose]).
    With ``E = exp(g s - K(s) + J)``, ``a = E(h)`` and ``b = g int E``: ``da = a (h dg - dK(h) + dJ)`` and
    ``db = int E (dg + g (s dg - dK(s) + dJ))``. Returns a, b, and da, db as [interval, tangent].
    """
    jump_day, jump_log = jumps
    dose_day, term, amplitude, decay = doses
    by_growth, by_jump, by_dose = seeds
    count, intervals = by_growth.size, times.size - 1
    gain, saturation = np.ones(intervals), np.zeros(intervals)
    by_gain, by_saturation = np.zeros((intervals, count)), np.zeros((intervals, count))
    rates = np.zeros((count + 1, decay.size))
    jump, dose = _first_from(jump_day, times[0]), _first_from(dose_day, times[0])
    for i in range(dose):
        waned = np.exp(-decay[term[i]] * (times[0] - dose_day[i]))
        rates[0, term[i]] += amplitude[i] * waned
        for j in range(count):
            rates[j + 1, term[i]] += by_dose[j, i] * waned
    for k in range(intervals):
        now, end, level = times[k], times[k + 1], np.zeros(count)
        while now < end:
            while dose < dose_day.size and dose_day[dose] <= now:
                rates[0, term[dose]] += amplitude[dose]
                for j in range(count):
                    rates[j + 1, term[dose]] += by_dose[j, dose]
                dose += 1
            while jump < jump_day.size and jump_day[jump] <= now:
                gain[k] *= np.exp(jump_log[jump])
                for j in range(count):
                    level[j] += by_jump[j, jump]
                jump += 1
            until = end
            if dose < dose_day.size:
                until = min(until, dose_day[dose])
            if jump < jump_day.size:
                until = min(until, jump_day[jump])
            a, b, level, bent = _piece(rates, decay, growth, until - now, (by_growth, level))
            saturation[k] += b * gain[k]
            for j in range(count):
                by_saturation[k, j] += bent[j] * gain[k]
            gain[k] *= a
            now = until
        for j in range(count):
            by_gain[k, j] = gain[k] * level[j]
    return gain, saturation, by_gain, by_saturation
