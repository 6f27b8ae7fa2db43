"""The agent-based tumour against the continuum, closed forms, independent solvers and its own books."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from scipy import optimize, sparse
from scipy.sparse.linalg import spsolve

from digital_twins import InputError
from digital_twins.models import (
    AgentBasedModel,
    AgentParameters,
    AgentState,
    Domain,
    Forcing,
    ReactionDiffusionModel,
    logistic_growth,
)
from digital_twins.models._agents_tissue import Tissue

UNFED: dict[str, Any] = {"oxygen_uptake_mmhg_per_s": 0.0, "nutrient_uptake_mmol_per_l_s": 0.0}
QUIET: dict[str, Any] = {**UNFED, "division_per_day": 0.0, "apoptosis_per_day": 0.0}
ONE_FIELD: dict[str, Any] = {"nutrient_uptake_mmol_per_l_s": 0.0, "field_tolerance": 2e-5}


def free(shape: tuple[int, int, int], **parameters: Any) -> AgentBasedModel:
    """A lattice without vessels."""
    return AgentBasedModel(shape, AgentParameters(**parameters), np.zeros(shape, dtype=bool))


def scattered(shape: tuple[int, int, int], cells: int) -> np.ndarray:
    states = np.zeros(np.prod(shape), np.uint8)
    states[np.random.default_rng(1).choice(states.size, cells, replace=False)] = AgentState.PROLIFERATING
    return states.reshape(shape)


def balances(trajectory) -> None:
    """Every cell that came or went is in the books."""
    e = trajectory.events
    living, dead = trajectory.living, trajectory.count(AgentState.NECROTIC)
    immune = trajectory.count(AgentState.IMMUNE)
    to_necrosis = e["drug_kills"] + e["starvation"] + e["radiation_kills"]
    born = e["divisions"] - e["apoptosis"] - e["immune_kills"] - to_necrosis
    np.testing.assert_array_equal(living - living[0], born - born[0])
    rotted = to_necrosis - e["cleared"]
    np.testing.assert_array_equal(dead - dead[0], rotted - rotted[0])
    hunters = e["immune_entries"] - e["immune_deaths"]
    np.testing.assert_array_equal(immune - immune[0], hunters - hunters[0])
    assert np.ptp(trajectory.counts.sum(axis=1)) == 0


def test_unconstrained_growth_is_the_birth_death_process() -> None:
    birth, death, cells, day, runs = 0.7, 0.1, 400, 4.0, 12
    shape = (1, 1000, 1000)
    model = free(shape, **UNFED, division_per_day=birth, apoptosis_per_day=death, placement="well_mixed")
    start = scattered(shape, cells)
    ends = [model.run([day], start=start, seed=seed).living[0] for seed in range(runs)]
    net = birth - death
    deviation = np.sqrt((birth + death) / net * (1 - np.exp(-net * day)) / cells / runs)
    assert np.mean(ends) / (cells * np.exp(net * day)) == pytest.approx(1.0, abs=3.5 * deviation + 0.004)


def test_well_mixed_saturation_is_the_logistic_law() -> None:
    birth, death, sites = 0.7, 0.1, 90_000
    shape, days = (1, 300, 300), np.arange(0.0, 21.0, 2.0)
    parameters = {**UNFED, "division_per_day": birth, "apoptosis_per_day": death, "step_days": 1 / 96}
    model = free(shape, **parameters, placement="well_mixed")
    found = model.run(days, start=scattered(shape, 4500), seed=3)
    capacity = sites * (1.0 - death / birth)
    law = logistic_growth(4500.0, days, proliferation_per_day=birth - death, carrying_capacity=capacity)
    assert np.max(np.abs(found.living - law)) < 0.015 * capacity
    assert found.living[-1] == pytest.approx(law[-1], rel=0.006)
    balances(found)


def test_migration_diffuses_as_theory_says() -> None:
    shape, rate, days = (1, 4000, 101), 20.0, 4.0
    start = np.zeros(shape, np.uint8)
    start[0, ::2, 50] = AgentState.PROLIFERATING
    model = free(shape, **QUIET, migration_per_day=rate)
    states = model.run([days], start=start, seed=2, snapshot_days=[days]).snapshots[0].states
    x = np.nonzero(states[0])[1] - 50.0
    assert x.size == 2000
    assert np.mean(x**2) == pytest.approx(rate * days / 2.0, rel=4 * np.sqrt(2 / 2000) + 0.02)
    assert abs(np.mean(x)) < 4 * np.sqrt(rate * days / 2 / 2000)


def front(parameters: dict[str, Any], days: np.ndarray, columns: int, seed: int) -> np.ndarray:
    """Columns filled on each day behind a front that runs along a strip of 200 rows."""
    shape = (1, 200, columns)
    start = np.zeros(shape, np.uint8)
    start[..., :10] = AgentState.PROLIFERATING
    model = free(shape, **UNFED, apoptosis_per_day=0.0, **parameters)
    return model.run(days, start=start, seed=seed).living / shape[1]


def test_fisher_front_has_constant_speed_near_theory() -> None:
    birth, moves = 1.0, 20.0
    rates = {"division_per_day": birth, "migration_per_day": moves, "step_days": 1 / 96}
    days = np.arange(10.0, 31.0, 2.0)
    place = front({**rates, "placement": "random_neighbour"}, days, 220, seed=1)

    def wave(k: float) -> float:
        hop = (np.cosh(k) - 1.0) / 2.0
        return (moves * hop + birth * (1.0 + hop)) / k

    linear = optimize.minimize_scalar(wave, bounds=(0.01, 3.0), method="bounded").fun
    assert linear == pytest.approx(2 * np.sqrt(birth * (moves + birth) / 4), rel=0.03)
    early, late = np.polyfit(days[:6], place[:6], 1)[0], np.polyfit(days[5:], place[5:], 1)[0]
    assert late == pytest.approx(early, rel=0.06)
    assert 0.80 * linear < np.polyfit(days, place, 1)[0] < linear


def test_contact_inhibited_front_has_constant_speed() -> None:
    days = np.arange(10.0, 41.0, 2.0)
    place = front({}, days, 120, seed=2)
    slope, offset = np.polyfit(days, place, 1)
    assert np.max(np.abs(place - slope * days - offset)) < 0.6
    assert slope > 0.5


def test_crowded_cells_rest_until_a_neighbour_leaves() -> None:
    """Contact inhibition: no free face neighbour, no division; a hole is filled once and closes again."""
    shape = (1, 60, 60)
    full = np.full(shape, AgentState.PROLIFERATING, np.uint8)
    model = free(shape, **UNFED, apoptosis_per_day=0.0, division_per_day=2.0)
    packed = model.run([0.0, 3.0], start=full, seed=1)
    assert packed.events["divisions"][-1] == 0
    assert packed.count(AgentState.QUIESCENT)[-1] == full.size
    holes = full.copy()
    holes[0, 5::10, 5::10] = AgentState.EMPTY
    filled = model.run([0.0, 8.0], start=holes, seed=1)
    assert filled.events["divisions"][-1] == np.sum(holes == AgentState.EMPTY) == 36
    assert filled.living[-1] == full.size


def test_treated_spreading_tissue_follows_the_reaction_diffusion_model() -> None:
    """Motion far faster than birth: the mean field, D = h^2 (moves + births) / 4, a fraction, a drug."""
    birth, moves, rows, columns = 0.6, 40.0, 300, 80
    shape = (1, rows, columns)
    parameters = {
        **UNFED,
        "division_per_day": birth,
        "apoptosis_per_day": 0.0,
        "migration_per_day": moves,
        "placement": "random_neighbour",
        "step_days": 1 / 96,
        "vessel_oxygen_mmhg": 1e6,
        "drug_uptake_per_s": 0.0,
        "necrotic_clearance_per_day": 40.0,
    }
    start = np.zeros(shape, np.uint8)
    start[..., :40] = np.random.default_rng(4).random((rows, 40)) < 0.3
    drug = Forcing(dose_days=[1.5], amplitude_per_day=[0.8], decay_per_day=[2.0])
    model = free(shape, **parameters)
    found = model.run(
        [3.0], start=start, seed=2, fractions=[(1.0, 2.0)], drug=drug, snapshot_days=[3.0]
    ).snapshots[0]
    alive = np.isin(found.states[0], (AgentState.PROLIFERATING, AgentState.QUIESCENT)).mean(axis=0)
    h = model.parameters.cell_spacing_um / 1000.0
    alpha, ratio = model.parameters.alpha_per_gy, model.parameters.alpha_beta_gy
    dose = 2.0 * (3 * 1e6 + 3.28) / (3 * (1e6 + 3.28))
    jump = -(alpha * dose + alpha / ratio * dose**2)
    continuum = (
        ReactionDiffusionModel(h**2 * (moves + birth) / 4, birth)
        .solve(
            np.broadcast_to(np.where(np.arange(columns) < 40, start[..., :40].mean(), 0.0), (1, 3, columns)),
            Domain(np.ones((1, 3, columns), dtype=bool), (h, h, h)),
            [3.0],
            forcing=Forcing([1.0], [jump]) + drug,
            precision="float64",
        )
        .density[-1][0, 0]
    )
    by_ten = alive.reshape(-1, 10).mean(axis=1) - continuum.reshape(-1, 10).mean(axis=1)
    assert np.max(np.abs(by_ten)) < 0.03
    assert alive.sum() == pytest.approx(continuum.sum(), rel=0.05)
    assert continuum[5] > 0.15
    assert continuum[60] < 0.12


def test_a_step_costs_less_than_half_a_second_a_million_cells() -> None:
    model = AgentBasedModel((72, 72, 72))
    tissue = Tissue(model.parameters, model._start(model.ball(680.0)), 0)
    tissue.step(1.0 / 24.0, 0.0)
    cells, costs = float(tissue.counts()[1:5].sum()), []
    for _ in range(8):
        begin = time.process_time()
        tissue.step(1.0 / 24.0, 0.0)
        costs.append(time.process_time() - begin)
    assert cells > 150_000
    # The best of several steps: on a machine shared with others, caches and not the code set the slow ones.
    assert min(costs) / cells * 1e6 < 0.5


@pytest.mark.parametrize("dose", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("oxygen", [0.01, 3.28, 1e6])
def test_radiation_survival_is_linear_quadratic_of_the_oxygenated_dose(dose: float, oxygen: float) -> None:
    thresholds = {"hypoxia_oxygen_mmhg": 0.0, "necrosis_oxygen_mmhg": 0.0}
    shape, cells = (40, 50, 50), 100_000
    model = free(shape, **QUIET, **thresholds, vessel_oxygen_mmhg=oxygen, necrotic_clearance_per_day=0.0)
    start = np.full(shape, AgentState.PROLIFERATING, np.uint8)
    found = model.run([0.0, 0.01], start=start, seed=5, fractions=[(0.0, dose)])
    effective = dose * (3 * oxygen + 3.28) / (3 * (oxygen + 3.28))
    survival = np.exp(-0.3 * effective - 0.03 * effective**2)
    deviation = np.sqrt(survival * (1 - survival) / cells)
    assert abs(found.living[1] / cells - survival) < 4 * deviation
    assert found.events["radiation_kills"].tolist() == [0, cells - found.living[1]]


def test_drug_kills_by_its_integral_where_it_reaches() -> None:
    shape, cells = (40, 50, 50), 100_000
    dose = Forcing(dose_days=[0.3], amplitude_per_day=[4.0], decay_per_day=[6.0])
    start = np.full(shape, AgentState.PROLIFERATING, np.uint8)
    found = free(shape, **QUIET, drug_uptake_per_s=0.0).run([2.0], start=start, drug=dose)
    survival = np.exp(-dose.cumulative_log_kill(2.0))
    assert abs(found.living[0] / cells - survival) < 4 * np.sqrt(survival * (1 - survival) / cells)

    slab = np.zeros((1, 400, 40), dtype=bool)
    slab[..., 0] = True
    model = AgentBasedModel(slab.shape, AgentParameters(**QUIET, necrotic_clearance_per_day=0.0), slab)
    start = np.where(slab, AgentState.EMPTY, AgentState.PROLIFERATING)
    after = model.run([1.0], start=start, drug=dose, snapshot_days=[1.0]).snapshots[0].states
    dead = np.mean(after == AgentState.NECROTIC, axis=(0, 1))
    assert dead[1] > 0.35 > 0.1 > dead[-1]


def rod(sites: int, **parameters: Any) -> tuple[AgentBasedModel, np.ndarray, np.ndarray]:
    """A row of cells fed from its first site; the cells' depths in um."""
    vessels = np.zeros((1, 1, sites), dtype=bool)
    vessels[..., 0] = True
    model = AgentBasedModel(vessels.shape, AgentParameters(**parameters), vessels)
    start = np.where(vessels, AgentState.EMPTY, AgentState.PROLIFERATING)
    return model, start, np.arange(sites) * model.parameters.cell_spacing_um


