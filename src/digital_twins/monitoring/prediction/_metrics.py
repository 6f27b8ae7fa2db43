"""How good a risk is: discrimination, calibration and alarms, with bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Flags = NDArray[np.bool_]


def auroc(died: Flags, risk: Floats) -> float:
    """Return the area under the ROC curve: the chance that a case ranks above a control, ties half."""
    from scipy.stats import rankdata

    cases = int(died.sum())
    controls = died.size - cases
    above = float(rankdata(risk)[died].sum()) - cases * (cases + 1) / 2
    return above / (cases * controls) if cases and controls else float("nan")


def auprc(died: Flags, risk: Floats) -> float:
    """Return average precision: the step-wise area under precision over recall."""
    order = np.argsort(-risk, kind="stable")
    hits = np.cumsum(died[order])
    last = np.append(np.flatnonzero(np.diff(risk[order])), risk.size - 1)
    gained = np.diff(hits[last], prepend=0)
    return float(np.sum(gained * hits[last] / (last + 1)) / max(int(hits[-1]), 1))


def calibration_slope(died: Flags, risk: Floats) -> float:
    """Return the slope of a logistic regression of the outcome on the log-odds of the risk; 1 is ideal."""
    return fit_platt(log_odds(risk), died)[0]


def log_odds(risk: Floats) -> Floats:
    """Return ln(p / (1 - p)) of probabilities, at most 16 from zero."""
    kept = np.clip(risk, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(kept / (1 - kept)))


def probability(odds: Floats) -> Floats:
    """Return the probability of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -700, 700))))


def fit_platt(score: Floats, died: Flags) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of an outcome on one score (Platt 1999).

    Newton's method on the standardised score with a penalty of 1e-6, so that separable data end too.
    """
    middle, spread = float(score.mean()), float(score.std()) or 1.0
    design = np.stack([(score - middle) / spread, np.ones(score.size)], axis=1)
    share = np.clip(died.mean(), 1e-6, 1 - 1e-6)
    weights = np.array([0.0, np.log(share / (1 - share))])
    for _ in range(50):
        risk = probability(design @ weights)
        slope = design.T @ (died - risk) - 1e-6 * weights
        curve = (design * (risk * (1 - risk))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        weights += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0] / spread), float(weights[1] - weights[0] * middle / spread)


def min_se_ppv(died: Flags, alarmed: Flags) -> float:
    """Return the lesser of sensitivity and positive predictive value of an alarm.

    The first score of the PhysioNet/CinC Challenge 2012.
    """
    right = int((alarmed & died).sum())
    return min(right / max(int(died.sum()), 1), right / max(int(alarmed.sum()), 1))


def best_threshold(died: Flags, risk: Floats) -> float:
    """Return the threshold with the greatest `min_se_ppv`: about as many alarms as cases."""
    order = np.sort(risk)[::-1]
    hits = np.cumsum(died[np.argsort(-risk, kind="stable")])
    lesser = hits / np.maximum(np.arange(1, risk.size + 1), max(int(died.sum()), 1))
    return float(order[int(np.argmax(lesser))])


def catching(scores: Floats, wanted: float) -> float:
    """Return the greatest threshold that at least the wanted share of scores reaches; NaN without scores."""
    if not scores.size:
        return float("nan")
    ordered = np.sort(scores)[::-1]
    place = int(np.ceil(wanted * ordered.size - 1e-9)) - 1
    return float(ordered[np.clip(place, 0, ordered.size - 1)])


def interval(
    statistic: Callable[[NDArray[np.int64]], float], size: int, *, resamples: int, seed: int
) -> dict[str, float]:
    """Return ``{"value", "low", "high"}``: a statistic of rows and its 95 % percentile bootstrap interval.

    Parameters
    ----------
    statistic
        Of row numbers, with repetitions.
    size
        Number of rows (patients).
    """
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, size, size)) for _ in range(resamples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": statistic(np.arange(size)), "low": float(low), "high": float(high)}
