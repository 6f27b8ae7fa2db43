"""Compiled reductions of a density: the volume above a level, and sums over an ensemble."""

from __future__ import annotations

from functools import partial

import numpy as np

from digital_twins._compiled import jit

# "reassoc" lets sums run in vector lanes.
_FASTMATH = {"contract", "nsz", "arcp", "reassoc"}
_jit = partial(jit, fastmath=_FASTMATH)


@_jit
def _row_maxima(density):  # type: ignore[no-untyped-def]
    """Largest value of each row."""
    nz, ny, nx = density.shape
    largest = np.zeros((nz, ny), dtype=density.dtype)
    for z in range(nz):
        for y in range(ny):
            row = density[z, y]
            top = density.dtype.type(0.0)
            for x in range(nx):
                top = max(top, row[x])
            largest[z, y] = top
    return largest


@_jit
def level_volume(density, threshold, floor):  # type: ignore[no-untyped-def]
    """Number of voxels (fractional) above ``threshold``: the share of a boundary voxel from its local slope.

    A voxel of value N and per-axis central differences d_i lies above by the fraction
    ``clip(1/2 + (N - threshold) / |d|, 0, 1)``, exact for a plane across one axis, so that the volume moves
    smoothly while the front crosses the grid; a ball of radius R comes out too large by about h^2 / (2 R^2).
    ``density`` is three-dimensional and padded by one voxel; ``floor`` keeps the slope above zero. Rows whose
    neighbourhood stays below ``threshold / (1 + sqrt(3) / 4)`` cannot contribute and are passed over.
    """
    nz, ny, nx = density.shape
    largest = _row_maxima(density)
    kind = density.dtype.type
    level, least, half, zero, one = kind(threshold), kind(floor), kind(0.5), kind(0.0), kind(1.0)
    total = 0.0
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            near = max(largest[z - 1, y], largest[z + 1, y], largest[z, y - 1], largest[z, y + 1])
            if max(near, largest[z, y]) < 0.69 * threshold:
                continue
            row, over, under = density[z, y], density[z + 1, y], density[z - 1, y]
            down, up = density[z, y + 1], density[z, y - 1]
            inside = zero
            for x in range(1, nx - 1):
                v = row[x]
                dz, dy, dx = over[x] - under[x], down[x] - up[x], row[x + 1] - row[x - 1]
                slope = least + half * np.sqrt(dz * dz + dy * dy + dx * dx)
                share = min(one, max(zero, half + (v - level) / slope))
                inside += share if v > zero else zero
            total += np.float64(inside)
    return total


@_jit
def add_member(above, total, density, threshold):  # type: ignore[no-untyped-def]
    """Add a padded density to an ensemble's sums: counts above the level, and the density itself."""
    for z in range(above.shape[0]):
        for y in range(above.shape[1]):
            row, count, summed = density[z + 1, y + 1], above[z, y], total[z, y]
            for x in range(count.size):
                v = row[x + 1]
                count[x] += np.uint16(1) if v >= threshold else np.uint16(0)
                summed[x] += v
