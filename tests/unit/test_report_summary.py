"""From a real twin and its responses to a report: nothing measured that was modelled, nothing lost."""

from __future__ import annotations

import dataclasses

import highdicom as hd
import numpy as np
import pytest

from ct_series import ball
from digital_twins import InputError
from digital_twins.imaging import as_mask, volume_from_series
from digital_twins.patient_modeling import TumorTwinPipeline
from digital_twins.plotting import VolumePoint
from digital_twins.records import PatientRecord
from digital_twins.reports import StudyReference, documents, summarise
from digital_twins.reports._masks import place
from digital_twins.treatment_simulation import TreatmentSimulator
from report_samples import CREATED, SHAPE, sample_series


@pytest.fixture(scope="module")
def case():
    image = volume_from_series(sample_series())
    lesion = as_mask(image, ball(SHAPE, (4, 20, 18), 7.0))
    twin = TumorTwinPipeline().create_twin("P1", image, lesion)
    twin.calibrate([(30.0, as_mask(image, ball(SHAPE, (4, 20, 18), 8.0)))])
    simulator = TreatmentSimulator(twin)
    plans = ({"type": "radiation", "total_dose_gy": 60, "fractions": 30}, {"type": "observation"})
    responses = [simulator.predict_response(plan, 56, samples=16) for plan in plans]
    return image, lesion, twin, responses


def _report(case, **options):
    _, lesion, twin, responses = case
    study = StudyReference.of(sample_series()[0])
    return summarise(
        twin, responses, PatientRecord("P1"), study=study, created=CREATED, lesion=lesion, **options
    )


def test_measured_modelled_and_predicted_stay_apart(case):
    _, lesion, twin, responses = case
    report = _report(case)
    assert report.twin.volume.value == pytest.approx(lesion.volume_cm3)
    assert not report.twin.volume.has_interval
    assert report.twin.current_volume.value == twin.current_volume.value
    assert report.twin.current_volume.has_interval
    assert report.twin.current_day == 30.0
    assert report.twin.longest_diameter.value == pytest.approx(lesion.longest_diameter_mm())
    assert (report.twin.growth_rate.low, report.twin.growth_rate.high) == twin.proliferation_rate_interval
    for option, response in zip(report.options, responses, strict=True):
        assert option.curve.days[0] == option.origin_day == 30.0
        assert option.horizon_days == 86.0
        assert option.change.value == response.volume_change_percent
        assert option.category == response.response_category.value
        assert sum(option.probabilities.values()) == pytest.approx(1.0)
        assert option.assumptions == tuple(response.assumptions)


def test_documents_of_the_real_twin(case):
    made = documents(_report(case), sample_series())
    sr = hd.sr.Comprehensive3DSR.from_dataset(made.sr)
    labels = [g.tracking_identifier for g in sr.content.get_image_measurement_groups()]
    assert labels[2].startswith("PREDICTED day 86, NOT ACQUIRED: ")
    assert made.segs[0].SeriesDescription == "PREDICTED day 86, NOT ACQUIRED"
    image = sample_series()[0]
    assert (made.segs[0].Rows, made.segs[0].Columns) == (image.Rows, image.Columns)


def test_simulated_points_are_labelled(case):
    points = (VolumePoint(0.0, 1.0), VolumePoint(30.0, 1.4, simulated=True))
    assert any("simulated" in notice for notice in _report(case, observed=points).notices)
    assert any("simulated" in notice for notice in _report(case, simulated_follow_up=True).notices)
    assert not any("simulated" in notice for notice in _report(case).notices)


def test_study_reference_of_an_image():
    study = StudyReference.of(sample_series()[0])
    assert (study.study_uid, study.study_date, study.modality) == ("1.2.3.7", "2026-01-02", "CT")


def test_other_patient_and_other_version_are_refused(case):
    _, _, twin, responses = case
    study = StudyReference("1.2.3.7")
    with pytest.raises(InputError, match="two patients"):
        summarise(twin, responses, PatientRecord("P2"), study=study)
    stale = dataclasses.replace(
        responses[0], prediction=dataclasses.replace(responses[0].prediction, model_version=1)
    )
    with pytest.raises(InputError, match="version"):
        summarise(twin, [stale], PatientRecord("P1"), study=study)


def test_place_equals_resampling_the_whole_image(case):
    from digital_twins.imaging import grid, resample

    image, lesion, _, _ = case
    coarse = resample(lesion, grid(image, spacing_mm=1.7))
    expected = resample(coarse, image).array
    np.testing.assert_array_equal(place(coarse, image).array, expected)
    assert place(lesion, image).same_grid(image)
