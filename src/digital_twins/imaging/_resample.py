"""From one grid to another: interpolation, and averages that conserve volume."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from scipy import ndimage

from digital_twins._errors import InputError
from digital_twins.imaging._checks import refuse_size
from digital_twins.imaging._volume import Mask, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
V = TypeVar("V", bound=Volume)


def refuse_other_frame(volume: Volume, like: Volume) -> None:
    """Refuse two volumes that state different frames of reference or patients."""
    for name, a, b in (
        ("frames of reference", volume.frame_of_reference_uid, like.frame_of_reference_uid),
        ("patients", volume.patient_id, like.patient_id),
    ):
        if a and b and a != b:
            raise InputError(
                what=f"The two volumes belong to different {name}.",
                why="Their coordinates have nothing to do with each other.",
                fix="Register one to the other, or use the mask that was drawn on this image.",
            )


def resample(
    volume: Volume,
    like: Volume,
    *,
    interpolation: Literal["linear", "nearest"] = "linear",
    outside: float | None = None,
) -> Volume:
    """Return ``volume`` on the grid of ``like``.

    Parameters
    ----------
    interpolation
        ``"linear"`` (trilinear, float32) or ``"nearest"`` (same type); a :class:`Mask` is always nearest.
    outside
        Value beyond the edge of ``volume`` (half a voxel outside the outer centres); its minimum if None,
        False for a mask.

    Raises
    ------
    InputError
        The volumes belong to different frames of reference or patients.
    """
    refuse_other_frame(volume, like)
    nearest = interpolation == "nearest" or isinstance(volume, Mask)
    if volume.same_grid(like):
        array = volume.array
    else:
        fill = 0.0 if isinstance(volume, Mask) else float(volume.array.min()) if outside is None else outside
        array = _interpolate(volume, like, order=0 if nearest else 1, fill=fill)
    frame = volume.frame_of_reference_uid or like.frame_of_reference_uid
    return replace(volume, array=array, affine=like.affine, frame_of_reference_uid=frame)


def _interpolate(volume: Volume, like: Volume, *, order: int, fill: float) -> NDArray[Any]:
    to_index = np.linalg.solve(volume.affine, like.affine)
    matrix, offset = to_index[:3, :3], to_index[:3, 3]
    source = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    dtype = source.dtype if order == 0 else np.dtype(np.float32)
    diagonal = np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-9
    result = ndimage.affine_transform(
        source,
        np.diag(matrix) if diagonal else matrix,
        offset,
        output_shape=like.shape,
        output=dtype,
        order=order,
        mode="nearest",
        prefilter=False,
    )
    rows, columns = np.arange(like.shape[1])[:, None], np.arange(like.shape[2])[None, :]
    for k in range(like.shape[0]):
        inside = np.ones(like.shape[1:], dtype=bool)
        for axis, size in enumerate(volume.shape):
            index = matrix[axis, 0] * k + matrix[axis, 1] * rows + matrix[axis, 2] * columns + offset[axis]
            inside &= (index >= -0.5 - 1e-6) & (index <= size - 0.5 + 1e-6)
        result[k][~inside] = fill
    return result.astype(bool) if volume.array.dtype == bool else np.asarray(result)


def coverage(volume: Volume, like: Volume) -> Volume:
    """Return the mean of ``volume`` over each voxel of ``like``, float64: for a mask, the fraction covered.

    The volume is conserved: the sum times the voxel volume is that of the input, wherever ``like`` reaches.
    Exact (overlap of boxes) when the axes of both grids are parallel; otherwise the mean over 4x4x4 points of
    each voxel.
    """
    refuse_other_frame(volume, like)
    to_index = np.linalg.solve(volume.affine, like.affine)
    matrix, offset = to_index[:3, :3], to_index[:3, 3]
    frame = volume.frame_of_reference_uid or like.frame_of_reference_uid
    size = np.diag(matrix)
    if np.abs(matrix - np.diag(size)).max() > 1e-6 * np.abs(matrix).max():
        array = _sampled_mean(volume, like)
    else:
        array = volume.array.astype(np.float64)
        for axis in range(3):
            weights = _overlap(volume.shape[axis], like.shape[axis], step=size[axis], start=offset[axis])
            array = np.moveaxis(np.tensordot(weights, array, axes=(1, axis)), 0, axis)
    return Volume(
        np.clip(array, 0.0, 1.0) if isinstance(volume, Mask) else array,
        like.affine,
        frame_of_reference_uid=frame,
        modality=volume.modality,
        acquired=volume.acquired,
        source_uids=volume.source_uids,
        patient_id=volume.patient_id,
    )


def _overlap(fine: int, coarse: int, *, step: float, start: float) -> NDArray[np.float64]:
    """Part of each coarse interval ``start + step (j +- 1/2)`` that lies in each fine ``i +- 1/2``."""
    centres = start + step * np.arange(coarse)[:, None]
    low, high = centres - abs(step) / 2, centres + abs(step) / 2
    cells = np.arange(fine)[None, :]
    return np.asarray(
        np.clip(np.minimum(high, cells + 0.5) - np.maximum(low, cells - 0.5), 0.0, None) / abs(step)
    )


def _sampled_mean(volume: Volume, like: Volume, points: int = 4) -> NDArray[np.float64]:
    total = np.zeros(like.shape)
    shifts = (np.arange(points) + 0.5) / points - 0.5
    for shift in np.stack(np.meshgrid(shifts, shifts, shifts, indexing="ij"), axis=-1).reshape(-1, 3):
        affine = like.affine.copy()
        affine[:3, 3] = like.index_to_mm(shift)
        total += _interpolate(volume, replace(like, affine=affine), order=0, fill=0.0)
    return total / points**3


def grid(volume: Volume, *, spacing_mm: float | tuple[float, float, float]) -> Volume:
    """Return an empty (uint8 zeros) volume over the same box and axes with other voxel sizes.

    The outer faces of the first voxel coincide; the last voxel along each axis may reach beyond.
    """
    wanted = np.broadcast_to(np.asarray(spacing_mm, dtype=float), 3)
    own = np.array(volume.spacing_mm)
    if not (wanted > 0).all():
        raise InputError(
            what="The voxel size of the grid is not positive.",
            why="Voxels need an extent.",
            fix="Pass millimetres greater than 0.",
        )
    shape = np.ceil(np.array(volume.shape) * own / wanted - 1e-6).astype(int)
    refuse_size(shape)
    scale = wanted / own
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * scale
    affine[:3, 3] = volume.index_to_mm((scale - 1) / 2)
    return Volume(
        np.zeros(shape, dtype=np.uint8),
        affine,
        frame_of_reference_uid=volume.frame_of_reference_uid,
        patient_id=volume.patient_id,
    )


def downsample(volume: Volume, *, spacing_mm: float | tuple[float, float, float]) -> Volume:
    """Return the volume averaged onto voxels of another size: for a mask the fraction covered, conserved."""
    return coverage(volume, grid(volume, spacing_mm=spacing_mm))


def bounding_box(mask: Mask, margin_mm: float = 0.0) -> Box:
    """Return the index box of the voxels set, grown by a margin and clipped to the grid.

    Raises
    ------
    InputError
        The mask is empty.
    """
    where = [np.flatnonzero(mask.array.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not where[0].size:
        raise InputError(
            what="An empty mask has no bounding box.",
            why="No voxel of the mask is set.",
            fix="Check is_empty first.",
        )
    grow = [int(np.ceil(margin_mm / spacing - 1e-9)) for spacing in mask.spacing_mm]
    a, b, c = (
        slice(max(0, int(w[0]) - g), min(n, int(w[-1]) + 1 + g))
        for w, g, n in zip(where, grow, mask.shape, strict=True)
    )
    return a, b, c


def crop(volume: V, box: Box) -> V:
    """Return the part of a volume inside an index box; every voxel keeps its place in the patient."""
    starts = [s.indices(n)[0] for s, n in zip(box, volume.shape, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] = volume.index_to_mm(np.array(starts))
    plain = tuple(slice(s.start, s.stop) for s in box)
    return replace(volume, array=np.ascontiguousarray(volume.array[plain]), affine=affine)
