"""Sequential updates: extended and ensemble Kalman filters and particle weights, for any model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.calibration._axes import covariance_root

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal belief: ``mean`` [state] and ``covariance`` [state, state]."""

    mean: FloatArray
    covariance: FloatArray


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was seen: ``values`` [datum], with normal noise of ``covariance`` [datum, datum]."""

    values: FloatArray
    covariance: FloatArray


def ekf_predict(
    state: Gaussian,
    transition: Callable[[FloatArray], FloatArray],
    jacobian: FloatArray,
    *,
    process_noise: FloatArray,
) -> Gaussian:
    """Carry a normal belief through a step of the model, linearised at its mean.

    Exact for a linear model (Kalman 1960, doi:10.1115/1.3662552).

    Parameters
    ----------
    transition
        State to the next state.
    jacobian
        Derivative of ``transition`` at the mean, [state, state].
    process_noise
        Covariance that the step adds.
    """
    return Gaussian(
        np.asarray(transition(state.mean), dtype=np.float64),
        jacobian @ state.covariance @ jacobian.T + process_noise,
    )


def ekf_update(
    state: Gaussian, predicted: FloatArray, jacobian: FloatArray, *, seen: Measurement
) -> Gaussian:
    """Condition a normal belief on a measurement, linearised at its mean (Joseph's form stays positive).

    Parameters
    ----------
    predicted
        Measurement that the mean predicts, [datum].
    jacobian
        Derivative of the predicted measurement by the state, [datum, state].
    """
    innovation = jacobian @ state.covariance @ jacobian.T + seen.covariance
    gain = np.linalg.solve(innovation, jacobian @ state.covariance).T
    rest = np.eye(state.mean.size) - gain @ jacobian
    covariance = rest @ state.covariance @ rest.T + gain @ seen.covariance @ gain.T
    return Gaussian(state.mean + gain @ (seen.values - predicted), 0.5 * (covariance + covariance.T))


def enkf_update(
    members: FloatArray, predicted: FloatArray, *, seen: Measurement, seed: int = 0
) -> FloatArray:
    """Move an ensemble onto a measurement: the ensemble Kalman filter with perturbed observations.

    Evensen 2003, doi:10.1007/s10236-003-0036-9. The perturbations are centred, and both the gain and the
    spread come from the ensemble, so that few members give noisy correlations: use some ten times as many
    as there are states that matter.

    Parameters
    ----------
    members
        [member, state].
    predicted
        Measurement that each member predicts, [member, datum].

    Raises
    ------
    InputError
        When there are fewer than two members, or the shapes do not fit.
    """
    count = members.shape[0]
    if count < 2 or predicted.shape != (count, seen.values.size):
        raise InputError(
            "The ensemble cannot be updated.",
            f"It has {count} members; predicted was {predicted.shape}, seen {seen.values.shape}.",
            "Give two members or more, and one predicted measurement for each.",
        )
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, seen.values.size)) @ np.linalg.cholesky(seen.covariance).T
    noise -= noise.mean(axis=0)
    state_part, data_part = members - members.mean(axis=0), predicted - predicted.mean(axis=0)
    innovation = data_part.T @ data_part / (count - 1) + seen.covariance
    cross = state_part.T @ data_part / (count - 1)
    gain = np.linalg.solve(innovation, cross.T).T
    return np.asarray(members + (seen.values + noise - predicted) @ gain.T)


def reweighted(weights: FloatArray, log_likelihood: FloatArray) -> FloatArray:
    """Return particle weights after a measurement: ``weights * exp(log_likelihood)``, summing to 1.

    Raises
    ------
    InputError
        When no particle is possible.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(weights) + log_likelihood
    best = np.max(logs, initial=-np.inf)
    if not np.isfinite(best):
        raise InputError(
            "No particle agrees with the measurement.",
            "Every one has a likelihood of zero.",
            "Use more particles, a wider belief, or check the measurement.",
        )
    raw = np.exp(logs - best)
    return np.asarray(raw / raw.sum())


def effective_sample_size(weights: FloatArray) -> float:
    """Return how many equally weighted particles tell as much: ``1 / sum(w^2)`` (Kong et al. 1994)."""
    return float(1.0 / np.sum(weights**2))


def systematic_resample(weights: FloatArray, count: int, *, seed: int = 0) -> NDArray[np.intp]:
    """Return ``count`` indices in proportion to the weights, with one random offset (Kitagawa 1996).

    Every particle is drawn ``count * weight`` times, rounded down or up.
    """
    at = (np.random.default_rng(seed).random() + np.arange(count)) / count
    edges = np.cumsum(weights)
    return np.minimum(np.searchsorted(edges / edges[-1], at, side="right"), weights.size - 1)


def shrunk_kernel(
    members: FloatArray, weights: FloatArray, count: int, *, discount: float = 0.98, seed: int = 0
) -> FloatArray:
    """Resample fixed parameters without collapse: Liu & West's kernel, which keeps mean and covariance.

    Each drawn member is pulled to the mean by ``a`` and spread by a normal of ``1 - a^2`` of the weighted
    covariance, ``a = (3 d - 1) / (2 d)`` (Liu & West 2001, doi:10.1007/978-1-4757-3437-9_10).

    Parameters
    ----------
    members, weights
        [member, state] and their weights, which sum to 1.
    count
        How many to return.
    discount
        d in (1/3, 1]: 1 only duplicates.
    """
    a = (3.0 * discount - 1.0) / (2.0 * discount)
    mean = weights @ members
    apart = members - mean
    covariance = (weights[:, None] * apart).T @ apart
    root = covariance_root(covariance) * np.sqrt(1.0 - a * a)
    drawn = members[systematic_resample(weights, count, seed=seed)]
    noise = np.random.default_rng(seed + 1).standard_normal(drawn.shape)
    return np.asarray(a * drawn + (1.0 - a) * mean + noise @ root.T)
