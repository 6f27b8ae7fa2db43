"""Which growth law forecasts a cohort's next readings best: population fits, cross-validated by patient."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.calibration import (
    Population,
    SeriesBatch,
    fit_individuals,
    fit_population,
    forecast_individuals,
)
from digital_twins.models._growth_laws import GROWTH_LAWS, growth_law

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FORECAST_LEVELS = (0.025, 0.10, 0.25, 0.50, 0.75, 0.90, 0.975)
BASELINES = ("last_value", "gompertz_unpooled")
GROWTH_MODELS = (*BASELINES, "random_walk", *GROWTH_LAWS)

_FOLDS = 5
_SIZE_POWERS = np.arange(0.0, 0.301, 0.025)


@dataclass(frozen=True, slots=True)
class GrowthScore:
    """How one model forecast the held-out readings: means over each patient's, then over patients.

    Attributes
    ----------
    mean_absolute_error
        Of the median forecast, in the unit of the volumes.
    pinball
        Quantile loss, mean over the levels ``FORECAST_LEVELS``, same unit.
    coverage_50, coverage_80, coverage_95
        Share of readings inside the central intervals.
    seconds
        CPU seconds of all fits and forecasts of the model.
    cross_validated_pinball
        The same loss in the cross-validation on the readings before the hold-out, by which the default is
        chosen.
    """

    model: str
    mean_absolute_error: float
    pinball: float
    coverage_50: float
    coverage_80: float
    coverage_95: float
    seconds: float
    cross_validated_pinball: float


@dataclass(frozen=True, slots=True)
class GrowthComparison:
    """Result of :func:`compare_growth_models`.

    Attributes
    ----------
    default
        Model with the smallest cross-validated pinball loss.
    scores
        One a model, baselines first.
    patients
        How many patients have held-out readings.
    """

    default: str
    scores: tuple[GrowthScore, ...]
    patients: int


@dataclass(frozen=True, eq=False)
class _Task:
    """Readings to forecast from: context, the days ahead, and what was read then (volumes)."""

    context: SeriesBatch
    days: FloatArray
    truth: FloatArray

    @property
    def last(self) -> FloatArray:
        """Last known reading, shape (P, 1)."""
        rows = np.arange(self.context.counts.size)
        return self.context.values[rows, self.context.counts - 1][:, None]

    def take(self, patients: IntArray) -> _Task:
        return _Task(self.context.take(patients), self.days[patients], self.truth[patients])


@dataclass(frozen=True, eq=False)
class _Cohort:
    """Training series (nothing held out in them), the inner tasks made of them, and the final task."""

    training: SeriesBatch
    folds: IntArray
    inner: _Task
    inner_folds: IntArray
    final: _Task
    offset: float
    scale_days: float


def series_from_rows(
    patients: ArrayLike, days: ArrayLike, volumes: ArrayLike, *, offset: float
) -> SeriesBatch:
    """Gather rows into one series a patient on the scale ``log(volume + offset)``, sorted by day.

    Parameters
    ----------
    patients, days, volumes
        Columns of equal length, in any order of rows; volumes of 0 ('too small to measure') are readings.
    offset
        Above 0, in the unit of the volumes.

    Raises
    ------
    InputError
        When columns differ in length, a number is missing, or a volume is negative.
    """
    names = np.asarray(patients)
    day = np.asarray(days, dtype=np.float64)
    volume = np.asarray(volumes, dtype=np.float64)
    if not (names.shape == day.shape == volume.shape) or names.ndim != 1 or names.size == 0:
        raise InputError(
            "The table cannot be used.",
            "The columns of patient, day and volume differ in length, or are empty.",
            "Give one row a reading.",
        )
    if not (np.isfinite(day).all() and np.isfinite(volume).all()) or np.any(volume < 0.0) or not offset > 0.0:
        raise InputError(
            "The table cannot be used.",
            "A day or volume is missing or not finite, a volume is negative, or the offset is not above 0.",
            "Remove rows without a measurement; write 0 for a tumour too small to measure.",
        )
    _, who = np.unique(names, return_inverse=True)
    order = np.lexsort((np.arange(who.size), day, who))
    who, day, volume = who[order], day[order], volume[order]
    counts = np.bincount(who)
    place = np.arange(who.size) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.zeros((counts.size, int(counts.max())))
    values = np.zeros_like(table)
    table[who, place] = day
    values[who, place] = np.log(volume + offset)
    return SeriesBatch(table, values, counts.astype(np.int64))


def compare_growth_models(
    series: SeriesBatch,
    *,
    offset: float,
    models: Sequence[str] = GROWTH_MODELS,
    hold_out: int = 2,
    min_readings: int = 6,
    seed: int = 0,
) -> GrowthComparison:
    """Score models on the last readings of every long enough series; choose one without seeing them.

    Populations are learnt from the readings before the hold-out and from the patients with fewer readings
    than ``min_readings``. In the cross-validation (5 folds of patients) the last ``hold_out`` of *those*
    readings are forecast for patients of whom the fit saw nothing; its residuals also set the intervals.

    Parameters
    ----------
    series, offset
        As of :func:`series_from_rows`.
    models
        Names out of ``GROWTH_MODELS``; the two baselines are always included.
    hold_out, min_readings
        How many last readings are held out, of patients with at least so many.
    seed
        Of the division into folds.

    Raises
    ------
    InputError
        With an unknown model, or when too few patients have enough readings.
    """
    unknown = [name for name in models if name not in GROWTH_MODELS]
    if unknown:
        raise InputError(
            "There is no such growth model.",
            f"The models are {', '.join(GROWTH_MODELS)}.",
            "Name some of them, separated by commas, or 'all'.",
        )
    cohort = _divide(series, offset, (hold_out, min_readings), seed)
    chosen = [name for name in GROWTH_MODELS if name in BASELINES or name in models]
    scores = tuple(_score(name, cohort) for name in chosen)
    best = min(scores, key=lambda score: score.cross_validated_pinball)
    return GrowthComparison(best.model, scores, cohort.final.context.counts.size)


def _divide(series: SeriesBatch, offset: float, cut: tuple[int, int], seed: int) -> _Cohort:
    hold_out, least = cut
    if hold_out < 1 or least <= 2 * hold_out:
        raise InputError(
            "The hold-out cannot be used.",
            "Cross-validation holds out as many readings again, and needs one before them.",
            f"Use a hold-out of 1 or more and at least {2 * max(hold_out, 1) + 1} readings.",
        )
    long = series.counts >= least
    if int(long.sum()) < 2 * _FOLDS:
        raise InputError(
            "The models cannot be compared.",
            f"{int(long.sum())} patients have {least} readings or more; {2 * _FOLDS} are needed.",
            "Ask for fewer readings, or add patients.",
        )
    final = _task(series.take(np.flatnonzero(long)), hold_out, offset)
    training = replace(series, counts=series.counts - hold_out * long)
    folds = np.random.default_rng(seed).permutation(training.counts.size) % _FOLDS
    context = min(2, least - 2 * hold_out)
    usable = np.flatnonzero(training.counts >= hold_out + context)
    span = np.take_along_axis(training.days, training.counts[:, None] - 1, axis=1) - training.days[:, :1]
    return _Cohort(
        training,
        folds,
        _task(training.take(usable), hold_out, offset),
        folds[usable],
        final,
        offset,
        float(max(np.median(span[span > 0.0]) if np.any(span > 0.0) else 1.0, 1e-9)),
    )


def _task(series: SeriesBatch, hold_out: int, offset: float) -> _Task:
    columns = series.counts[:, None] - hold_out + np.arange(hold_out)
    truth = np.exp(np.take_along_axis(series.values, columns, axis=1)) - offset
    return _Task(
        series.shortened(by=hold_out),
        np.take_along_axis(series.days, columns, axis=1),
        np.maximum(truth, 0.0),
    )


def _score(name: str, cohort: _Cohort) -> GrowthScore:
    start = time.process_time()
    centre, scale = np.empty_like(cohort.inner.days), np.empty_like(cohort.inner.days)
    for fold in range(_FOLDS):
        inside = np.flatnonzero(cohort.inner_folds == fold)
        learnt = cohort.training.take(np.flatnonzero(cohort.folds != fold))
        centre[inside], scale[inside] = _forecast(name, cohort, learnt, cohort.inner.take(inside))
    powers = np.zeros(1) if name in BASELINES else _SIZE_POWERS
    losses = [_cross_validated(cohort, centre, _sized(scale, cohort.inner, power)) for power in powers]
    power = float(powers[int(np.argmin(losses))])
    shape = _residual_quantiles(cohort.inner, cohort.offset, centre, _sized(scale, cohort.inner, power))
    centre, scale = _forecast(name, cohort, cohort.training, cohort.final)
    quantiles = _quantiles(centre, _sized(scale, cohort.final, power), shape, cohort.offset)
    truth = cohort.final.truth
    inside_share = [float(np.mean((truth >= quantiles[i]) & (truth <= quantiles[6 - i]))) for i in range(3)]
    return GrowthScore(
        model=name,
        mean_absolute_error=float(np.mean(np.abs(truth - quantiles[3]))),
        pinball=pinball_loss(truth, quantiles),
        coverage_50=inside_share[2],
        coverage_80=inside_share[1],
        coverage_95=inside_share[0],
        seconds=time.process_time() - start,
        cross_validated_pinball=float(min(losses)),
    )


def _sized(scale: FloatArray, task: _Task, power: float) -> FloatArray:
    """Relative spread falls as the last volume to a power: millimetres weigh less on large lesions."""
    return np.asarray(scale * np.exp(-power * task.last))


def _cross_validated(cohort: _Cohort, centre: FloatArray, scale: FloatArray) -> float:
    """Pinball loss of every fold with the residual quantiles of the others."""
    quantiles = np.empty((len(FORECAST_LEVELS), *centre.shape))
    for fold in range(_FOLDS):
        inside = cohort.inner_folds == fold
        others = np.flatnonzero(~inside)
        shape = _residual_quantiles(cohort.inner.take(others), cohort.offset, centre[others], scale[others])
        quantiles[:, inside] = _quantiles(centre[inside], scale[inside], shape, cohort.offset)
    return pinball_loss(cohort.inner.truth, quantiles)


def _residual_quantiles(task: _Task, offset: float, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Quantiles of the scaled residuals for each step ahead: shape (levels, steps)."""
    residuals = (np.log(task.truth + offset) - centre) / scale
    return np.asarray(np.quantile(residuals, FORECAST_LEVELS, axis=0))


