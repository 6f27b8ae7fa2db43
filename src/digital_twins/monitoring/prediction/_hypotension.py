"""The rolling task: hypotension in the next six hours, beside persistence and partial NEWS2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.prediction._inputs import inputs_at
from digital_twins.monitoring.prediction._learned import (
    calibrate,
    cross_fitted,
    fit_ensemble,
    folds,
    scores_at,
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
from digital_twins.monitoring.prediction._parameters import NUMBER
from digital_twins.monitoring.prediction._partial_news2 import hourly_news2

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from digital_twins.monitoring.prediction._physionet import Stays

    Floats = NDArray[np.floating[Any]]
    Flags = NDArray[np.bool_]
    Fit = Callable[[Floats, Flags], Callable[[Floats], Floats]]

ASKED_H = (12, 24, 36)
"""Hours after admission at which the question is asked."""

AHEAD_H = 6
HYPOTENSION_MMHG = 65.0
NEWS2_ALARM = 7.0
_FRESH_H = 2
_LOGISTIC_PENALTY = 1e-3
_CROSS_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Questions:
    """Where the question can be asked, and the answer.

    Attributes
    ----------
    asked
        A mean pressure is known from the last two hours and lies at or above 65 mmHg, and another follows in
        the next six, [stay, hour of `ASKED_H`].
    event
        Whether one that follows is below 65 mmHg, [stay, hour].
    pressure
        The last mean pressure in mmHg, [stay, hour]; NaN: none.
    """

    asked: Flags
    event: Flags
    pressure: Floats


def hypotension_questions(stays: Stays) -> Questions:
    """Return where hypotension can be foretold: mean arterial pressure of the line or the cuff."""
    keep = np.isin(stays.parameter, (NUMBER["MAP"], NUMBER["NIMAP"]))
    order = np.flatnonzero(keep)
    order = order[np.lexsort((stays.minute[order], stays.stay[order]))]
    stay, hour, value = stays.stay[order], stays.minute[order] / 60, stays.value[order]
    shape = (len(stays), len(ASKED_H))
    last, age, lowest = np.full(shape, np.nan), np.full(shape, np.inf), np.full(shape, np.inf)
    for number, now in enumerate(ASKED_H):
        before, after = hour <= now, (hour > now) & (hour <= now + AHEAD_H)
        last[stay[before], number] = value[before]
        age[stay[before], number] = now - hour[before]
        np.minimum.at(lowest[:, number], stay[after], value[after])
    asked = (age <= _FRESH_H) & (last >= HYPOTENSION_MMHG) & np.isfinite(lowest)
    return Questions(asked, lowest < HYPOTENSION_MMHG, last)


def evaluate_hypotension(
    train: Stays, test: Stays, *, seed: int = 0, resamples: int = 500
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Train on some stays, score hypotension of others, with 95 % bootstrap intervals over patients.

    Returns
    -------
    dict
        As `evaluate_death_risk`, with ``persistence`` (the last pressure) as well. An alarm is one answer at
        or above the threshold that in training was as sensitive as partial NEWS2 >= 7; there are four
        questions to a patient-day.
    """
    questions = tuple(hypotension_questions(each) for each in (train, test))
    answer = {}
    for name, vitals_only in (("vitals", True), ("all_inputs", False)):
        scores = _scores((train, test), questions, vitals_only=vitals_only, seed=seed)
        wanted = _share(questions[0], scores["partial_news2"][0] >= NEWS2_ALARM)
        answer[name] = {
            key: _figures(questions, each, wanted=wanted, settings=(resamples, seed))
            for key, each in scores.items()
        }
    return answer


def _scores(
    stays: tuple[Stays, ...], questions: tuple[Questions, ...], *, vitals_only: bool, seed: int
) -> dict[str, tuple[Floats, ...]]:
    """Return cross-fitted training scores and test scores of each predictor, [stay, hour]."""
    places = np.array(ASKED_H) - 1
    inputs = tuple(inputs_at(each, ASKED_H, vitals_only=vitals_only) for each in stays)

    def logistic(values: Floats, event: Flags) -> Callable[[Floats], Floats]:
        return fit_linear(values, event, _LOGISTIC_PENALTY).log_odds

    def ours(values: Floats, event: Flags) -> Callable[[Floats], Floats]:
        return fit_ensemble(values, event, seed=seed).log_odds

    found = {
        "partial_news2": tuple(hourly_news2(each, vitals_only=vitals_only)[0][:, places] for each in stays),
        "persistence": tuple(-np.nan_to_num(each.pressure, nan=200.0) for each in questions),
    }
    ever = np.asarray((questions[0].event & questions[0].asked).any(axis=1))
    fold = folds(ever, number=_CROSS_FOLDS, seed=seed)
    for name, fit in (("logistic", logistic), ("ours", ours)):
        found[name] = _both(fit, inputs, questions[0], fold)
    return found


def _both(
    fit: Fit, inputs: tuple[Floats, ...], questions: Questions, fold: NDArray[np.int64]
) -> tuple[Floats, ...]:
    train, test = inputs

    def fitted(rows: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Floats]:
        asked = questions.asked[rows]
        learned = fit(train[rows][asked], questions.event[rows][asked])
        return lambda others: scores_at(learned, train[others])

    last = fit(train[questions.asked], questions.event[questions.asked])
    return cross_fitted(fitted, fold), scores_at(last, test)


def _share(questions: Questions, alarmed: Flags) -> float:
    return float(alarmed[questions.asked & questions.event].mean())


def _figures(
    questions: tuple[Questions, ...],
    scores: tuple[Floats, ...],
    *,
    wanted: float,
    settings: tuple[int, int],
) -> dict[str, dict[str, float]]:
    known, new = questions
    calibrated = calibrate(scores[0][known.asked], known.event[known.asked])
    alarm = catching(scores[0][known.asked & known.event], wanted)
    risk, alarmed = calibrated.risk(scores[1]), scores[1] >= alarm

    def of(
        statistic: Callable[[Flags, Any], float], what: NDArray[Any]
    ) -> Callable[[NDArray[np.int64]], float]:
        return lambda rows: statistic(new.event[rows][new.asked[rows]], what[rows][new.asked[rows]])

    statistics = {
        "auroc": of(auroc, risk),
        "auprc": of(auprc, risk),
        "brier": of(lambda event, each: float(np.mean((each - event) ** 2)), risk),
        "calibration_slope": of(calibration_slope, risk),
        "min_se_ppv": of(lambda event, each: min_se_ppv(event, each >= calibrated.threshold), risk),
        "alarms_per_patient_day": of(lambda _, each: float(each.mean()) * 24 / AHEAD_H, alarmed),
        "sensitivity": of(lambda event, each: float(each[event].mean()), alarmed),
    }
    resamples, seed = settings
    return {
        name: interval(each, new.asked.shape[0], resamples=resamples, seed=seed)
        for name, each in statistics.items()
    }
