"""Gompertz, Allee and capacity maps against DOP853, an exact travelling wave and the logistic solver."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twins import InputError
from digital_twins.models import Domain, Forcing, ReactionDiffusionModel, SpatialGrowthModel, lq_log_survival

SHAPE = (4, 5, 6)
DOMAIN = Domain(np.ones(SHAPE, dtype=bool), (3.0, 1.5, 1.5))
RATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "logistic": lambda n: 1.0 - n,
    "gompertz": lambda n: -np.log(n),
    "allee": lambda n: (1.0 - n) * (n - 0.15),
}


def _chemoradiation() -> Forcing:
    days = np.array([7.0 * week + day for week in range(4) for day in range(5)])
    return Forcing(
        days,
        lq_log_survival(np.full(20, 2.0), 0.03, 10.0),
        [-1.0, *np.arange(20.0), 5.0],
        [0.1, *np.full(20, 0.3), 0.01],
        [0.2, *np.full(20, 9.242), 0.0],
    )


def _dop853(law: str, start: np.ndarray, days: np.ndarray, forcing: Forcing, growth: float) -> np.ndarray:
    """Integrate ln n between all events with an independent adaptive method."""
    events = np.unique(np.concatenate([[0.0], forcing.jump_days, forcing.dose_days, days]))
    events = events[events >= 0.0]
    logs, found = np.log(start), []
    for begin, end in zip(events, [*events[1:], events[-1]], strict=True):
        if begin in days:
            found.append(np.exp(logs))
        logs = logs + forcing.jump_log_survival[forcing.jump_days == begin].sum()
        if end > begin:

            def slope(t: float, y: np.ndarray) -> np.ndarray:
                return growth * RATES[law](np.exp(y)) - forcing.kill_rate_per_day(t)

            stop = np.nextafter(end, begin)
            logs = solve_ivp(slope, (begin, stop), logs, "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    return np.array(found)


@pytest.mark.parametrize("law", ["logistic", "gompertz", "allee"])
@pytest.mark.parametrize("growth", [0.06, -0.02])
def test_each_voxel_follows_its_law_and_capacity_under_treatment(law: str, growth: float) -> None:
    rng = np.random.default_rng(4)
    capacity = rng.uniform(0.6, 1.7, SHAPE)
    start = rng.uniform(0.001, 1.2, SHAPE) * capacity
    days = np.array([0.5, 3.0, 19.0, 60.0])
    model = SpatialGrowthModel(0.0, growth, law=law, carrying_capacity=capacity, allee_threshold=0.15)
    solved = model.solve(start, DOMAIN, days, forcing=_chemoradiation(), precision="float64", tolerance=1e-2)
    expected = _dop853(law, (start / capacity).ravel(), days, _chemoradiation(), growth)
    parts = (solved.density / capacity).reshape(days.size, -1)
    np.testing.assert_allclose(parts, expected, rtol=1e-8)


@pytest.mark.parametrize("law", ["gompertz", "allee"])
def test_second_order_in_time_with_a_capacity_map(law: str) -> None:
    shape, spacing = (6, 16, 16), (3.0, 1.5, 1.5)
    domain = Domain(np.ones(shape, dtype=bool), spacing)
    y, x = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    capacity = np.broadcast_to(1.0 + 0.4 * np.sin(x / 3.0) * np.cos(y / 4.0), shape)
    start = np.broadcast_to(0.05 + 0.7 * np.exp(-((y - 7.0) ** 2 + (x - 8.0) ** 2) / 20.0), shape)
    model = SpatialGrowthModel(0.15, 0.1, law=law, carrying_capacity=capacity)

    def solve(step_days: float) -> np.ndarray:
        tolerance = 1e-6 * (step_days / ReactionDiffusionModel(0.15, 0.1).longest_step_days(1e-6)) ** 2
        return model.solve(
            start, domain, [32.0], forcing=_chemoradiation(), tolerance=tolerance, precision="float64"
        ).density[0]

    fine = solve(1.0 / 32.0)
    errors = [np.linalg.norm(solve(step) - fine) / np.linalg.norm(fine) for step in (1.0, 0.5, 0.25)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 1.8) & (orders < 2.4)), (errors, orders)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_allee_front_has_the_exact_speed_and_shape(threshold: float) -> None:
    """``n = 1 / (1 + exp(x sqrt(k / 2 D)))`` travels at ``sqrt(2 D k) (1/2 - A)``, backwards for A > 1/2."""
    diffusion, growth, spacing = 0.4, 0.2, 0.25
    x = (np.arange(480) + 0.5) * spacing
    days = np.array([40.0, 80.0])
    profile = np.sqrt(growth / (2.0 * diffusion))
    speed = np.sqrt(2.0 * diffusion * growth) * (0.5 - threshold)
    rod = Domain(np.ones((1, 1, x.size), dtype=bool), (spacing, spacing, spacing))
    model = SpatialGrowthModel(diffusion, growth, law="allee", allee_threshold=threshold)
    start = 1.0 / (1.0 + np.exp((x - 60.0) * profile))
    solved = model.solve(start[None, None], rod, days, precision="float64").density[:, 0, 0]
    for day, state in zip(days, solved, strict=True):
        exact = 1.0 / (1.0 + np.exp((x - 60.0 - speed * day) * profile))
        assert np.abs(state - exact)[20:-20].max() < 4e-3


def test_logistic_law_is_the_logistic_solver() -> None:
    rng = np.random.default_rng(8)
    mask = rng.random((5, 9, 8)) < 0.8
    domain = Domain(mask, (3.0, 1.5, 1.5))
    start = rng.random(mask.shape) * mask
    plain = ReactionDiffusionModel(0.1, 0.05, 2.0).solve(
        start, domain, [20.0, 45.0], forcing=_chemoradiation(), precision="float64"
    )
    lawful = SpatialGrowthModel(0.1, 0.05, carrying_capacity=2.0).solve(
        start, domain, [20.0, 45.0], forcing=_chemoradiation(), precision="float64"
    )
    np.testing.assert_allclose(lawful.density, plain.density, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("law", ["logistic", "gompertz", "allee"])
def test_single_precision_stays_positive_and_near(law: str) -> None:
    rng = np.random.default_rng(9)
    mask = rng.random((5, 12, 11)) < 0.8
    start = np.where(rng.random(mask.shape) < 0.2, rng.random(mask.shape), 0.0) * mask
    model = SpatialGrowthModel(0.1, 0.05, law=law)
    fine, coarse = (
        model.solve(start, Domain(mask, (3.0, 1.5, 1.5)), [5.0, 60.0], precision=precision).density
        for precision in ("float64", "float32")
    )
    assert coarse.min() >= 0.0
    np.testing.assert_allclose(coarse, fine, rtol=1e-4, atol=1e-7)
    assert np.all(coarse[:, ~mask] == 0.0)


def test_unusable_laws_are_refused() -> None:
    for arguments in (
        {"law": "exponential"},
        {"carrying_capacity": 0.0},
        {"carrying_capacity": np.zeros(SHAPE)},
        {"law": "allee", "allee_threshold": 1.0},
    ):
        with pytest.raises(InputError):
            SpatialGrowthModel(0.1, 0.1, **arguments)
    with pytest.raises(InputError, match="does not fit"):
        SpatialGrowthModel(0.1, 0.1, carrying_capacity=np.ones((2, 2, 2))).solve(
            np.ones(SHAPE), DOMAIN, [1.0]
        )
    with pytest.raises(InputError, match="out of range"):
        SpatialGrowthModel(-0.1, 0.1)