def test_drug_in_a_slab_is_the_hyperbolic_cosine() -> None:
    model, start, x = rod(120, cell_spacing_um=5.0, field_tolerance=1e-6)
    length, depth = 119.5 * 5.0, 100.0
    expected = np.cosh((length - x) / depth) / np.cosh(length / depth)
    np.testing.assert_allclose(model.fields(start)["drug_share"][0, 0], expected, atol=2e-4)


def test_oxygen_in_a_slab_is_the_parabola() -> None:
    model, start, x = rod(
        80,
        cell_spacing_um=5.0,
        oxygen_half_uptake_mmhg=1e-3,
        field_tolerance=1e-6,
        nutrient_uptake_mmol_per_l_s=0.0,
    )
    reach = np.sqrt(2 * 2000.0 * 40.0 / 22.0)
    expected = 40.0 * np.maximum(1.0 - x / reach, 0.0) ** 2
    np.testing.assert_allclose(model.fields(start)["oxygen_mmhg"][0, 0], expected, atol=0.1)


@pytest.mark.parametrize("radius_um", [180.0, 300.0])
def test_oxygen_in_a_spheroid(radius_um: float) -> None:
    """Zero-order uptake in a sphere, with and without an anoxic core (Grimes 2014)."""
    spacing, n = 10.0, 71
    r = spacing * np.sqrt(np.sum((np.indices((n, n, n)) - (n - 1) / 2) ** 2, axis=0))
    medium = r >= radius_um
    parameters = AgentParameters(
        cell_spacing_um=spacing, vessel_oxygen_mmhg=100.0, oxygen_half_uptake_mmhg=0.01, **ONE_FIELD
    )
    model = AgentBasedModel(medium.shape, parameters, medium)
    found = model.fields(np.where(medium, AgentState.EMPTY, AgentState.PROLIFERATING))["oxygen_mmhg"]
    a = 22.0 / (6 * 2000.0)

    def deficit(core: float) -> float:
        return a * (radius_um**2 - 3 * core**2 + 2 * core**3 / radius_um) - 100.0

    core = optimize.brentq(deficit, 0.0, radius_um) if deficit(0.0) > 0 else 0.0
    inner = np.maximum(r, max(core, 1e-9))
    expected = 100.0 - a * (radius_um**2 - inner**2) + 2 * a * core**3 * (1 / inner - 1 / radius_um)
    inside = r < radius_um
    slope = 2 * a * (radius_um - core**3 / radius_um**2)
    assert np.max(np.abs(found - expected)[inside]) < 0.6 * spacing * slope, "the surface is a staircase"
    rim = radius_um - spacing * (3 * np.sum(found[inside] < 0.5) / (4 * np.pi)) ** (1 / 3)
    exact = (
        optimize.brentq(lambda x: np.interp(x, *profile(r, expected)) - 0.5, 1, radius_um) if core else 0.0
    )
    assert rim == pytest.approx(radius_um - exact, abs=spacing)