def _quantiles(centre: FloatArray, scale: FloatArray, shape: FloatArray, offset: float) -> FloatArray:
    logs = centre + scale * shape[:, None, :]
    return np.asarray(np.maximum(np.exp(np.minimum(logs, 300.0)) - offset, 0.0))


def pinball_loss(truth: FloatArray, quantiles: FloatArray) -> float:
    """Return the mean quantile loss at ``FORECAST_LEVELS`` (Koenker & Bassett 1978, doi:10.2307/1913643).

    Parameters
    ----------
    truth
        Any shape.
    quantiles
        The same shape behind one axis of levels.
    """
    levels = np.asarray(FORECAST_LEVELS).reshape(-1, *([1] * truth.ndim))
    off = truth - quantiles
    return float(np.mean(np.maximum(levels * off, (levels - 1.0) * off)))


def _forecast(name: str, cohort: _Cohort, learnt: SeriesBatch, task: _Task) -> tuple[FloatArray, FloatArray]:
    """Centre and scale of ``log(V + offset)`` at the task's days; the baselines have scale 1."""
    ones = np.ones_like(task.days)
    if name == "last_value":
        return task.last * ones, ones
    if name == "gompertz_unpooled":
        return _unpooled(cohort, task), ones
    curve, start = _model(name, cohort, learnt)
    return forecast_individuals(curve, fit_population(curve, learnt, start), task.context, days=task.days)


