"""Compiled reverse sweep of the reaction-diffusion scheme; apart, so that only gradients compile it."""

from __future__ import annotations

from functools import partial

import numpy as np

from digital_twins._compiled import jit
from digital_twins.models._kernels import _euler, _first_from, _log_kill

# "reassoc" lets the inner products run in vector lanes; a NaN stays visible all the same.
_FASTMATH = {"contract", "nsz", "arcp", "reassoc"}
_jit = partial(jit, fastmath=_FASTMATH)


@_jit
def react(out, density, gain, saturation):  # type: ignore[no-untyped-def]
    """Set ``out = gain v / (1 + saturation v)``."""
    one = density.dtype.type(1.0)
    for z in range(density.shape[0]):
        source, target = density[z], out[z]
        for i in range(source.size):
            v = source[i]
            target[i] = gain * v / (one + saturation * v)


@_jit
def _react_row(target, source, gain, saturation):  # type: ignore[no-untyped-def]
    one = source.dtype.type(1.0)
    for i in range(source.size):
        v = source[i]
        target[i] = gain * v / (one + saturation * v)


@_jit
def forward_step(target, source, scratch, geometry, scale, reaction):  # type: ignore[no-untyped-def]
    """Set ``target`` to the source after a reaction and one explicit diffusion, in one pass over both."""
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    gain, saturation = reaction
    second = scratch[3]
    half = target.dtype.type(0.5)
    _react_row(target[0], source[0], gain, saturation)
    _react_row(target[1], source[1], gain, saturation)
    for z in range(1, target.shape[0]):
        p = z - 1
        if z + 1 < target.shape[0]:
            _react_row(target[z + 1], source[z + 1], gain, saturation)
        span = (spans[z, 0], spans[z, 1])
        if span[1] > span[0]:
            field = (target[p], target[z], target[z + 1])
            _euler(scratch[z % 3], field, (fz[p], fz[z], fy[z], fx[z]), span, stride, scale)
        lo, hi = spans[p, 0], spans[p, 1]
        if hi > lo:
            field = (scratch[(p - 1) % 3], scratch[p % 3], scratch[z % 3])
            _euler(second, field, (fz[p - 1], fz[p], fy[p], fx[p]), (lo, hi), stride, scale)
            row, stage = target[p, lo:hi], second[lo:hi]
            for i in range(hi - lo):
                row[i] = half * (row[i] + stage[i])


@_jit
def _pull_back(adjoint, stages, states, gain, saturation):  # type: ignore[no-untyped-def]
    """Finish one row of the reverse step; return its shares of the four inner products.

    ``stages`` are the first and second Euler stage of the adjoint, ``states`` the field after this diffusion
    and the field before the reaction that precedes it.
    """
    first, second = stages
    after, before = states
    half = adjoint.dtype.type(0.5)
    one = adjoint.dtype.type(1.0)
    flow, moved, gain_bar, saturation_bar = 0.0, 0.0, 0.0, 0.0
    for i in range(adjoint.size):
        m = adjoint[i]
        v = before[i]
        q = one / (one + saturation * v)
        ratio = v * q
        n = gain * ratio
        back = half * (m + second[i])
        flow += np.float64((first[i] - m) * n)
        moved += np.float64(m * (after[i] - n))
        gain_bar += np.float64(back * ratio)
        saturation_bar -= np.float64(back * n * ratio)
        adjoint[i] = back * gain * q * q
    return flow, moved, gain_bar, saturation_bar


@_jit
def reverse_step(adjoint, scratch, geometry, scale, states, reaction):  # type: ignore[no-untyped-def]
    """Pull ``adjoint`` back in place through one diffusion and the reaction before it.

    The finite-volume operator L is symmetric, so the diffusion ``P = I + A + A^2/2`` (``A = scale L``) is its
    own adjoint and is swept as in the forward kernel. With N the field before and ``v = P N`` the one after
    the diffusion, ``<m, dP/dscale N> scale = <m, (A + A^2) N> = 2 <m, v - N> - <A m, N>``: no further stencil
    is needed. ``states`` are v and the field before the preceding reaction, ``reaction`` that reaction's
    gain and saturation. Returns the derivatives by log scale, gain and saturation.
    """
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    after, before = states
    gain, saturation = reaction
    second = scratch[3]
    flow, moved, gain_bar, saturation_bar = 0.0, 0.0, 0.0, 0.0
    for z in range(1, adjoint.shape[0]):
        p = z - 1
        span = (spans[z, 0], spans[z, 1])
        if span[1] > span[0]:
            field = (adjoint[p], adjoint[z], adjoint[z + 1])
            _euler(scratch[z % 3], field, (fz[p], fz[z], fy[z], fx[z]), span, stride, scale)
        lo, hi = spans[p, 0], spans[p, 1]
        if hi > lo:
            field = (scratch[(p - 1) % 3], scratch[p % 3], scratch[z % 3])
            _euler(second, field, (fz[p - 1], fz[p], fy[p], fx[p]), (lo, hi), stride, scale)
            stages = (scratch[p % 3, lo:hi], second[lo:hi])
            fields = (after[p, lo:hi], before[p, lo:hi])
            sums = _pull_back(adjoint[p, lo:hi], stages, fields, gain, saturation)
            flow += sums[0]
            moved += sums[1]
            gain_bar += sums[2]
            saturation_bar += sums[3]
    return 2.0 * moved - flow, gain_bar, saturation_bar