def profile(r: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(r.ravel())
    return r.ravel()[order], values.ravel()[order]


def test_necrosis_leaves_the_viable_rim_of_theory() -> None:
    """Fast necrosis stops where a fully alive slab falls to the threshold; none can pass the static limit."""
    for rate in (1e4, 0.5):
        parameters = AgentParameters(
            **{**ONE_FIELD, "oxygen_half_uptake_mmhg": 1e-2, "quiescent_uptake_share": 1.0},
            cell_spacing_um=5.0,
            division_per_day=0.0,
            apoptosis_per_day=0.0,
            necrosis_per_day=rate,
            necrotic_clearance_per_day=0.0,
        )
        vessels = np.zeros((1, 64, 60), dtype=bool)
        vessels[..., 0] = True
        model = AgentBasedModel(vessels.shape, parameters, vessels)
        start = np.where(vessels, AgentState.EMPTY, AgentState.PROLIFERATING)
        rim = model.run([20.0], start=start).living[0] / 64 * 5.0
        full = np.sqrt(2 * 2000.0 / 22.0) * (np.sqrt(40.0) - np.sqrt(2.5))
        static = np.sqrt(2 * 2000.0 * 37.5 / 22.0)
        assert full - 7.5 < rim < static + 5.0
        if rate > 100.0:
            assert rim == pytest.approx(full, abs=5.0)


def test_fields_equal_a_direct_solution_on_a_random_tissue() -> None:
    rng, shape = np.random.default_rng(7), (9, 14, 21)
    vessels = rng.random(shape) < 0.02
    model = AgentBasedModel(shape, AgentParameters(field_tolerance=1e-6), vessels)
    states = np.where((rng.random(shape) < 0.6) & ~vessels, AgentState.PROLIFERATING, AgentState.EMPTY)
    laplacian = sparse.csr_array((states.size, states.size))
    for axis, n in enumerate(shape):
        one = sparse.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]).tocsr()
        one = one - sparse.diags_array(one.sum(axis=1))
        before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        laplacian = laplacian + sparse.kron(
            sparse.kron(sparse.eye_array(before), one), sparse.eye_array(after)
        )
    uptake = 0.01 / 100.0 * 400.0 * (states.ravel() == AgentState.PROLIFERATING)
    given = vessels.ravel().astype(float)
    matrix = sparse.diags_array(1 - given) @ (sparse.diags_array(uptake) - laplacian) + sparse.diags_array(
        given
    )
    expected = spsolve(matrix.tocsc(), given).reshape(shape)
    np.testing.assert_allclose(model.fields(states)["drug_share"], expected, atol=1e-4)


