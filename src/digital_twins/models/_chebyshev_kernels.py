"""Compiled Chebyshev steps of diffusion, apart, so that only stiff cases compile them."""

from __future__ import annotations

from digital_twins.models._graph_kernels import graph_stage
from digital_twins.models._kernels import _euler, _jit


@_jit
def _clenshaw_row(out, field, source, faces, span, stride, numbers):  # type: ignore[no-untyped-def]
    """Set ``out = c s + w B u - out`` over a span, ``B u = u + h L u``; layout as in ``_kernels._euler``."""
    lo, hi = span
    c, weight, h = numbers
    below, u, above = field
    f_below, f_above, fy, fx = faces
    centre, left, right = u[lo:hi], u[lo - 1 : hi - 1], u[lo + 1 : hi + 1]
    up, down = u[lo - stride : hi - stride], u[lo + stride : hi + stride]
    under, over = below[lo:hi], above[lo:hi]
    f_left, f_right = fx[lo - 1 : hi - 1], fx[lo:hi]
    f_up, f_down = fy[lo - stride : hi - stride], fy[lo:hi]
    f_under, f_over = f_below[lo:hi], f_above[lo:hi]
    target, given = out[lo:hi], source[lo:hi]
    for i in range(hi - lo):
        v = centre[i]
        moved = v + h * (
            f_right[i] * (right[i] - v)
            - f_left[i] * (v - left[i])
            + f_down[i] * (down[i] - v)
            - f_up[i] * (v - up[i])
            + f_over[i] * (over[i] - v)
            - f_under[i] * (v - under[i])
        )
        target[i] = c * given[i] + weight * moved - target[i]


@_jit
def chebyshev(density, work, geometry, coefficients, h):  # type: ignore[no-untyped-def]
    """Set ``density <- sum_j c_j T_j(B) density`` in place by Clenshaw's rule, ``B = I + h L``.

    ``density`` is [slice, pixel], ``work`` two such fields, ``geometry`` (faces, spans, stride).
    """
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    last = coefficients.size - 1
    one = density.dtype.type(1.0)
    two = density.dtype.type(2.0)
    ahead, behind = work[0], work[1]
    for z in range(1, density.shape[0] - 1):
        for i in range(spans[z, 0], spans[z, 1]):
            ahead[z, i] = coefficients[last] * density[z, i]
            behind[z, i] = 0.0
    for j in range(last - 1, 0, -1):
        for z in range(1, density.shape[0] - 1):
            span = (spans[z, 0], spans[z, 1])
            if span[1] > span[0]:
                field = (ahead[z - 1], ahead[z], ahead[z + 1])
                near = (fz[z - 1], fz[z], fy[z], fx[z])
                numbers = (coefficients[j], two, h)
                _clenshaw_row(behind[z], field, density[z], near, span, stride, numbers)
        ahead, behind = behind, ahead
    for z in range(1, density.shape[0] - 1):
        span = (spans[z, 0], spans[z, 1])
        if span[1] > span[0]:
            field = (ahead[z - 1], ahead[z], ahead[z + 1])
            near = (fz[z - 1], fz[z], fy[z], fx[z])
            _clenshaw_row(behind[z], field, density[z], near, span, stride, (coefficients[0], one, h))
            density[z, span[0] : span[1]] = behind[z, span[0] : span[1]]


@_jit
def chebyshev_graph(density, work, graph, coefficients, h):  # type: ignore[no-untyped-def]
    """Do as ``chebyshev`` over the edges of a graph; ``density`` flat, ``work`` three such fields."""
    voxels = graph[0]
    last = coefficients.size - 1
    two = density.dtype.type(2.0)
    ahead, behind, moved = work[0], work[1], work[2]
    for row in range(voxels.size):
        i = voxels[row]
        ahead[i] = coefficients[last] * density[i]
        behind[i] = 0.0
    for j in range(last - 1, 0, -1):
        graph_stage(moved, ahead, graph, h)
        for row in range(voxels.size):
            i = voxels[row]
            behind[i] = coefficients[j] * density[i] + two * moved[i] - behind[i]
        ahead, behind = behind, ahead
    graph_stage(moved, ahead, graph, h)
    for row in range(voxels.size):
        i = voxels[row]
        density[i] = coefficients[0] * density[i] + moved[i] - behind[i]


@_jit
def face_stage(out, density, geometry, h):  # type: ignore[no-untyped-def]
    """Set ``out = u + h L u`` in the spans."""
    faces, spans, stride = geometry
    fz, fy, fx = faces[0], faces[1], faces[2]
    for z in range(1, density.shape[0] - 1):
        span = (spans[z, 0], spans[z, 1])
        if span[1] > span[0]:
            field = (density[z - 1], density[z], density[z + 1])
            _euler(out[z], field, (fz[z - 1], fz[z], fy[z], fx[z]), span, stride, h)


@_jit
def clip_and_react(density, gain, saturation):  # type: ignore[no-untyped-def]
    """Set what fell below zero to zero, then ``N <- gain N / (1 + saturation N)``."""
    one = density.dtype.type(1.0)
    zero = density.dtype.type(0.0)
    for z in range(density.shape[0]):
        row = density[z]
        for i in range(row.size):
            v = max(row[i], zero)
            row[i] = gain * v / (one + saturation * v)
