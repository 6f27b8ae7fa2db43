"""Quasi-steady diffusion and uptake on the lattice: a nonlinear multigrid (numba, float32)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._kernels import _jit

Array = NDArray[Any]
SUPPLIED = -1.0
"""Mark in the uptake of a site whose concentration is given (vessel, medium)."""

_MOST_CYCLES = 60
_PATIENCE = 8


@_jit
def _mirror(u):  # type: ignore[no-untyped-def]
    """Copy the outermost sites into the padding: no flux through the walls."""
    u[0], u[-1] = u[1], u[-2]
    u[:, 0], u[:, -1] = u[:, 1], u[:, -2]
    u[:, :, 0], u[:, :, -1] = u[:, :, 1], u[:, :, -2]


@_jit
def _relax_plane(u, uptake, rhs, z, colour, weights, law, row):  # type: ignore[no-untyped-def]
    """Nonlinear Gauss-Seidel on one colour of plane ``z``; whole rows, so that LLVM vectorises them.

    A site solves its own balance ``(d c - s) (slope c + half) + q c = 0`` exactly, by whichever root formula
    does not cancel.
    """
    wz, wy, wx = weights
    slope, half = law
    two = u.dtype.type(2.0)
    four = u.dtype.type(4.0)
    zero = u.dtype.type(0.0)
    diagonal = two * (wz + wy + wx)
    ny, nx = u.shape[1], u.shape[2]
    for y in range(1, ny - 1):
        c, q, f = u[z, y], uptake[z, y], rhs[z, y]
        up, down, under, over = u[z, y - 1], u[z, y + 1], u[z - 1, y], u[z + 1, y]
        for x in range(1, nx - 1):
            inflow = wz * (under[x] + over[x]) + wy * (up[x] + down[x]) + wx * (c[x - 1] + c[x + 1]) + f[x]
            supply = max(inflow, zero)
            linear = diagonal * half + q[x] - slope * supply
            root = np.sqrt(linear * linear + four * diagonal * slope * supply * half)
            scarce = two * supply * half / (linear + root)
            new = scarce if linear > zero else (root - linear) / (two * diagonal)
            row[x] = c[x] if q[x] < zero else new
        for x in range(1 + (z + y + colour) % 2, nx - 1, 2):
            c[x] = row[x]


@_jit
def _relax(u, uptake, rhs, weights, law, sweeps, row):  # type: ignore[no-untyped-def]
    """Red-black sweeps in place; black follows red one plane behind, so that memory is read once a sweep."""
    nz = u.shape[0]
    for _ in range(sweeps):
        _mirror(u)
        for z in range(1, nz):
            if z < nz - 1:
                _relax_plane(u, uptake, rhs, z, 0, weights, law, row)
            if z > 1:
                _relax_plane(u, uptake, rhs, z - 1, 1, weights, law, row)
    _mirror(u)


@_jit
def _residual_row(u, uptake, rhs, place, weights, law, row):  # type: ignore[no-untyped-def]
    """Write rhs - A(u) of one row; 0 where the concentration is given."""
    z, y = place
    wz, wy, wx = weights
    slope, half = law
    zero = u.dtype.type(0.0)
    two = u.dtype.type(2.0)
    diagonal = two * (wz + wy + wx)
    c, q, f = u[z, y], uptake[z, y], rhs[z, y]
    up, down, under, over = u[z, y - 1], u[z, y + 1], u[z - 1, y], u[z + 1, y]
    for x in range(1, u.shape[2] - 1):
        inflow = wz * (under[x] + over[x]) + wy * (up[x] + down[x]) + wx * (c[x - 1] + c[x + 1]) + f[x]
        value = inflow - (diagonal + max(q[x], zero) / (slope * c[x] + half)) * c[x]
        row[x] = zero if q[x] < zero else value


@_jit
def _restrict(fine, coarse, weights, law, row):  # type: ignore[no-untyped-def]
    """Mean concentration and four times the mean residual of the children; the largest residual returns.

    Where an odd axis ends, the children that are not there count as residual-free and taking nothing up.
    """
    u, uptake, rhs = fine
    coarse_u, coarse_rhs = coarse
    coarse_u[:] = 0.0
    coarse_rhs[:] = 0.0
    nz, ny, nx = u.shape
    largest = u.dtype.type(0.0)
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            _residual_row(u, uptake, rhs, (z, y), weights, law, row)
            Z, Y = (z + 1) // 2, (y + 1) // 2
            for x in range(1, nx - 1):
                largest = max(largest, abs(row[x]))
                coarse_u[Z, Y, (x + 1) // 2] += u[z, y, x]
                coarse_rhs[Z, Y, (x + 1) // 2] += row[x]
    one = u.dtype.type(1.0)
    scale = _scale(u.shape)
    for Z in range(1, coarse_u.shape[0] - 1):
        for Y in range(1, coarse_u.shape[1] - 1):
            for X in range(1, coarse_u.shape[2] - 1):
                coarse_u[Z, Y, X] *= one / _children(Z, Y, X, u.shape)
                coarse_rhs[Z, Y, X] *= scale
    return largest


@_jit
def _children(Z, Y, X, shape):  # type: ignore[no-untyped-def]
    """How many fine sites one coarse site holds (padded indices)."""
    count = min(2, shape[0] - 1 - (2 * Z - 1)) * min(2, shape[1] - 1 - (2 * Y - 1))
    return np.float32(count * min(2, shape[2] - 1 - (2 * X - 1)))


@_jit
def _scale(shape):  # type: ignore[no-untyped-def]
    """(H/h)^2 over the children of a whole coarse site; padded axes of one site do not coarsen."""
    whole = np.float32(4.0)
    for n in shape:
        if n > 3:
            whole *= np.float32(0.5)
    return whole


@_jit
def _coarse_uptake(uptake, coarse):  # type: ignore[no-untyped-def]
    """Four times the children's mean uptake; given as soon as one child is given."""
    coarse[:] = 0.0
    scale = _scale(uptake.shape)
    nz, ny, nx = uptake.shape
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                Z, Y, X = (z + 1) // 2, (y + 1) // 2, (x + 1) // 2
                if uptake[z, y, x] < 0.0 or coarse[Z, Y, X] < 0.0:
                    coarse[Z, Y, X] = -1.0
                else:
                    coarse[Z, Y, X] += scale * uptake[z, y, x]


