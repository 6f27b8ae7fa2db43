"""RECIST 1.1 and RANO rules at their published limits."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.imaging import Mask
from digital_twins.treatment_simulation import ResponseCategory, bidimensional_product_mm2, categories
from digital_twins.treatment_simulation._criteria import (
    ORDER,
    best_category,
    category_probabilities,
    most_probable,
)

CR, PR, SD, PD = ORDER


def last(sizes: list[float], criteria: str = "recist_1_1") -> ResponseCategory:
    return ORDER[categories(sizes, criteria=criteria)[0, -1]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([30.0, 0.0], CR),
        ([30.0, 21.0], PR),  # exactly 30 % less
        ([30.0, 21.1], SD),
        ([30.0, 30.0], SD),
        ([30.0, 36.0], PD),  # 20 % and 6 mm
        ([20.0, 24.0], SD),  # 20 % but only 4 mm
        ([50.0, 55.0], SD),  # 5 mm but only 10 %
        ([25.0, 30.0], PD),  # exactly 20 % and 5 mm
        ([50.0, 20.0, 26.0], PD),  # from the nadir, though 48 % below baseline
        ([50.0, 20.0, 24.0], PR),
        ([50.0, 0.0, 6.0], PD),  # back after a complete response
    ],
)
def test_recist_1_1(sizes: list[float], expected: ResponseCategory) -> None:
    assert last(sizes) is expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([600.0, 0.0], CR),
        ([600.0, 300.0], PR),
        ([600.0, 310.0], SD),
        ([600.0, 750.0], PD),
        ([600.0, 740.0], SD),
        ([600.0, 200.0, 250.0], PD),
    ],
)
def test_rano(sizes: list[float], expected: ResponseCategory) -> None:
    assert last(sizes, "rano") is expected


def test_values_are_the_published_strings() -> None:
    assert [c.value for c in ResponseCategory] == [
        "complete_response",
        "partial_response",
        "stable_disease",
        "progressive_disease",
    ]


def test_ensemble_probabilities_mode_and_best_response() -> None:
    courses = categories([[30, 20, 20], [30, 29, 29], [30, 20, 40], [30, 29, 28]])
    probabilities = category_probabilities(courses[:, -1])
    assert probabilities == {CR: 0.0, PR: 0.25, SD: 0.5, PD: 0.25}
    assert most_probable(probabilities) is SD
    assert most_probable({CR: 0.0, PR: 0.5, SD: 0.5, PD: 0.0}) is SD
    assert [ORDER[i] for i in best_category(courses)] == [PR, SD, PR, SD]


def test_sizes_that_cannot_be_classified_are_refused() -> None:
    for sizes in ([0.0, 3.0], [3.0], [3.0, -1.0], [3.0, float("nan")]):
        with pytest.raises(InputError, match="cannot be classified"):
            categories(sizes)
    with pytest.raises(InputError, match="not known"):
        categories([3.0, 2.0], criteria="recist")  # type: ignore[arg-type]


def test_bidimensional_product_of_an_ellipse() -> None:
    y, x = np.mgrid[:101, :101] - 50.0
    plane = (x / 40) ** 2 + (y / 20) ** 2 <= 1
    array = np.zeros((3, 101, 101), dtype=bool)
    array[1] = plane
    affine = np.diag([3.0, 0.5, 0.5, 1.0])
    affine[:3, :3] = [[0, 0, 0.5], [0, 0.5, 0], [3.0, 0, 0]]
    mask = Mask(array, affine)
    assert bidimensional_product_mm2(mask) == pytest.approx(40.0 * 20.0, rel=0.06)
    assert bidimensional_product_mm2(Mask(np.zeros((2, 3, 3), dtype=bool), affine)) == 0.0
