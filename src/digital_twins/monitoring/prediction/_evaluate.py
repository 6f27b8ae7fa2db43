"""``twin monitor evaluate``: learned predictor, logistic regression and partial NEWS2 on other stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.prediction._inputs import inputs_at
from digital_twins.monitoring.prediction._learned import (
    LEARNED_H,
    calibrate,
    cross_fitted,
    fit_ensemble,
    folds,
    scores_at,
    stacked,
)
from digital_twins.monitoring.prediction._linear import fit_linear
from digital_twins.monitoring.prediction._metrics import (
    auprc,
    auroc,
    calibration_slope,
    catching,
    interval,
    min_se_ppv,
)
from digital_twins.monitoring.prediction._partial_news2 import partial_news2

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from digital_twins.monitoring.prediction._physionet import Stays

    Floats = NDArray[np.floating[Any]]
    Flags = NDArray[np.bool_]
    Fit = Callable[[Floats, Flags], Callable[[Floats], Floats]]

WATCHED_H = (6, 12, 18, 24, 30, 36, 42, 48)
"""Hours after admission at which every predictor is asked again, to count alarms."""

NEWS2_ALARM = 7.0
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
RESAMPLES = 500
INPUT_SETS = ("vitals", "all_inputs")


@dataclass(frozen=True, eq=False)
class Judged:
    """What one predictor says of the scored stays.

    Attributes
    ----------
    risk
        Probability of death from all 48 hours, [stay].
    watched
        Score at the hours `WATCHED_H`, [stay, hour].
    threshold
        Training threshold of ``risk``, [stay].
    alarm
        Threshold of ``watched``, as sensitive on the scored stays as partial NEWS2 >= 7, [stay].
    """

    risk: Floats
    watched: Floats
    threshold: Floats
    alarm: Floats


Report = dict[str, dict[str, dict[str, dict[str, float]]]]


def evaluate_death_risk(train: Stays, test: Stays, *, seed: int = 0, resamples: int = RESAMPLES) -> Report:
    """Train on some stays, score others, and return every figure with its 95 % bootstrap interval.

    Penalties, calibration and the threshold of ``min_se_ppv`` come from cross-fitting within ``train``.
    Only the alarms, compared at equal sensitivity, take their threshold from the scored stays.

    Returns
    -------
    dict
        ``{"vitals", "all_inputs"}``, in each ``partial_news2``, ``logistic`` and ``ours``, in each ``auroc``,
        ``auprc``, ``brier``, ``calibration_slope``, ``min_se_ppv`` at the training threshold,
        ``alarms_per_patient_day`` and ``sensitivity`` of the alarm that on the scored stays is as sensitive
        as partial NEWS2 >= 7 (points of equal height on two curves, not a threshold to use); each
        ``{"value", "low", "high"}``.
    """
    answer: Report = {}
    for name, vitals_only in (("vitals", True), ("all_inputs", False)):
        found = judge(train, test, vitals_only=vitals_only, seed=seed)
        answer[name] = {
            key: figures(test.died, each, resamples=resamples, seed=seed) for key, each in found.items()
        }
    return answer


def cross_validate_death_risk(
    stays: Stays,
    *,
    number: int = 5,
    seed: int = 0,
    resamples: int = RESAMPLES,
    input_sets: tuple[str, ...] = INPUT_SETS,
) -> Report:
    """Return the figures of `evaluate_death_risk` with each fold of patients scored by the others.

    Every fold chooses its own penalty, calibration and thresholds from its training stays; the scored folds
    are pooled, so that their calibrations must agree with one another. ``input_sets`` names the sets of
    inputs in the answer.
    """
    fold = folds(stays.died, number=number, seed=seed + 1)
    answer: Report = {}
    for name in input_sets:
        parts = [
            judge(
                stays.subset(np.flatnonzero(fold != each)),
                stays.subset(np.flatnonzero(fold == each)),
                vitals_only=name == "vitals",
                seed=seed,
            )
            for each in range(number)
        ]
        died = np.concatenate([stays.died[fold == each] for each in range(number)])
        answer[name] = {
            key: figures(died, pooled([part[key] for part in parts]), resamples=resamples, seed=seed)
            for key in parts[0]
        }
    return answer


def pooled(parts: list[Judged]) -> Judged:
    """Return what was said of several sets of stays as of one."""
    return Judged(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("risk", "watched", "threshold", "alarm")
        )
    )


def judge(train: Stays, test: Stays, *, vitals_only: bool, seed: int = 0) -> dict[str, Judged]:
    """Return what the three predictors, trained on ``train``, say of ``test``."""
    fold = folds(train.died, seed=seed)
    early_warning = tuple(partial_news2(each, WATCHED_H, vitals_only=vitals_only) for each in (train, test))
    calibrated = calibrate(early_warning[0].mean, train.died)
    found = {
        "partial_news2": Judged(
            calibrated.risk(early_warning[1].mean),
            early_warning[1].highest,
            np.full(len(test), calibrated.threshold),
            np.full(len(test), NEWS2_ALARM),
        )
    }
    wanted = caught(test.died, early_warning[1].highest >= NEWS2_ALARM)
    known = inputs_at(train, LEARNED_H, vitals_only=vitals_only)
    asked = inputs_at(test, WATCHED_H, vitals_only=vitals_only)
    penalty = chosen_penalty(known, train.died, fold)

    def logistic(values: Floats, died: Flags) -> Callable[[Floats], Floats]:
        return fit_linear(values, died, penalty).log_odds

    def ours(values: Floats, died: Flags) -> Callable[[Floats], Floats]:
        return fit_ensemble(values, died, seed=seed, alike=True).log_odds

    for name, fit in (("logistic", logistic), ("ours", ours)):
        found[name] = _judged(fit, (known, asked), (train.died, test.died), fold=fold, wanted=wanted)
    return found


def chosen_penalty(values: Floats, died: Flags, fold: NDArray[np.int64]) -> float:
    """Return the penalty of `PENALTIES` with the least cross-fitted log loss on [stay, hour, input]."""
    sign = np.where(died, -1.0, 1.0)[:, None]

    def loss(penalty: float) -> float:
        def fitted(rows: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Floats]:
            score = fit_linear(*stacked(values[rows], died[rows]), penalty).log_odds
            return lambda others: scores_at(score, values[others])

        return float(np.mean(np.logaddexp(0.0, sign * cross_fitted(fitted, fold))))

    return min(PENALTIES, key=loss)


def _judged(
    fit: Fit, inputs: tuple[Floats, ...], died: tuple[Flags, ...], *, fold: NDArray[np.int64], wanted: float
) -> Judged:
    train, test = inputs

    def fitted(rows: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Floats]:
        score = fit(*stacked(train[rows], died[0][rows]))
        return lambda others: score(train[others, -1])

    calibrated = calibrate(cross_fitted(fitted, fold), died[0])
    watched = calibrated.risk(scores_at(fit(*stacked(train, died[0])), test))
    return Judged(
        watched[:, -1],
        watched,
        np.full(len(test), calibrated.threshold),
        np.full(len(test), alarm_threshold(died[1], watched, wanted)),
    )


def caught(died: Flags, alarmed: Flags) -> float:
    """Return the share of deaths with an alarm at any watched hour; ``alarmed`` is [stay, hour]."""
    return float(np.asarray(alarmed[died].any(axis=1)).mean()) if died.any() else float("nan")


def alarms_per_patient_day(alarmed: Flags) -> float:
    """Return alarms that begin (none at the watched hour before) per patient-day, of [stay, hour]."""
    begins = alarmed[:, 0].sum() + (alarmed[:, 1:] & ~alarmed[:, :-1]).sum()
    return float(float(begins) / (len(alarmed) * WATCHED_H[-1] / 24))


def alarm_threshold(died: Flags, watched: Floats, wanted: float) -> float:
    """Return the greatest threshold that catches at least the wanted share of deaths; NaN if none died."""
    return catching(watched.max(axis=1)[died], wanted)


def figures(died: Flags, judged: Judged, *, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Return each figure of one predictor as ``{"value", "low", "high"}``, patients resampled."""
    risk, above = judged.risk, judged.risk >= judged.threshold
    alarmed = judged.watched >= judged.alarm[:, None]
    statistics: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "auroc": lambda rows: auroc(died[rows], risk[rows]),
        "auprc": lambda rows: auprc(died[rows], risk[rows]),
        "brier": lambda rows: float(np.mean((risk[rows] - died[rows]) ** 2)),
        "calibration_slope": lambda rows: calibration_slope(died[rows], risk[rows]),
        "min_se_ppv": lambda rows: min_se_ppv(died[rows], above[rows]),
        "alarms_per_patient_day": lambda rows: alarms_per_patient_day(alarmed[rows]),
        "sensitivity": lambda rows: caught(died[rows], alarmed[rows]),
    }
    return {
        name: interval(each, died.size, resamples=resamples, seed=seed) for name, each in statistics.items()
    }
