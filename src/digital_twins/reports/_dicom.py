"""The report as DICOM: TID 1500 SR, predicted tumour as SEG, and the PDF encapsulated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from digital_twins import dicom
from digital_twins._errors import InputError
from digital_twins.dicom import DocumentIdentity, MeasurementGroup, SegmentReference, Software
from digital_twins.records import Quantity
from digital_twins.reports._model import PRELIMINARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from digital_twins.imaging import Mask, SegDetails, Volume
    from digital_twins.reports._model import OptionSummary, TwinReport

_SR_SERIES, _PDF_SERIES, _SEG_SERIES = 9901, 9902, 9910


def predicted_name(day: float) -> str:
    """Return the name that every prediction carries: ``"PREDICTED day 90, NOT ACQUIRED"``."""
    return f"PREDICTED day {day:g}, NOT ACQUIRED"


def render_sr(
    report: TwinReport,
    evidence: Sequence[Dataset],
    *,
    segmentation: Dataset | None = None,
    segment_number: int = 1,
) -> Dataset:
    """Return the TID 1500 SR: the measured lesion, the model's estimates, one group per prediction.

    Each group names a baseline outline, because viewers show a group at its outline only: the first one that
    on the image that shows most of it, the others those on further images, so that no text covers another.

    Parameters
    ----------
    report
        What to say.
    evidence
        Datasets of the source images, one study.
    segmentation, segment_number
        Stored SEG of the measured lesion, of the same study; without one the measured group has no region.

    Returns
    -------
    Dataset
        PRELIMINARY, UNVERIFIED Comprehensive 3D SR with deterministic UIDs.

    Raises
    ------
    InputError, ConflictError
        As :func:`digital_twins.dicom.measurement_report`.
    """
    from digital_twins.imaging import key_regions

    twin = report.twin
    measured = [(dicom.VOLUME, twin.volume)]
    if twin.longest_diameter is not None:
        measured.append((dicom.LONGEST_DIAMETER, twin.longest_diameter))
    estimates = [(dicom.GROWTH_RATE, twin.growth_rate)]
    if twin.current_volume is not None:
        estimates.append((dicom.MODELLED_VOLUME, twin.current_volume))
        estimates.append((dicom.MODELLED_DAY, Quantity(twin.current_day, "d")))
    segment = SegmentReference(segmentation, segment_number) if segmentation is not None else None
    groups = [
        MeasurementGroup("Lesion 1", report.tracking_uid, tuple(measured), segment=segment),
        MeasurementGroup(
            "MODEL ESTIMATE: tumour growth",
            report.uid_of("tracking/growth"),
            tuple(estimates),
            ((dicom.DATA_STATUS, dicom.MODEL_ESTIMATE),),
        ),
        *(_prediction(report, number, option) for number, option in enumerate(report.options)),
    ]
    regions = [] if twin.lesion is None else key_regions(twin.lesion, evidence, count=len(groups))
    parameters = [
        f"model={twin.model}",
        f"twin={twin.twin_id}",
        f"twin_version={twin.version}",
        f"seed={twin.seed}",
    ]
    return dicom.measurement_report(
        evidence,
        [replace(group, region=regions[n % len(regions)]) for n, group in enumerate(groups)]
        if regions
        else groups,
        identity=_identity(report, "sr", number=_SR_SERIES, description="Digital twin analysis, PRELIMINARY"),
        software=_software(report),
        algorithm_parameters=parameters,
    )


def render_encapsulated_pdf(report: TwinReport, pdf: bytes, sources: Sequence[Dataset]) -> Dataset:
    """Return the PDF as an Encapsulated PDF object of the study (PS3.3 A.45.1).

    Parameters
    ----------
    report, pdf
        The report and its :func:`render_pdf` rendering.
    sources
        Instances that it was made from, of one study: images, and the SR and SEG if wanted.
    """
    return dicom.encapsulate_pdf(
        pdf,
        sources,
        title=f"Digital twin report, {PRELIMINARY}",
        identity=_identity(report, "pdf", number=_PDF_SERIES, description="Digital twin report, PRELIMINARY"),
        software=_software(report),
    )


def predicted_days(report: TwinReport) -> tuple[float, ...]:
    """Return the days for which some option holds a predicted, non-empty mask, in order."""
    return tuple(sorted({day for o in report.options for day, mask in o.predicted if mask.array.any()}))


def render_seg(report: TwinReport, source_images: Sequence[Dataset], *, day: float) -> Dataset:
    """Return the predicted tumour of one day as a SEG in a series of its own, one segment per option.

    The masks are resampled to the grid of the images, so that a viewer overlays them. The encoding follows
    IHE AI Results (segmentation root results): algorithm type AUTOMATIC, algorithm identification,
    references to the source images; nothing of it can be read as an acquisition.

    Parameters
    ----------
    report
        What to say.
    source_images
        The series that the twin was built from.
    day
        One of :func:`predicted_days`.

    Raises
    ------
    InputError
        No option predicts tumour on that day.
    """
    from digital_twins.imaging import seg_from_masks
    from digital_twins.reports._masks import place

    grid = _grid(report, source_images)
    masks: list[Mask] = []
    labels: list[str] = []
    for option in report.options:
        for mask_day, mask in option.predicted:
            if mask_day == day and mask.array.any():
                placed = place(mask, grid)
                if placed.array.any():
                    masks.append(placed)
                    labels.append(f"PREDICTED: {option.label}"[:64])
    if not masks:
        raise InputError(
            "There is no predicted tumour to write as a segmentation.",
            f"No option holds a mask with voxels in the image on day {day:g}.",
            "Choose one of reports.predicted_days(report).",
        )
    images, masks = _touched(list(source_images), masks)
    return seg_from_masks(
        masks,
        images,
        series_description=predicted_name(day),
        series_number=_SEG_SERIES + list(predicted_days(report)).index(day),
        details=_seg_details(report, day, labels),
    )


def _grid(report: TwinReport, source_images: Sequence[Dataset]) -> Volume:
    """Return the volume of the images; the twin's own when it was read from just these, undecoded."""
    from digital_twins.imaging import volume_from_series

    image = report.twin.image
    if image is not None and set(image.source_uids) == {str(d.SOPInstanceUID) for d in source_images}:
        first = source_images[0]
        if image.shape == (len(source_images), first.Rows, first.Columns):  # not a part of the images
            return image
    return volume_from_series(list(source_images))