@_jit
def reverse_reaction(adjoint, before, gain, saturation):  # type: ignore[no-untyped-def]
    """Pull ``adjoint`` back in place through a reaction; return the derivatives by gain and saturation."""
    one = adjoint.dtype.type(1.0)
    gain_bar, saturation_bar = 0.0, 0.0
    for z in range(adjoint.shape[0]):
        row, source = adjoint[z], before[z]
        for i in range(row.size):
            m = row[i]
            v = source[i]
            q = one / (one + saturation * v)
            gain_bar += np.float64(m * v * q)
            saturation_bar -= np.float64(m * gain * v * v * q * q)
            row[i] = m * gain * q * q
    return gain_bar, saturation_bar


@_jit
def _exposure(decay, elapsed):  # type: ignore[no-untyped-def]
    """Integral of exp(-decay s) over 0..elapsed."""
    return -np.expm1(-decay * elapsed) / decay if decay > 0.0 else elapsed


@_jit
def _dose_shares(shares, doses, window, weight):  # type: ignore[no-untyped-def]
    """Add ``weight`` times each dose's exposure over ``window`` to ``shares``."""
    day, decay = doses
    start, now = window
    for i in range(day.size):
        if day[i] >= now:
            break
        waned = decay[i] * max(start - day[i], 0.0)
        if waned < 40.0:
            shares[i] += weight * np.exp(-waned) * _exposure(decay[i], now - max(start, day[i]))


@_jit
def _piece_gradient(rate, decay, growth, piece, bars):  # type: ignore[no-untyped-def]
    """Reverse of the saturation over a piece without events; ``rate`` decays to the piece's end.

    ``piece`` is (interval's start, piece's start, length, E at its start); ``bars`` are the derivative by the
    saturation and, to be added to, the doses (day, decay) and their derivatives. Returns the derivative by
    the growth rate, that by a jump before the piece, and E at the piece's end.
    """
    node = np.array([0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363])
    weight = np.array([0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763])
    start, now, length, level = piece
    saturation_bar, doses, dose_bar = bars
    fastest = abs(growth) + 1.0e-12
    for g in range(decay.size):
        if abs(rate[g]) > 1.0e-13 * (1.0 + decay[g]):
            fastest = max(fastest, decay[g], abs(rate[g]))
    left, width, growth_bar, jump_bar = 0.0, 0.5 / fastest, 0.0, 0.0
    while left < length:
        width = length - left if width > 0.999 * (length - left) else width
        for j in range(8):
            s = left + 0.5 * width * (1.0 + node[j // 2] * (1 - 2 * (j % 2)))
            e = level * np.exp(growth * s - _log_kill(rate, decay, s))
            share = saturation_bar * 0.5 * width * weight[j // 2] * e
            growth_bar += share * (1.0 + growth * (now + s - start))
            jump_bar += growth * share
            _dose_shares(dose_bar, doses, (start, now + s), -growth * share)
        left += width
        width = max(width, left)
    level *= np.exp(growth * length - _log_kill(rate, decay, length))
    for g in range(decay.size):
        rate[g] *= np.exp(-decay[g] * length)
    return growth_bar, jump_bar, level


@_jit
def _add(row, value):  # type: ignore[no-untyped-def]
    """Add to each element: the expression on a slice compiles several times as long."""
    for i in range(row.size):
        row[i] += value


@_jit
def moebius_gradient(times, jumps, doses, terms, growth, bars):  # type: ignore[no-untyped-def]
    """Reverse of ``moebius_maps``: derivatives by growth, each jump's log survival and each dose's amplitude.

    With ``E(s) = exp(g s - K(s) + J(s))`` an interval of length h from its start has ``a = E(h)`` and
    ``b = g int E``, hence ``da/dg = h a``, ``db/dg = int E (1 + g s)``, ``da/dJ = a``, ``db/dJ_i = g int E``
    after jump i, ``da/dC_i = -a X_i(h)`` and ``db/dC_i = -g int E X_i`` with ``X_i`` the exposure of a dose
    of unit amplitude. ``jumps`` are (day, log), ``doses`` (day, decay), both sorted by day, ``terms`` (term,
    amplitude) of each dose and the terms' decays, ``bars`` the derivatives by the arrays a and b. The
    quadrature is that of ``moebius_maps``.
    """
    jump_day, jump_log = jumps
    dose_day, _ = doses
    term, amplitude, decay = terms
    growth_bar, jump_bar, dose_bar = 0.0, np.zeros(jump_day.size), np.zeros(dose_day.size)
    rate = np.zeros(decay.size)
    jump, dose = _first_from(jump_day, times[0]), _first_from(dose_day, times[0])
    for i in range(dose):
        rate[term[i]] += amplitude[i] * np.exp(-decay[term[i]] * (times[0] - dose_day[i]))
    for k in range(times.size - 1):
        start, end, now, level, first = times[k], times[k + 1], times[k], 1.0, jump
        while now < end:
            while dose < dose_day.size and dose_day[dose] <= now:
                rate[term[dose]] += amplitude[dose]
                dose += 1
            while jump < jump_day.size and jump_day[jump] <= now:
                level *= np.exp(jump_log[jump])
                jump += 1
            until = end
            if dose < dose_day.size:
                until = min(until, dose_day[dose])
            if jump < jump_day.size:
                until = min(until, jump_day[jump])
            piece = (start, now, until - now, level)
            by_growth, by_jump, level = _piece_gradient(
                rate, decay, growth, piece, (bars[1][k], doses, dose_bar)
            )
            growth_bar += by_growth
            _add(jump_bar[first:jump], by_jump)
            now = until
        growth_bar += bars[0][k] * level * (end - start)
        _add(jump_bar[first:jump], bars[0][k] * level)
        _dose_shares(dose_bar, doses, (start, end), -bars[0][k] * level)
    return growth_bar, jump_bar, dose_bar
