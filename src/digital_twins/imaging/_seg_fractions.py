"""Fractional segmentations (PS3.3 section C.8.20.2): probabilities or occupancies, in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_size
from digital_twins.imaging._planes import planes_of
from digital_twins.imaging._seg import frame_segments, refuse_no_seg, seg_grid, segment_meaning
from digital_twins.imaging._seg_write import SegDetails, build_seg, images_in_order, stacked
from digital_twins.imaging._series import acquired_utc, decode
from digital_twins.imaging._volume import Volume, as_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from digital_twins.records import Code

_LEVELS = 255


def fractions_from_seg(dataset: Dataset) -> list[tuple[Volume, Code]]:
    """Return the fraction (0 to 1, float32) and meaning of each segment of a FRACTIONAL segmentation.

    Raises
    ------
    InputError
        Not a fractional segmentation in patient coordinates, or frames that make no regular grid.
    """
    with foreign("DICOM Segmentation"):
        segments = refuse_no_seg(dataset, ("FRACTIONAL",))
        planes = planes_of(dataset)
        affine, slices = seg_grid(planes)
        shape = (int(slices.max()) + 1, int(dataset.Rows), int(dataset.Columns))
        refuse_size(shape)
        frames, numbers = decode(dataset), frame_segments(dataset)
        top = float(dataset.get("MaximumFractionalValue") or _LEVELS)
        found = []
        for segment in sorted(segments, key=lambda item: int(item.SegmentNumber)):
            array = np.zeros(shape, dtype=np.float32)
            mine = np.flatnonzero(numbers == int(segment.SegmentNumber))
            np.maximum.at(array, slices[mine], frames[mine].astype(np.float32) / np.float32(top))
            volume = Volume(
                array,
                affine,
                frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or "") or None,
                modality="SEG",
                acquired=acquired_utc(dataset),
                source_uids=(str(dataset.SOPInstanceUID),),
                patient_id=str(dataset.get("PatientID") or "") or None,
            )
            found.append((volume, segment_meaning(segment)))
        return found


def seg_from_fractions(
    fractions: Sequence[tuple[Volume, Code]],
    source_images: Sequence[Dataset],
    *,
    series_description: str,
    series_number: int,
    details: SegDetails | None = None,
    fractional_type: Literal["PROBABILITY", "OCCUPANCY"] = "PROBABILITY",
) -> Dataset:
    """Return a FRACTIONAL Segmentation with one segment for each volume of fractions.

    A fraction is stored in steps of 1/255.

    Parameters
    ----------
    fractions
        Values from 0 to 1 with the meaning of their segment, all on one grid: that of the images or another
        one of the same frame of reference.
    source_images
        As for `seg_from_masks`.
    fractional_type
        Whether a value is the probability that the voxel belongs to the segment, or the part of it that does.

    Raises
    ------
    InputError
        A value outside 0 to 1; otherwise as `seg_from_masks`.
    """
    for volume, _meaning in fractions:
        values = volume.array
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise InputError(
                what="The fractions cannot be written.",
                why="A fraction is a number from 0 to 1; some values are not.",
                fix="Divide by the largest possible value first.",
            )
    images = images_in_order(source_images)
    # Only grid, emptiness and meaning are read from these masks.
    masks = [as_mask(volume, volume.array > 0, meaning=meaning) for volume, meaning in fractions]
    pixels = stacked(masks, images, [np.asarray(v.array, dtype=np.float32) for v, _meaning in fractions])
    return build_seg(
        images,
        pixels,
        masks,
        details=details or SegDetails(),
        series=(series_number, series_description),
        kind={"segmentation_type": "FRACTIONAL", "fractional_type": fractional_type},
    )
