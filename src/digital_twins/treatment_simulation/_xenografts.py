"""Forecast of an unseen xenograft arm from the others, scored beside plain baselines."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins.treatment_simulation._xenograft_data import check_mice
from digital_twins.treatment_simulation._xenograft_fit import (
    GROWTH_STEP_DAYS,
    RANDOM,
    SHARED,
    Posterior,
    drive,
    fit_population,
    log_relative,
    schedules,
)
from digital_twins.treatment_simulation._xenograft_kernels import tumour_volumes
from digital_twins.treatment_simulation._xenograft_pk import fit_kinetics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.treatment_simulation._xenograft_data import PlasmaSample, XenograftMouse
    from digital_twins.treatment_simulation._xenograft_pk import OralKinetics

FloatArray = NDArray[np.float64]
_CENTRAL = np.array([0.5, 0.8, 0.95])


@dataclass(frozen=True, eq=False)
class ArmForecast:
    """Score of a forecast on an arm that took no part in the calibration.

    All scores are continuous ranked probability scores in cm3, averaged over the readings after day 0 of
    every mouse; smaller is better.

    Attributes
    ----------
    crps_model
        Of the model's predictive ensembles.
    crps_baseline
        Of the median relative curve of the neighbouring arm times each mouse's day-0 volume: a
        deterministic forecast, whose CRPS is its mean absolute error.
    crps_baseline_ensemble
        Of the neighbouring arm's relative curves, one a mouse, as an ensemble.
    neighbour
        The neighbouring arm.
    coverage_50, coverage_80, coverage_95
        Fraction of readings inside that central part of the predictive ensembles.
    parameters
        Name to (median, low, high) of the population posterior, 95 % interval.
    forecast
        Mouse to (days, median, low, high) of its predictive distribution, 95 % interval, in cm3.
    """

    crps_model: float
    crps_baseline: float
    crps_baseline_ensemble: float
    neighbour: str
    n_mice: int
    n_observations: int
    coverage_50: float
    coverage_80: float
    coverage_95: float
    parameters: Mapping[str, tuple[float, float, float]]
    forecast: Mapping[str, tuple[FloatArray, FloatArray, FloatArray, FloatArray]]


def crps(ensemble: FloatArray, observed: FloatArray) -> FloatArray:
    """Continuous ranked probability score of ensembles, ``E|X - y| - E|X - X'| / 2`` of the empirical law.

    Gneiting and Raftery, J Am Stat Assoc 2007;102:359, doi:10.1198/016214506000001437, eq. 21.

    Parameters
    ----------
    ensemble
        [member, reading].
    observed
        [reading].
    """
    members = np.sort(ensemble, axis=0)
    n = members.shape[0]
    weights = (2.0 * np.arange(1, n + 1) - n - 1.0) / n**2
    return np.asarray(np.abs(members - observed).mean(axis=0) - weights @ members)


def relative_curves(mice: Sequence[XenograftMouse], days: FloatArray) -> FloatArray:
    """Volumes over the day-0 volume [mouse, day], linear between readings, NaN after the last one."""
    curves = [
        np.interp(days, mouse.days, np.asarray(mouse.volume_cm3) / mouse.volume_cm3[0], right=np.nan)
        for mouse in mice
    ]
    return np.array(curves)


def _predictive(
    posterior: Posterior, mice: Sequence[XenograftMouse], kinetics: OralKinetics, rng: np.random.Generator
) -> list[FloatArray]:
    """Predictive ensembles [draw, reading] of unseen mice given their day-0 volumes and doses."""
    horizon = max(mouse.days[-1] for mouse in mice) + GROWTH_STEP_DAYS
    curves, schedule = schedules(mice, kinetics, horizon)
    n = posterior.shared.shape[0]
    first = np.array([mouse.volume_cm3[0] for mouse in mice])
    x = np.log(first / posterior.reference_cm3)
    proportional, additive = np.exp(posterior.shared[:, 2]), np.exp(posterior.shared[:, 3])
    logs = log_relative(curves, posterior.reference_concentration)
    courses = []
    for i in range(n):
        noise = rng.standard_normal((len(mice), 1 + len(RANDOM)))
        start = first * np.exp(np.hypot(proportional[i], additive[i] / first) * noise[:, 0])
        effects = posterior.mean[i] + posterior.slope[i] * x[:, None] + noise[:, 1:] @ posterior.factor[i].T
        effect = drive(logs, np.exp(posterior.shared[i, 1]))
        parameters = np.column_stack([start, np.exp(effects)])
        transit = float(np.exp(posterior.shared[i, 0]))
        courses.append(tumour_volumes(parameters, effect[schedule], transit, GROWTH_STEP_DAYS))
    volumes = np.array(courses)
    ensembles = []
    for m, mouse in enumerate(mice):
        steps = np.round(np.asarray(mouse.days) / GROWTH_STEP_DAYS).astype(np.intp)
        out = volumes[:, m, steps]
        spread = np.hypot(proportional[:, None] * out, additive[:, None])
        ensembles.append(np.maximum(out + spread * rng.standard_normal(out.shape), 0.0))
    return ensembles


def _interval(draws: FloatArray) -> tuple[float, float, float]:
    median, low, high = np.quantile(draws, [0.5, 0.025, 0.975])
    return float(median), float(low), float(high)


def _parameters(posterior: Posterior, kinetics: OralKinetics) -> dict[str, tuple[float, float, float]]:
    named = {name: _interval(np.exp(posterior.shared[:, i])) for i, name in enumerate(SHARED)}
    for j, name in enumerate(RANDOM):
        named[name] = _interval(np.exp(posterior.mean[:, j]))
        named[f"{name}_spread_log"] = _interval(np.linalg.norm(posterior.factor[:, j], axis=1))
    for j, name in enumerate(RANDOM[:2]):
        named[f"{name}_slope_on_log_volume"] = _interval(posterior.slope[:, j])
    names = ("absorption_per_day", "volume_l_per_kg", "vmax_mg_l_per_day", "km_mg_l", "absorption_loss")
    named.update({n: (float(c),) * 3 for n, c in zip(names, kinetics.constants, strict=True)})
    return named


def forecast_arm(
    train: Sequence[XenograftMouse],
    test: Sequence[XenograftMouse],
    *,
    plasma: Sequence[PlasmaSample],
    neighbour: str,
    iterations: int = 4500,
    seed: int = 0,
) -> ArmForecast:
    """Calibrate on some arms, forecast the mice of another one from their day-0 volumes, and score it.

    Parameters
    ----------
    train
        Mice of the arms used for calibration.
    test
        Mice of the unseen arm: their doses and day-0 volumes are used, their later volumes only to score.
    plasma
        Plasma samples for the kinetics; samples of the unseen arms are left out.
    neighbour
        The arm of ``train`` whose curves make the baselines.
    iterations
        Steps of the sampler, the first third to settle.
    seed
        Of all random numbers.

    Raises
    ------
    InputError
        When mice or plasma samples cannot be used.
    """
    check_mice(train)
    check_mice(test)
    unseen = {mouse.arm for mouse in test}
    kinetics = fit_kinetics([s for s in plasma if s.arm not in unseen])
    posterior = fit_population(train, kinetics, iterations=iterations, burn_in=iterations // 3, seed=seed)
    rng = np.random.default_rng([seed, 1])
    neighbours = [mouse for mouse in train if mouse.arm == neighbour]
    check_mice(neighbours)
    scores: list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]] = []
    forecast = {}
    for mouse, ensemble in zip(test, _predictive(posterior, test, kinetics, rng), strict=True):
        days, observed = np.asarray(mouse.days), np.asarray(mouse.volume_cm3)
        median, low, high = np.quantile(ensemble, [0.5, 0.025, 0.975], axis=0)
        forecast[mouse.mouse] = (days, median, low, high)
        curves = relative_curves(neighbours, days) * observed[0]
        single = np.abs(np.nanmedian(curves, axis=0) - observed)
        spread = np.array(
            [crps(c[~np.isnan(c)][:, None], y[None])[0] for c, y in zip(curves.T, observed, strict=True)]
        )
        lows, highs = (np.quantile(ensemble, 0.5 + side * _CENTRAL / 2.0, axis=0) for side in (-1, 1))
        inside = ((observed >= lows) & (observed <= highs)).astype(np.float64)
        scores.append((crps(ensemble, observed)[1:], single[1:], spread[1:], inside[:, 1:]))
    model, baseline, baseline_ensemble, inside = (
        np.concatenate(s, axis=-1) for s in zip(*scores, strict=True)
    )
    coverage = inside.mean(axis=1)
    return ArmForecast(
        crps_model=float(model.mean()),
        crps_baseline=float(baseline.mean()),
        crps_baseline_ensemble=float(baseline_ensemble.mean()),
        neighbour=neighbour,
        n_mice=len(test),
        n_observations=int(model.size),
        coverage_50=float(coverage[0]),
        coverage_80=float(coverage[1]),
        coverage_95=float(coverage[2]),
        parameters=MappingProxyType(_parameters(posterior, kinetics)),
        forecast=MappingProxyType(forecast),
    )
