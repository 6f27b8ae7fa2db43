"""From loose images and segmentations to a baseline and its follow-up visits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.imaging import masks_from_seg, volume_from_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydicom import Dataset

    from digital_twins.imaging import Mask, Volume

LESION_TYPE_CODES = frozenset({"108369006", "86049000", "4147007", "52988006"})
"""SNOMED CT property types that mean the lesion: neoplasm, primary neoplasm, mass, lesion."""

PREDICTED_PREFIX = "PREDICTED"
"""Start of SeriesDescription in every series that this software predicts; such series are never input."""

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
IMAGE_MODALITIES = frozenset({"CT", "MR"})
"""Modalities that can be the baseline image: they show anatomy, which the domain is derived from."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One outline of the lesion on its study date: a segment of ``seg``, resampled to the image's grid."""

    on: date
    mask: Mask
    seg: Dataset
    segment_number: int

    @property
    def at_utc(self) -> datetime:
        """Midnight UTC of the visit: a StudyDate names a day, not an instant."""
        return datetime(self.on.year, self.on.month, self.on.day, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Course:
    """The baseline image with its lesion and the later visits in the same frame of reference."""

    image: Volume
    image_datasets: tuple[Dataset, ...]
    baseline: Visit
    follow_ups: tuple[Visit, ...]
    notes: tuple[str, ...] = ()
    """What was left aside and why, for the report of the build."""


def split_images(instances: Iterable[Dataset]) -> tuple[list[Dataset], list[Dataset]]:
    """Sort instances into cross-sectional images and segmentations; anything else is left aside."""
    images: list[Dataset] = []
    segs: list[Dataset] = []
    for instance in instances:
        if str(instance.SOPClassUID) == SEGMENTATION_STORAGE:
            segs.append(instance)
        elif str(instance.get("Modality")) in IMAGE_MODALITIES:
            images.append(instance)
    return images, segs


def study_date(dataset: Dataset) -> date:
    """Return StudyDate (0008,0020) of an instance.

    Raises
    ------
    InputError
        The instance has no readable StudyDate, so it cannot be placed in time.
    """
    text = str(dataset.get("StudyDate") or "")
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise InputError(
            what="An image cannot be placed in time.",
            why="Its StudyDate (0008,0020) is missing or is not a date.",
            fix="Correct the study date at the source and send the study again.",
        ) from error


def course_from_datasets(images: Iterable[Dataset], segs: Sequence[Dataset]) -> Course:
    """Choose the baseline series and order the lesion outlines in time.

    The baseline is the earliest segmentation that lies in the frame of reference of an image series; the
    image series is the one that the segmentation references, else the largest one of that frame. Later
    segmentations in the same frame of reference are follow-up visits; the latest series of a day wins.

    Raises
    ------
    InputError
        No segmentation fits any image series, the first lies before it, or a segmentation holds no lesion
        that can be told apart.
    """
    by_series: dict[str, list[Dataset]] = {}
    for instance in images:
        by_series.setdefault(str(instance.SeriesInstanceUID), []).append(instance)
    dated = sorted(
        (seg for seg in segs if not str(seg.get("SeriesDescription", "")).startswith(PREDICTED_PREFIX)),
        key=lambda seg: (study_date(seg), str(seg.SeriesInstanceUID)),
    )
    fitting = ((seg, series) for seg in dated if (series := _image_series_of(seg, by_series)) is not None)
    found = next(fitting, None)
    if found is None:
        raise InputError(
            what="No tumour segmentation fits an image series.",
            why="A twin needs a DICOM SEG in the same frame of reference as a CT or MR series.",
            fix="Send the segmentation that belongs to the study (same FrameOfReferenceUID as its images).",
        )
    first, series = found
    frame = str(first.FrameOfReferenceUID)
    _refuse_outline_before_image(first, series)
    image = volume_from_series(series)
    inside = [seg for seg in dated if str(seg.get("FrameOfReferenceUID")) == frame]
    visits = {visit.on: visit for visit in (_visit(seg, image) for seg in inside)}
    baseline, *follow_ups = sorted(visits.values(), key=lambda visit: visit.on)
    notes: tuple[str, ...] = ()
    if len(inside) < len(dated):
        notes = (f"{len(dated) - len(inside)} segmentations in another frame of reference were left aside",)
    return Course(image, tuple(series), baseline, tuple(follow_ups), notes)


def _refuse_outline_before_image(first: Dataset, series: Sequence[Dataset]) -> None:
    if study_date(first) < study_date(series[0]):
        raise InputError(
            what="An outline of the tumour lies before the baseline.",
            why="Its study date is earlier than that of the image series whose frame of reference it shares.",
            fix="Correct the study date of the segmentation, or send the images of the earlier visit too.",
        )


def _visit(seg: Dataset, like: Volume) -> Visit:
    from digital_twins.imaging import load_mask

    segments = dict(zip(_segment_numbers(seg), masks_from_seg(seg), strict=True))
    coded = {n: mask for n, mask in segments.items() if mask.meaning.value in LESION_TYPE_CODES}
    lesions = coded or (segments if len(segments) == 1 else {})
    if len(lesions) != 1:
        raise InputError(
            what="The segmentation does not say which segment is the tumour.",
            why=f"It holds {len(segments)} segments, {len(lesions)} of them coded as a lesion.",
            fix="Send a SEG with exactly one segment whose property type is a neoplasm (PS3.16 CID 7151).",
        )
    ((number, lesion),) = lesions.items()
    return Visit(study_date(seg), load_mask(lesion, like=like), seg, number)


def _segment_numbers(seg: Dataset) -> list[int]:
    return sorted(int(segment.SegmentNumber) for segment in seg.SegmentSequence)


def _image_series_of(seg: Dataset, by_series: dict[str, list[Dataset]]) -> list[Dataset] | None:
    frame = str(seg.get("FrameOfReferenceUID") or "")
    same_frame = {
        u: s for u, s in by_series.items() if frame and str(s[0].get("FrameOfReferenceUID")) == frame
    }
    for reference in seg.get("ReferencedSeriesSequence") or []:
        if (found := same_frame.get(str(reference.SeriesInstanceUID))) is not None:
            return found
    return max(same_frame.values(), key=len, default=None)
