"""Compiled helpers of the active region: what a box leaves out, and reactions outside it."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _jit


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
                row[x0:x1] = box[z - z0 + 1, y - y0 + 1, 1 : columns - 1]
                for i in range(x1, row.size):
                    row[i] = gain * row[i] / (one + saturation * row[i])
