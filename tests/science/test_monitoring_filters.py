"""The batched filters against filterpy, one object a patient, with gaps and irregular steps."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import ExtendedKalmanFilter, KalmanFilter

from digital_twins.monitoring import (
    Body,
    Inputs,
    LiveTwin,
    ParticleTwin,
    TrendFilter,
    systematic_rows,
)
from digital_twins.monitoring.twin._live_twin import (
    READING_SD,
    START_SD,
    STEP_SD,
    linearised_step,
    linearised_view,
)
from digital_twins.monitoring.twin._physiology import SIZE, advance, observe, resting_state

RNG_SEED = 5


def _stream(patients: int, steps: int, vitals: int) -> tuple[np.ndarray, np.ndarray]:
    """Irregular times [step, patient] and values [step, patient, vital] with a third missing."""
    rng = np.random.default_rng(RNG_SEED)
    times = np.cumsum(rng.choice([0.2, 1.0, 3.0, 61.0], size=(steps, patients)), axis=0)
    values = 80.0 + np.cumsum(rng.standard_normal((steps, patients, vitals)), axis=0)
    values[rng.random(values.shape) < 0.33] = np.nan
    values[0] = 80.0
    return times, values


def test_trend_filter_is_filterpy_to_1e_9_with_gaps_and_irregular_steps() -> None:
    patients, steps = 4, 60
    trend = TrendFilter(patients)
    noise, vitals = trend.noise, len(trend.noise.reading)
    times, values = _stream(patients, steps, vitals)
    peers = {}
    for step in range(steps):
        found = trend.step(np.arange(patients), times[step], values[step])
        for patient in range(patients):
            for vital in range(vitals):
                peer = peers.get((patient, vital))
                if peer is None:
                    peer = peers[patient, vital] = KalmanFilter(dim_x=2, dim_z=1)
                    peer.x = np.array([[80.0], [0.0]])
                    peer.P = np.diag([noise.reading[vital], noise.first_slope[vital]])
                    peer.H, peer.R = np.array([[1.0, 0.0]]), noise.reading[vital]
                    continue
                dt = times[step, patient] - times[step - 1, patient]
                peer.F = np.array([[1.0, dt], [0.0, 1.0]])
                peer.Q = noise.slope[vital] * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
                peer.Q[0, 0] += noise.level[vital] * dt
                peer.predict()
                reading = values[step, patient, vital]
                peer.update(None if np.isnan(reading) else reading)
                if np.isfinite(reading):
                    expected = float(peer.y[0, 0] ** 2 / peer.S[0, 0])
                    assert found.nis[patient, vital] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for (patient, vital), peer in peers.items():
        ours = [trend.level[patient, vital], trend.slope[patient, vital]]
        assert ours == pytest.approx(peer.x[:, 0], rel=1e-9, abs=1e-9)
        ours = [trend.p_level[patient, vital], trend.p_cross[patient, vital], trend.p_slope[patient, vital]]
        assert ours == pytest.approx([peer.P[0, 0], peer.P[0, 1], peer.P[1, 1]], rel=1e-9, abs=1e-12)


def test_rows_that_are_not_named_stay_as_they_are() -> None:
    trend = TrendFilter(3)
    values = np.full((3, len(trend.noise.reading)), 70.0)
    trend.step(np.arange(3), np.zeros(3), values)
    before = trend.level[1].copy()
    trend.step(np.array([0, 2]), np.ones(2), values[:2] + 5)
    assert (trend.level[1] == before).all()
    assert trend.time_s.tolist() == [1.0, 0.0, 1.0]


def test_forecast_intervals_hold_what_they_promise_when_the_model_is_right() -> None:
    rng = np.random.default_rng(11)
    patients = 400
    trend = TrendFilter(patients)
    noise = trend.noise
    level = np.full((patients, len(noise.reading)), 80.0)
    for second in range(60):
        trend.step(
            np.arange(patients),
            np.full(patients, float(second)),
            level + rng.standard_normal(level.shape) * np.sqrt(noise.reading),
        )
        level += rng.standard_normal(level.shape) * np.sqrt(noise.level)
    for _ in range(59):
        level += rng.standard_normal(level.shape) * np.sqrt(noise.level)
    seen = level + rng.standard_normal(level.shape) * np.sqrt(noise.reading)
    _, low, high = trend.forecast(60.0)
    inside = ((seen >= low) & (seen <= high)).mean()
    assert 0.94 <= inside <= 0.995


def test_live_twin_is_filterpys_extended_filter_to_1e_9() -> None:
    body, steps = Body(), 25
    twin = LiveTwin(body, 2)
    rng = np.random.default_rng(RNG_SEED)
    peer = ExtendedKalmanFilter(dim_x=SIZE, dim_z=7)
    peer.x, peer.P = resting_state(body, 1), np.diag(START_SD**2)
    time_s = 0.0
    arrays = Body(**{name: np.array([getattr(body, name)]) for name in body.__dataclass_fields__})
    for step in range(steps):
        dt = float(rng.choice([0.5, 3.0, 7.0])) if step else 0.0
        time_s += dt
        reading = np.array([85, 80, 110, 65, 94, 18, 37.4]) + rng.standard_normal(7) * READING_SD
        missing = rng.random(7) < 0.3
        readings = np.where(missing, np.nan, reading)
        # both linearise at one point: what differs is the filter, not the rounding of differences
        oxygen, place = Inputs(np.array([0.21])), twin.mean[:1].T.copy()
        moved, jacobian = linearised_step(place, arrays, oxygen, dt_s=np.array([dt]))
        assert place == pytest.approx(peer.x, rel=1e-9, abs=1e-9)
        found = twin.step(np.arange(2), np.full(2, time_s), np.tile(readings, (2, 1)))
        peer.F, peer.Q = jacobian[0], np.diag(STEP_SD**2) * dt
        peer.predict_x = lambda u=0, moved=moved: setattr(peer, "x", moved)
        peer.predict()
        keep = np.flatnonzero(~missing)
        _, slopes = linearised_view(peer.x, arrays)
        peer.R, peer.dim_z = np.diag(READING_SD[keep] ** 2), len(keep)
        peer.update(
            readings[keep, None],
            lambda x, keep=keep, slopes=slopes: slopes[0][keep],
            lambda x, keep=keep: observe(x, body)[keep],
        )
        expected = (peer.y.T @ np.linalg.inv(peer.S) @ peer.y).item()
        assert found.nis[0] == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert twin.mean[0] == pytest.approx(peer.x[:, 0], rel=1e-9, abs=1e-9)
    assert twin.covariance[0] == pytest.approx(peer.P, rel=1e-9, abs=1e-9)
    assert (twin.mean[0] == twin.mean[1]).all()


def test_live_twin_finds_the_vasoplegia_of_a_simulated_patient() -> None:
    """The tone that the plant has, from readings alone; the other slow parameters stay near zero."""
    body = Body()
    truth = resting_state(body, 1)
    rng = np.random.default_rng(3)
    twin = LiveTwin(body, 1)
    for second in range(1, 1200):
        truth[8] = -0.7 * min(1.0, second / 300)
        truth = advance(truth, body, Inputs(), dt_s=1.0)
        if second % 3 == 0:
            readings = observe(truth, body)[:, 0] + 0.5 * READING_SD * rng.standard_normal(7)
            twin.step(np.array([0]), np.array([float(second)]), readings[None])
    sd = np.sqrt(np.diag(twin.covariance[0]))
    assert twin.mean[0, 8] == pytest.approx(-0.7, abs=0.2)
    assert np.abs(twin.mean[0, 8] + 0.7) < 3 * sd[8]
    assert np.abs(twin.mean[0, [9, 10, 12]]).max() < 0.35


def test_particles_agree_with_the_extended_filter_where_the_belief_is_normal() -> None:
    body = Body()
    rng = np.random.default_rng(8)
    twin, particles = LiveTwin(body, 1), ParticleTwin(body, 1, particles=20_000, seed=2)
    twin.covariance *= 0.01  # near enough to a line for the extended filter to be exact
    rest = resting_state(body, 1)[:, :, None]
    particles.states = rest + 0.1 * (particles.states - rest)
    for step in range(8):
        readings = np.array([[75, 91, 120, 77, 96.5, 14.5, 37.0]]) + 0.5 * READING_SD * rng.standard_normal(7)
        time_s = np.array([3.0 * step])
        twin.step(np.array([0]), time_s, readings)
        particles.step(time_s, readings)
    sd = np.sqrt(np.diag(twin.covariance[0]))
    assert np.abs((particles.mean()[0] - twin.mean[0]) / sd).max() < 0.5


def test_particles_repeat_with_their_seed_and_count_the_likelihood() -> None:
    readings = np.full((1, 7), np.nan)
    readings[0, 6] = 37.2
    one, two = (ParticleTwin(Body(), 1, particles=4000, seed=9) for _ in range(2))
    evidence = one.step(np.zeros(1), readings)
    assert (evidence == two.step(np.zeros(1), readings)).all()
    spread = np.hypot(START_SD[7], READING_SD[6])  # prior predictive of the temperature is normal
    exact = -0.5 * (0.2 / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi))
    assert evidence[0] == pytest.approx(exact, abs=0.05)


def test_systematic_resampling_copies_each_particle_by_its_weight() -> None:
    weights = np.array([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]])
    rows = systematic_rows(weights, np.array([0.5, 0.5]))
    assert rows.tolist() == [[0, 0, 1, 2], [3, 3, 3, 3]]
