"""Compiled inner loops of the reaction-diffusion solver (numba, one thread, the GIL released)."""

from __future__ import annotations

from functools import partial

import numpy as np

from digital_twins._compiled import jit

# Not "reassoc", "nnan" or "ninf": sums keep their order and a NaN stays visible.
_FASTMATH = {"contract", "nsz", "arcp"}
_jit = partial(jit, fastmath=_FASTMATH)


@_jit
def _euler(out, field, faces, span, stride, h):  # type: ignore[no-untyped-def]
    """Set out = u + h L u over a span of flat indices of one slice: the layout that LLVM vectorises whole.

    ``field`` is the slice below, the slice itself and the slice above; ``faces`` the conductances to the
    slice below, to the one above, to the next row and to the next column.
    """
    lo, hi = span
    below, u, above = field
    f_below, f_above, fy, fx = faces
    centre, left, right = u[lo:hi], u[lo - 1 : hi - 1], u[lo + 1 : hi + 1]
    up, down = u[lo - stride : hi - stride], u[lo + stride : hi + stride]
    under, over = below[lo:hi], above[lo:hi]
    f_left, f_right = fx[lo - 1 : hi - 1], fx[lo:hi]
    f_up, f_down = fy[lo - stride : hi - stride], fy[lo:hi]
    f_under, f_over = f_below[lo:hi], f_above[lo:hi]
    target = out[lo:hi]
    for i in range(hi - lo):
        v = centre[i]
        target[i] = v + h * (
            f_right[i] * (right[i] - v)
            - f_left[i] * (v - left[i])
            + f_down[i] * (down[i] - v)
            - f_up[i] * (v - up[i])
            + f_over[i] * (over[i] - v)
            - f_under[i] * (v - under[i])
        )


@_jit
def _finish(density, second, gain, saturation):  # type: ignore[no-untyped-def]
    """Second Runge-Kutta stage and reaction: v = (N + second)/2, N = gain v / (1 + saturation v)."""
    half = density.dtype.type(0.5)
    one = density.dtype.type(1.0)
    for i in range(density.size):
        v = half * (density[i] + second[i])
        density[i] = gain * v / (one + saturation * v)


@_jit
def _copy(target, source):  # type: ignore[no-untyped-def]
    """Copy a row element by element: an assignment to a slice compiles four times as long."""
    for i in range(target.size):
        target[i] = source[i]


@_jit
def diffuse_and_react(density, scratch, geometry, scale, repeats, gain, saturation):  # type: ignore[no-untyped-def]
    """Advance ``density`` in place: per step ``repeats`` RK2 diffusions, then one Moebius map.

    Arrays are padded by one empty voxel on every side and flat within a slice: ``density[slice, pixel]``.
    ``scratch`` has four slices. ``geometry`` is (faces, spans, stride): ``faces[axis]`` the conductance to
    the next slice, row or column, ``spans[slice]`` the first and last + 1 flat index of the domain. Step
    ``s`` applies SSP RK2 with ``scale[s] L`` ``repeats[s]`` times and then
    ``N <- gain[s] N / (1 + saturation[s] N)``.

    As soon as the first stage is known on slices z-2, z-1 and z, slice z-1 is finished in place, so that a
    step reads field and faces once. While ``scale * sum(faces) <= 1`` both stages are convex combinations
    (Shu & Osher 1988, doi:10.1016/0021-9991(88)90177-5): the density stays positive.
    """
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    one = density.dtype.type(1.0)
    zero = density.dtype.type(0.0)
    second = scratch[3]
    for step in range(scale.size):
        h = scale[step]
        for repeat in range(repeats[step]):
            reacts = repeat == repeats[step] - 1
            a = gain[step] if reacts else one
            b = saturation[step] if reacts else zero
            for z in range(1, density.shape[0]):
                p = z - 1
                span = (spans[z, 0], spans[z, 1])
                if span[1] > span[0]:
                    field = (density[p], density[z], density[z + 1])
                    _euler(scratch[z % 3], field, (fz[p], fz[z], fy[z], fx[z]), span, stride, h)
                span = (spans[p, 0], spans[p, 1])
                if span[1] > span[0]:
                    field = (scratch[(p - 1) % 3], scratch[p % 3], scratch[z % 3])
                    _euler(second, field, (fz[p - 1], fz[p], fy[p], fx[p]), span, stride, h)
                    _finish(density[p, span[0] : span[1]], second[span[0] : span[1]], a, b)