def busy() -> tuple[AgentBasedModel, dict[str, Any]]:
    """Everything at once: starvation, drug, radiation and immune cells from inner vessels."""
    shape = (24, 30, 33)
    vessels = np.zeros(shape, dtype=bool)
    vessels[:, ::14, ::15] = True
    model = AgentBasedModel(
        shape, AgentParameters(immune_entry_per_vessel_per_day=1.0, migration_per_day=1.0), vessels
    )
    dose = Forcing(dose_days=[1.0], amplitude_per_day=[2.0], decay_per_day=[3.0])
    return model, {"start": model.ball(180.0), "fractions": [(0.5, 2.0), (1.27, 2.0)], "drug": dose}


def test_counts_balance_and_runs_repeat() -> None:
    model, course = busy()
    days = [0.0, 0.5, 1.0, 2.0]
    first = model.run(days, **course, seed=11, snapshot_days=[2.0])
    again = model.run(days, **course, seed=11, snapshot_days=[2.0])
    other = model.run(days, **course, seed=12, snapshot_days=[2.0])
    balances(first)
    for name in set(first.events) - {"immune_deaths"}:
        assert first.events[name][-1] > 0, name
    np.testing.assert_array_equal(first.snapshots[0].states, again.snapshots[0].states)
    np.testing.assert_array_equal(first.snapshots[0].oxygen_mmhg, again.snapshots[0].oxygen_mmhg)
    assert np.any(first.snapshots[0].states != other.snapshots[0].states)
    found = np.bincount(first.snapshots[0].states.ravel(), minlength=6)
    np.testing.assert_array_equal(found, first.counts[-1])


