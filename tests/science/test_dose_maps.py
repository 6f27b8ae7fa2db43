"""Radiation on twins: dose maps by fraction, twice-daily courses, gaps, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import rt_case
from digital_twins import InputError
from digital_twins.imaging import Dose, RigidRegistration, Volume, load_dose, load_structures
from digital_twins.models import lq_log_survival
from digital_twins.patient_modeling import PatientTwin, TumorTwinPipeline, forcing_for, with_dose_map
from digital_twins.records import parse_treatment
from digital_twins.treatment_simulation import TreatmentSimulator
from tumour_phantom import FRAME, ball, new_twin

PARAMETERS = {"alpha_per_gy": 0.3, "alpha_beta_gy": 10.0}


def _forcing(given, **parameters):
    return forcing_for([parse_treatment(with_dose_map(given))], {**PARAMETERS, **parameters})


def _half_dose():
    """A dose of 30 Gy to the half of the phantom's image at negative x, 0 to the other."""
    image, _ = ball()
    array = np.zeros(image.shape, np.float32)
    array[:, :, : image.shape[2] // 2] = 30.0
    return Volume(array, image.affine, frame_of_reference_uid=FRAME)


@pytest.fixture(scope="module")
def breast_twin():
    """A twin of the breast case's tumour bed, in the frame of reference of its RTDOSE."""
    dose = load_dose(rt_case.packed("rtdose"))
    bed = load_structures(rt_case.packed("rtss"))["Tumor Bed Block"]
    lesion = bed.mask(dose.volume)
    return TumorTwinPipeline().create_twin("123456", None, replace(lesion, patient_id=None))


def test_a_plan_sum_of_14_gy_in_7_fractions_is_7_jumps_of_2_gy(breast_twin):
    given = {"dose_map": rt_case.packed("rtdose"), "plan": rt_case.packed("rtplan")}
    treatment = breast_twin._parsed(given)
    assert [round(f.dose_gy, 9) for f in treatment.fractions] == [2.0] * 7
    assert treatment.total_dose_gy == pytest.approx(14.0)
    forcing = forcing_for([treatment], PARAMETERS)
    assert len(forcing.survival_maps) == 7
    assert [jump.day for jump in forcing.survival_maps] == [0, 1, 2, 3, 4, 7, 8]
    dose = treatment.dose_map.array
    inside = breast_twin.lesion.array
    assert dose[inside].mean() == pytest.approx(14.27 / 7, rel=0.01)
    logs = sum(np.log(jump.survival) for jump in forcing.survival_maps)
    expected = -7 * 0.3 * dose * (1 + dose / 10.0)
    np.testing.assert_allclose(logs, expected, rtol=1e-6, atol=1e-12)
    one_shot = float(lq_log_survival(14.0, 0.3, 10.0))
    assert logs[inside].mean() > 0.55 * one_shot  # taken as one exposure it would kill twice the logs


def test_a_whole_course_volume_and_a_number_of_fractions_will_do():
    forcing = _forcing({"dose_map": _half_dose(), "fractions": 15})
    assert len(forcing.survival_maps) == 15
    first = forcing.survival_maps[0]
    assert first.survival.min() == pytest.approx(np.exp(-(0.3 * 2 + 0.03 * 4)))
    assert first.survival.max() == 1.0
    assert all(jump.survival is first.survival for jump in forcing.survival_maps)
    assert first.leaves_dead_cells


def test_a_uniform_map_is_the_scalar_course():
    twin = new_twin()
    image, _ = ball()
    uniform = Volume(np.full(image.shape, 40.0, np.float32), image.affine, frame_of_reference_uid=FRAME)
    scalar = {"type": "radiation", "total_dose_gy": 40, "fractions": 20}
    simulator = TreatmentSimulator(twin)
    one = simulator.predict_response(scalar, 84, samples=8)
    other = simulator.predict_response({"dose_map": uniform, "fractions": 20}, 84, samples=8)
    np.testing.assert_allclose(other.prediction.samples_cm3, one.prediction.samples_cm3, rtol=0.02)


def test_the_half_without_dose_grows_on():
    twin = new_twin()
    plans = [{"dose_map": _half_dose(), "fractions": 15}, {"type": "observation"}]
    half, none = TreatmentSimulator(twin).compare(plans, 120, samples=8)
    density = half.prediction.density_at(120.0).array
    beside = none.prediction.density_at(120.0).array
    middle = density.shape[2] // 2
    assert density[..., : middle - 3].sum() < 0.2 * beside[..., : middle - 3].sum()
    assert density[..., middle + 3 :].sum() > 0.8 * beside[..., middle + 3 :].sum()


def test_a_map_on_another_grid_is_resampled_and_another_frame_refused():
    twin = new_twin()
    coarse = Volume(
        np.full((6, 16, 16), 30.0, np.float32),
        np.array([[0, 0, 7.0, -60], [0, 7.0, 0, -60], [20.0, 0, 0, -60], [0, 0, 0, 1.0]]),
        frame_of_reference_uid=FRAME,
    )
    placed = twin._parsed({"dose_map": coarse, "fractions": 15}).dose_map
    assert placed.same_grid(twin.domain)
    assert placed.array[twin.lesion.array] == pytest.approx(2.0)
    foreign = replace(coarse, frame_of_reference_uid="1.2.3.4")
    simulator = TreatmentSimulator(twin)
    with pytest.raises(InputError, match="another frame of reference"):
        simulator.predict_response({"dose_map": foreign, "fractions": 15}, 60, samples=8)
    registered = {
        "dose_map": foreign,
        "fractions": 15,
        "registration": RigidRegistration(np.eye(4), "1.2.3.4", FRAME),
    }
    np.testing.assert_array_equal(twin._parsed(registered).dose_map.array, placed.array)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dose_map": None}, "no dose map"),
        ({"plan": None}, "number of fractions is not known"),
        ({"fractions": 5}, "7 fractions, the treatment 5"),
        ({"registration": np.eye(4)}, "not a RigidRegistration"),
        ({"total_dose_gy": 50.0, "dose_per_fraction_gy": 2.0}, "contradict"),
    ],
)
def test_dose_maps_that_do_not_determine_a_course_are_refused(change, match):
    given = {"dose_map": rt_case.packed("rtdose"), "plan": rt_case.packed("rtplan"), **change}
    with pytest.raises(InputError, match=match):
        _forcing(given)


