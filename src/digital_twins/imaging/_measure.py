"""Sizes of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGES = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])


def longest_in_plane_mm(array: NDArray[Any], affine: NDArray[np.float64]) -> float:
    """Greatest Feret diameter over the slices of a boolean array; see ``Mask.longest_diameter_mm``."""
    to_mm = affine[:3, 1:3].T
    longest = 0.0
    for plane in array:
        if plane.any():
            longest = max(longest, _feret(_row_ends(plane) @ to_mm))
    return longest


def _row_ends(plane: NDArray[Any]) -> NDArray[np.float64]:
    """Mid-edge points of the first and last pixel of each row: they hold every vertex of the hull."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - 1 - plane[rows][:, ::-1].argmax(axis=1)
    pixels = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)]).astype(float)
    return np.asarray((pixels[:, None, :] + _EDGES[None]).reshape(-1, 2))


def _feret(points_mm: NDArray[np.float64]) -> float:
    """Greatest distance between two of coplanar 3-D points."""
    origin = points_mm[0]
    axes = np.linalg.svd(points_mm - origin, full_matrices=False)[2][:2]
    flat = (points_mm - origin) @ axes.T
    try:
        flat = flat[ConvexHull(flat).vertices]
    except QhullError:
        flat = np.unique(flat, axis=0)
    return float(pdist(flat).max())
