"""Tempered sequential Monte Carlo against posteriors that are known: normal, curved, bounded, two-humped."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError

import numpy as np
import pytest
from scipy import stats

from digital_twins import InputError
from digital_twins.calibration import (
    Belief,
    Particles,
    Prior,
    SamplerOptions,
    fit_least_squares,
    sample_posterior,
)


def _prior(name: str, log_sd: float = 1.0, *, low: float = 1e-4, high: float = 1e4) -> Prior:
    return Prior(name, 1.0, log_sd, low, high, "1", "test")


def _quadrature(
    log_likelihood, *, low: float = math.log(1e-4), high: float = math.log(1e4), size: int = 801
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of two logs with unit normal priors, on a fine grid."""
    axis = np.linspace(max(low, -6.0), min(high, 6.0), size)
    a, b = np.meshgrid(axis, axis, indexing="ij")
    logs = log_likelihood(a, b) - 0.5 * (a**2 + b**2)
    p = np.exp(logs - logs.max())
    p /= p.sum()
    means = np.array([(p * a).sum(), (p * b).sum()])
    return means, np.sqrt([(p * (a - means[0]) ** 2).sum(), (p * (b - means[1]) ** 2).sum()])


def _banana(a, b):
    return -0.5 * (((b + a**2 - 0.5) / 0.15) ** 2 + ((a + b - 0.3) / 0.8) ** 2)


def _two_humps(a, b):
    return -0.5 * (((np.abs(a) - 1.5) / 0.15) ** 2 + ((b - 0.5) / 0.3) ** 2)


@pytest.mark.parametrize("shape", [_banana, _two_humps], ids=["banana", "two humps"])
@pytest.mark.parametrize("from_fit", [False, True], ids=["from prior", "from fit"])
def test_curved_and_two_humped_posteriors_agree_with_quadrature(shape, from_fit: bool) -> None:
    """Also from a Laplace fit that knows one hump only: a fifth of the particles comes from the prior.

    Few of these fall into the other hump, so the share of each hump is then known to a tenth only.
    """
    priors = [_prior("a"), _prior("b")]
    start = None
    if from_fit:

        def residuals(p):
            a, b = math.log(p["a"]), math.log(p["b"])
            if shape is _banana:
                return np.array([(b + a**2 - 0.5) / 0.15, (a + b - 0.3) / 0.8])
            return np.array([(a - 1.5) / 0.15, (b - 0.5) / 0.3])

        start = fit_least_squares(residuals, priors)
    result = sample_posterior(
        lambda p: float(shape(math.log(p["a"]), math.log(p["b"]))),
        priors,
        start=start,
        options=SamplerOptions(particles=1000, seed=7),
    )
    means, spreads = _quadrature(shape)
    assert np.abs((result.log_mean - means) / spreads).max() < (0.3 if from_fit else 0.15)
    assert np.sqrt(np.diag(result.log_covariance)) == pytest.approx(spreads, rel=0.12)
    assert result.temperatures[-1] == 1.0
    assert min(result.ess) > 150.0
    assert 0.15 < np.mean(result.acceptance) < 0.8
    assert result.distinct > 600


def test_bounds_cut_the_posterior() -> None:
    """One parameter, a likelihood flat up to the bound: the posterior is the truncated normal prior."""
    result = sample_posterior(
        lambda _: 0.0, [_prior("a", high=math.exp(0.5))], options=SamplerOptions(particles=4000, seed=1)
    )
    exact = stats.truncnorm(-np.inf, 0.5)
    assert result.log_mean[0] == pytest.approx(exact.mean(), abs=0.05)
    assert stats.kstest(result.logs[:, 0], exact.cdf).pvalue > 1e-3
    assert result.logs.max() <= 0.5


def test_ranks_of_the_truth_are_uniform(full: bool) -> None:
    """Simulation-based calibration (Talts et al. 2018): truth from the prior, its rank among the samples."""
    rng, ranks = np.random.default_rng(3), []
    days = np.array([1.0, 3.0, 6.0])
    for index in range(300 if full else 60):
        truth = np.exp(0.5 * rng.standard_normal(2))
        seen = truth[0] * np.exp(-0.2 * truth[1] * days) + 0.1 * rng.standard_normal(3)

        def residuals(p, seen=seen):
            return (p["a"] * np.exp(-0.2 * p["b"] * days) - seen) / 0.1

        priors = [_prior("a", 0.5), _prior("b", 0.5)]
        result = sample_posterior(
            lambda p, r=residuals: -0.5 * float(r(p) @ r(p)),
            priors,
            start=fit_least_squares(residuals, priors),
            options=SamplerOptions(particles=99, seed=index),
        )
        ranks.append([(np.exp(result.logs[:, i]) < truth[i]).mean() for i in range(2)])
    for column in np.array(ranks).T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        assert 0.88 <= np.mean((column > 0.025) & (column < 0.975)) <= 1.0


def test_sampler_is_seeded_reports_and_stops() -> None:
    def run(**more):
        return sample_posterior(
            lambda p: -0.5 * (math.log(p["a"]) / 0.1) ** 2,
            [_prior("a")],
            options=SamplerOptions(particles=64, seed=5),
            **more,
        )

    shares: list[float] = []
    first = run(progress=lambda share, _: shares.append(share))
    np.testing.assert_array_equal(first.logs, run().logs)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    calls = iter([False] * 40 + [True])
    with pytest.raises(CancelledError):
        run(cancelled=lambda: next(calls))


def test_unusable_samplers_are_refused() -> None:
    with pytest.raises(InputError, match="no free parameter"):
        sample_posterior(lambda _: 0.0, [_prior("a", 0.0)])
    with pytest.raises(InputError, match="cannot be compared"):
        sample_posterior(lambda _: math.nan, [_prior("a")], options=SamplerOptions(particles=32))
    with pytest.raises(InputError, match="sampler's options"):
        SamplerOptions(particles=3)


def test_belief_of_particles_draws_and_quantiles_follow_the_weights() -> None:
    rng = np.random.default_rng(0)
    logs = rng.gamma(2.0, 0.3, (4000, 2))
    weights = np.exp(logs[:, 0])
    weights /= weights.sum()
    belief = Belief.from_priors([_prior("a"), _prior("c"), _prior("b", 0.4)]).sampled(
        Particles(("a", "b"), logs, weights)
    )
    assert belief.calibrated == {"a", "b"}
    drawn = np.log([[m["a"], m["b"], m["c"]] for m in belief.sample(2000, seed=2)])
    assert drawn.mean(axis=0)[:2] == pytest.approx(weights @ logs, abs=0.02)
    assert drawn[:, 2].std() == pytest.approx(1.0, abs=0.05), "what has no particles keeps its prior"
    estimate = belief.estimates()["a"]
    tilted = stats.gamma(2.0, scale=1.0 / (1.0 / 0.3 - 1.0))  # the weight exp(x) tilts the gamma's rate
    assert math.log(estimate.low) == pytest.approx(tilted.ppf(0.025), abs=0.03)
    assert math.log(estimate.high) == pytest.approx(tilted.ppf(0.975), rel=0.08)
    assert belief.updated(("a",), np.zeros(1), np.eye(1)).particles is None