def test_relative_units_and_unread_maps_are_refused():
    relative = rt_case.dataset("rtdose")
    relative.DoseUnits = "RELATIVE"
    with pytest.raises(InputError, match="not in gray"):
        _forcing({"dose_map": relative, "plan": rt_case.packed("rtplan")})
    with pytest.raises(InputError, match="has not been read"):
        parse_treatment({"type": "radiation", "dose_map": "rtdose.dcm", "fractions": 7, "total_dose_gy": 14})


def test_a_twin_with_a_dose_map_in_its_history_reopens_the_same(tmp_path):
    twin = new_twin()
    given = {"dose_map": Dose(_half_dose(), "PLAN", "PHYSICAL"), "fractions": 15, "alpha_beta_gy": 4.0}
    grown = [(56.0, ball(14.5)[1])]
    twin.calibrate(grown, [given], max_iterations=2)
    twin.save(tmp_path / "a.twin")
    again = PatientTwin.open(tmp_path / "a.twin")
    assert again.content_digest == twin.content_digest
    (treatment,) = again.treatment_history
    assert treatment.radiation.alpha_beta_gy == 4.0
    a, b = (t.predict(30, samples=8).samples_cm3 for t in (twin, again))
    np.testing.assert_array_equal(a, b)
    json.dumps(dict(treatment.as_given))


