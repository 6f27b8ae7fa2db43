"""Masks into a DICOM Segmentation (PS3.3 section A.51), by highdicom."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from digital_twins import __version__
from digital_twins._errors import InputError
from digital_twins.imaging._files import to_highdicom
from digital_twins.imaging._resample import resample
from digital_twins.imaging._series import volume_from_series
from digital_twins.imaging._volume import Volume
from digital_twins.records import Code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from digital_twins.imaging._volume import Mask

_MORPHOLOGY = Code("49755003", "SCT", "Morphologically Abnormal Structure")


@dataclass(frozen=True, slots=True)
class SegDetails:
    """What a SEG says about itself beyond its voxels.

    Attributes
    ----------
    labels
        SegmentLabel of each mask; its meaning when left out.
    algorithm
        SegmentAlgorithmType (PS3.3 section C.8.20.2): who drew the outline.
    algorithm_name
        Name of the program when the algorithm is not MANUAL.
    series_uid, sop_uid
        UIDs to use; new ones when None. Same UIDs and ``created`` give the same object again.
    created
        Time of content, series and instance, timezone-aware; now when None.
    tracking_uid
        Tracking UID of each segment (the same lesion over visits); None leaves them out.
    """

    labels: tuple[str, ...] = ()
    algorithm: Literal["MANUAL", "SEMIAUTOMATIC", "AUTOMATIC"] = "AUTOMATIC"
    algorithm_name: str = "digital-twins"
    series_uid: str | None = None
    sop_uid: str | None = None
    created: datetime | None = None
    tracking_uid: tuple[str, ...] = ()
    content_label: str = "SEGMENTATION"
    content_description: str | None = None


def seg_from_masks(
    masks: Sequence[Mask],
    source_images: Sequence[Dataset],
    *,
    series_description: str,
    series_number: int,
    details: SegDetails | None = None,
    segmentation_type: Literal["BINARY", "LABELMAP"] = "BINARY",
) -> Dataset:
    """Return a Segmentation with one segment for each mask, in the study of the images.

    Masks on the grid of the images refer to them frame by frame; masks on another grid of the same frame of
    reference (a model's grid) keep that grid. All masks share one grid. Empty frames are left out.

    Parameters
    ----------
    masks
        At least one; an all-empty segmentation is refused.
    source_images
        Data sets of the one series that the masks belong to, or one multi-frame image.
    segmentation_type
        ``"LABELMAP"`` (Label Map Segmentation Storage, DICOM 2024d) holds each voxel once, which makes many
        segments small; its masks must not overlap, and older archives do not know it.

    Raises
    ------
    InputError
        No mask, empty masks, masks of several grids or of another frame of reference, overlapping masks in a
        label map.
    """
    images = images_in_order(source_images)
    pixels = stacked(masks, images, [mask.array.astype(np.uint8) for mask in masks])
    if segmentation_type == "LABELMAP":
        _refuse_overlap(masks)
    return build_seg(
        images,
        pixels,
        masks,
        details=details or SegDetails(),
        series=(series_number, series_description),
        kind={"segmentation_type": segmentation_type},
    )


def build_seg(
    images: Sequence[Dataset],
    pixels: Any,
    masks: Sequence[Mask],
    *,
    details: SegDetails,
    series: tuple[int, str],
    kind: Mapping[str, Any],
) -> Dataset:
    """Return the Segmentation of pixels that `stacked` made, of the kind that highdicom's words say."""
    import highdicom as hd

    number, description = series
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        **kind,
        segment_descriptions=[_description(n, mask, details) for n, mask in enumerate(masks, 1)],
        series_instance_uid=details.series_uid or hd.UID(),
        series_number=number,
        sop_instance_uid=details.sop_uid or hd.UID(),
        instance_number=1,
        manufacturer="digital-twins",
        manufacturer_model_name="digital-twins",
        software_versions=__version__,
        device_serial_number="0",
        content_label=details.content_label,
        content_description=details.content_description or description[:64],
        content_creator_name="digital-twins^",
        series_description=description[:64],
    )
    _detach(seg, images[0])
    if details.created is not None:
        set_times(seg, details.created)
    if details.sop_uid is not None:
        derive_dimension_uid(seg, details.sop_uid)
    result: Dataset = seg
    return result


def _refuse_overlap(masks: Sequence[Mask]) -> None:
    if int(np.sum([mask.array for mask in masks], axis=0).max()) > 1:
        raise InputError(
            what="The masks overlap.",
            why="A label map holds one segment for each voxel.",
            fix="Write them with segmentation_type='BINARY'.",
        )


