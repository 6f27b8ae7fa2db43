"""The learned predictor: boosted trees of two kinds averaged, calibrated by cross-fitting, explained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.monitoring.prediction._metrics import best_threshold, fit_platt, probability

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Flags = NDArray[np.bool_]

OUTPUT = "risk of in-hospital death"
"""What the predictor's number is called."""

FOLDS = 5
LEARNED_H = (12, 24, 36, 48)
"""Hours after admission at which the risk of death is learned: one row of inputs a stay and hour."""
_TREES = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 8,
    "min_data_in_leaf": 30,
    "feature_fraction": 0.1,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 20.0,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
_ALIKE = {"min_data_in_leaf": 30 * len(LEARNED_H), "lambda_l2": 20.0 * len(LEARNED_H)}
"""Where each stay gives several rows: a leaf rests on as many stays, shrunk as much, as with one row each."""
_KINDS: tuple[tuple[dict[str, Any], int], ...] = (
    ({}, 500),
    ({"extra_trees": True, "learning_rate": 0.05, "num_leaves": 12}, 600),
)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The average log-odds of gradient boosted trees and of extremely randomised boosted trees.

    Attributes
    ----------
    trees
        LightGBM models as text.
    """

    trees: tuple[str, ...]

    def log_odds(self, values: Floats) -> Floats:
        """Return uncalibrated log-odds of rows [row, input]; NaN is a missing input."""
        parts = [np.asarray(each.predict(values, raw_score=True, num_threads=1)) for each in self._boosters]
        return np.asarray(np.mean(parts, axis=0))

    def contributions(self, values: Floats) -> Floats:
        """Return what each input adds to `log_odds` and, last, the base: [row, input + 1].

        SHAP values of the trees (Lundberg and Lee 2017, LightGBM's ``pred_contrib``), averaged; a row's sum
        is its log-odds.
        """
        parts = [
            np.asarray(each.predict(values, pred_contrib=True, num_threads=1)) for each in self._boosters
        ]
        return np.asarray(np.mean(parts, axis=0))

    @cached_property
    def _boosters(self) -> list[Any]:
        import lightgbm

        return [lightgbm.Booster(model_str=each) for each in self.trees]


def fit_ensemble(values: Floats, died: Flags, *, seed: int, alike: bool = False) -> Ensemble:
    """Return the ensemble of an outcome [row] on inputs [row, input]; NaN is a missing input.

    Parameters
    ----------
    alike
        Several rows are of one stay with one outcome.
    """
    import lightgbm

    settings = _TREES | (_ALIKE if alike else {})
    trees = []
    for number, (change, rounds) in enumerate(_KINDS):
        data = lightgbm.Dataset(values, label=died.astype(np.float64), params={"verbosity": -1})
        fitted = lightgbm.train(settings | change | {"seed": seed + number}, data, num_boost_round=rounds)
        trees.append(fitted.model_to_string())
    return Ensemble(tuple(trees))


def stacked(values: Floats, died: Flags) -> tuple[Floats, Flags]:
    """Return inputs [stay, hour, input] and outcomes [stay] as one row a stay and hour."""
    return values.reshape(-1, values.shape[2]), np.repeat(died, values.shape[1])


def scores_at(score: Callable[[Floats], Floats], values: Floats) -> Floats:
    """Return a predictor's scores, [stay, hour], of inputs [stay, hour, input]."""
    return score(values.reshape(-1, values.shape[2])).reshape(values.shape[:2])


@dataclass(frozen=True, eq=False)
class Calibrated:
    """How a score becomes a probability, learned on stays that the score's model had not seen.

    Attributes
    ----------
    slope, intercept
        Probability is 1 / (1 + exp(-(slope score + intercept))).
    threshold
        Probability above which a stay counts as one that ends in death: the best least of sensitivity and
        positive predictive value.
    """

    slope: float
    intercept: float
    threshold: float

    def risk(self, score: Floats) -> Floats:
        """Return probabilities of scores."""
        return probability(self.slope * score + self.intercept)


def calibrate(score: Floats, died: Flags) -> Calibrated:
    """Return the calibration of cross-fitted scores [row]."""
    slope, intercept = fit_platt(score, died)
    risk = probability(slope * score + intercept)
    return Calibrated(slope, intercept, best_threshold(died, risk))


def folds(died: Flags, *, number: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of each stay, [stay], with as many deaths in each as can be.

    Raises
    ------
    InputError
        If there are fewer deaths or survivors than folds.
    """
    rng = np.random.default_rng(seed)
    fold = np.zeros(died.size, dtype=np.int64)
    for group in (np.flatnonzero(died), np.flatnonzero(~died)):
        if group.size < number:
            raise InputError(
                "There are too few stays to train on.",
                f"Cross-fitting needs {number} that ended in death and {number} that did not.",
                "Give a folder with more stays.",
            )
        fold[rng.permutation(group)] = np.arange(group.size) % number
    return fold


def cross_fitted(
    fit: Callable[[NDArray[np.int64]], Callable[[NDArray[np.int64]], Floats]], fold: NDArray[np.int64]
) -> Floats:
    """Return the score of every stay by a model that was fitted without its fold.

    Parameters
    ----------
    fit
        Takes the stays to learn from and returns a function that scores others, [stay] or [stay, time].
    fold
        Fold of each stay.
    """
    found: Floats | None = None
    for number in np.unique(fold):
        inside = np.flatnonzero(fold == number)
        scores = fit(np.flatnonzero(fold != number))(inside)
        if found is None:
            found = np.full((fold.size, *scores.shape[1:]), np.nan)
        found[inside] = scores
    assert found is not None
    return found