def _model(
    name: str, cohort: _Cohort, learnt: SeriesBatch
) -> tuple[Callable[[FloatArray, FloatArray], FloatArray], Population]:
    """Curve of a model and a first guess of its population from the level and spread of the readings."""
    known = learnt.values[learnt.known]
    level, spread = float(known.mean()), float(max(known.std(), 0.1))
    law = growth_law("exponential" if name == "random_walk" else name)
    curve = law.curve(offset=cohort.offset, scale_days=cohort.scale_days)
    mean, deviation = np.array([level, 0.0, level, -1.0]), np.array([spread, 1.0, spread, 0.5])
    size = len(law.parameter_names)
    if name == "random_walk":
        size = 1

        def flat(theta: FloatArray, since: FloatArray) -> FloatArray:
            return np.logaddexp(theta + 0.0 * since, np.log(cohort.offset))

        curve = flat
    guess = Population(mean[:size], np.diag(deviation[:size] ** 2), 0.1 / cohort.scale_days, 0.02)
    return curve, guess


def _unpooled(cohort: _Cohort, task: _Task) -> FloatArray:
    """Plain least squares of volumes by Gompertz's law, each patient alone: the best of three starts.

    Volumes are in units of the patient's largest; the normal prior is so wide that it only stops parameters
    which the readings do not determine from running away.
    """
    context = task.context
    log_curve = growth_law("gompertz").curve(offset=cohort.offset, scale_days=cohort.scale_days)
    largest = np.max(np.where(context.known, context.values, -np.inf), axis=1, keepdims=True)
    shares = np.where(context.known, np.exp(context.values - largest), 0.0)

    def curve(theta: FloatArray, since: FloatArray) -> FloatArray:
        return np.asarray(np.exp(np.minimum(log_curve(theta, since) - largest, 30.0)))

    ends = np.hstack([context.values[:, :1], task.last])
    wide = Population(
        np.array([ends[:, 0].mean(), 0.0, ends[:, 1].mean()]), np.diag([10.0, 3.0, 10.0]) ** 2, 0.0, 0.01
    )
    best, least = np.zeros((ends.shape[0], 3)), np.full(ends.shape[0], np.inf)
    for log_rate in (-1.0, 0.5, 2.0):
        start = np.column_stack([ends[:, 0], np.full(ends.shape[0], log_rate), ends[:, 1]])
        series = replace(context, values=shares)
        mean = fit_individuals(curve, wide, series, start=start).mean
        misfit = np.sum(
            ((curve(mean, context.days - context.days[:, :1]) - shares) * context.known) ** 2, axis=1
        )
        best = np.where((misfit < least)[:, None], mean, best)
        least = np.minimum(misfit, least)
    return np.asarray(log_curve(best, task.days - context.days[:, :1]))