@_jit
def _operator(u, uptake, rhs, weights, law, row):  # type: ignore[no-untyped-def]
    """Add A(u) to the restricted residual: the right-hand side of the full approximation scheme."""
    _mirror(u)
    for z in range(1, u.shape[0] - 1):
        for y in range(1, u.shape[1] - 1):
            row[:] = 0.0
            _residual_row(u, uptake, rhs, (z, y), weights, law, row)
            for x in range(1, u.shape[2] - 1):
                rhs[z, y, x] -= row[x] - rhs[z, y, x]


@_jit
def _correct(u, uptake, after, before):  # type: ignore[no-untyped-def]
    """Add the trilinear interpolation of the coarse change; concentrations stay above zero."""
    far, near = np.float32(0.25), np.float32(0.75)
    nz, ny, nx = u.shape
    line = np.empty(after.shape[2], u.dtype)
    for i in range(after.size):
        before.flat[i] = after.flat[i] - before.flat[i]
    _mirror(before)
    for z in range(1, nz - 1):
        Z = (z + 1) // 2
        V = Z - 1 + 2 * ((z + 1) % 2)
        for y in range(1, ny - 1):
            Y = (y + 1) // 2
            W = Y - 1 + 2 * ((y + 1) % 2)
            a, b, c, d = before[Z, Y], before[Z, W], before[V, Y], before[V, W]
            for X in range(line.size):
                line[X] = near * (near * a[X] + far * b[X]) + far * (near * c[X] + far * d[X])
            for x in range(1, nx - 1):
                X = (x + 1) // 2
                step = near * line[X] + far * line[X - 1 + 2 * ((x + 1) % 2)]
                if uptake[z, y, x] >= 0.0:
                    u[z, y, x] = max(u[z, y, x] + step, np.float32(0.0))


@dataclass(frozen=True, slots=True)
class _Level:
    u: Array
    uptake: Array
    rhs: Array
    before: Array
    row: Array
    weights: tuple[np.float32, np.float32, np.float32]


