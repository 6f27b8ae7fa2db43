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
from digital_twins.treatment_simulation._sizes import axial

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


def ball(radius_mm: float, *, sagittal: bool = False) -> Mask:
    """A ball with a rod along the patient's long axis, slices axial or sagittal."""
    z, y, x = np.mgrid[:61, :61, :61] - 30.0
    inside = z**2 + y**2 + x**2 <= radius_mm**2
    inside |= (np.abs(y) <= 1) & (np.abs(x) <= 1)
    affine = np.eye(4)[:, [2, 1, 0, 3]]
    if sagittal:
        inside, affine = inside.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]
    return Mask(np.ascontiguousarray(inside), affine)


def test_sphere_that_loses_half_is_stable_and_two_thirds_a_partial_response() -> None:
    """The longest diameter goes with the cube root of the volume: -20.6 % and -30.2 %."""
    diameters = 40.0 * np.cbrt(1.0 - np.array([0.0, 0.5]))
    assert last(list(diameters)) is SD
    diameters = 40.0 * np.cbrt(1.0 - np.array([0.0, 0.66]))
    assert last(list(diameters)) is PR


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ([10.0, 3.5], PR),
        ([10.0, 3.6], SD),
        ([10.0, 13.9], SD),
        ([10.0, 14.0], PD),
        ([10.0, 5.0, 7.0], PD),
        ([10.0, 5.0, 6.9], SD),
        ([10.0, 0.0], CR),
    ],
)
def test_volumetric_rano_2(volumes: list[float], expected: ResponseCategory) -> None:
    """65 % below the baseline, 40 % above the nadir (Wen et al. 2023, doi:10.1200/JCO.23.01059)."""
    assert last(volumes, "rano_2_0") is expected


def test_diameters_are_axial_whatever_plane_was_scanned() -> None:
    """The rod along the body is 61 mm long, but no axial diameter."""
    for mask in (ball(10.0), ball(10.0, sagittal=True)):
        assert axial(mask).longest_diameter_mm() == pytest.approx(21.0, abs=0.8)
        assert bidimensional_product_mm2(axial(mask)) == pytest.approx(21.0**2, rel=0.1)
    assert ball(10.0, sagittal=True).longest_diameter_mm() > 60.0
    np.testing.assert_allclose(
        ball(10.0).centroid_mm, axial(ball(10.0, sagittal=True)).centroid_mm, atol=1e-9
    )
