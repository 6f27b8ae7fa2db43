"""The frames of DICOM images as planes in space, and the grid that parallel planes make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._dicom_files import required

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SPACING_TOLERANCE = 0.01
"""Slices are evenly spaced when no gap differs from the mean by more than this part of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One frame: where it lies (PS3.3 section C.7.6.2) and how stored values become units.

    ``position`` is ImagePositionPatient, ``orientation`` ImageOrientationPatient, ``spacing_mm`` PixelSpacing
    (row, column), ``thickness_mm`` the distance to assume when it is the only slice.
    """

    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    between_mm: float | None
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def slice_direction(self) -> NDArray[np.float64]:
        """Unit normal, on the side that makes (slice, row, column) right-handed as in highdicom."""
        return np.asarray(np.cross(self.orientation[3:], self.orientation[:3]))

    @property
    def in_plane(self) -> NDArray[np.float64]:
        """3x2 matrix: the steps to the next row and to the next column, in millimetres."""
        return np.stack(
            [self.orientation[3:] * self.spacing_mm[0], self.orientation[:3] * self.spacing_mm[1]], axis=1
        )


def planes_of(dataset: Dataset) -> list[Plane]:
    """Return the planes of a single-frame or multi-frame (enhanced, legacy converted) object."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [_plane(dataset, dataset, dataset, dataset)]
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    planes = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        position = _group(frame, shared, "PlanePositionSequence")
        orientation = _group(frame, shared, "PlaneOrientationSequence")
        measures = _group(frame, shared, "PixelMeasuresSequence")
        values = _optional(frame, shared, "PixelValueTransformationSequence")
        planes.append(_plane(position, orientation, measures, values))
    return planes


def _optional(frame: Dataset, shared: Dataset | None, name: str) -> Dataset | None:
    for source in (frame, shared):
        if source is not None and source.get(name):
            item: Dataset = source.get(name)[0]
            return item
    return None


def _group(frame: Dataset, shared: Dataset | None, name: str) -> Dataset:
    found = _optional(frame, shared, name)
    return cast("Dataset", required(frame, name)) if found is None else found


def _plane(position: Dataset, orientation: Dataset, measures: Dataset, values: Dataset | None) -> Plane:
    directions = _numbers(orientation, "ImageOrientationPatient", 6)
    gram = directions.reshape(2, 3) @ directions.reshape(2, 3).T
    if np.abs(gram - np.eye(2)).max() > 1e-3:
        raise InputError(
            what="ImageOrientationPatient does not hold two perpendicular unit vectors.",
            why="PS3.3 section C.7.6.2.1.1 demands it; the position of the voxels is unknown otherwise.",
            fix="Export the series again from the scanner or the archive.",
        )
    rows_mm, columns_mm = (float(x) for x in _numbers(measures, "PixelSpacing", 2))
    if min(rows_mm, columns_mm) <= 0:
        raise InputError(
            what="PixelSpacing is not positive.",
            why="Voxels without extent have no volume.",
            fix="Export the series again from the scanner or the archive.",
        )
    slope = 1.0 if values is None else float(values.get("RescaleSlope") or 1.0)
    intercept = 0.0 if values is None else float(values.get("RescaleIntercept") or 0.0)
    return Plane(
        position=_numbers(position, "ImagePositionPatient", 3),
        orientation=directions,
        spacing_mm=(rows_mm, columns_mm),
        thickness_mm=_positive(measures, "SliceThickness"),
        between_mm=_positive(measures, "SpacingBetweenSlices"),
        slope=slope,
        intercept=intercept,
    )


def _numbers(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    values = np.array(required(dataset, keyword), dtype=np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise InputError(
            what=f"{keyword} does not hold {count} finite numbers.",
            why="The position of the voxels is unknown without them.",
            fix="Export the series again from the scanner or the archive.",
        )
    return values


def _positive(dataset: Dataset, keyword: str) -> float | None:
    value = dataset.get(keyword)
    return float(value) if value is not None and float(value) > 0 else None


def projections(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Distance of each plane along the slice direction of the first, in mm, after checking that they fit."""
    first = planes[0]
    for plane in planes[1:]:
        if (
            np.abs(plane.orientation - first.orientation).max() > 1e-4
            or np.abs(np.subtract(plane.spacing_mm, first.spacing_mm)).max() > 1e-4
        ):
            raise InputError(
                what="The slices differ in orientation or pixel spacing.",
                why="They do not make one volume; a scout view in the series is the usual reason.",
                fix="Remove the scout, or pass the slices of one orientation.",
            )
    return np.array([plane.position for plane in planes]) @ first.slice_direction


def affine_of(first: Plane, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine (slice, row, column) -> LPS mm of a grid that starts at ``first``."""
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1:3] = first.in_plane
    affine[:3, 3] = first.position
    return affine


def lone_step(plane: Plane) -> NDArray[np.float64]:
    """Step to the neighbour that a lone slice would have: its spacing or thickness along the normal."""
    distance = plane.between_mm or plane.thickness_mm
    if distance is None:
        raise InputError(
            what="The only slice has neither SliceThickness nor SpacingBetweenSlices.",
            why="Its volume is unknown.",
            fix="Pass the whole series, or set SliceThickness.",
        )
    return plane.slice_direction * distance
