"""Predicted masks on the image's grid, without resampling the whole image."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.imaging import as_mask, bounding_box, crop, resample

if TYPE_CHECKING:
    from digital_twins.imaging import Mask, Volume


def place(mask: Mask, like: Volume) -> Mask:
    """Return a non-empty mask on the grid of ``like``, by nearest neighbour.

    Only the part of ``like`` that the mask's bounding box covers is sampled: a whole CT has a hundred times
    as many voxels as its tumour. What lies outside ``like`` is lost; the result may be empty.

    Raises
    ------
    InputError
        The mask is empty, or of another frame of reference or patient.
    """
    if mask.same_grid(like):
        return as_mask(like, mask.array)
    ends = [(s.start - 1.0, float(s.stop)) for s in bounding_box(mask)]
    corners = like.mm_to_index(mask.index_to_mm(np.array(list(product(*ends)))))
    low = np.floor(corners.min(axis=0)).astype(int).clip(0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, like.shape)
    array = np.zeros(like.shape, dtype=bool)
    if (low < high).all():
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        array[box] = resample(mask, crop(like, box), interpolation="nearest").array
    return as_mask(like, array)
