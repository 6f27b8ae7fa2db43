"""From a segmentation and images to the model's grid, its domain and the distance to the lesion's edge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from digital_twins._errors import InputError
from digital_twins.imaging import (
    Mask,
    Volume,
    as_mask,
    bounding_box,
    coverage,
    crop,
    grid,
    load_mask,
    resample,
)
from digital_twins.records import Code

if TYPE_CHECKING:
    from numpy.typing import NDArray

TISSUE = Code("85756007", "SCT", "Tissue")

MARGIN_MM = 25.0
"""Tissue around the lesion that the model covers: several months of growth at published front speeds."""
FINEST_MM, COARSEST_MM, VOXELS_PER_RADIUS = 1.0, 3.0, 8.0
_SMALLEST_VOXELS = 10
_AIR_HU = -950.0
_MR_BACKGROUND = 0.1


@dataclass(frozen=True, slots=True)
class Geometry:
    """The model's grid.

    Attributes
    ----------
    domain
        Where cells can live, on the model grid.
    distance_mm
        Signed distance to the lesion's edge on the model grid, positive inside, float32.
    domain_rule
        How the domain was found, in words.
    """

    domain: Mask
    distance_mm: NDArray[np.float32]
    domain_rule: str


def model_geometry(lesion: Mask, image: Volume | None, domain: Mask | None) -> Geometry:
    """Lay the model's grid around a lesion and find its domain.

    The grid follows the axes of the segmentation over the lesion's box and 25 mm around it (clipped to the
    segmentation's grid), with cubic voxels of one eighth of the lesion's equivalent radius, 1 to 3 mm.

    Raises
    ------
    InputError
        When the lesion is too small for any grid, or lies outside the given domain.
    """
    box = crop(lesion, bounding_box(lesion, MARGIN_MM))
    upright = _upright(box) if box.is_sheared else box
    radius_mm = (0.75 / np.pi * lesion.volume_cm3 * 1000.0) ** (1.0 / 3.0)
    spacing = float(np.clip(radius_mm / VOXELS_PER_RADIUS, FINEST_MM, COARSEST_MM))
    frame = replace(
        grid(upright, spacing_mm=spacing),
        frame_of_reference_uid=lesion.frame_of_reference_uid,
        patient_id=lesion.patient_id,
    )
    share = coverage(box, frame).array
    if share.sum() < _SMALLEST_VOXELS:
        raise InputError(
            "The lesion is too small to be modelled.",
            f"It has {lesion.volume_cm3:.3f} cm3; a front needs at least {_SMALLEST_VOXELS} voxels of 1 mm.",
            "Follow a lesion of this size by its diameter, or segment it on a finer image.",
        )
    inside, rule = _domain(frame, share >= 0.5, image, domain)
    return Geometry(as_mask(frame, inside, meaning=TISSUE), signed_distance_mm(share, spacing), rule)


def _upright(volume: Mask) -> Volume:
    """Return an empty grid with perpendicular axes that holds a sheared one (tilted gantry)."""
    rows, columns = (volume.affine[:3, i] / volume.spacing_mm[i] for i in (1, 2))
    normal = np.cross(rows, columns)
    normal *= np.sign(normal @ volume.affine[:3, 0])
    axes = np.stack(
        [normal, rows, np.cross(normal, rows) * np.sign(np.cross(normal, rows) @ columns)], axis=1
    )
    ends = np.array(volume.shape) - 1
    corners = volume.index_to_mm(np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * ends)
    along = corners @ axes
    spacing = np.array([abs(volume.affine[:3, 0] @ normal), *volume.spacing_mm[1:]])
    shape = np.ceil(np.ptp(along, axis=0) / spacing).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ along.min(axis=0)
    return Volume(np.zeros(shape, dtype=np.uint8), affine)


def signed_distance_mm(share: NDArray[np.float64], spacing: float) -> NDArray[np.float32]:
    """Signed distance to the edge of a covered share, smoothed over one voxel."""
    smooth = ndimage.gaussian_filter(share, 0.7, mode="constant")
    inside = smooth >= min(0.5, 0.5 * float(smooth.max()))
    away = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    signed = (away - 0.5 * np.sign(away)) * spacing
    return np.asarray(ndimage.gaussian_filter(signed, 0.7, mode="nearest"), dtype=np.float32)


def _domain(
    frame: Volume, lesion: NDArray[np.bool_], image: Volume | None, given: Mask | None
) -> tuple[NDArray[np.bool_], str]:
    if given is not None:
        inside = load_mask(given, like=frame).array
        if np.count_nonzero(inside & lesion) < 0.5 * np.count_nonzero(lesion):
            raise InputError(
                "The tumour lies outside the domain.",
                "Less than half of the segmented lesion is inside the given domain mask.",
                "Give the mask of the organ that holds the lesion, in the same frame of reference.",
            )
        return inside | lesion, "the given domain mask and the lesion"
    if image is None:
        return np.ones(frame.shape, dtype=bool), "the whole box around the lesion: no image was given"
    shown = resample(image, frame, interpolation="linear")
    if image.modality == "CT" or (image.modality is None and float(np.min(image.array)) <= -500.0):
        tissue = shown.array > _AIR_HU
        rule = f"CT above {_AIR_HU:.0f} HU, connected to the lesion"
    else:
        bright = float(np.percentile(shown.array, 99.0))
        dark = float(np.percentile(shown.array, 0.5))
        tissue = shown.array > dark + _MR_BACKGROUND * (bright - dark)
        rule = f"image above {100 * _MR_BACKGROUND:.0f} % of its range, connected to the lesion"
    return _connected(tissue | lesion, lesion), rule


def _connected(tissue: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close one-voxel holes, which are noise, and keep what is connected to the lesion."""
    closed = ndimage.binary_closing(np.pad(tissue, 1, mode="edge"))[1:-1, 1:-1, 1:-1] | tissue
    labels, _ = ndimage.label(closed)
    reached = np.unique(labels[lesion])
    return np.asarray(np.isin(labels, reached[reached > 0]))


def place_on_grid(mask: Mask, frame: Volume) -> tuple[NDArray[np.bool_], float]:
    """Bring a visit's mask to the model grid: voxels at least half covered, and the share inside the grid.

    Raises
    ------
    InputError
        When the mask belongs to another frame or patient, or nothing of it is inside the model's grid.
    """
    share: NDArray[Any] = coverage(mask, frame).array
    inside = float(share.sum()) * frame.voxel_volume_mm3 / (mask.volume_cm3 * 1000.0)
    if inside < 0.5:
        raise InputError(
            "A follow-up lesion lies outside the twin's domain.",
            f"Only {100.0 * inside:.0f} % of it is inside the box that the model covers.",
            "Check that the scan is registered to the baseline; a lesion elsewhere needs a twin of its own.",
        )
    return share >= 0.5, inside