def test_immune_cells_kill_what_they_touch_at_their_rate() -> None:
    shape = (1, 300, 300)
    start = np.zeros(shape, np.uint8)
    start[0, ::3, ::4], start[0, ::3, 1::4] = AgentState.IMMUNE, AgentState.PROLIFERATING
    model = free(shape, **QUIET, immune_death_per_day=0.0)
    found = model.run([0.0, 1 / 24], start=start, seed=3)
    pairs, chance = found.living[0], -np.expm1(-10.0 / 24)
    assert abs(found.events["immune_kills"][1] / pairs - chance) < 4 * np.sqrt(chance * (1 - chance) / pairs)
    balances(found)


def test_immune_cells_climb_the_chemokine() -> None:
    shape = (1, 41, 81)
    start = np.zeros(shape, np.uint8)
    start[0, :, 60:] = AgentState.PROLIFERATING
    start[0, ::4, 40] = AgentState.IMMUNE
    drift = {}
    for share in (0.0, 0.8):
        model = free(
            shape, **QUIET, chemotaxis_share=share, immune_death_per_day=0.0, immune_kill_per_day=0.0
        )
        states = model.run([0.25], start=start, snapshot_days=[0.25]).snapshots[0].states
        drift[share] = np.mean(np.nonzero(states[0] == AgentState.IMMUNE)[1]) - 40.0
    assert drift[0.8] > 10.0 > 4.0 > drift[0.0]


