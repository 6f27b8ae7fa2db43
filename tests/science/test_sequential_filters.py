"""Filters against filterpy (an independent library) on linear-Gaussian problems, where they are exact."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import EnsembleKalmanFilter, ExtendedKalmanFilter, KalmanFilter
from filterpy.monte_carlo import systematic_resample as peer_resample

from digital_twins import InputError
from digital_twins.calibration import (
    Gaussian,
    Measurement,
    covariance_root,
    effective_sample_size,
    ekf_predict,
    ekf_update,
    enkf_update,
    reweighted,
    shrunk_kernel,
    systematic_resample,
)

F = np.array([[1.0, 0.5], [0.0, 0.9]])
H = np.array([[1.0, 0.0], [0.5, 1.0], [0.0, 2.0]])
Q, R = np.diag([0.02, 0.05]), np.diag([0.3, 0.2, 0.5]) + 0.05
START = Gaussian(np.array([1.0, -0.5]), np.array([[0.8, 0.2], [0.2, 0.5]]))


def _readings(count: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    state, seen = np.array([1.5, 0.2]), []
    for _ in range(count):
        state = F @ state + rng.multivariate_normal(np.zeros(2), Q)
        seen.append(H @ state + rng.multivariate_normal(np.zeros(3), R))
    return np.array(seen)


def _filtered(seen: np.ndarray) -> Gaussian:
    state = START
    for reading in seen:
        state = ekf_predict(state, lambda x: F @ x, F, process_noise=Q)
        state = ekf_update(state, H @ state.mean, H, seen=Measurement(reading, R))
    return state


def test_ekf_is_the_kalman_filter_on_a_linear_problem() -> None:
    peer = KalmanFilter(dim_x=2, dim_z=3)
    peer.x, peer.P, peer.F, peer.H, peer.Q, peer.R = START.mean[:, None], START.covariance, F, H, Q, R
    seen = _readings(25)
    for reading in seen:
        peer.predict()
        peer.update(reading[:, None])
    state = _filtered(seen)
    assert state.mean == pytest.approx(peer.x[:, 0], rel=1e-10)
    assert state.covariance == pytest.approx(peer.P, rel=1e-10)


def test_ekf_update_of_a_curved_measurement_agrees_with_the_peer() -> None:
    def height(x: np.ndarray) -> np.ndarray:
        return np.array([np.hypot(x[0], x[1]), x[0] * x[1]])

    def slope(x: np.ndarray) -> np.ndarray:
        return np.array([[x[0], x[1]] / np.hypot(x[0], x[1]), [x[1], x[0]]])

    peer = ExtendedKalmanFilter(dim_x=2, dim_z=2)
    peer.x, peer.P, peer.R = START.mean.copy(), START.covariance.copy(), np.diag([0.1, 0.2])
    seen = np.array([1.4, -0.1])
    peer.update(seen, slope, height)
    ours = ekf_update(
        START, height(START.mean), slope(START.mean), seen=Measurement(seen, np.diag([0.1, 0.2]))
    )
    assert ours.mean == pytest.approx(peer.x, rel=1e-12)
    assert ours.covariance == pytest.approx(peer.P, rel=1e-10)


def test_ensemble_filter_tends_to_the_kalman_filter() -> None:
    """20,000 members: mean and covariance within sampling error of the exact ones, as the peer's are."""
    seen = _readings(6)
    exact, rng, count = _filtered(seen), np.random.default_rng(1), 20_000
    members = rng.multivariate_normal(START.mean, START.covariance, count)
    np.random.seed(2)  # noqa: NPY002, TID251  the peer draws from numpy's module state
    peer = EnsembleKalmanFilter(
        START.mean, START.covariance, 3, 1.0, count, lambda x: H @ x, lambda x, _dt: F @ x
    )
    peer.Q, peer.R = Q, R
    for step, reading in enumerate(seen):
        members = members @ F.T + rng.multivariate_normal(np.zeros(2), Q, count)
        members = enkf_update(members, members @ H.T, seen=Measurement(reading, R), seed=step)
        peer.predict()
        peer.update(reading)
    spread = np.sqrt(np.diag(exact.covariance))
    for ensemble in (members, peer.sigmas):
        assert np.abs(ensemble.mean(axis=0) - exact.mean).max() < 0.05 * spread.max()
        assert np.cov(ensemble.T) == pytest.approx(exact.covariance, abs=0.06 * spread.max() ** 2)


def test_particles_tend_to_the_kalman_filter() -> None:
    reading = _readings(1)[0]
    exact, rng, count = _filtered(reading[None]), np.random.default_rng(5), 100_000
    members = rng.multivariate_normal(F @ START.mean, F @ START.covariance @ F.T + Q, count)
    apart = reading - members @ H.T
    logs = -0.5 * np.einsum("ij,jk,ik->i", apart, np.linalg.inv(R), apart)
    weights = reweighted(np.full(count, 1.0 / count), logs)
    mean = weights @ members
    spread = np.sqrt(np.diag(exact.covariance))
    assert np.abs((mean - exact.mean) / spread).max() < 0.03
    assert 1000 < effective_sample_size(weights) < count
    jittered = shrunk_kernel(members, weights, count, seed=3)
    assert np.cov(jittered.T) == pytest.approx(exact.covariance, abs=0.05 * spread.max() ** 2)
    assert np.abs((jittered.mean(axis=0) - exact.mean) / spread).max() < 0.03
    assert np.unique(jittered, axis=0).shape[0] == count


def test_systematic_resampling_draws_each_its_share() -> None:
    weights = np.array([0.5, 0.24, 0.26, 0.0])
    for seed in range(20):
        counts = np.bincount(systematic_resample(weights, 100, seed=seed), minlength=4)
        assert np.all(np.abs(counts - 100 * weights) <= 1.0)
    peer = np.bincount(peer_resample(np.repeat(weights / 25.0, 25)) // 25, minlength=4)
    assert np.all(np.abs(peer - counts) <= 2)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_a_root_does_not_depend_on_the_signs_a_library_chose(
    flips: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    eigh = np.linalg.eigh
    covariance = np.cov(np.random.default_rng(3).normal(size=(3, 9)))
    expected = covariance_root(covariance)
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (eigh(matrix)[0], eigh(matrix)[1] * flips))
    root = covariance_root(covariance)
    assert np.array_equal(root, expected)
    assert root @ root.T == pytest.approx(covariance)


def test_independent_components_keep_axes_of_their_own() -> None:
    pair = np.array([[0.5, 0.2], [0.2, 0.5]])
    covariance = np.diag([0.5, 0.7, 0.3, 0.7])
    covariance[np.ix_([0, 2], [0, 2])] = pair
    root = covariance_root(covariance)
    assert root @ root.T == pytest.approx(covariance)
    assert np.array_equal(root[[1, 3]][:, [1, 3]], np.sqrt(0.7) * np.eye(2))
    assert np.array_equal(root[[0, 2]][:, [0, 2]], covariance_root(pair))


def test_impossible_measurements_and_lone_members_are_refused() -> None:
    with pytest.raises(InputError, match="No particle agrees"):
        reweighted(np.array([0.5, 0.5]), np.full(2, -np.inf))
    with pytest.raises(InputError, match="ensemble cannot be updated"):
        enkf_update(np.ones((1, 2)), np.ones((1, 3)), seen=Measurement(np.ones(3), R))
