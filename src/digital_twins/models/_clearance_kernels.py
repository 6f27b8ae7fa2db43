"""Compiled inner loop of the dead-cell compartment."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _jit
from digital_twins.models._level_kernels import _row_maxima


@_jit
def add_killed(dead, living, decay, gain, saturation, weight):  # type: ignore[no-untyped-def]
    """Set dead = decay * dead + sum_j weight_j * gain_j N / (1 + saturation_j N), voxel by voxel."""
    kind = dead.dtype.type
    one, zero, least = kind(1.0), kind(0.0), kind(1.0e-6)
    block = 512
    for start in range(0, dead.size, block):
        killed, alive = dead[start : start + block], living[start : start + block]
        for i in range(killed.size):
            killed[i] *= decay
        peak = zero
        for i in range(alive.size):
            peak = max(peak, alive[i])
        if peak < least:  # too few cells to show, dead or alive
            continue
        for j in range(gain.size):
            # one event after the other over a block that stays in cache: LLVM vectorises the division
            share, bend = weight[j] * gain[j], saturation[j]
            for i in range(killed.size):
                killed[i] += share * alive[i] / (one + bend * alive[i])


@_jit
def add_most(most, living, dead):  # type: ignore[no-untyped-def]
    """Set most = max(most, living + dead), voxel by voxel."""
    for i in range(most.size):
        most[i] = max(most[i], living[i] + dead[i])


@_jit
def shrunken_volume(living, dead, most, threshold, floor):  # type: ignore[no-untyped-def]
    """Voxels (fractional) where ``most`` is above a threshold, each by the part of its cells that is left.

    The share of a boundary voxel is that of :func:`digital_twins.models._kernels.level_volume`.
    """
    kind = most.dtype.type
    zero, half, one, level, least = kind(0.0), kind(0.5), kind(1.0), kind(threshold), kind(floor)
    tiny = kind(1.0e-30)
    nz, ny, nx = most.shape
    largest = _row_maxima(most)
    total = 0.0
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            near = max(largest[z - 1, y], largest[z + 1, y], largest[z, y - 1], largest[z, y + 1])
            if max(near, largest[z, y]) < 0.69 * threshold:  # as in level_volume: cannot contribute
                continue
            row, over, under = most[z, y], most[z + 1, y], most[z - 1, y]
            down, up = most[z, y + 1], most[z, y - 1]
            alive, killed = living[z, y], dead[z, y]
            inside = zero
            for x in range(1, nx - 1):
                m = row[x]
                dz, dy, dx = over[x] - under[x], down[x] - up[x], row[x + 1] - row[x - 1]
                slope = least + half * np.sqrt(dz * dz + dy * dy + dx * dx)
                share = min(one, max(zero, half + (m - level) / slope))
                left = min(one, (alive[x] + killed[x]) / max(m, tiny))
                inside += share * left if m > zero else zero
            total += np.float64(inside)
    return total


@_jit
def level_of_count(cells, count):  # type: ignore[no-untyped-def]
    """Level that the ``count`` densest voxels reach, to a part in 4096 of the largest density."""
    bins = np.zeros(4097, dtype=np.int64)
    largest = 0.0
    for i in range(cells.size):
        largest = max(largest, cells[i])
    if largest <= 0.0:
        return 1.0
    for i in range(cells.size):
        if cells[i] > 0.0:
            bins[int(4096.0 * cells[i] / largest)] += 1
    reached = 0
    for b in range(4096, -1, -1):
        reached += bins[b]
        if reached >= count:
            return b * largest / 4096.0
    return 0.0
