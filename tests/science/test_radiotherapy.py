"""Dose-volume histograms and equivalent doses against a planning system and dicompyler-core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rt_case
from digital_twins import InputError
from digital_twins.imaging import (
    Mask,
    RigidRegistration,
    Volume,
    dose_on_grid,
    dose_per_fraction,
    load_dose,
    load_plan,
    load_structures,
)
from digital_twins.models import COMPLICATIONS, Radiosensitivity
from digital_twins.radiotherapy import (
    Course,
    accumulate_eqd2,
    dose_volume_histogram,
    equivalent_dose,
    evaluate_plan,
)


@pytest.fixture(scope="module")
def case():
    return (
        load_dose(rt_case.packed("rtdose")),
        load_plan(rt_case.packed("rtplan")),
        load_structures(rt_case.packed("rtss")),
    )


# dicompyler-core 0.5.6 run on the same files with pydicom 2: volume, maximum, mean, D95, D2
DICOMPYLER = {
    "Heart": (440.23124999, 3.1, 0.6475329, 0.04, 2.71),
    "Lt Lung": (2004.525, 12.11, 0.9058314, 0.05, 5.02),
    "Tumor Bed": (13.06875, 14.57, 14.2916714, 14.13, 14.48),
    "Tumor Bed Block": (63.3375, 14.66, 14.2812700, 13.85, 14.56),
    "Breast": (400.3875, 14.69, 5.5819523, 0.08, 14.47),
}


@pytest.mark.parametrize("name", DICOMPYLER)
def test_histograms_agree_with_dicompyler_core(case, name):
    dose, _, structures = case
    ours = dose_volume_histogram(dose, structures[name])
    volume, maximum, mean, d95, d2 = DICOMPYLER[name]
    assert ours.total_cm3 == pytest.approx(volume, rel=0.01)
    assert ours.mean_gy == pytest.approx(mean, rel=0.003)
    assert ours.dose_at_percent(95) == pytest.approx(d95, abs=0.06)
    assert ours.dose_at_percent(2) == pytest.approx(d2, abs=0.02)
    # a voxel that the outline only touches counts here with its part, there not at all
    assert ours.dose_at_cm3(0.1) == pytest.approx(maximum, abs=0.15)


@pytest.mark.parametrize(
    ("name", "mean_rel", "curve"),
    [("Heart", 0.002, 0.01), ("Lt Lung", 0.002, 0.005), ("Breast", 0.008, 0.015), ("Tumor Bed", 0.001, 0.03)],
)
def test_histograms_agree_with_the_planning_system(case, name, mean_rel, curve):
    """The system's own curves in the RTDOSE; at most ``curve`` of the volume apart at any dose."""
    dose, _, structures = case
    structure = structures[name]
    (theirs,) = (h for h in dose.histograms if h.roi_numbers == (structure.number,))
    ours = dose_volume_histogram(dose, structure)
    assert ours.mean_gy == pytest.approx(theirs.mean_gy, rel=mean_rel)
    apart = (
        ours.cumulative(theirs.dose_gy + 0.005) / ours.total_cm3 - theirs.volume_cm3 / theirs.volume_cm3[0]
    )
    assert np.abs(apart).max() <= curve


def test_histogram_figures_by_hand():
    affine = np.diag([1.0, 1.0, 10.0, 1.0])[:, [2, 1, 0, 3]]
    doses = Volume(np.arange(8.0).reshape(2, 2, 2), affine)
    mask = Mask(np.array([[[0, 1], [1, 1]], [[1, 1], [1, 1]]], bool), affine)
    histogram = dose_volume_histogram(doses, mask)
    assert histogram.total_cm3 == pytest.approx(0.07)
    assert (histogram.maximum_gy, histogram.minimum_gy, histogram.mean_gy) == pytest.approx((7.0, 1.0, 4.0))
    assert histogram.dose_at_percent(100) == 1.0
    assert histogram.dose_at_cm3(0.02) == 6.0
    assert histogram.volume_at_dose_cm3(5.0) == pytest.approx(0.03)
    assert histogram.percent_at_dose(5.0) == pytest.approx(100 * 3 / 7)
    np.testing.assert_allclose(histogram.cumulative([0.0, 5.0, 5.5, 7.5]), [0.07, 0.03, 0.02, 0.0])
    with pytest.raises(InputError, match="out of range"):
        histogram.dose_at_percent(101)