def _padded(shape: tuple[int, ...]) -> Array:
    return np.zeros(tuple(n + 2 for n in shape), np.float32)


class Multigrid:
    """Solve ``sum over neighbours (c_j - c) = q c / (slope c + half) - s`` to a tolerance, warm-started.

    ``q = rate h^2 / D`` is the scaled uptake and s a scaled source. ``(slope, half) = (1, Km)`` is
    Michaelis-Menten uptake, ``(0, 1)`` first-order uptake. The scheme is Brandt's full approximation
    (Math Comp 1977;31:333, doi:10.1090/S0025-5718-1977-0431719-X) with red-black Gauss-Seidel, whose
    iterates stay positive; cell-centred grids, mean restriction, trilinear interpolation. Where cycles stall
    (uptake that all but switches off at its edge), plain sweeps, which always converge, take over.

    Parameters
    ----------
    shape
        Sites per axis [slice, row, column]; an axis of one site is left out of the Laplacian.
    law
        (slope, half) of the uptake.
    """

    def __init__(self, shape: tuple[int, int, int], law: tuple[float, float]) -> None:
        self.law = (np.float32(law[0]), np.float32(law[1]))
        self.levels: list[_Level] = []
        while True:
            size = shape[0], shape[1], shape[2]
            arrays = [_padded(size) for _ in range(4)]
            w = [np.float32(n > 1) for n in size]
            row = np.zeros(size[2] + 2, np.float32)
            self.levels.append(_Level(arrays[0], arrays[1], arrays[2], arrays[3], row, (w[0], w[1], w[2])))
            if max(size) <= 2:
                break
            shape = (size[0] + 1) // 2, (size[1] + 1) // 2, (size[2] + 1) // 2

    @property
    def solution(self) -> Array:
        """The concentration with one site of padding on every side."""
        return self.levels[0].u

    @property
    def uptake(self) -> Array:
        """The scaled uptake, to be written before :meth:`solve`; :data:`SUPPLIED` marks given sites."""
        return self.levels[0].uptake

    @property
    def source(self) -> Array:
        """The scaled source, to be written before :meth:`solve`; padded."""
        return self.levels[0].rhs

    def solve(self, tolerance: float) -> int:
        """Cycle until the largest change a site still asks for is below ``tolerance``; return the cycles.

        Raises
        ------
        InputError
            When 60 cycles do not suffice: the uptake is not finite, or nothing supplies the field.
        """
        for fine, coarse in zip(self.levels[:-1], self.levels[1:], strict=True):
            _coarse_uptake(fine.uptake, coarse.uptake)
        top, last, extra = self.levels[0], math.inf, 1
        for cycle in range(1, _MOST_CYCLES + 1):
            residual = self._cycle(0)
            if residual <= tolerance * 2.0 * float(sum(top.weights)):
                return cycle
            if cycle > _PATIENCE and residual > 0.7 * last:
                extra *= 2
                _relax(top.u, top.uptake, top.rhs, top.weights, self.law, min(extra, 64), top.row)
            last = residual
        raise InputError(
            "A concentration field did not settle.",
            f"After {_MOST_CYCLES} multigrid cycles a site is still further than {tolerance:g} from balance.",
            "Check the uptake rates and the vessels that supply the lattice, or loosen field_tolerance.",
        )

    def _cycle(self, depth: int) -> float:
        """One V-cycle from ``depth`` down; return the largest residual after the first smoothing."""
        at = self.levels[depth]
        if depth == len(self.levels) - 1:
            _relax(at.u, at.uptake, at.rhs, at.weights, self.law, 8, at.row)
            return 0.0
        _relax(at.u, at.uptake, at.rhs, at.weights, self.law, 2, at.row)
        below = self.levels[depth + 1]
        fine = (at.u, at.uptake, at.rhs)
        largest = float(_restrict(fine, (below.u, below.rhs), at.weights, self.law, at.row))
        _operator(below.u, below.uptake, below.rhs, below.weights, self.law, below.row)
        below.before[...] = below.u
        self._cycle(depth + 1)
        _correct(at.u, at.uptake, below.u, below.before)
        _relax(at.u, at.uptake, at.rhs, at.weights, self.law, 2, at.row)
        return largest
