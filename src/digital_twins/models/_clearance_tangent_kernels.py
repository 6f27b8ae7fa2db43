"""Compiled derivatives of the dead-cell compartment and of the visible volume."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _jit
from digital_twins.models._level_kernels import _row_maxima


@_jit
def add_killed_tangents(dead, living, row, events, seeds):  # type: ignore[no-untyped-def]
    """``add_killed`` and its derivatives, voxel by voxel.

    ``dead`` and ``living`` are pairs of a density [voxel] and its tangents; ``row[p]`` is the row of the living
    tangents that belongs to direction p, -1 where the living do not move. ``events`` are (decay, share,
    saturation), ``share_j = weight_j gain_j``; ``seeds`` their derivatives ([p], [p, j], [p, j]).
    """
    killed_all, by_killed_all = dead
    alive_all, by_alive_all = living
    decay, share, saturation = events
    by_decay, by_share, by_saturation = seeds
    kind = killed_all.dtype.type
    one, zero, least = kind(1.0), kind(0.0), kind(1.0e-6)
    block = 512
    ratio, slope = np.zeros(block, dtype=killed_all.dtype), np.zeros(block, dtype=killed_all.dtype)
    for start in range(0, killed_all.size, block):
        end = min(start + block, killed_all.size)
        killed, alive = killed_all[start:end], alive_all[start:end]
        for p in range(by_decay.size):
            moved, lost = by_killed_all[p, start:end], by_decay[p]
            for i in range(killed.size):
                moved[i] = decay * moved[i] + lost * killed[i]
        peak = zero
        for i in range(killed.size):
            killed[i] *= decay
            peak = max(peak, alive[i])
        if peak < least:  # as in add_killed: too few cells to show
            continue
        slope[:] = zero
        for j in range(share.size):
            part, bend = share[j], saturation[j]
            for i in range(killed.size):
                q = one / (one + bend * alive[i])
                ratio[i] = alive[i] * q
                killed[i] += part * ratio[i]
                slope[i] += part * q * q
            for p in range(by_decay.size):
                by_part, by_bend = by_share[p, j], part * by_saturation[p, j]
                if by_part == zero and by_bend == zero:
                    continue
                moved = by_killed_all[p, start:end]
                for i in range(killed.size):
                    moved[i] += ratio[i] * (by_part - by_bend * ratio[i])
        for p in range(by_decay.size):
            if row[p] >= 0:
                moved, along = by_killed_all[p, start:end], by_alive_all[row[p], start:end]
                for i in range(killed.size):
                    moved[i] += slope[i] * along[i]


@_jit
def add_most_tangents(most, living, dead, row):  # type: ignore[no-untyped-def]
    """``add_most`` and its derivatives: those of whichever is the largest. Pairs and ``row`` as above."""
    top, by_top = most
    alive, by_alive = living
    killed, by_killed = dead
    block = 512
    above = np.zeros(block, dtype=np.bool_)
    for start in range(0, top.size, block):
        end = min(start + block, top.size)
        found = False
        for i in range(start, end):
            total = alive[i] + killed[i]
            above[i - start] = total > top[i]
            found |= total > top[i]
            top[i] = max(top[i], total)
        if not found:
            continue
        for p in range(row.size):
            for i in range(start, end):
                if above[i - start]:
                    along = by_alive[row[p], i] if row[p] >= 0 else top.dtype.type(0.0)
                    by_top[p, i] = along + by_killed[p, i]


@_jit
def visible_volume_tangents(most, living, dead, row, level):  # type: ignore[no-untyped-def]
    """Visible voxels (fractional), as ``shrunken_volume`` counts them, and their derivatives.

    Pairs of a padded density and its tangents; ``level`` is (threshold, floor of the slope, whether tissue
    collapses). Where it does not, ``most`` is the living pair and ``dead`` is not looked at.
    """
    top, by_top = most
    alive, by_alive = living
    killed, by_killed = dead
    threshold, floor, collapses = level
    count = row.size
    nz, ny, nx = top.shape
    largest = _row_maxima(top)
    total, moved = 0.0, np.zeros(count)
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            near = max(largest[z - 1, y], largest[z + 1, y], largest[z, y - 1], largest[z, y + 1])
            if max(near, largest[z, y]) < 0.69 * threshold:  # as in level_volume: cannot contribute
                continue
            for x in range(1, nx - 1):
                m = np.float64(top[z, y, x])
                if m <= 0.0:
                    continue
                dz = np.float64(top[z + 1, y, x]) - np.float64(top[z - 1, y, x])
                dy = np.float64(top[z, y + 1, x]) - np.float64(top[z, y - 1, x])
                dx = np.float64(top[z, y, x + 1]) - np.float64(top[z, y, x - 1])
                norm = np.sqrt(dz * dz + dy * dy + dx * dx)
                slope = floor + 0.5 * norm
                raw = 0.5 + (m - threshold) / slope
                if raw <= 0.0:
                    continue
                share, left = min(1.0, raw), 1.0
                if collapses:
                    left = min(1.0, (np.float64(alive[z, y, x]) + np.float64(killed[z, y, x])) / m)
                total += share * left
                for p in range(count):
                    r = p if collapses else row[p]
                    if r < 0:
                        continue
                    by_m = np.float64(by_top[r, z, y, x])
                    if raw < 1.0:
                        by_z = np.float64(by_top[r, z + 1, y, x]) - np.float64(by_top[r, z - 1, y, x])
                        by_y = np.float64(by_top[r, z, y + 1, x]) - np.float64(by_top[r, z, y - 1, x])
                        by_x = np.float64(by_top[r, z, y, x + 1]) - np.float64(by_top[r, z, y, x - 1])
                        by_norm = (dz * by_z + dy * by_y + dx * by_x) / max(norm, 1.0e-30)
                        moved[p] += left * (by_m - (raw - 0.5) * 0.5 * by_norm) / slope
                    if left < 1.0:
                        by_left = np.float64(by_killed[p, z, y, x]) - left * by_m
                        if row[p] >= 0:
                            by_left += np.float64(by_alive[row[p], z, y, x])
                        moved[p] += share * by_left / m
    return total, moved
