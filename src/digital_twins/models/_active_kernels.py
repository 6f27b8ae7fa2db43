"""Compiled helpers of the active region: what a box leaves out, and reactions outside it."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _copy, _jit


@_jit
def plane_squares(field):  # type: ignore[no-untyped-def]
    """Sum of squares of a padded field in each plane across each axis; the first entry of each is padding."""
    slices, rows, columns = field.shape
    by_slice, by_row, by_column = np.zeros(slices), np.zeros(rows), np.zeros(columns)
    for z in range(slices):
        for y in range(rows):
            total = 0.0
            for x in range(columns):
                v = np.float64(field[z, y, x])
                by_column[x] += v * v
                total += v * v
            by_slice[z] += total
            by_row[y] += total
    return by_slice, by_row, by_column


@_jit
def react_outside(field, inner, gain, saturation):  # type: ignore[no-untyped-def]
    """Put ``inner`` (padded) at its place in ``field`` and apply a reaction to what lies around it.

    ``inner`` is (box field, first padded slice, row and column of its interior).
    """
    box, z0, y0, x0 = inner
    one = field.dtype.type(1.0)
    slices, rows, columns = box.shape
    x1 = x0 + columns - 2
    for z in range(field.shape[0]):
        for y in range(field.shape[1]):
            row = field[z, y]
            inside = z0 <= z < z0 + slices - 2 and y0 <= y < y0 + rows - 2
            first = x0 if inside else row.size
            for i in range(first):
                row[i] = gain * row[i] / (one + saturation * row[i])
            if inside:
                _copy(row[x0:x1], box[z - z0 + 1, y - y0 + 1, 1 : columns - 1])
                for i in range(x1, row.size):
                    row[i] = gain * row[i] / (one + saturation * row[i])


@_jit
def react_in_place(density, gain, saturation):  # type: ignore[no-untyped-def]
    """Set ``N <- gain N / (1 + saturation N)`` in [slice, pixel]."""
    one = density.dtype.type(1.0)
    for z in range(density.shape[0]):
        row = density[z]
        for i in range(row.size):
            row[i] = gain * row[i] / (one + saturation * row[i])


@_jit
def box_squares(inner):  # type: ignore[no-untyped-def]
    """Sum of squares of a padded box, and those of its first and last plane across each axis [axis, side]."""
    slices, rows, columns = inner.shape
    sides = np.zeros((3, 2))
    total = 0.0
    for z in range(1, slices - 1):
        by_slice = 0.0
        for y in range(1, rows - 1):
            row = inner[z, y]
            squares = np.float64(0.0)
            for x in range(1, columns - 1):
                squares += np.float64(row[x]) * np.float64(row[x])
            first, last = np.float64(row[1]), np.float64(row[columns - 2])
            sides[2, 0] += first * first
            sides[2, 1] += last * last
            if y == 1:
                sides[1, 0] += squares
            if y == rows - 2:
                sides[1, 1] += squares
            by_slice += squares
        if z == 1:
            sides[0, 0] += by_slice
        if z == slices - 2:
            sides[0, 1] += by_slice
        total += by_slice
    return total, sides