def test_twice_daily_is_two_jumps_a_day_with_incomplete_repair():
    """CHART-like: 12 fractions of 1.5 Gy, three a day 6 h apart, every day."""
    given = {
        "type": "radiation",
        "total_dose_gy": 18.0,
        "fractions": 12,
        "fractions_per_day": 3,
        "schedule": "daily",
        "repair_half_life_hours": 4.0,
    }
    forcing = _forcing(given)
    expected_days = [day + step for day in range(4) for step in (0.0, 0.25, 0.5)]
    np.testing.assert_allclose(forcing.jump_days, expected_days)
    mu = np.log(2) / (4.0 / 24.0)
    pairs = sum(
        1.5 * 1.5 * np.exp(-mu * (b - a)) for i, a in enumerate(expected_days) for b in expected_days[i + 1 :]
    )
    effect = 0.3 * 18.0 + 0.03 * (12 * 1.5**2 + 2 * pairs)
    assert forcing.jump_log_survival.sum() == pytest.approx(-effect, rel=1e-12)
    repaired = _forcing({k: v for k, v in given.items() if k != "repair_half_life_hours"})
    assert repaired.jump_log_survival.sum() == pytest.approx(-(0.3 * 18 + 0.03 * 12 * 2.25), rel=1e-12)


def test_gap_days_move_the_rest_of_the_course():
    given = {"type": "radiation", "total_dose_gy": 20, "fractions": 10, "gap_days": [2, 3]}
    days = [f.day for f in parse_treatment(given).fractions]
    assert days == [0, 1, 4, 7, 8, 9, 10, 11, 14, 15]
    twice = {**given, "fractions": 10, "fractions_per_day": 2}
    assert [f.day for f in parse_treatment(twice).fractions] == [0, 0.25, 1, 1.25, 4, 4.25, 7, 7.25, 8, 8.25]


def test_own_ratio_hypoxia_and_repopulation_reach_the_forcing():
    given = {"type": "radiation", "total_dose_gy": 60, "fractions": 30}
    own = _forcing({**given, "alpha_beta_gy": 3.0})
    assert own.jump_log_survival.sum() == pytest.approx(-0.3 * 60 * (1 + 2 / 3))
    hypoxic = _forcing(
        {
            **given,
            "hypoxic_fraction": 0.2,
            "oxygen_enhancement_ratio": 2.8,
            "reoxygenation_half_life_days": 2.0,
        }
    )
    assert -0.3 * 60 * 1.2 < hypoxic.jump_log_survival.sum() < -0.3 * 60 / 2.8
    faster = _forcing({**given, "kick_off_day": 28.0, "doubling_days": 4.0})
    grown = -faster.cumulative_log_kill([28.0, 32.0, 39.0, 60.0])
    np.testing.assert_allclose(grown, np.log(2) / 4.0 * np.array([0.0, 4.0, 11.0, 11.0]), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fractions_per_day": 2.5}, "counts"),
        ({"fractions_per_day": 5}, "at most 4"),
        ({"fractions_per_day": 4, "interval_hours": 8}, "do not fit"),
        ({"interval_hours": 6}, "without 'fractions_per_day'"),
        ({"fractions_per_day": 2, "schedule": "twice_daily"}, "twice-daily"),
        ({"gap_days": "monday"}, "not a list"),
        ({"gap_days": [1.5]}, "whole number"),
        ({"gap_days": [1], "days": [0, 1, 2]}, "'gap_days'"),
        ({"hypoxic_fraction": 0.2}, "alone"),
        ({"hypoxic_fraction": 1.2, "oxygen_enhancement_ratio": 2.0}, "out of range"),
        ({"hypoxic_fraction": 0.2, "oxygen_enhancement_ratio": 0.5}, "out of range"),
        ({"kick_off_day": 28}, "alone"),
        ({"alpha_beta_gy": -3}, "greater than zero"),
        ({"repair_half_life_hours": -1}, "negative"),
        ({"repair_half_life_hours": "long"}, "not a number"),
    ],
)
def test_courses_that_cannot_be_understood_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        parse_treatment({"type": "radiation", "dose_per_fraction_gy": 2, "fractions": 10, **change})
