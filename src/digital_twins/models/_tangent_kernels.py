"""Compiled forward-mode derivatives of the reaction-diffusion scheme: field and tangents in one sweep."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _euler, _jit, _log_kill


@_jit
def _react_rows(fields, seconds, span, reaction, seeds):  # type: ignore[no-untyped-def]
    """Finish one row of the field and its tangents: second Runge-Kutta stage, reaction and their derivatives.

    ``seconds`` are the second stages [field, pixel], and in two more rows what the field moved (second minus
    first stage: ``(A + A^2) N``) and room for a factor. ``seeds`` are the derivatives of log diffusion, gain
    and saturation [3, tangent].
    """
    lo, hi = span
    gain, saturation = reaction
    count = fields.shape[0]
    half = fields.dtype.type(0.5)
    one = fields.dtype.type(1.0)
    density, moved, factor, ratio = (
        fields[0, lo:hi],
        seconds[count, lo:hi],
        seconds[count + 1, lo:hi],
        seconds[0, lo:hi],
    )
    for i in range(hi - lo):
        v = half * (density[i] + ratio[i])
        q = one / (one + saturation * v)
        factor[i] = gain * q * q
        ratio[i] = v * q
        density[i] = gain * v * q
    for j in range(1, count):
        by_diffusion, by_gain, by_saturation = seeds[0, j - 1], seeds[1, j - 1], gain * seeds[2, j - 1]
        tangent, second = fields[j, lo:hi], seconds[j, lo:hi]
        for i in range(hi - lo):
            along = half * (tangent[i] + second[i]) + by_diffusion * moved[i]
            r = ratio[i]
            tangent[i] = factor[i] * along + r * (by_gain - by_saturation * r)


@_jit
def diffuse_and_react_tangents(fields, scratch, geometry, step, repeats, reaction, seeds):  # type: ignore[no-untyped-def]
    """Advance density ``fields[:, 0]`` and tangents ``fields[:, 1:]`` through one splitting step.

    ``fields`` are [slice, field, pixel], so that a slice's faces serve all fields while cached;
    ``scratch`` is [4, field + 2, pixel]. ``repeats`` diffusions of scale ``step``, the last with the
    ``reaction`` (gain, saturation); ``seeds`` [3, tangent] are the derivatives of log diffusion, gain and
    saturation.
    """
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    count = fields.shape[1]
    one = fields.dtype.type(1.0)
    zero = fields.dtype.type(0.0)
    seconds = scratch[3]
    still = np.zeros_like(seeds)
    still[0] = seeds[0]
    for repeat in range(repeats):
        reacts = repeat == repeats - 1
        now = reaction if reacts else (one, zero)
        by = seeds if reacts else still
        for z in range(1, fields.shape[0]):
            p = z - 1
            span = (spans[z, 0], spans[z, 1])
            if span[1] > span[0]:
                for j in range(count):
                    field = (fields[p, j], fields[z, j], fields[z + 1, j])
                    _euler(scratch[z % 3, j], field, (fz[p], fz[z], fy[z], fx[z]), span, stride, step)
            lo, hi = spans[p, 0], spans[p, 1]
            if hi > lo:
                for j in range(count):
                    field = (scratch[(p - 1) % 3, j], scratch[p % 3, j], scratch[z % 3, j])
                    _euler(seconds[j], field, (fz[p - 1], fz[p], fy[p], fx[p]), (lo, hi), stride, step)
                moved, second, first = seconds[count, lo:hi], seconds[0, lo:hi], scratch[p % 3, 0, lo:hi]
                for i in range(hi - lo):
                    moved[i] = second[i] - first[i]
                _react_rows(fields[p], seconds, (lo, hi), now, by)


@_jit
def react_tangents(fields, reaction, seeds):  # type: ignore[no-untyped-def]
    """Apply a reaction alone to density and tangents [slice, field, pixel]."""
    gain, saturation = reaction
    one = fields.dtype.type(1.0)
    for z in range(fields.shape[0]):
        density = fields[z, 0]
        for i in range(density.size):
            v = density[i]
            q = one / (one + saturation * v)
            r = v * q
            density[i] = gain * r
            for j in range(1, fields.shape[1]):
                bend = seeds[1, j - 1] - gain * seeds[2, j - 1] * r
                fields[z, j, i] = gain * q * q * fields[z, j, i] + r * bend


@_jit
def _piece(rates, decay, growth, piece, seeds):  # type: ignore[no-untyped-def]
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
        rates[:, g] *= np.exp(-decay[g] * length)
    return gain, growth * integral, levels, bent


@_jit
def moebius_tangents(times, jumps, doses, growth, seeds):  # type: ignore[no-untyped-def]
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
    jump, dose = np.searchsorted(jump_day, times[0]), np.searchsorted(dose_day, times[0])
    for i in range(dose):
        waned = np.exp(-decay[term[i]] * (times[0] - dose_day[i]))
        rates[0, term[i]] += amplitude[i] * waned
        rates[1:, term[i]] += by_dose[:, i] * waned
    for k in range(intervals):
        now, end, level = times[k], times[k + 1], np.zeros(count)
        while now < end:
            while dose < dose_day.size and dose_day[dose] <= now:
                rates[0, term[dose]] += amplitude[dose]
                rates[1:, term[dose]] += by_dose[:, dose]
                dose += 1
            while jump < jump_day.size and jump_day[jump] <= now:
                gain[k] *= np.exp(jump_log[jump])
                level += by_jump[:, jump]
                jump += 1
            until = end
            if dose < dose_day.size:
                until = min(until, dose_day[dose])
            if jump < jump_day.size:
                until = min(until, jump_day[jump])
            a, b, level, bent = _piece(rates, decay, growth, until - now, (by_growth, level))
            saturation[k] += b * gain[k]
            by_saturation[k] += bent * gain[k]
            gain[k] *= a
            now = until
        by_gain[k] = gain[k] * level
    return gain, saturation, by_gain, by_saturation
