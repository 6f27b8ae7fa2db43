"""Volumes and masks: arrays with the exact place of every voxel in the patient."""

from __future__ import annotations

import hashlib
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from digital_twins._errors import InputError
from digital_twins.records import NEOPLASM, Code
from digital_twins.units import mm3_to_cm3

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

GRID_TOLERANCE_MM = 1e-3
"""Two grids whose corners agree within this distance are the same grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An array indexed ``[slice, row, column]`` with the affine that places it in the patient.

    The geometry is that of highdicom's ``Volume``: ``affine @ (slice, row, column, 1)`` is the centre of a
    voxel in DICOM patient coordinates ("LPS": x to the patient's left, y to the back, z to the head), in
    millimetres (PS3.3 section C.7.6.2.1.1). Unlike there, a sheared affine is allowed: a CT taken with a
    tilted gantry has one.

    Attributes
    ----------
    array
        Voxels, 3-D. Hounsfield units for a CT, arbitrary units for an MR.
    affine
        4x4 float64, read-only.
    acquired
        Acquisition time, timezone-aware UTC. A DICOM file without a timezone is taken to be UTC.
    source_uids
        SOP Instance UIDs that it came from, or ``"sha256:..."`` of the file.
    patient_id
        DICOM PatientID; never logged.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    _: KW_ONLY
    frame_of_reference_uid: str | None = None
    modality: str | None = None
    acquired: datetime | None = None
    source_uids: tuple[str, ...] = ()
    patient_id: str | None = None

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise InputError(
                what="The volume's affine cannot be used.",
                why="It must be a finite, invertible 4x4 matrix from voxel index to millimetres.",
                fix="Pass the affine [slice,row,column] -> patient LPS millimetres.",
            )
        array = np.asarray(self.array)
        if array.ndim != 3 or 0 in array.shape:
            raise InputError(
                what=f"The volume's array has shape {array.shape}.",
                why="A volume is three-dimensional, [slice, row, column], and has at least one voxel.",
                fix="Pass one 3-D image: select the time point or channel first.",
            )
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "array", array)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of slices, rows and columns."""
        slices, rows, columns = self.array.shape
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between neighbouring voxel centres along the three index axes."""
        slices, rows, columns = (float(x) for x in np.linalg.norm(self.affine[:3, :3], axis=0))
        return slices, rows, columns

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel (determinant of the affine, so it is right for a tilted gantry too)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def origin_mm(self) -> NDArray[np.float64]:
        """LPS position of the centre of voxel ``[0, 0, 0]``."""
        return np.array(self.affine[:3, 3])

    @property
    def is_sheared(self) -> bool:
        """Whether the index axes are not perpendicular to each other (tilted gantry)."""
        unit = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return bool(np.abs(unit.T @ unit - np.eye(3)).max() > 1e-4)

    def with_array(self, array: NDArray[Any]) -> Self:
        """Return the same geometry and origin with other voxels, of the same shape."""
        if array.shape != self.array.shape:
            raise InputError(
                what=f"The new array has shape {array.shape}, the volume {self.array.shape}.",
                why="Voxels can be replaced only on the same grid.",
                fix="Use resample() to change the grid.",
            )
        return replace(self, array=array)

    def index_to_mm(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Map points ``(..., 3)`` from (fractional) index (slice, row, column) to LPS millimetres."""
        return np.asarray(np.asarray(points, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def mm_to_index(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Map points ``(..., 3)`` from LPS millimetres to fractional index (slice, row, column)."""
        offset = np.asarray(points, dtype=float) - self.affine[:3, 3]
        return np.asarray(np.linalg.solve(self.affine[:3, :3], offset[..., None])[..., 0])

    def same_grid(self, other: Volume) -> bool:
        """Whether both have the same shape and their corner voxels agree within 0.001 mm."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (
            np.array(self.shape) - 1
        )
        return bool(np.abs(self.index_to_mm(corners) - other.index_to_mm(corners)).max() < GRID_TOLERANCE_MM)

    def digest(self) -> str:
        """SHA-256 (hex) over shape, voxel type, affine and voxels: the same content, the same digest."""
        array = np.ascontiguousarray(self.array)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        head = f"{self.shape}{little.dtype.str}".encode()
        return hashlib.sha256(head + self.affine.astype("<f8").tobytes() + little.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Mask(Volume):
    """A boolean volume with a coded meaning, e.g. ``Code("108369006", "SCT", "Neoplasm")``."""

    _: KW_ONLY
    meaning: Code = NEOPLASM

    def __post_init__(self) -> None:
        super(Mask, self).__post_init__()
        object.__setattr__(self, "array", self.array.astype(bool, copy=False))

    @property
    def is_empty(self) -> bool:
        """Whether no voxel is set."""
        return not bool(self.array.any())

    @property
    def volume_cm3(self) -> float:
        """Number of voxels set times the voxel volume, in cubic centimetres."""
        return mm3_to_cm3(int(np.count_nonzero(self.array)) * self.voxel_volume_mm3)

    @property
    def centroid_mm(self) -> NDArray[np.float64]:
        """Mean LPS position of the voxels set; an empty mask raises :class:`InputError`."""
        if self.is_empty:
            raise InputError(
                what="An empty mask has no centroid.",
                why="No voxel of the mask is set.",
                fix="Check is_empty first.",
            )
        return self.index_to_mm(np.argwhere(self.array).mean(axis=0))

    def longest_diameter_mm(self) -> float:
        """Longest in-plane diameter over all slices, in millimetres; 0 for an empty mask.

        This is the target-lesion diameter of RECIST 1.1 (doi:10.1016/j.ejca.2008.10.026) for an axial
        acquisition: the greatest distance between two points of the outline within one slice, the outline
        running midway between voxels inside and outside.
        """
        from digital_twins.imaging._measure import longest_in_plane_mm

        return longest_in_plane_mm(self.array, self.affine)


def as_mask(volume: Volume, array: NDArray[Any], *, meaning: Code = NEOPLASM) -> Mask:
    """Return a mask on the grid of ``volume``, with its provenance."""
    known = {
        f.name: getattr(volume, f.name) for f in fields(Volume) if f.name not in ("array", "affine", "_")
    }
    return Mask(array, volume.affine, **known, meaning=meaning)
