"""The step from a hospital's images and record to a calibrated twin, wherever the images came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.clinical_integration._identity import refuse_other_patients
from digital_twins.clinical_integration._twin import ClinicalTwin
from digital_twins.clinical_integration._visits import Course, course_from_datasets
from digital_twins.patient_modeling import TumorTwinPipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom import Dataset

    from digital_twins.records import PatientRecord

_MEASURES = {("29463-7", "kg"): "weight_kg", ("8302-2", "cm"): "height_cm"}
"""LOINC body weight and body height, in the UCUM units that doses per square metre need."""


def build_clinical_twin(
    record: PatientRecord,
    image_series: Sequence[Dataset],
    segs: Sequence[Dataset],
    *,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> ClinicalTwin:
    """Build and, where follow-up visits exist, calibrate the tumour twin of a patient.

    Parameters
    ----------
    record
        The patient's record; given treatments with a wall-clock start are placed on the twin's time axis.
    image_series
        CT or MR instances of one or more series.
    segs
        DICOM SEG instances; the earliest that fits an image series is the baseline.
    seed
        Seed of everything random in the build.
    progress
        Called with a fraction in 0..1 and a short text.

    Raises
    ------
    InputError
        Images and record belong to different patients, or the images cannot make a twin.
    """
    report = progress or (lambda _fraction, _text: None)
    refuse_other_patients(record, (*image_series, *segs))
    report(0.05, "reading images")
    course = course_from_datasets(image_series, segs)
    report(0.2, "building the twin")
    twin = TumorTwinPipeline(model_type="reaction_diffusion").create_twin(
        record.patient_id,
        {(course.image.modality or "image").lower(): course.image},
        course.baseline.mask,
        clinical_data=_clinical_data(record),
        baseline=course.baseline.at_utc,
        seed=seed,
    )
    if course.follow_ups:
        report(0.4, f"calibrating to {len(course.follow_ups)} follow-up visits")
        twin.calibrate(_scans(course), record.treatments_given, seed=seed)
    report(1.0, "twin ready")
    return ClinicalTwin(record=record, tumor=twin, course=course, notes=course.notes)


def _scans(course: Course) -> list[tuple[float, object]]:
    return [(float((visit.on - course.baseline.on).days), visit.mask) for visit in course.follow_ups]


def _clinical_data(record: PatientRecord) -> dict[str, object]:
    data: dict[str, object] = {
        "diagnosis": record.diagnosis,
        "stage": record.stage,
        "molecular_markers": dict(record.biomarkers),
    }
    for observation in record.observations:
        key = _MEASURES.get((observation.code.value, observation.unit or ""))
        if key is not None and isinstance(observation.value, float):
            data[key] = observation.value
    return data
