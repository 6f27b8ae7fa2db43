"""Response figures from a prediction whose ensemble is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.imaging import Mask
from digital_twins.records import parse_treatment
from digital_twins.treatment_simulation import ResponseCategory
from digital_twins.treatment_simulation._response import response_of

OBSERVATION = (parse_treatment({"type": "observation"}),)


@dataclass
class Spheres:
    """A prediction of spheres: ``radius_mm`` [day] of the median, ``scale`` of each member's volume."""

    days: np.ndarray
    radius_mm: np.ndarray
    samples_cm3: np.ndarray
    origin_day: float = 0.0
    interval: float = 0.95

    @property
    def volume_cm3(self) -> np.ndarray:
        return np.median(self.samples_cm3, axis=0)

    def mask_at(self, day: float) -> Mask:
        z, y, x = np.mgrid[:61, :61, :61] - 30.0
        radius = float(np.interp(day, self.days, self.radius_mm))
        return Mask(z**2 + y**2 + x**2 <= radius**2, np.eye(4)[[2, 1, 0, 3]])


def _spheres(radii: list[float], factors: list[list[float]], **fields: Any) -> Spheres:
    days = np.arange(len(radii)) * 42.0
    volume = 4 / 3 * np.pi * np.array(radii) ** 3 / 1000.0
    return Spheres(days, np.array(radii), volume * np.array(factors), **fields)


def test_shrinking_spheres_by_recist() -> None:
    flat = [[1.0, 1.0, f] for f in (0.8, 0.9, 1.0, 1.1, 1.2)]
    response = response_of(
        _spheres([20.0, 16.0, 12.0], flat), OBSERVATION, criteria="recist_1_1", assumptions=()
    )
    assert response.volume_change_percent == pytest.approx(100 * (0.6**3 - 1), abs=0.1)
    assert response.volume_change_low < response.volume_change_percent < response.volume_change_high
    assert response.size_now == pytest.approx(40.0, rel=0.04)
    assert response.size_at_horizon == pytest.approx(24.0, rel=0.06)
    assert response.response_category is ResponseCategory.PARTIAL_RESPONSE
    assert response.category_probabilities[ResponseCategory.PARTIAL_RESPONSE] == 1.0
    assert response.nadir_day == 84.0
    assert response.horizon_days == 84.0
    assert response.label == "observation"
    assert response.to_dict()["response_category"] == "partial_response"


def test_probabilities_follow_the_members() -> None:
    factors = [[1.0, 1.0], [1.0, 1.0], [1.0, 2.5], [1.0, 0.0]]
    response = response_of(_spheres([20.0, 20.0], factors), OBSERVATION, criteria="rano", assumptions=("x",))
    assert response.category_probabilities == {
        ResponseCategory.COMPLETE_RESPONSE: 0.25,
        ResponseCategory.PARTIAL_RESPONSE: 0.0,
        ResponseCategory.STABLE_DISEASE: 0.5,
        ResponseCategory.PROGRESSIVE_DISEASE: 0.25,
    }
    assert response.response_category is ResponseCategory.STABLE_DISEASE
    assert response.assumptions == ("x",)


def test_best_response_before_regrowth() -> None:
    response = response_of(
        _spheres([20.0, 10.0, 24.0], [[1.0, 1.0, 1.0]]), OBSERVATION, criteria="recist_1_1", assumptions=()
    )
    assert response.response_category is ResponseCategory.PROGRESSIVE_DISEASE
    assert response.best_response is ResponseCategory.PARTIAL_RESPONSE
    assert response.nadir_day == 42.0


def test_nadir_is_taken_at_assessments_every_six_weeks() -> None:
    days = np.arange(0.0, 43.0, 7.0)
    radii = np.array([20.0, 8.0, 10.0, 12.0, 15.0, 17.0, 19.0])
    samples = (4 / 3 * np.pi * radii**3 / 1000.0)[None, :]
    response = response_of(Spheres(days, radii, samples), OBSERVATION, criteria="recist_1_1", assumptions=())
    assert response.response_category is ResponseCategory.STABLE_DISEASE
    assert response.nadir_day == 7.0


def test_change_counts_from_now_and_not_from_baseline() -> None:
    prediction = _spheres([10.0, 20.0, 20.0], [[1.0, 1.0, 1.0]], origin_day=42.0)
    response = response_of(prediction, OBSERVATION, criteria="recist_1_1", assumptions=())
    assert response.volume_change_percent == pytest.approx(0.0)
    assert response.response_category is ResponseCategory.STABLE_DISEASE
    assert response.horizon_days == 42.0


def test_a_tumour_that_vanishes_is_a_complete_response() -> None:
    response = response_of(
        _spheres([20.0, 0.0], [[1.0, 0.0]]), OBSERVATION, criteria="recist_1_1", assumptions=()
    )
    assert response.response_category is ResponseCategory.COMPLETE_RESPONSE
    assert response.volume_change_percent == -100.0


def test_no_tumour_to_assess_is_refused() -> None:
    empty = _spheres([20.0, 20.0], [[0.0, 0.0]])
    with pytest.raises(InputError, match="no tumour"):
        response_of(empty, OBSERVATION, criteria="recist_1_1", assumptions=())


@pytest.mark.parametrize(("lost", "category"), [(0.5, "stable_disease"), (0.66, "partial_response")])
def test_a_sphere_that_loses_volume_through_the_whole_response(lost: float, category: str) -> None:
    radius = 24.0
    prediction = _spheres([radius, radius * (1.0 - lost) ** (1 / 3)], [[1.0, 1.0]] * 3)
    response = response_of(prediction, OBSERVATION, criteria="recist_1_1", assumptions=())
    assert response.volume_change_percent == pytest.approx(-100 * lost)
    assert response.response_category.value == category
    assert response.criteria_label == "RECIST 1.1, predicted, target lesions only"
    assert response.to_dict()["criteria_label"] == response.criteria_label


def test_volumetric_rano_follows_the_members_volumes() -> None:
    factors = [[1.0, 0.34], [1.0, 0.36], [1.0, 1.41]]
    response = response_of(_spheres([20.0, 20.0], factors), OBSERVATION, criteria="rano_2_0", assumptions=())
    assert response.response_probability == pytest.approx(1 / 3)
    assert response.category_probabilities[ResponseCategory.PROGRESSIVE_DISEASE] == pytest.approx(1 / 3)
    assert response.size_now == pytest.approx(4 / 3 * np.pi * 8.0, rel=0.02)


def test_time_to_progression_is_that_of_the_assessments() -> None:
    factors = [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 2.5, 2.5], [1.0, 0.3, 0.3, 1.0]]
    response = response_of(_spheres([20.0] * 4, factors), OBSERVATION, criteria="recist_1_1", assumptions=())
    np.testing.assert_array_equal(response.time_to_progression.days, [np.nan, 84.0, 126.0])
    assert response.time_to_progression.median == 126.0
    assert response.time_to_progression.probability_by(90.0) == pytest.approx(1 / 3)
