"""Compiled derivatives of the dead-cell compartment and of the visible volume."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _jit
from digital_twins.models._level_kernels import _row_maxima


@_jit
def _add_events(killed, by_killed, alive, scratch, events):  # type: ignore[no-untyped-def]
    """Add what the events kill in a block, and its derivatives apart from those of the living.

    ``scratch`` are [2, voxel]; the second row is left with the killed cells' slope by the living.
    """
    share, saturation, by_share, by_saturation = events
    ratio, slope = scratch[0], scratch[1]
    one = killed.dtype.type(1.0)
    slope[:] = killed.dtype.type(0.0)
    for j in range(share.size):
        part, bend = share[j], saturation[j]
        for i in range(killed.size):
            q = one / (one + bend * alive[i])
            ratio[i] = alive[i] * q
            killed[i] += part * ratio[i]
            slope[i] += part * q * q
        for p in range(by_share.shape[0]):
            by_part, by_bend = by_share[p, j], part * by_saturation[p, j]
            if by_part == 0.0 and by_bend == 0.0:
                continue
            moved = by_killed[p]
            for i in range(killed.size):
                moved[i] += ratio[i] * (by_part - by_bend * ratio[i])


@_jit
def add_killed_tangents(dead, living, row, events, seeds):  # type: ignore[no-untyped-def]
    """``add_killed`` and its derivatives, voxel by voxel.

    ``dead`` and ``living`` are pairs of a density [voxel] and its tangents; ``row[p]`` is the row of the
    living tangents that belongs to direction p, -1 where the living do not move. ``events`` are (decay,
    share, saturation), ``share_j = weight_j gain_j``; ``seeds`` their derivatives ([p], [p, j], [p, j]).
    """
    killed_all, by_killed_all = dead
    alive_all, by_alive_all = living
    decay, share, saturation = events
    by_decay, by_share, by_saturation = seeds
    least = killed_all.dtype.type(1.0e-6)
    block = 512
    scratch = np.zeros((2, block), dtype=killed_all.dtype)
    for start in range(0, killed_all.size, block):
        end = min(start + block, killed_all.size)
        killed, alive, by_killed = killed_all[start:end], alive_all[start:end], by_killed_all[:, start:end]
        for p in range(by_decay.size):
            moved, lost = by_killed[p], by_decay[p]
            for i in range(killed.size):
                moved[i] = decay * moved[i] + lost * killed[i]
        killed *= decay
        if alive.max() < least:  # as in add_killed: too few cells to show
            continue
        _add_events(killed, by_killed, alive, scratch, (share, saturation, by_share, by_saturation))
        for p in range(by_decay.size):
            if row[p] >= 0:
                moved, along, slope = by_killed[p], by_alive_all[row[p], start:end], scratch[1]
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
def _gradient(field, z, y, x):  # type: ignore[no-untyped-def]
    """Differences between both neighbours along each axis, in double precision."""
    return (
        np.float64(field[z + 1, y, x]) - np.float64(field[z - 1, y, x]),
        np.float64(field[z, y + 1, x]) - np.float64(field[z, y - 1, x]),
        np.float64(field[z, y, x + 1]) - np.float64(field[z, y, x - 1]),
    )


@_jit
def _add_share(most, at, level, rows):  # type: ignore[no-untyped-def]
    """Add the derivatives of a voxel's visible share; return the share, 0 where it is not visible.

    ``rows`` are (row of ``most``'s tangents for each direction, what to add to, cells left of the largest).
    """
    top, by_top = most
    z, y, x = at
    threshold, floor = level
    row, moved, left = rows
    m = np.float64(top[z, y, x])
    dz, dy, dx = _gradient(top, z, y, x)
    norm = np.sqrt(dz * dz + dy * dy + dx * dx)
    slope = floor + 0.5 * norm
    share = 0.5 + (m - threshold) / slope
    if m <= 0.0 or share <= 0.0:
        return 0.0
    if share >= 1.0:
        return 1.0
    for p in range(moved.size):
        if row[p] >= 0:
            by_z, by_y, by_x = _gradient(by_top[row[p]], z, y, x)
            by_norm = (dz * by_z + dy * by_y + dx * by_x) / max(norm, 1.0e-30)
            by_m = np.float64(by_top[row[p], z, y, x])
            moved[p] += left * (by_m - (share - 0.5) * 0.5 * by_norm) / slope
    return share


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
    largest = _row_maxima(top)
    total, moved = 0.0, np.zeros(row.size)
    of_most = np.arange(row.size) if collapses else row
    for z in range(1, top.shape[0] - 1):
        for y in range(1, top.shape[1] - 1):
            near = max(largest[z - 1, y], largest[z + 1, y], largest[z, y - 1], largest[z, y + 1])
            if max(near, largest[z, y]) < 0.69 * threshold:  # as in level_volume: cannot contribute
                continue
            for x in range(1, top.shape[2] - 1):
                m, left = max(np.float64(top[z, y, x]), 1.0e-30), 1.0
                if collapses:
                    left = min(1.0, (np.float64(alive[z, y, x]) + np.float64(killed[z, y, x])) / m)
                share = _add_share(most, (z, y, x), (threshold, floor), (of_most, moved, left))
                total += share * left
                if share == 0.0 or left == 1.0:
                    continue
                for p in range(row.size):
                    by_left = np.float64(by_killed[p, z, y, x]) - left * np.float64(by_top[p, z, y, x])
                    if row[p] >= 0:
                        by_left += np.float64(by_alive[row[p], z, y, x])
                    moved[p] += share * by_left / m
    return total, moved
