"""Measurements, estimates and predictions of a twin as a DICOM SR: TID 1500 (PS3.16).

The document is a Comprehensive 3D SR. Measured values stand in a volumetric ROI group (TID 1411) that
refers to the segment; what a model estimated or predicted stands in groups of its own (TID 1501) that say
so in their tracking identifier, in a coded status, and by carrying private codes only.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import highdicom as hd

from digital_twins._errors import InputError
from digital_twins.dicom._documents import (
    DocumentIdentity,
    Software,
    as_utf8,
    identify_coding_scheme,
    same_study,
    stamp,
)
from digital_twins.dicom._twin_codes import INTERVAL_LEVEL, limit_code, unit_code
from digital_twins.records import NEOPLASM, Code, Quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from digital_twins.imaging import KeyRegion

PROCEDURE_REPORTED = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "PT": Code("82918005", "SCT", "Positron emission tomography"),
}
"""Procedure Reported by modality (CID 100); any other is "Imaging procedure"."""

_AnyGroup = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)
_AREA = Code("42798000", "SCT", "Area")
_VARIES_BY_SLICE = ("110901", "110902", "110903")
"""Image Position (Patient) X, Y, Z: not shared by the images of a series."""

_IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


@dataclass(frozen=True, slots=True)
class SegmentReference:
    """A segment of a stored Segmentation object: what the measured region is."""

    segmentation: Dataset
    segment_number: int = 1


@dataclass(frozen=True, slots=True)
class MeasurementGroup:
    """One group of numbers about one finding.

    Attributes
    ----------
    label
        Tracking Identifier: readable, e.g. ``"Lesion 1"`` or ``"PREDICTED day 90, NOT ACQUIRED: option"``.
    tracking_uid
        Tracking Unique Identifier; the same lesion keeps it from report to report.
    quantities
        Concept and number; limits of an interval are written as numbers of their own.
    evaluations
        Concept and coded value.
    segment
        The measured region; None makes a group without region (TID 1501).
    region
        Outline on one image, so that a viewer has a place to show the group at. Beside a segment it makes a
        planar ROI group of the same tracking UID (TID 1410); without one the first number is inferred from it
        (TID 320).
    """

    label: str
    tracking_uid: str
    quantities: tuple[tuple[Code, Quantity], ...]
    evaluations: tuple[tuple[Code, Code], ...] = ()
    segment: SegmentReference | None = None
    finding: Code = NEOPLASM
    region: KeyRegion | None = None


def measurement_report(
    evidence: Sequence[Dataset],
    groups: Sequence[MeasurementGroup],
    *,
    identity: DocumentIdentity,
    software: Software,
    algorithm_parameters: Sequence[str] = (),
) -> hd.sr.Comprehensive3DSR:
    """Make the TID 1500 report; it is PRELIMINARY and UNVERIFIED until a person signs.

    Parameters
    ----------
    evidence
        Source images of one study (headers suffice); they fill the image library.
    groups
        Measured groups first, then estimates and predictions.
    identity, software
        UIDs and times, and the algorithm that made the numbers (name and version).
    algorithm_parameters
        Lines such as ``"model=reaction_diffusion"`` for Algorithm Parameters (TID 4019).

    Returns
    -------
    highdicom.sr.Comprehensive3DSR
        Comprehensive 3D SR dataset, ready to be written or sent.

    Raises
    ------
    InputError
        No images or no groups were given.
    ConflictError
        The images, or a segmentation, are of different patients or studies.
    """
    if not groups:
        raise InputError(
            "A measurement report needs measurements.",
            "No measurement group was given.",
            "Pass at least one MeasurementGroup.",
        )
    segmentations = {
        str(g.segment.segmentation.SOPInstanceUID): g.segment.segmentation for g in groups if g.segment
    }
    first = same_study([*evidence, *segmentations.values()])
    images = as_utf8(evidence)
    algorithm = hd.sr.AlgorithmIdentification(
        name=software.name, version=software.version, parameters=list(algorithm_parameters) or None
    )
    content = hd.sr.MeasurementReport(
        observation_context=_observer(identity, software),
        procedure_reported=_concept(PROCEDURE_REPORTED.get(first.Modality, _IMAGING_PROCEDURE)),
        imaging_measurements=[made for group in groups for made in _groups(group, images, algorithm)],
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(
            hd.sr.CodedConcept("en-US", "RFC5646", "English (United States)")
        ),
    )
    # after language, observer and procedure, before the measurements (TID 1500 row order)
    content[0].ContentSequence.insert(-1, _image_library(images))
    report = hd.sr.Comprehensive3DSR(
        evidence=[*images, *as_utf8(segmentations.values())],
        content=content[0],
        series_instance_uid=identity.series_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.sop_uid,
        instance_number=identity.instance_number,
        manufacturer=software.manufacturer,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    stamp(report, identity, software)
    identify_coding_scheme(report)
    return report


def _observer(identity: DocumentIdentity, software: Software) -> hd.sr.ObservationContext:
    """Return the observing device (TID 1004); the program's name gives it a constant UID."""
    number = uuid.uuid5(uuid.NAMESPACE_OID, f"{software.name} {software.version}").int
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
            observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                uid=f"2.25.{number}",
                name=software.name,
                manufacturer_name=software.manufacturer,
                model_name=f"{software.name} {software.version}",
            ),
        )
    )


