"""From a twin and its simulated responses to the summaries that a report is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins import __version__
from digital_twins._errors import InputError
from digital_twins.plotting import Curve, VolumePoint
from digital_twins.records import Quantity
from digital_twins.reports._model import OptionSummary, ParameterSummary, TwinReport, TwinSummary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from digital_twins.calibration import Estimate
    from digital_twins.imaging import Mask
    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.records import PatientRecord
    from digital_twins.reports._model import StudyReference
    from digital_twins.treatment_simulation import Response

_GROWTH = "proliferation_per_day"
_LEVEL = 0.95


def summarise(
    twin: PatientTwin,
    responses: Sequence[Response],
    record: PatientRecord,
    *,
    study: StudyReference,
    created: datetime | None = None,
    lesion: Mask | None = None,
    observed: Sequence[VolumePoint] | None = None,
    simulated_follow_up: bool = False,
) -> TwinReport:
    """Return the report of a twin's current version and the treatments compared with it.

    Parameters
    ----------
    twin, responses
        The twin, and at least one response that it gave.
    record
        The patient's record; a record of another patient is refused.
    study
        Imaging study that the twin was built from.
    created
        Time of the report, timezone-aware. By default that of the twin's version, so that a second run
        makes the same documents.
    lesion
        The segmented baseline lesion on the image's own grid, for diameter and figure; the twin's lesion on
        its model grid when not given.
    observed
        Baseline and follow-up volumes, when some of them are sample data made by a model: those are marked
        simulated and labelled so everywhere. By default the baseline and the twin's visits.
    simulated_follow_up
        Whether every visit of the twin is sample data made by a model, when ``observed`` does not say so.

    Raises
    ------
    InputError
        Record and twin are of different patients, or a response is of another version of the twin.
    """
    if record.patient_id != twin.patient_id:
        raise InputError(
            "The report would mix two patients.",
            "The record and the twin carry different patient ids.",
            "Pass the record that the twin was built for.",
        )
    points = observed
    if points is None:
        visits = [VolumePoint(v.day, v.volume_cm3, simulated_follow_up) for v in twin.visits]
        points = [VolumePoint(0.0, twin.baseline_volume_cm3), *visits]
    for response in responses:
        if (response.prediction.twin_id, response.prediction.model_version) != (twin.twin_id, twin.version):
            raise InputError(
                "A response does not belong to this version of the twin.",
                "It was predicted with another twin or version.",
                "Predict again after the calibration.",
            )
    return TwinReport(
        record=record,
        twin=summarise_twin(twin, lesion=lesion, observed=points),
        options=tuple(summarise_response(response) for response in responses),
        study=study,
        created=created or twin.created_utc,
        software_name="digital-twins",
        software_version=__version__,
    )


def summarise_twin(
    twin: PatientTwin, *, lesion: Mask | None = None, observed: Sequence[VolumePoint] | None = None
) -> TwinSummary:
    """Return the numbers of a twin's current version; parameters as in :func:`summarise`."""
    outline = lesion if lesion is not None else twin.lesion
    low, high = twin.proliferation_rate_interval
    visits = [VolumePoint(visit.day, visit.volume_cm3) for visit in twin.visits]
    points = observed if observed is not None else [VolumePoint(0.0, twin.baseline_volume_cm3), *visits]
    provenance = twin.provenance
    return TwinSummary(
        twin_id=twin.twin_id,
        version=twin.version,
        model="reaction_diffusion",
        volume=Quantity(twin.baseline_volume_cm3, "cm3"),
        growth_rate=Quantity(twin.proliferation_rate, "/d", low, high, _LEVEL),
        current_volume=_quantity(twin.current_volume) if visits else None,
        current_day=twin.origin_day,
        longest_diameter=Quantity(outline.longest_diameter_mm(), "mm"),
        parameters=tuple(_parameter(name, estimate) for name, estimate in twin.parameters.items()),
        observed=tuple(points),
        inputs=dict(provenance.inputs),
        baseline=twin.baseline,
        image=twin.image,
        lesion=outline,
        seed=provenance.seed,
        notes=tuple(provenance.notes),
    )


def summarise_response(response: Response) -> OptionSummary:
    """Return one treatment option: course from the twin's "now", change, category, predicted tumour."""
    prediction = response.prediction
    ahead = np.asarray(prediction.days) >= prediction.origin_day
    curve = Curve(
        response.label,
        prediction.days[ahead],
        prediction.volume_cm3[ahead],
        prediction.low_cm3[ahead],
        prediction.high_cm3[ahead],
    )
    last = float(curve.days[-1])
    change = Quantity(
        response.volume_change_percent,
        "%",
        response.volume_change_low,
        response.volume_change_high,
        response.interval,
    )
    return OptionSummary(
        label=response.label,
        curve=curve,
        change=change,
        category=response.response_category.value,
        criteria=response.criteria_label,
        probabilities={c.value: float(p) for c, p in response.category_probabilities.items()},
        input_hash=prediction.input_hash,
        predicted=((last, prediction.mask_at(last)),),
        origin_day=float(prediction.origin_day),
        assumptions=tuple(response.assumptions),
    )


def _parameter(name: str, estimate: Estimate) -> ParameterSummary:
    return ParameterSummary(name, _quantity(estimate), fixed=estimate.fixed, source=estimate.source)


def _quantity(estimate: Estimate) -> Quantity:
    return Quantity(estimate.value, estimate.unit, estimate.low, estimate.high, _LEVEL)
