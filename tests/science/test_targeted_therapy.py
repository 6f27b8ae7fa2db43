"""Sensitive and resistant clones: exact mixtures, two fields in space, published resistance times."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.ndimage import convolve

from digital_twins import InputError
from digital_twins.models import (
    Domain,
    Forcing,
    ReactionDiffusionModel,
    TwoCloneModel,
    clone_log_survival,
    resistance_probability,
)
from digital_twins.patient_modeling._forcing import forcing_for
from digital_twins.pharmacology import log_kill_integral
from digital_twins.records import parse_treatment

DAILY = {"drug": "erlotinib", "dose_mg": 150, "schedule": "daily", "duration_days": 60}
PARAMETERS = {
    "targeted_sensitivity:erlotinib": 1.5,
    "resistant_fraction:erlotinib": 0.05,
    "targeted_sensitivity:osimertinib": 1.0,
    "resistant_fraction:osimertinib": 0.01,
    "targeted_sensitivity:targeted_agent": 1.0,
    "resistant_fraction:targeted_agent": 0.1,
    "proliferation_per_day": 0.05,
    "alpha_per_gy": 0.05,
    "alpha_beta_gy": 10.0,
    "drug_sensitivity": 0.5,
}


def test_mixture_against_the_two_clone_equations() -> None:
    """Logistic growth, a dose-driven kill of one clone, and a jump of both: scipy on both clones."""
    treatment = parse_treatment(DAILY)
    growth, fraction = 0.05, 0.05

    grid = np.arange(0.0, 90.001, 0.01)
    kill = np.diff(log_kill_integral(treatment, 1.5, grid)) / 0.01

    def rates(t: float, y: np.ndarray) -> list[float]:
        free = growth * (1.0 - y.sum())
        return [y[0] * (free - np.interp(t, grid[:-1] + 0.005, kill)), y[1] * free]

    start = 0.4 * np.array([1 - fraction, fraction])
    before = solve_ivp(rates, (0, 30), start, rtol=1e-7, atol=1e-10, max_step=0.25).y[:, -1]
    after = solve_ivp(rates, (30, 90), 0.5 * before, rtol=1e-7, atol=1e-10, max_step=0.25).y[:, -1]
    forcing = forcing_for([treatment], PARAMETERS) + Forcing(
        jump_days=np.array([30.0]), jump_log_survival=np.log([0.5])
    )
    domain = Domain(np.ones((3, 3, 3), dtype=bool), (1.0, 1.0, 1.0))
    solved = ReactionDiffusionModel(0.1, growth).solve(
        np.full((3, 3, 3), 0.4), domain, [90.0], forcing=forcing, precision="float64"
    )
    np.testing.assert_allclose(solved.density[-1], after.sum(), rtol=2e-5)


def _two_fields(
    start: np.ndarray, fraction: float, cost: float, *, days: float, kill: float
) -> tuple[np.ndarray, np.ndarray]:
    """Reference: both clones as fields, Heun steps of 0.02 day, mirrored walls, kill of one of them."""
    diffusion, growth, step = 0.1, 0.05, 0.02
    fields = np.stack([(1 - fraction) * start, fraction * start])
    stencil = np.zeros((3, 3, 3))
    stencil[1, 1, :] = stencil[1, :, 1] = stencil[:, 1, 1] = 1.0
    stencil[1, 1, 1] = -6.0

    def rates(y: np.ndarray) -> np.ndarray:
        room = growth * (1.0 - y.sum(axis=0))
        spread = np.stack([diffusion * convolve(f, stencil, mode="nearest") for f in y])
        return spread + np.stack([(room - kill) * y[0], (1.0 - cost) * room * y[1]])

    for _ in range(round(days / step)):
        first = rates(fields)
        fields = fields + 0.5 * step * (first + rates(fields + step * first))
    return fields[0], fields[1]


def _ball(size: int = 11) -> np.ndarray:
    z, y, x = np.mgrid[:size, :size, :size] - (size - 1) / 2
    return 0.8 * np.exp(-(z**2 + y**2 + x**2) / 18.0)


def _one_field(start: np.ndarray, fraction: float, cost: float, *, days: float, kill: float) -> np.ndarray:
    nodes = np.linspace(0.0, days, 241)
    log = clone_log_survival(kill * nodes, fraction, elapsed_days=nodes, growth_gap_per_day=0.05 * cost)
    rates = -np.diff(log) / np.diff(nodes)
    forcing = Forcing(
        dose_days=nodes[:-1], amplitude_per_day=np.diff(rates, prepend=0.0), decay_per_day=np.zeros(240)
    )
    domain = Domain(np.ones(start.shape, dtype=bool), (1.0, 1.0, 1.0))
    model = ReactionDiffusionModel(0.1, 0.05)
    solved = model.solve(start, domain, [days], forcing=forcing, precision="float64", tolerance=1e-6)
    return np.asarray(solved.density[-1])


def test_equal_growth_in_space_is_exact_and_the_clone_fraction_uniform() -> None:
    start = _ball()
    sensitive, resistant = _two_fields(start, 0.02, 0.0, days=60.0, kill=0.12)
    ratio = sensitive / resistant
    assert ratio.max() / ratio.min() - 1.0 < 1e-5
    assert ratio.mean() == pytest.approx(0.98 / 0.02 * np.exp(-0.12 * 60.0), rel=1e-4)
    one = _one_field(start, 0.02, 0.0, days=60.0, kill=0.12)
    both = sensitive + resistant
    assert np.linalg.norm(one - both) / np.linalg.norm(both) < 2e-4


@pytest.mark.parametrize(("cost", "bound"), [(0.1, 0.03), (0.3, 0.07)])
def test_cost_of_resistance_has_the_stated_error(cost: float, bound: float) -> None:
    """Overstated where the tissue is dense: the field is too low, by at most the stated part."""
    start = _ball()
    sensitive, resistant = _two_fields(start, 0.02, cost, days=60.0, kill=0.12)
    one = _one_field(start, 0.02, cost, days=60.0, kill=0.12)
    both = sensitive + resistant
    assert np.all(one <= both * (1 + 1e-4))
    assert np.linalg.norm(one - both) / np.linalg.norm(both) < bound


def test_doses_of_one_drug_share_a_clone_and_drugs_are_independent() -> None:
    first = parse_treatment({**DAILY, "duration_days": 30})
    second = parse_treatment({**DAILY, "duration_days": 30, "day": 30})
    whole = forcing_for([parse_treatment(DAILY)], PARAMETERS).cumulative_log_kill([50.0, 200.0])
    split = forcing_for([first, second], PARAMETERS).cumulative_log_kill([50.0, 200.0])
    np.testing.assert_allclose(split, whole, rtol=1e-9)
    other = parse_treatment({"drug": "osimertinib", "dose_mg": 80, "schedule": "daily", "duration_days": 60})
    both = forcing_for([first, other], PARAMETERS).cumulative_log_kill([300.0])[0]
    alone = [forcing_for([t], PARAMETERS).cumulative_log_kill([300.0])[0] for t in (first, other)]
    assert both == pytest.approx(sum(alone), rel=1e-12)
    assert alone[0] < -np.log(0.05) < 1.5 * 30 / 21 + 1.0


def test_kill_ends_with_the_resistant_cells() -> None:
    long = parse_treatment({**DAILY, "duration_days": 700})
    forcing = forcing_for([long], PARAMETERS)
    assert forcing.cumulative_log_kill([750.0])[0] == pytest.approx(-np.log(0.05), rel=1e-6)
    assert forcing.kill_rate_per_day([690.0])[0] < 1e-9


def test_a_drug_without_kinetics_acts_evenly() -> None:
    agent = parse_treatment(
        {"type": "targeted", "drug": "targeted_agent", "dose_mg": 100, "schedule": "daily", "cycles": 21}
    )
    got = forcing_for([agent], PARAMETERS).cumulative_log_kill([10.5, 21.0, 100.0])
    np.testing.assert_allclose(got, -np.log(0.1 + 0.9 * np.exp([-0.5, -1.0, -1.0])), rtol=1e-9)


def test_a_fraction_above_one_is_refused() -> None:
    with pytest.raises(InputError, match="resistant fraction"):
        forcing_for([parse_treatment(DAILY)], {**PARAMETERS, "resistant_fraction:erlotinib": 1.5})
    with pytest.raises(InputError, match="clones"):
        clone_log_survival([1.0], -0.1)
    with pytest.raises(InputError, match="two clones"):
        TwoCloneModel(0.0, 0.01, 0.01)


@pytest.mark.parametrize(("fraction", "months"), [(1.0e-2, 10.2), (1.8e-4, 18.9)])
def test_prior_fractions_give_the_published_resistance_times(fraction: float, months: float) -> None:
    """FLAURA: median progression-free survival of erlotinib or gefitinib, and of osimertinib."""
    model = TwoCloneModel(
        decline_per_day=1.0 / 21 - 0.015, regrowth_per_day=0.015, resistant_fraction=fraction
    )
    assert model.relapse_day / 30.44 == pytest.approx(months, rel=0.02)


def test_two_clones_shrink_and_come_back() -> None:
    model = TwoCloneModel(decline_per_day=0.04, regrowth_per_day=0.015, resistant_fraction=0.01)
    days = np.linspace(0.0, 400.0, 40001)
    size = model.relative_size(days)
    assert days[size.argmin()] == pytest.approx(model.nadir_day, abs=0.011)
    assert model.relative_size(model.relapse_day) == pytest.approx(1.0, rel=0.01)
    # a tenth of the resistant cells delays relapse by ln 10 / growth, whatever the drug's strength
    later = TwoCloneModel(decline_per_day=0.04, regrowth_per_day=0.015, resistant_fraction=0.001)
    assert later.relapse_day - model.relapse_day == pytest.approx(np.log(10) / 0.015, rel=1e-12)
    assert TwoCloneModel(0.01, 0.02, 0.5).nadir_day == 0.0


@pytest.mark.parametrize("turnover", [0.0, 0.5])
def test_probability_of_resistance_against_branching_processes(turnover: float) -> None:
    """Tumours grown from one cell to 1,000 cells; a resistant line counts when it is alive then."""
    rng = np.random.default_rng(5)
    cells, rate = 1000, 5e-4
    found, runs = 0, 250
    for _ in range(runs):
        sensitive, resistant = 1, 0
        while 0 < sensitive + resistant < cells:
            birth = rng.random() < 1.0 / (1.0 + turnover)
            from_resistant = rng.random() < resistant / (sensitive + resistant)
            if birth and not from_resistant and rng.random() < rate:
                resistant += 1
            elif from_resistant:
                resistant += 1 if birth else -1
            else:
                sensitive += 1 if birth else -1
            if sensitive + resistant == 0:
                sensitive, resistant = 1, 0
        found += resistant > 0
    expected = resistance_probability(cells, mutation_rate=rate, death_over_birth=turnover)
    assert found / runs == pytest.approx(expected, abs=3.5 * np.sqrt(expected * (1 - expected) / runs))
