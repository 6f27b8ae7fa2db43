"""The physiology against closed forms and published relations; its scenarios against their names."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twins import InputError, NotFoundError
from digital_twins.monitoring import (
    COLUMN,
    SCENARIOS,
    Action,
    Body,
    Inputs,
    LiveTwin,
    SyntheticPatients,
    load_profiles,
    outlook,
)
from digital_twins.monitoring.twin._live_twin import linearised_step, linearised_view
from digital_twins.monitoring.twin._physiology import _saturation, advance, derivative, observe, resting_state

BODY = Body()


def test_health_is_a_steady_state_for_every_body() -> None:
    for body in (BODY, Body(55.0, 90.0, 80.0, 20.0, 36.5, 11.0), Body(110.0, 60.0, 105.0, 12.0, 37.2, 15.0)):
        assert np.abs(derivative(resting_state(body, 1), body, Inputs())).max() < 1e-9


def test_alveolar_gas_equation_holds_at_rest() -> None:
    """PAO2 = FiO2 (760 - 47) - PaCO2 / 0.8, for any inspired fraction."""
    for fraction in (0.21, 0.4, 1.0):
        state = resting_state(BODY, 1)
        state = advance(state, BODY, Inputs(oxygen_fraction=fraction), dt_s=2400.0)
        expected = fraction * 713.0 - state[5, 0] / 0.8
        assert state[4, 0] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("tension", "saturation"), [(26.86, 50.0), (40.0, 75.0), (60.0, 90.0), (100.0, 97.5)]
)
def test_dissociation_curve(tension: float, saturation: float) -> None:
    """The points that textbooks give for normal human blood."""
    state = resting_state(BODY, 1)
    state[4], state[9] = tension, -30.0  # no shunt
    assert _saturation(state, BODY, np.array([84.0]))[0] == pytest.approx(saturation, abs=0.7)


def test_shunt_equation() -> None:
    """Qs/Qt = (Cc - Ca) / (Cc - Cv): the saturation gives back the shunt that was put in."""
    state = resting_state(BODY, 1)
    state[9] = np.log(0.2 / 0.03)
    flow = 84.0
    capillary_state = state.copy()
    capillary_state[9] = -30.0
    capillary = _saturation(capillary_state, BODY, np.array([flow]))[0] / 100
    arterial = _saturation(state, BODY, np.array([flow]))[0] / 100
    extracted = 250.0 / (flow * 0.6) / (1.34 * 14.0)
    venous = arterial - extracted
    assert (capillary - arterial) / (capillary - venous) == pytest.approx(0.2, abs=1e-6)


def test_temperature_follows_its_set_point_exponentially() -> None:
    state = resting_state(BODY, 1)
    state[11] += 2.0
    state = advance(state, BODY, Inputs(), dt_s=2400.0)
    assert state[7, 0] == pytest.approx(39.0 - 2.0 * np.exp(-1.0), abs=1e-3)


def test_volume_is_conserved() -> None:
    state = advance(resting_state(BODY, 1), BODY, Inputs(fluid_ml_per_min=-30.0), dt_s=600.0)
    assert state[3, 0] == pytest.approx(4900.0 - 300.0, abs=1e-6)


def test_steps_agree_with_a_stiff_solver() -> None:
    start = resting_state(BODY, 1)[:, 0]
    start[8], start[9] = -0.5, 1.0
    peer = solve_ivp(
        lambda t, y: derivative(y[:, None], BODY, Inputs(fluid_ml_per_min=-40.0))[:, 0],
        (0, 600),
        start,
        method="LSODA",
        rtol=1e-9,
        atol=1e-9,
        max_step=2.0,
    )
    ours = advance(start[:, None], BODY, Inputs(fluid_ml_per_min=-40.0), dt_s=600.0)[:, 0]
    assert ours == pytest.approx(peer.y[:, -1], rel=2e-3, abs=5e-3)


def test_compiled_step_is_the_law_of_the_arrays() -> None:
    rng = np.random.default_rng(11)
    count = 40
    body = Body(
        weight_kg=rng.uniform(45, 120, count),
        heart_rate_per_min=rng.uniform(55, 95, count),
        haemoglobin_g_dl=rng.uniform(7, 16, count),
    )
    inputs = Inputs(rng.uniform(0.21, 1.0, count), rng.normal(0, 30, count), rng.uniform(0.8, 1.6, count))
    spread = np.array([15, 15, 4, 400, 15, 6, 5, 1, 0.4, 1.0, 0.3, 0.8, 0.2])[:, None]
    states = resting_state(body, count) + spread * rng.standard_normal((13, count))
    arrays = advance(states, body, inputs, dt_s=3.0)
    moved, _ = linearised_step(states, body, inputs, dt_s=np.full(count, 3.0))
    assert np.isfinite(arrays).all()
    assert moved == pytest.approx(arrays, rel=1e-9, abs=1e-9)
    seen, _ = linearised_view(moved, body)
    assert seen == pytest.approx(observe(arrays, body), rel=1e-9, abs=1e-9)


def test_written_out_slopes_are_the_differences_of_the_law() -> None:
    """Every derivative by every state, near health and far from it, where limits cut the law off."""
    rng = np.random.default_rng(3)
    count = 200
    body = Body(
        weight_kg=rng.uniform(45, 120, count),
        heart_rate_per_min=rng.uniform(55, 95, count),
        mean_pressure_mmhg=rng.uniform(75, 105, count),
        respiratory_rate_per_min=rng.uniform(10, 20, count),
        temperature_cel=rng.uniform(36, 38, count),
        haemoglobin_g_dl=rng.uniform(7, 16, count),
    )
    inputs = Inputs(rng.uniform(0.21, 1.0, count), rng.normal(0, 30, count), rng.uniform(0.8, 1.6, count))
    spread = np.array([15, 15, 4, 400, 15, 6, 5, 1, 0.4, 1.0, 0.3, 0.8, 0.2])
    wide = np.where(np.arange(count) % 2, 1.0, 2.5)
    states = resting_state(body, count) + spread[:, None] * wide * rng.standard_normal((13, count))
    for dt_s in (0.7, 3.0):
        _, slopes = linearised_step(states, body, inputs, dt_s=np.full(count, dt_s))
        _, view = linearised_view(states, body)
        for n in range(13):
            step = np.zeros((13, 1))
            step[n] = 1e-5 * spread[n]
            ahead = advance(states + step, body, inputs, dt_s=dt_s)
            behind = advance(states - step, body, inputs, dt_s=dt_s)
            assert slopes[:, :, n] == pytest.approx(((ahead - behind) / (2 * step[n])).T, rel=1e-4, abs=1e-6)
            seen = (observe(states + step, body) - observe(states - step, body)) / (2 * step[n])
            assert view[:, :, n] == pytest.approx(seen.T, rel=1e-4, abs=1e-6)


def test_baroreflex_defends_the_pressure() -> None:
    """After the loss of a litre in ten minutes the pressure falls less than without the reflex."""

    def after_loss(reflex: bool) -> np.ndarray:
        state = resting_state(BODY, 1)
        for _ in range(600):
            if not reflex:
                state[1], state[2] = 72.0, 0.0
            state = advance(state, BODY, Inputs(fluid_ml_per_min=-100.0), dt_s=1.0)
        return observe(state, BODY)[:, 0]

    with_reflex, without = after_loss(True), after_loss(False)
    assert with_reflex[0] > 90
    assert with_reflex[1] > without[1] + 15


def _run(name: str, minutes: int) -> tuple[np.ndarray, np.ndarray]:
    patients = SyntheticPatients(BODY, [name], seed=4)
    first = patients.step(1.0)[0]
    for _ in range(minutes * 12):
        last = patients.step(5.0)[0]
    return first, last


@pytest.mark.parametrize(
    ("name", "signs"),
    [
        ("sepsis", {"HR": 20, "ART_MEAN": -15, "TEMP": 0.5, "SPO2": -2, "RR": 4}),
        ("haemorrhage", {"HR": 20, "ART_MEAN": -15}),
        ("hypoxia", {"SPO2": -6}),
        ("opioid", {"RR": -4, "SPO2": -2}),
        ("arrhythmia", {"HR": 60}),
    ],
)
def test_scenarios_move_the_signs_that_name_them(name: str, signs: dict[str, float]) -> None:
    first, last = _run(name, 20)
    for code, change in signs.items():
        moved = last[COLUMN[code]] - first[COLUMN[code]]
        assert moved * np.sign(change) >= abs(change), (code, moved)


def test_stable_stays() -> None:
    first, last = _run("stable", 60)
    assert np.nanmax(np.abs(last - first)) < 12


def test_generator_repeats_with_its_seed_and_says_that_it_is_synthetic() -> None:
    runs = [SyntheticPatients(BODY, list(SCENARIOS), seed=1) for _ in range(2)]
    assert all(run.synthetic for run in runs)
    assert np.array_equal(runs[0].step(3.0), runs[1].step(3.0), equal_nan=True)
    with pytest.raises(NotFoundError):
        SyntheticPatients(BODY, ["influenza"])


def test_device_sends_its_own_arrhythmia_alarm_once() -> None:
    patients = SyntheticPatients(BODY, ["stable", "arrhythmia"], onset_s=np.array([0.0, 30.0]))
    sent = []
    for _ in range(100):
        patients.step(1.0)
        sent += patients.events(1.0).items()
    assert sent == [(1, "vt")]


def test_outlook_of_actions() -> None:
    twin = LiveTwin(BODY, 1)
    twin.mean[0, 8] = -0.7  # vasoplegia
    plain = outlook(twin, 0, minutes=20)
    pressor = outlook(twin, 0, minutes=20, action=Action(vasopressor=1.6))
    fluid = outlook(twin, 0, minutes=20, action=Action(fluid_ml=500))
    twin.mean[0, 9] = 1.5  # and a shunt
    hypoxic, oxygen = (
        outlook(twin, 0, minutes=20, action=Action(oxygen_fraction=fraction)) for fraction in (0.21, 0.6)
    )
    assert pressor.median[-1, 1] > plain.median[-1, 1] + 3
    assert fluid.median[-1, 1] > plain.median[-1, 1] + 2
    assert fluid.median[-1, 0] < plain.median[-1, 0]
    assert oxygen.median[-1, 4] > hypoxic.median[-1, 4] + 1
    assert (plain.low < plain.median).all()
    assert (plain.median < plain.high).all()
    assert "no advice" in str(plain.to_dict()["note"])
    with pytest.raises(InputError):
        outlook(twin, 0, action=Action(fluid_ml=5000))


def test_profiles_are_data() -> None:
    profiles = load_profiles()
    assert len(profiles) == 3
    assert len({each.condition for each in profiles}) == 3
    assert [each.spo2_scale for each in profiles] == [1, 2, 1]


def test_profiles_that_cannot_be_used(tmp_path) -> None:
    with pytest.raises(NotFoundError):
        load_profiles(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    for text in ("patients: 3", "{", "patients: [{patient: A}]"):
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(InputError):
            load_profiles(bad)
