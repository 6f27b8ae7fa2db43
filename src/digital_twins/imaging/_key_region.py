"""Outlines of a lesion on the images that show most of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.imaging._polygons import outlines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from digital_twins.imaging._volume import Mask


@dataclass(frozen=True, slots=True)
class KeyRegion:
    """A closed outline on one image.

    Attributes
    ----------
    image
        The image; headers suffice.
    points_px
        [point, 2] as column and row, the first point repeated at the end. 0, 0 is the outer corner of the
        first pixel and 0.5, 0.5 its centre (PS3.3 C.18.6.1.2).
    """

    image: Dataset
    points_px: NDArray[np.float64]

    @property
    def area_mm2(self) -> float:
        """Area inside the outline."""
        x, y = self.points_px.T
        rows_mm, columns_mm = (float(value) for value in self.image.PixelSpacing)
        return 0.5 * abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) * rows_mm * columns_mm


def key_regions(mask: Mask, images: Sequence[Dataset], *, count: int = 1) -> list[KeyRegion]:
    """Return the outlines of the mask's largest slices, each on the image of its plane, the largest first.

    Parameters
    ----------
    mask
        A region, on any grid whose slices lie in planes of the images.
    images
        Single-frame images of one series with their geometry; pixels are not needed.
    count
        Outlines wanted at most.

    Returns
    -------
    list of KeyRegion
        Of each slice its longest outline; fewer than ``count`` when the mask has fewer slices, or no image
        lies within half a slice of one.
    """
    areas = mask.array.sum(axis=(1, 2))
    half_mm = 0.5 * float(np.linalg.norm(mask.affine[:3, 0]))
    found = []
    for k in np.argsort(-areas, kind="stable")[: min(count, int((areas > 0).sum()))].tolist():
        outline = max(outlines(mask.array[k]), key=len)
        index = np.concatenate([np.full((len(outline), 1), float(k)), outline], axis=1)
        points_mm = mask.index_to_mm(index)
        for image in images:
            points_px = _on_image(points_mm, image, half_mm)
            if points_px is not None:
                found.append(KeyRegion(image, np.concatenate([points_px, points_px[:1]])))
                break
    return found


def _on_image(points_mm: NDArray[np.float64], image: Dataset, half_mm: float) -> NDArray[np.float64] | None:
    """Return the points as column and row of an image, or None when its plane is another."""
    if not {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"} <= set(image.dir()):
        return None
    along_row, along_column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows_mm, between_columns_mm = (float(value) for value in image.PixelSpacing)
    offset = points_mm - np.array(image.ImagePositionPatient, dtype=float)
    if np.abs(offset @ np.cross(along_row, along_column)).max() > half_mm:
        return None
    columns = offset @ along_row / between_columns_mm + 0.5
    rows = offset @ along_column / between_rows_mm + 0.5
    return np.stack([columns, rows], axis=1)