def test_mask_and_contours_give_one_histogram(case):
    dose, _, structures = case
    block = structures["Tumor Bed Block"]
    contours = dose_volume_histogram(dose, block)
    mask = dose_volume_histogram(dose, block.mask(dose.volume))
    assert mask.mean_gy == pytest.approx(contours.mean_gy, rel=2e-3)
    finer = dose_volume_histogram(dose, structures["Tumor Bed"], subdivide=2)
    assert finer.mean_gy == pytest.approx(14.2908, abs=0.005)


def test_plan_sum_is_divided_into_its_fractions(case):
    dose, plan, _ = case
    count, each = dose_per_fraction(dose, plan)
    assert count == 7
    np.testing.assert_allclose(each.array * 7, dose.volume.array, rtol=1e-6)
    assert each.array.max() == pytest.approx(2.097, abs=1e-3)
    session = replace(dose, summation="FRACTION_SESSION")
    assert dose_per_fraction(session, plan)[1] is dose.volume


def test_fractions_that_are_unknown_or_contradict_are_refused(case):
    dose, plan, _ = case
    with pytest.raises(InputError, match="number of fractions is not known"):
        dose_per_fraction(dose)
    with pytest.raises(InputError, match="7 fractions, the treatment 1"):
        dose_per_fraction(dose, plan, fractions=1)
    with pytest.raises(InputError, match="another plan"):
        dose_per_fraction(replace(dose, plan_uids=("1.2.3",)), plan)
    boost = replace(plan.fraction_groups[0], number=2, fractions_planned=5)
    two = replace(plan, fraction_groups=(*plan.fraction_groups, boost))
    with pytest.raises(InputError, match="2 fraction groups"):
        dose_per_fraction(dose, two)
    assert dose_per_fraction(replace(dose, fraction_group=2), two)[0] == 5


def test_dose_in_another_frame_needs_a_registration(case):
    dose, _, _ = case
    like = replace(dose.volume, frame_of_reference_uid="1.2.3.4")
    with pytest.raises(InputError, match="another frame of reference"):
        dose_on_grid(dose, like)
    shift = np.eye(4)
    shift[:3, 3] = [5.0, -7.5, 3.0]  # whole voxels
    frame = dose.volume.frame_of_reference_uid
    moved = dose_on_grid(dose, like, registration=RigidRegistration(shift, frame, "1.2.3.4"))
    place = np.add(dose.volume.index_to_mm(np.array([40, 60, 90])), (5.0, -7.5, 3.0))
    k, i, j = np.round(dose.volume.mm_to_index(place))
    assert moved.array[int(k), int(i), int(j)] == pytest.approx(dose.volume.array[40, 60, 90], rel=1e-4)
    far = replace(dose.volume, affine=dose.volume.affine + np.array([[0, 0, 0, 5000.0]] + [[0] * 4] * 3))
    with pytest.raises(InputError, match="does not reach"):
        dose_on_grid(dose, far)


def test_equivalent_doses_add_up_over_courses(case):
    dose, plan, _ = case
    course = Course(dose, plan)
    equivalent = equivalent_dose(course, 3.0)
    hottest = dose.volume.array.max()
    assert equivalent.array.max() == pytest.approx(hottest * (hottest / 7 + 3) / 5, rel=1e-5)
    twice = accumulate_eqd2([course, Course(dose, fractions=14)], dose.volume, alpha_beta_gy=3.0)
    slower = equivalent_dose(Course(dose, fractions=14), 3.0)
    np.testing.assert_allclose(twice.array, equivalent.array + slower.array, rtol=1e-5)
    with pytest.raises(InputError, match="no course"):
        accumulate_eqd2([], dose.volume, alpha_beta_gy=3.0)


def test_evaluation_of_the_breast_plan(case):
    dose, plan, structures = case
    result = evaluate_plan(
        Course(dose, plan),
        structures,
        target="Tumor Bed",
        sensitivity=Radiosensitivity(0.3, 10.0),
        complications={"Lt Lung": (COMPLICATIONS["lung"], 3.0)},
    )
    assert result.fractions == 7
    assert len(result.histograms) == 9
    assert result.control_probability == pytest.approx(0.0, abs=1e-6)  # 14 Gy is a boost, not a cure
    assert result.complication_probabilities["Lt Lung"] == pytest.approx(0.0048, abs=0.0015)
    tolerant = evaluate_plan(
        Course(dose, plan),
        structures,
        target="Tumor Bed",
        sensitivity=Radiosensitivity(1.2, 10.0),
        clonogens_per_cm3=100.0,
    )
    each = 14.2922 / 7
    expected = np.exp(-100 * 13.16 * np.exp(-7 * 1.2 * each * (1 + each / 10)))
    assert tolerant.control_probability == pytest.approx(expected, rel=0.01)
