"""DICOM Segmentation objects into masks (PS3.3 section A.51): binary, fractional and label map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_size
from digital_twins.imaging._dicom_files import required
from digital_twins.imaging._planes import (
    SPACING_TOLERANCE,
    Plane,
    affine_of,
    lone_step,
    planes_of,
    projections,
)
from digital_twins.imaging._series import acquired_utc, decode
from digital_twins.imaging._volume import Mask
from digital_twins.records import NEOPLASM, Code

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


def masks_from_seg(
    dataset: Dataset, *, threshold: float = 0.5, segment_numbers: Collection[int] | None = None
) -> list[Mask]:
    """Return one mask for each segment of a DICOM Segmentation, in order of segment number.

    Frames left out because they are empty come back as empty slices; overlapping segments stay apart.

    Parameters
    ----------
    threshold
        A voxel of a FRACTIONAL segmentation belongs to the segment from this fraction on.
    segment_numbers
        Make only these masks: a segmentation of a hundred organs is large.

    Raises
    ------
    InputError
        Not a segmentation in patient coordinates, no segment, or frames that make no regular grid.
    """
    with foreign("DICOM Segmentation"):
        return _masks(dataset, threshold, segment_numbers)


def refuse_no_seg(dataset: Dataset, kinds: Collection[str]) -> Sequence[Dataset]:
    """Return the segments of a segmentation of one of these types; raises InputError for anything else."""
    kind = str(dataset.get("SegmentationType") or "")
    segments: Sequence[Dataset] = dataset.get("SegmentSequence") or []
    if str(dataset.get("Modality")) != "SEG" or kind not in kinds or not segments:
        raise InputError(
            what=f"The object is not a DICOM Segmentation ({', '.join(kinds)}) with segments.",
            why="Modality, SegmentationType or SegmentSequence say otherwise.",
            fix="Pass a SEG object; use load_volume for images.",
        )
    return segments


def _masks(dataset: Dataset, threshold: float, wanted: Collection[int] | None) -> list[Mask]:
    segments = refuse_no_seg(dataset, ("BINARY", "FRACTIONAL", "LABELMAP"))
    kind = str(dataset.SegmentationType)
    planes = planes_of(dataset)
    affine, slices = seg_grid(planes)
    shape = (int(slices.max()) + 1, int(dataset.Rows), int(dataset.Columns))
    refuse_size(shape)
    frames = decode(dataset)
    if len(frames) != len(planes):
        raise InputError(
            what="The segmentation does not describe each of its frames.",
            why="NumberOfFrames and the functional groups disagree.",
            fix="Export the segmentation again.",
        )
    limit = threshold * float(dataset.get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else 0.5
    numbers = None if kind == "LABELMAP" else frame_segments(dataset)
    masks = []
    for segment in sorted(segments, key=lambda item: int(item.SegmentNumber)):
        number = int(segment.SegmentNumber)
        if number == 0 or (wanted is not None and number not in wanted):
            continue
        array = np.zeros(shape, dtype=bool)
        if numbers is None:
            np.logical_or.at(array, slices, frames == number)
        else:
            mine = np.flatnonzero(numbers == number)
            np.logical_or.at(array, slices[mine], frames[mine] >= limit)
        masks.append(_mask(dataset, segment, array, affine))
    return masks


def seg_grid(planes: Sequence[Plane]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the affine that holds all planes, and the slice of each; planes may coincide or be missing."""
    where = projections(planes)
    first, last = planes[int(where.argmin())], planes[int(where.argmax())]
    distances = where - where.min()
    length = float(distances.max())
    if length < 1e-3:
        return affine_of(first, lone_step(first)), np.zeros(len(planes), dtype=np.intp)
    gaps = np.diff(np.sort(distances))
    smallest = float(gaps[gaps > 1e-3].min())
    for spacing in (first.between_mm, smallest):
        if spacing is None or spacing > smallest * (1 + SPACING_TOLERANCE):
            continue
        count = max(1, round(length / spacing))
        slices = np.round(distances * count / length)
        if np.abs(distances - slices * length / count).max() <= SPACING_TOLERANCE * spacing * max(
            1, count**0.5
        ):
            return affine_of(first, (last.position - first.position) / count), slices.astype(np.intp)
    raise InputError(
        what="The frames of the segmentation are not evenly spaced.",
        why=f"The smallest gap is {smallest:.3f} mm and not every gap is a multiple of it.",
        fix="Segment an evenly spaced series, or export the segmentation as NIfTI on an even grid.",
    )


def frame_segments(dataset: Dataset) -> NDArray[np.intp]:
    """Return the segment number of each frame."""
    shared: Any = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    numbers = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        item = frame.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        numbers.append(int(required(item[0], "ReferencedSegmentNumber")) if item else 1)
    return np.array(numbers, dtype=np.intp)


def _mask(dataset: Dataset, segment: Dataset, array: NDArray[Any], affine: NDArray[np.float64]) -> Mask:
    return Mask(
        array,
        affine,
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or "") or None,
        modality="SEG",
        acquired=acquired_utc(dataset),
        source_uids=(str(dataset.SOPInstanceUID),),
        patient_id=str(dataset.get("PatientID") or "") or None,
        meaning=segment_meaning(segment),
    )


def segment_meaning(segment: Dataset) -> Code:
    """Return what a segment shows; a neoplasm when it does not say."""
    sequence = segment.get("SegmentedPropertyTypeCodeSequence")
    if not sequence:
        return NEOPLASM
    code = sequence[0]
    return Code(
        str(code.get("CodeValue") or code.get("LongCodeValue") or ""),
        str(code.get("CodingSchemeDesignator") or ""),
        str(code.get("CodeMeaning") or ""),
    )


def segment_names(dataset: Dataset) -> dict[int, str]:
    """Return segment number to label, without the background of a label map."""
    return {
        int(item.SegmentNumber): str(item.get("SegmentLabel") or "")
        for item in dataset.SegmentSequence
        if int(item.SegmentNumber) > 0
    }