def images_in_order(source_images: Sequence[Dataset]) -> list[Dataset]:
    """Sort the images as their volume is sorted, and mend an empty character set on copies."""
    volume = volume_from_series(source_images)
    by_uid = {str(d.SOPInstanceUID): d for d in source_images}
    images = [by_uid[uid] for uid in volume.source_uids]
    return [_with_character_set(d) for d in images]


def _with_character_set(dataset: Dataset) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset

    if "SpecificCharacterSet" in dataset and not dataset.get("SpecificCharacterSet"):
        mended = Dataset()
        mended.update(dataset)
        mended.file_meta = getattr(dataset, "file_meta", FileMetaDataset())
        del mended.SpecificCharacterSet  # the element is shared with the original
        mended.SpecificCharacterSet = "ISO_IR 100"
        return mended
    return dataset


def stacked(masks: Sequence[Mask], images: Sequence[Dataset], values: Sequence[NDArray[Any]]) -> Any:
    """Return the values of all segments on the grid of the images, or as highdicom's Volume on their own.

    Raises
    ------
    InputError
        No mask or only empty ones, masks of several grids or of another frame of reference.
    """
    if not masks or all(mask.is_empty for mask in masks):
        raise InputError(
            what="There is nothing to segment.",
            why="No mask was given, or all are empty; a DICOM SEG needs at least one frame.",
            fix="Report the absence of the lesion as a measurement (volume 0) instead.",
        )
    first = masks[0]
    if not all(mask.same_grid(first) for mask in masks[1:]):
        raise InputError(
            what="The masks lie on different grids.",
            why="One SEG holds segments of one grid.",
            fix="Resample them to the grid of the image first.",
        )
    source = volume_from_series(images)
    for mask in masks:
        if mask.frame_of_reference_uid not in (None, source.frame_of_reference_uid):
            raise InputError(
                what="A mask belongs to another frame of reference than the images.",
                why="Their coordinates have nothing to do with each other.",
                fix="Pass the images that the mask was drawn on, or register first.",
            )
    if first.same_grid(source):
        return np.stack(values, axis=-1)
    if first.is_sheared:
        return np.stack(
            [resample(Volume(v, first.affine), source, interpolation="nearest").array for v in values],
            axis=-1,
        )
    grid = to_highdicom(first)
    return type(grid)(
        np.stack(values, axis=-1),
        first.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.frame_of_reference_uid,
        channels={"SegmentNumber": list(range(1, len(masks) + 1))},
    )


def _description(number: int, mask: Mask, details: SegDetails) -> Any:
    import highdicom as hd
    from pydicom.sr.coding import Code as SrCode

    meaning = mask.meaning
    automatic = details.algorithm != "MANUAL"
    tracked = details.tracking_uid[number - 1] if len(details.tracking_uid) >= number else None
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=(details.labels[number - 1] if len(details.labels) >= number else meaning.meaning)[:64],
        segmented_property_category=SrCode(_MORPHOLOGY.value, _MORPHOLOGY.scheme, _MORPHOLOGY.meaning),
        segmented_property_type=SrCode(meaning.value, meaning.scheme, meaning.meaning),
        algorithm_type=details.algorithm,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=details.algorithm_name,
            family=SrCode("123109", "DCM", "Manual Processing")
            if details.algorithm == "SEMIAUTOMATIC"
            else SrCode("123110", "DCM", "Artificial Intelligence"),
            version=__version__,
        )
        if automatic
        else None,
        tracking_uid=tracked,
        tracking_id=f"Lesion {number}" if tracked else None,
    )


def _detach(seg: Dataset, image: Dataset) -> None:
    """Copy the elements that highdicom shares with the source: changing the SEG must not change the image."""
    for tag in list(seg.keys()):
        if tag in image and seg[tag] is image[tag]:
            seg[tag] = copy.deepcopy(seg[tag])


def set_times(seg: Dataset, created: datetime) -> None:
    """Write one time of creation everywhere."""
    day, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    for kind in ("Content", "Series", "InstanceCreation"):
        setattr(seg, f"{kind}Date", day)
        setattr(seg, f"{kind}Time", time)
    for equipment in seg.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = day + time


def derive_dimension_uid(seg: Dataset, sop_uid: str) -> None:
    """Replace the random Dimension Organization UID by one that follows from the instance's."""
    uid = f"2.25.{uuid5(NAMESPACE_OID, sop_uid + '.dimensions').int}"
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
