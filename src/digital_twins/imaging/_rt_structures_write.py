"""Masks into an RT Structure Set (PS3.3 section A.19) on a referenced series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins import __version__
from digital_twins._errors import InputError
from digital_twins.imaging._polygons import outlines
from digital_twins.imaging._resample import refuse_other_frame, resample
from digital_twins.imaging._rt_objects import derived_object, item, referenced
from digital_twins.imaging._series import volume_from_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from digital_twins.imaging._volume import Mask, Volume

_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_PALETTE = ((230, 75, 53), (0, 114, 178), (0, 158, 115), (230, 159, 0), (204, 121, 167), (86, 180, 233))


@dataclass(frozen=True, slots=True)
class StructureDetails:
    """What an RTSTRUCT says about itself beyond its contours.

    Attributes
    ----------
    names
        ROI Name of each mask; its meaning when left out.
    interpreted_types
        RTROIInterpretedType of each, such as ``"GTV"``; ``""`` (allowed) when left out.
    colours
        Red, green, blue in 0..255 of each.
    algorithm
        ROIGenerationAlgorithm: ``AUTOMATIC``, ``SEMIAUTOMATIC`` or ``MANUAL``.
    label
        StructureSetLabel, at most 16 characters.
    series_uid, sop_uid, created
        UIDs and time (timezone-aware) to use; new ones when None. Same values, same object.
    """

    names: tuple[str, ...] = ()
    interpreted_types: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    algorithm: str = "AUTOMATIC"
    label: str = "TWIN"
    series_uid: str | None = None
    sop_uid: str | None = None
    created: datetime | None = None


def structures_from_masks(
    masks: Sequence[Mask],
    source_images: Sequence[Dataset],
    *,
    series_description: str,
    series_number: int,
    details: StructureDetails | None = None,
) -> Dataset:
    """Return an RT Structure Set with one structure for each mask, in the study of the images.

    Contours run along the edges of the image's pixels, so they enclose exactly the voxels that are set;
    holes are joined to their outline by keyholes. A mask on another grid of the same frame of reference is
    brought to the images by nearest neighbour. An empty mask becomes a structure without contours.

    Parameters
    ----------
    masks
        At least one with a voxel set.
    source_images
        Data sets of the series to draw on, one frame each.

    Raises
    ------
    InputError
        No mask, all masks empty, another frame of reference or patient, or a multi-frame series.
    """
    details = details or StructureDetails()
    if any(int(d.get("NumberOfFrames") or 1) > 1 for d in source_images):
        raise InputError(
            what="The series is multi-frame.",
            why="Contours of this version refer to images of one frame each.",
            fix="Pass the single-frame series, or write a segmentation (seg_from_masks).",
        )
    series = volume_from_series(source_images)
    placed = [_placed(mask, series) for mask in masks]
    if not placed or all(mask.is_empty for mask in placed):
        raise InputError(
            what="There is nothing to outline.",
            why="No mask was given, or all are empty on the images.",
            fix="Report the absence of the lesion as a measurement (volume 0) instead.",
        )
    by_uid = {str(d.SOPInstanceUID): d for d in source_images}
    images = [by_uid[uid] for uid in series.source_uids]
    created = details.created or datetime.now(tz=UTC)
    dataset = derived_object(
        images[0],
        sop_class=_CLASS,
        modality="RTSTRUCT",
        uids=(details.series_uid, details.sop_uid),
        created=created,
    )
    dataset.SeriesDescription = series_description[:64]
    dataset.SeriesNumber = series_number
    dataset.OperatorsName = ""
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.StructureSetLabel = details.label[:16]
    dataset.StructureSetDate = created.strftime("%Y%m%d")
    dataset.StructureSetTime = created.strftime("%H%M%S")
    frame = str(images[0].FrameOfReferenceUID)
    dataset.FrameOfReferenceUID = frame
    dataset.PositionReferenceIndicator = images[0].get("PositionReferenceIndicator") or ""
    dataset.ReferencedFrameOfReferenceSequence = [_frame(images, frame)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    for number, mask in enumerate(placed, 1):
        _add(dataset, mask, images, (number, frame, details))
    return dataset


def _placed(mask: Mask, series: Volume) -> Any:
    refuse_other_frame(mask, series)
    return resample(mask, series, interpolation="nearest")


def _frame(images: Sequence[Dataset], frame_uid: str) -> Dataset:
    series = item(
        SeriesInstanceUID=str(images[0].SeriesInstanceUID),
        ContourImageSequence=[referenced(image) for image in images],
    )
    study = item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=str(images[0].StudyInstanceUID),
        RTReferencedSeriesSequence=[series],
    )
    return item(FrameOfReferenceUID=frame_uid, RTReferencedStudySequence=[study])


def _add(
    dataset: Dataset, mask: Mask, images: Sequence[Dataset], about: tuple[int, str, StructureDetails]
) -> None:
    number, frame, details = about
    index = number - 1
    name = details.names[index] if index < len(details.names) else mask.meaning.meaning
    colours = details.colours or _PALETTE
    dataset.StructureSetROISequence.append(
        item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=frame,
            ROIName=name[:64],
            ROIGenerationAlgorithm=details.algorithm,
            ROIGenerationDescription=f"digital-twins {__version__}",
        )
    )
    dataset.ROIContourSequence.append(
        item(
            ROIDisplayColor=list(colours[index % len(colours)]),
            ReferencedROINumber=number,
            **({} if mask.is_empty else {"ContourSequence": _contours(mask, images)}),
        )
    )
    code = item(
        CodeValue=mask.meaning.value,
        CodingSchemeDesignator=mask.meaning.scheme,
        CodeMeaning=mask.meaning.meaning[:64],
    )
    kinds = details.interpreted_types
    dataset.RTROIObservationsSequence.append(
        item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            ROIObservationLabel=name[:16],
            RTROIIdentificationCodeSequence=[code],
            RTROIInterpretedType=kinds[index] if index < len(kinds) else "",
            ROIInterpreter="",
        )
    )


def _contours(mask: Mask, images: Sequence[Dataset]) -> list[Dataset]:
    contours = []
    for k in np.flatnonzero(mask.array.any(axis=(1, 2))).tolist():
        for outline in outlines(mask.array[k]):
            index = np.concatenate([np.full((len(outline), 1), float(k)), outline], axis=1)
            contours.append(
                item(
                    ContourImageSequence=[referenced(images[k])],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(outline),
                    ContourData=_decimal(mask.index_to_mm(index)),
                )
            )
    return contours


def _decimal(points: NDArray[np.float64]) -> list[str]:
    """Coordinates as decimal strings of a hundred-thousandth of a millimetre: at most 16 characters."""
    return [f"{value:.5f}".rstrip("0").rstrip(".") for value in points.ravel().tolist()]
