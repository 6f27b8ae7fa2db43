"""Logistic regression with a ridge penalty on imputed and standardised inputs: the yardstick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

_FARTHEST = 5.0


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A ridge logistic regression.

    Attributes
    ----------
    fill
        Median in training, [input], which stands for a missing value.
    middle, spread
        Mean and standard deviation in training after that, [input].
    weights
        Change of the log-odds for one standard deviation, [input].
    intercept
        Log-odds at the mean.
    """

    fill: Floats
    middle: Floats
    spread: Floats
    weights: Floats
    intercept: float

    def log_odds(self, values: Floats) -> Floats:
        """Return the log-odds of rows [row, input]; inputs count within five standard deviations."""
        filled = np.where(np.isfinite(values), values, self.fill)
        columns = np.clip((filled - self.middle) / self.spread, -_FARTHEST, _FARTHEST)
        return np.asarray(columns @ self.weights + self.intercept)


def fit_linear(values: Floats, died: NDArray[np.bool_], penalty: float) -> LinearModel:
    """Return the regression of an outcome [row] on inputs [row, input].

    Parameters
    ----------
    penalty
        scikit-learn's ``C``: the inverse of the ridge penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    known = np.isfinite(values).any(axis=0)
    fill = np.zeros(values.shape[1])
    fill[known] = np.nanmedian(values[:, known], axis=0)
    filled = np.where(np.isfinite(values), values, fill)
    middle, spread = filled.mean(axis=0), filled.std(axis=0)
    spread = np.where(spread > 1e-6 * (np.abs(middle) + 1e-6), spread, np.inf)
    columns = np.clip((filled - middle) / spread, -_FARTHEST, _FARTHEST)
    with threadpool_limits(1):
        fitted = LogisticRegression(C=penalty, max_iter=1000, tol=1e-3).fit(columns, died)
    return LinearModel(fill, middle, spread, fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0]))