def _touched(source_images: list[Dataset], masks: list[Mask]) -> tuple[list[Dataset], list[Mask]]:
    """Return the slices around the masks only: a SEG refers to, and decodes, no more of the series."""
    from digital_twins.imaging import crop

    slices = masks[0].shape[0]
    uids = masks[0].source_uids
    if len(source_images) != slices or len(uids) != slices:
        return source_images, masks  # a multi-frame image cannot be divided
    used = [i for i in range(slices) if any(mask.array[i].any() for mask in masks)]
    first, last = max(0, used[0] - 1), min(slices, used[-1] + 2)
    by_uid = {str(d.SOPInstanceUID): d for d in source_images}
    box = (slice(first, last), slice(0, masks[0].shape[1]), slice(0, masks[0].shape[2]))
    return [by_uid[uid] for uid in uids[first:last]], [crop(mask, box) for mask in masks]


def _seg_details(report: TwinReport, day: float, labels: Sequence[str]) -> SegDetails:
    from digital_twins.imaging import SegDetails

    return SegDetails(
        labels=tuple(labels),
        algorithm="AUTOMATIC",
        algorithm_name=report.software_name,
        series_uid=report.uid_of(f"seg/{day:g}/series"),
        sop_uid=report.uid_of(f"seg/{day:g}"),
        created=report.created,
        content_label="PREDICTED",
        content_description=predicted_name(day),
    )


def _prediction(report: TwinReport, number: int, option: OptionSummary) -> MeasurementGroup:
    return MeasurementGroup(
        f"{predicted_name(option.horizon_days)}: {option.label}",
        report.uid_of(f"tracking/prediction/{number}"),
        (
            (dicom.PREDICTION_DAY, Quantity(option.horizon_days, "d")),
            (dicom.PREDICTED_VOLUME, option.volume),
            (dicom.PREDICTED_CHANGE, option.change),
        ),
        (
            (dicom.DATA_STATUS, dicom.NOT_ACQUIRED),
            (dicom.PREDICTED_RESPONSE, dicom.response_code(option.category)),
        ),
    )


def _identity(report: TwinReport, kind: str, *, number: int, description: str) -> DocumentIdentity:
    return DocumentIdentity(
        series_uid=report.uid_of(f"{kind}/series"),
        sop_uid=report.uid_of(kind),
        created=report.created,
        series_number=number,
        series_description=description,
    )


def _software(report: TwinReport) -> Software:
    return Software(report.software_name, report.software_version)
