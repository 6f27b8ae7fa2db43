"""Sizes of a lesion that response criteria ask for, from its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from digital_twins.imaging import Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CORNERS = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])


def _slice_product_mm2(plane: NDArray[np.bool_], to_mm: NDArray[np.float64]) -> float:
    """Longest diameter of one slice times its widest extent at right angles, both outlines included."""
    pixels = np.argwhere(plane).astype(np.float64)
    points = (pixels[:, None, :] + _CORNERS).reshape(-1, 2) @ to_mm
    axes = np.linalg.svd(points - points[0], full_matrices=False)[2][:2]
    flat = (points - points[0]) @ axes.T
    try:
        flat = flat[ConvexHull(flat).vertices]
    except QhullError:
        return 0.0
    difference = flat[:, None, :] - flat[None, :, :]
    distance = np.sqrt((difference**2).sum(axis=2))
    i, j = np.unravel_index(np.argmax(distance), distance.shape)
    longest = float(distance[i, j])
    if longest == 0.0:
        return 0.0
    along = (flat[j] - flat[i]) / longest
    across = flat @ np.array([-along[1], along[0]])
    return longest * float(across.max() - across.min())


def bidimensional_product_mm2(mask: Mask) -> float:
    """Greatest product of the longest diameter and its perpendicular over the slices of a mask, in mm2.

    0 for an empty mask. The measure of RANO and of the Macdonald criteria for axial acquisitions; outlines
    run midway between voxels inside and outside.
    """
    to_mm = mask.affine[:3, 1:3].T
    return max((_slice_product_mm2(plane, to_mm) for plane in mask.array if plane.any()), default=0.0)


def axial(mask: Mask) -> Mask:
    """Return the mask with its slices across the body's long axis, as nearly as its grid allows.

    RECIST measures in the axial plane, whatever plane was scanned.
    """
    along = int(np.argmax(np.abs(mask.affine[2, :3])))
    if along == 0:
        return mask
    order = [along, *(axis for axis in range(3) if axis != along)]
    affine = mask.affine.copy()
    affine[:, :3] = mask.affine[:, order]
    return Mask(np.ascontiguousarray(mask.array.transpose(order)), affine, meaning=mask.meaning)