def _image_library(images: Sequence[Dataset]) -> hd.sr.ContainerContentItem:
    """Return the image library (TID 1600), one group per series with what its images share (TID 1602).

    highdicom's own writes every descriptor for every image: twenty items an image, and seconds for a series.
    """
    library = _container(Code("111028", "DCM", "Image Library"))
    series: dict[str, list[Dataset]] = {}
    for image in images:
        series.setdefault(str(image.SeriesInstanceUID), []).append(image)
    for members in series.values():
        group = _container(Code("126200", "DCM", "Image Library Group"))
        group.ContentSequence.extend(
            item
            for item in hd.sr.ImageLibraryEntryDescriptors(members[0])
            if item.name.value not in _VARIES_BY_SLICE
        )
        for image in members:
            group.ContentSequence.append(
                hd.sr.ImageContentItem(
                    name=_concept(Code("260753009", "SCT", "Source")),
                    referenced_sop_class_uid=image.SOPClassUID,
                    referenced_sop_instance_uid=image.SOPInstanceUID,
                    relationship_type="CONTAINS",
                )
            )
        library.ContentSequence.append(group)
    return library


def _container(name: Code) -> hd.sr.ContainerContentItem:
    item = hd.sr.ContainerContentItem(name=_concept(name), relationship_type="CONTAINS")
    item.ContentSequence = hd.sr.ContentSequence()
    return item


def _groups(
    group: MeasurementGroup,
    images: Sequence[Dataset],
    algorithm: hd.sr.AlgorithmIdentification,
) -> list[_AnyGroup]:
    identity: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=group.tracking_uid, identifier=group.label),
        "finding_type": _concept(group.finding),
        "algorithm_id": algorithm,
    }
    inferred_from = group.region if group.segment is None else None
    common = identity | {
        "measurements": [
            measurement
            for number, (name, q) in enumerate(group.quantities)
            for measurement in _measurements(name, q, None if number else inferred_from)
        ],
        "qualitative_evaluations": [
            hd.sr.QualitativeEvaluation(name=_concept(name), value=_concept(value))
            for name, value in group.evaluations
        ]
        or None,
    }
    if group.segment is None:
        return [hd.sr.MeasurementsAndQualitativeEvaluations(**common)]
    segmentation = group.segment.segmentation
    # built by hand: ReferencedSegment.from_segmentation fails on a SEG with a background frame item
    reference = hd.sr.ReferencedSegment(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=group.segment.segment_number,
        source_series=hd.sr.SourceSeriesForSegmentation(images[0].SeriesInstanceUID),
    )
    volumetric = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=reference, **common
    )
    if group.region is None:
        return [volumetric]
    area = Quantity(group.region.area_mm2, "mm2")
    planar = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=hd.sr.ImageRegion(**_outline(group.region)),
        measurements=_measurements(_AREA, area, None),
        **identity,
    )
    return [volumetric, planar]


def _measurements(name: Code, quantity: Quantity, region: KeyRegion | None) -> list[hd.sr.Measurement]:
    """Return the number and, when it has an interval, both limits and the level."""
    unit = _concept(unit_code(quantity.unit))
    found = [
        hd.sr.Measurement(
            name=_concept(name),
            value=_decimal(quantity.value),
            unit=unit,
            referenced_coordinates=(
                None if region is None else [hd.sr.CoordinatesForMeasurement(**_outline(region))]
            ),
        )
    ]
    if quantity.low is None or quantity.high is None:
        return found
    for side, limit in (("lower", quantity.low), ("upper", quantity.high)):
        found.append(
            hd.sr.Measurement(name=_concept(limit_code(name, side)), value=_decimal(limit), unit=unit)
        )
    percent = _concept(unit_code("%"))
    found.append(
        hd.sr.Measurement(name=_concept(INTERVAL_LEVEL), value=_decimal(100.0 * quantity.level), unit=percent)
    )
    return found


def _outline(region: KeyRegion) -> dict[str, Any]:
    return {
        "graphic_type": "POLYLINE",
        "graphic_data": region.points_px,
        "source_image": hd.sr.SourceImageForRegion(region.image.SOPClassUID, region.image.SOPInstanceUID),
    }


def _decimal(value: float) -> float:
    """Round to nine digits: a Decimal String holds 16 characters (PS3.5 table 6.2-1)."""
    return float(f"{value:.9g}")


def _concept(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)