@_jit
def _log_kill(rate, decay, elapsed):  # type: ignore[no-untyped-def]
    """Integral of the kill rate sum(rate * exp(-decay s)) over 0..elapsed."""
    total = 0.0
    for g in range(decay.size):
        d = decay[g]
        total += rate[g] * (-np.expm1(-d * elapsed) / d if d > 0.0 else elapsed)
    return total


@_jit
def _first_from(days, start):  # type: ignore[no-untyped-def]
    """Place of the first of the sorted days that does not lie before the start."""
    found = 0
    while found < days.size and days[found] < start:
        found += 1
    return found


@_jit
def _smooth_piece(rate, decay, growth, length):  # type: ignore[no-untyped-def]
    """Moebius map (gain, saturation) over a piece without events; ``rate`` decays to the piece's end.

    The integral is 8-point Gauss-Legendre on panels that double in length from the fastest scale on; its
    error is at rounding level.
    """
    node = np.array([0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363])
    weight = np.array([0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763])
    fastest = abs(growth) + 1.0e-12
    for g in range(decay.size):
        if abs(rate[g]) > 1.0e-13 * (1.0 + decay[g]):
            fastest = max(fastest, decay[g], abs(rate[g]))
    left, width, integral = 0.0, 0.5 / fastest, 0.0
    while left < length:
        width = length - left if width > 0.999 * (length - left) else width
        for i in range(8):
            x = node[i // 2] * (1 - 2 * (i % 2))
            s = left + 0.5 * width * (1.0 + x)
            integral += 0.5 * width * weight[i // 2] * np.exp(growth * s - _log_kill(rate, decay, s))
        left += width
        width = max(width, left)
    gain = np.exp(growth * length - _log_kill(rate, decay, length))
    for g in range(decay.size):
        rate[g] *= np.exp(-decay[g] * length)
    return gain, growth * integral


@_jit
def moebius_maps(times, jump_day, jump_log, dose_day, dose_term, dose_rate, decay, growth):  # type: ignore[no-untyped-def]
    """Exact logistic growth, kill and jumps between consecutive ``times`` as maps ``N -> a N / (1 + b N)``.

    With kill rate c(t) the logistic equation ``N' = g N (1 - N) - c N`` has for u = 1/N the linear solution
    (Bernoulli)::

        a = exp(g h - K(h)),  b = g * integral_0^h exp(g s - K(s)) ds,  K(s) = integral_0^s c

    and such maps compose into one another. Events are sorted by day; ``decay[dose_term]`` groups doses of
    equal decay. A jump at ``times[k]`` belongs to the interval that starts there. Returns arrays ``a``, ``b``
    (of ``times.size - 1``).
    """
    gain, saturation = np.ones(times.size - 1), np.zeros(times.size - 1)
    rate = np.zeros(decay.size)
    jump = _first_from(jump_day, times[0])
    dose = _first_from(dose_day, times[0])
    for i in range(dose):
        g = dose_term[i]
        rate[g] += dose_rate[i] * np.exp(-decay[g] * (times[0] - dose_day[i]))
    for k in range(times.size - 1):
        now, end = times[k], times[k + 1]
        while now < end:
            while dose < dose_day.size and dose_day[dose] <= now:
                rate[dose_term[dose]] += dose_rate[dose]
                dose += 1
            while jump < jump_day.size and jump_day[jump] <= now:
                gain[k] *= np.exp(jump_log[jump])
                jump += 1
            until = end
            if dose < dose_day.size:
                until = min(until, dose_day[dose])
            if jump < jump_day.size:
                until = min(until, jump_day[jump])
            a, b = _smooth_piece(rate, decay, growth, until - now)
            saturation[k] += b * gain[k]
            gain[k] *= a
            now = until
    return gain, saturation
