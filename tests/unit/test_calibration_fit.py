"""The least-squares fit against problems with a known posterior."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.calibration import Belief, Prior, fit_least_squares


def _prior(name: str, median: float, log_sd: float) -> Prior:
    return Prior(name, median, log_sd, median * 1e-4, median * 1e4, "1", "test")


def test_gaussian_problem_has_the_exact_posterior() -> None:
    """Residuals linear in log p: mode and covariance are closed forms."""
    sigma, seen = 0.2, np.array([0.7, 0.9, 1.1])
    prior = _prior("a", 1.0, 0.5)
    fit = fit_least_squares(lambda p: (math.log(p["a"]) - seen) / sigma, [prior])
    precision = 3 / sigma**2 + 1 / 0.5**2
    assert fit.converged
    assert fit.log_covariance[0, 0] == pytest.approx(1 / precision, rel=1e-6)
    assert fit.log_mean[0] == pytest.approx(seen.sum() / sigma**2 / precision, abs=1e-3)
    assert fit.notes == ()


def test_nonlinear_decay_recovers_its_parameters() -> None:
    days = np.linspace(0.0, 30.0, 12)
    seen = 5.0 * np.exp(-0.1 * days)
    fit = fit_least_squares(
        lambda p: (p["size"] * np.exp(-p["rate"] * days) - seen) / 0.05,
        [_prior("size", 1.0, 2.0), _prior("rate", 0.02, 2.0)],
    )
    assert np.exp(fit.log_mean) == pytest.approx([5.0, 0.1], rel=0.01)
    assert fit.message == "A mode was found."


def test_confounded_pair_is_named_and_keeps_the_prior_width() -> None:
    fit = fit_least_squares(
        lambda p: np.array([(math.log(p["a"] * p["b"]) - 1.0) / 0.01]), [_prior("a", 1, 1), _prior("b", 1, 1)]
    )
    assert any("a and b are confounded" in note for note in fit.notes)
    assert fit.log_covariance[0, 0] == pytest.approx(0.5, rel=0.01)


def test_uninformed_parameter_is_named() -> None:
    fit = fit_least_squares(
        lambda p: np.array([(p["a"] - 1.0) / 0.1]), [_prior("a", 1, 0.5), _prior("idle", 2, 0.5)]
    )
    assert any(note.startswith("idle:") for note in fit.notes)
    assert fit.log_covariance[1, 1] == pytest.approx(0.25)


def test_bound_is_kept_and_reported() -> None:
    prior = Prior("a", 1.0, 1.0, 0.5, 2.0, "1", "test")
    fit = fit_least_squares(lambda p: np.array([(p["a"] - 10.0) / 0.01]), [prior])
    assert math.exp(fit.log_mean[0]) == pytest.approx(2.0)
    assert "at its bound" in fit.message


def test_cancelled_and_unusable_fits_are_refused() -> None:
    with pytest.raises(CancelledError):
        fit_least_squares(lambda _: np.ones(2), [_prior("a", 1, 1)], cancelled=lambda: True)
    with pytest.raises(InputError, match="cannot be compared"):
        fit_least_squares(lambda _: np.array([np.nan]), [_prior("a", 1, 1)])
    with pytest.raises(InputError, match="no free parameter"):
        fit_least_squares(lambda _: np.ones(1), [_prior("a", 1, 0)])
    with pytest.raises(InputError, match="prior of 'a'"):
        Prior("a", 1.0, 1.0, 2.0, 3.0, "1", "test")


def test_progress_is_reported() -> None:
    seen: list[float] = []
    fit_least_squares(
        lambda p: np.array([p["a"] - 3.0]), [_prior("a", 1, 1)], progress=lambda share, _: seen.append(share)
    )
    assert seen
    assert seen == sorted(seen)


def test_belief_samples_follow_mean_and_covariance() -> None:
    belief = Belief.from_priors([_prior("a", 2.0, 0.3), _prior("fixed", 10.0, 0.0)])
    belief = belief.with_prior(_prior("b", 1.0, 0.1))
    covariance = np.array([[0.04, 0.015], [0.015, 0.01]])
    belief = belief.updated(("a", "b"), np.array([0.1, 0.2]), covariance)
    samples = belief.sample(20_000, seed=3)
    logs = np.log([[s["a"], s["b"]] for s in samples])
    assert np.cov(logs.T) == pytest.approx(covariance, rel=0.05)
    assert {s["fixed"] for s in samples} == {10.0}
    assert belief.sample(20_000, seed=3)[:3] == samples[:3]
    assert logs.mean(axis=0) == pytest.approx([0.1, 0.2], abs=1e-9)
    estimate = belief.estimates()["a"]
    assert estimate.source == "calibrated"
    assert estimate.low < estimate.value < estimate.high
    assert belief.estimates()["fixed"].fixed


def test_exact_derivatives_give_the_same_mode_and_are_not_asked_for_twice() -> None:
    days = np.linspace(0.0, 30.0, 12)
    priors = [_prior("size", 1.0, 2.0), _prior("rate", 0.02, 2.0)]
    asked: list[tuple[float, float]] = []

    def residuals(p):
        return (p["size"] * np.exp(-p["rate"] * days) - 5.0 * np.exp(-0.1 * days)) / 0.05

    def derivatives(p):
        asked.append((p["size"], p["rate"]))
        curve = p["size"] * np.exp(-p["rate"] * days) / 0.05
        return residuals(p), np.stack([curve, -p["rate"] * days * curve], axis=1)

    plain = fit_least_squares(residuals, priors)
    exact = fit_least_squares(residuals, priors, derivatives=derivatives)
    assert np.exp(exact.log_mean) == pytest.approx([5.0, 0.1], rel=1e-3)
    assert np.sqrt(np.diag(exact.log_covariance)) == pytest.approx(
        np.sqrt(np.diag(plain.log_covariance)), rel=0.02
    )
    assert len(set(asked)) == len(asked), "the covariance takes the derivatives of the search's last step"
    assert exact.jacobian == pytest.approx(
        derivatives(dict(zip(exact.names, np.exp(exact.log_mean), strict=True)))[1]
    )


def test_the_search_ends_where_the_posterior_cannot_tell_the_difference() -> None:
    """A slightly bent problem: within 0.03 standard deviations of the minimum that a fine search finds."""
    prior = _prior("a", 1.0, 1.0)
    seen = np.array([2.0, 2.6, 3.1])
    fit = fit_least_squares(lambda p: (p["a"] ** 1.5 - seen) / 0.4, [prior])
    logs = np.linspace(fit.log_mean[0] - 0.3, fit.log_mean[0] + 0.3, 60_001)
    cost = 0.5 * (((np.exp(logs)[:, None] ** 1.5 - seen) / 0.4) ** 2).sum(axis=1) + 0.5 * logs**2
    away = abs(logs[cost.argmin()] - fit.log_mean[0])
    assert away < 0.04 * math.sqrt(fit.log_covariance[0, 0])
