"""Growth laws against an independent solver, with and without treatment."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twins import InputError
from digital_twins.models import GROWTH_LAWS, Forcing, growth_law, logistic_growth

POWERS = {"logistic": 1.0, "classical_bertalanffy": 1 / 3, "bertalanffy": 0.6}
PARAMETERS = {
    "exponential": [[2.0, 0.03], [50.0, -0.01]],
    "logistic": [[2.0, 0.05, 300.0], [400.0, 0.08, 300.0]],
    "gompertz": [[2.0, 0.05, 300.0], [400.0, 0.02, 300.0]],
    "classical_bertalanffy": [[2.0, 0.05, 300.0], [400.0, 0.08, 300.0]],
    "bertalanffy": [[2.0, 0.05, 300.0, 0.6], [400.0, 0.08, 300.0, 0.6]],
}
DAYS = np.array([0.0, 1.0, 7.5, 30.0, 60.0, 110.0])
TREATED = Forcing([5.0, 30.0], [-0.5, -0.3], [3.0, 20.0, 41.0], [0.9, 0.3, 0.05], [9.242, 0.5, 0.0])


def _slope(name: str, p: list[float], forcing: Forcing):
    def slope(t: float, v: np.ndarray) -> np.ndarray:
        kill = forcing.kill_rate_per_day(t) if forcing.dose_days.size else 0.0
        if name == "exponential":
            return (p[1] - kill) * v
        if name == "gompertz":
            return (-p[1] * np.log(v / p[2]) - kill) * v
        m = POWERS[name]
        return (p[1] / m * (1 - (v / p[2]) ** m) - kill) * v

    return slope


def _solved(name: str, p: list[float], forcing: Forcing) -> np.ndarray:
    """DOP853 from one event to the next."""
    stops = np.unique(np.concatenate([[0.0], DAYS, forcing.jump_days, forcing.dose_days]))
    volume, found = p[0], {0.0: p[0]}
    for a, b in pairwise(stops):
        volume *= np.exp(forcing.log_jumps(a, b))
        run = solve_ivp(_slope(name, p, forcing), (a, b - 1e-12), [volume], "DOP853", rtol=1e-11, atol=1e-13)
        volume = run.y[0, -1]
        found[b] = volume
    return np.array([found[day] for day in DAYS])


@pytest.mark.parametrize("name", GROWTH_LAWS)
@pytest.mark.parametrize("forcing", [None, TREATED], ids=["untreated", "treated"])
def test_law_solves_its_equation(name: str, forcing: Forcing | None) -> None:
    ours = growth_law(name).volumes(PARAMETERS[name], DAYS, forcing=forcing)
    for row, p in zip(ours, PARAMETERS[name], strict=True):
        np.testing.assert_allclose(row, _solved(name, p, forcing or Forcing()), rtol=1e-7)


@pytest.mark.parametrize("name", GROWTH_LAWS)
def test_an_empty_treatment_changes_nothing(name: str) -> None:
    law = growth_law(name)
    np.testing.assert_allclose(
        law.volumes(PARAMETERS[name], DAYS, forcing=Forcing()),
        law.volumes(PARAMETERS[name], DAYS),
        rtol=1e-10,
    )


def test_treated_logistic_agrees_with_the_engine() -> None:
    ours = growth_law("logistic").volumes([2.0, 0.05, 300.0], DAYS, forcing=TREATED)[0]
    theirs = logistic_growth(2.0, DAYS, proliferation_per_day=0.05, carrying_capacity=300.0, forcing=TREATED)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_bertalanffy_goes_over_into_gompertz_and_logistic() -> None:
    general, p = growth_law("bertalanffy"), [2.0, 0.05, 300.0]
    near = general.volumes([*p, 1e-7], DAYS)
    np.testing.assert_allclose(near, growth_law("gompertz").volumes(p, DAYS), rtol=1e-5)
    np.testing.assert_allclose(general.volumes([*p, 1.0], DAYS), growth_law("logistic").volumes(p, DAYS))


def test_thousands_of_tumours_in_one_call() -> None:
    rng = np.random.default_rng(0)
    table = np.exp(rng.normal(size=(10000, 3))) * [1.0, 0.01, 100.0]
    start = time.process_time()
    volumes = growth_law("gompertz").volumes(table, np.linspace(0, 365, 20), forcing=TREATED)
    assert time.process_time() - start < 2.0
    assert volumes.shape == (10000, 20)
    assert np.all(volumes > 0.0)


@pytest.mark.parametrize(
    ("parameters", "days"),
    [
        ([1.0, 0.1], [1.0]),
        ([0.0, 0.1, 5.0], [1.0]),
        ([1.0, -0.1, 5.0], [1.0]),
        ([1.0, np.nan, 5.0], [1.0]),
        ([1.0, 0.1, 5.0], [-1.0]),
        ([1.0, 0.1, 5.0], [np.inf]),
    ],
)
def test_bad_input_is_refused(parameters: list[float], days: list[float]) -> None:
    with pytest.raises(InputError):
        growth_law("gompertz").volumes(parameters, days)


def test_unknown_law_is_refused() -> None:
    with pytest.raises(InputError, match="no such growth law"):
        growth_law("linear")
