"""From a twin and its responses to the report that every document says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import digital_twins
from digital_twins.records import Quantity
from digital_twins.reports import (
    OptionSummary,
    ParameterSummary,
    StudyReference,
    TwinReport,
    TwinSummary,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pydicom import Dataset

    from digital_twins.calibration import Estimate
    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.plotting import VolumePoint
    from digital_twins.records import PatientRecord
    from digital_twins.treatment_simulation import Response

MODEL = "reaction_diffusion"
CRITERIA = {"recist_1_1": "RECIST 1.1", "rano": "RANO"}


def twin_report(
    record: PatientRecord,
    twin: PatientTwin,
    responses: Sequence[Response],
    *,
    observed: Sequence[VolumePoint],
    baseline_image: Dataset,
    created: datetime,
) -> TwinReport:
    """Return the report of a twin version and its predictions.

    Parameters
    ----------
    observed
        Baseline and follow-up volumes, simulated ones marked.
    baseline_image
        An instance of the baseline series: it names the study.
    created
        When the report was asked for, timezone-aware; the same job always gives the same documents.
    """
    lesion = twin.lesion
    summary = TwinSummary(
        twin_id=twin.twin_id,
        version=twin.version,
        model=MODEL,
        volume=_quantity(twin.current_volume),
        growth_rate=_quantity(twin.parameters["proliferation_per_day"]),
        longest_diameter=Quantity(lesion.longest_diameter_mm(), "mm"),
        parameters=tuple(
            ParameterSummary(name, _quantity(e), e.fixed, e.source) for name, e in twin.parameters.items()
        ),
        observed=tuple(observed),
        inputs=dict(twin.provenance.inputs),
        baseline=twin.baseline,
        image=twin.image,
        lesion=lesion,
        seed=twin.provenance.seed,
    )
    return TwinReport(
        record=record,
        twin=summary,
        options=tuple(_option(response) for response in responses),
        study=_study(baseline_image),
        created=created,
        software_version=digital_twins.__version__,
    )


def _quantity(estimate: Estimate) -> Quantity:
    known = not estimate.fixed
    return Quantity(
        estimate.value, estimate.unit, estimate.low if known else None, estimate.high if known else None
    )


def _option(response: Response) -> OptionSummary:
    from digital_twins.plotting import Curve

    p = response.prediction
    last_day = float(p.days[-1])
    change = Quantity(
        response.volume_change_percent,
        "%",
        response.volume_change_low,
        response.volume_change_high,
        response.interval,
    )
    return OptionSummary(
        label=response.label,
        curve=Curve(response.label, p.days, p.volume_cm3, p.low_cm3, p.high_cm3),
        change=change,
        category=response.response_category.value,
        criteria=CRITERIA[response.criteria],
        probabilities={c.value: share for c, share in response.category_probabilities.items()},
        input_hash=p.input_hash,
        predicted=((last_day, p.mask_at(last_day)),),
    )


def _study(image: Dataset) -> StudyReference:
    return StudyReference(
        study_uid=str(image.StudyInstanceUID),
        series_uid=str(image.SeriesInstanceUID),
        accession_number=str(image.get("AccessionNumber") or ""),
        study_date=str(image.get("StudyDate") or ""),
        modality=str(image.get("Modality") or ""),
        description=str(image.get("StudyDescription") or ""),
    )