def test_a_sphere_turns_quiescent_then_necrotic_inside() -> None:
    model = AgentBasedModel((48, 48, 48))
    snapshot = model.run([3.0], start=model.ball(300.0), snapshot_days=[3.0]).snapshots[0]
    middle = np.sqrt(np.sum((np.indices(model.shape) - 23.5) ** 2, axis=0))
    mean_radius = [middle[snapshot.states == s].mean() for s in (3, 2, 1)]
    assert mean_radius == sorted(mean_radius)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"division_per_day": -1.0}, "division_per_day"),
        ({"cell_spacing_um": 0.0}, "cell_spacing_um"),
        ({"vessel_oxygen_mmhg": float("nan")}, "vessel_oxygen_mmhg"),
        ({"chemotaxis_share": 1.5}, "chemotaxis_share"),
        ({"oer_maximum": 0.5}, "oer_maximum"),
        ({"placement": "anywhere"}, "placement"),
        ({"necrosis_oxygen_mmhg": 6.0}, "thresholds"),
        ({"division_per_day": 20.0}, "step_days to 0.0347"),
        ({"migration_per_day": 48.0}, "step_days to 0.0208"),
    ],
)
def test_parameters_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        AgentParameters(**values)
    assert caught.value.what
    assert caught.value.why
    assert caught.value.fix


def test_models_refused() -> None:
    for shape, vessels in (
        ((0, 3, 3), None),
        ((1, 1, 1), None),
        ((2000, 2000, 2000), None),
        ((3, 3, 3), np.ones((2, 2, 2), dtype=bool)),
        ((3, 3, 3), np.zeros((3, 3, 3), dtype=bool)),
    ):
        with pytest.raises(InputError):
            AgentBasedModel(shape, vessels=vessels)


@pytest.mark.parametrize(
    "change",
    [
        {"days": [2.0, 1.0]},
        {"days": []},
        {"days": [-1.0]},
        {"days": [float("nan")]},
        {"seed": -1},
        {"seed": 0.5},
        {"start": np.zeros((2, 2, 2))},
        {"start": np.full((5, 5, 5), 9)},
        {"start": np.full((5, 5, 5), 1)},
        {"start": np.full((5, 5, 5), 5)},
        {"fractions": [(-1.0, 2.0)]},
        {"fractions": [(0.0, float("nan"))]},
        {"drug": Forcing([1.0], [-0.1])},
        {"snapshot_days": [0.5]},
    ],
    ids=str,
)
def test_runs_refused(change: dict[str, Any]) -> None:
    model = AgentBasedModel((5, 5, 5))
    arguments = {"days": [0.0, 1.0], "start": np.zeros((5, 5, 5)), **change}
    with pytest.raises(InputError):
        model.run(arguments.pop("days"), **arguments)


def test_a_field_that_cannot_settle_is_refused() -> None:
    model = AgentBasedModel((1, 1, 9))
    blind = dataclasses.replace(model.parameters, field_tolerance=1e-12)
    with pytest.raises(InputError, match="did not settle"):
        AgentBasedModel((9, 9, 9), blind).fields(AgentBasedModel((9, 9, 9)).ball(60.0))
