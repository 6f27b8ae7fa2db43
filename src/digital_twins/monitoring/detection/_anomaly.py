"""Anomaly detection by Isolation Forest and One-Class SVM, always for all patients in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from digital_twins.monitoring.detection._features import features
from digital_twins.monitoring.simulation import SyntheticPatients
from digital_twins.monitoring.twin import Body

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Method = Literal["isolation_forest", "one_class_svm"]


def healthy_values(count: int = 1000, *, seed: int = 0) -> Floats:
    """Return vital signs of simulated stable patients of many builds, [row, vital], to learn from.

    Parameters
    ----------
    count
        Patients; each gives five rows, a minute apart.
    seed
        Of bodies and noise.
    """
    rng = np.random.default_rng(seed)
    bodies = Body(
        weight_kg=rng.uniform(50, 110, count),
        heart_rate_per_min=rng.normal(75, 9, count).clip(52, 100),
        mean_pressure_mmhg=rng.normal(91, 8, count).clip(72, 112),
        respiratory_rate_per_min=rng.normal(15, 2, count).clip(10, 20),
        temperature_cel=rng.normal(37, 0.3, count).clip(36.2, 37.9),
    )
    patients = SyntheticPatients(bodies, ["stable"] * count, seed=seed)
    return np.concatenate([patients.step(60.0) for _ in range(5)])


class AnomalyDetector:
    """One of the two methods (scikit-learn) on the features of vital signs.

    Liu, Ting and Zhou 2008 (doi:10.1109/ICDM.2008.17); Schoelkopf and others 2001
    (doi:10.1162/089976601750264965).

    Parameters
    ----------
    method
        Which.
    normal
        Vital signs that count as normal, [row, vital]; default `healthy_values`.
    false_rate
        Share of the normal rows that the threshold lets be called anomalous.
    seed
        Of the forest.
    """

    def __init__(
        self, method: Method, *, normal: Floats | None = None, false_rate: float = 0.02, seed: int = 0
    ) -> None:
        self.method = method
        table = features(healthy_values(seed=seed) if normal is None else normal)
        self._middle, self._spread = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6)
        self._model = _model(method, len(table), seed)
        self._model.fit(self._scaled(table))
        scores = -self._model.score_samples(self._scaled(table))
        self._threshold = float(np.quantile(scores, 1.0 - false_rate))
        self._unit = max(float(np.quantile(scores, 1.0 - false_rate) - np.median(scores)), 1e-9)

    def score(self, values: Floats) -> Floats:
        """Return how strange vital signs [row, vital] are, [row]: over 0 is an anomaly.

        One unit is the distance from the median of the normal rows to the threshold.
        """
        raw = -self._model.score_samples(self._scaled(features(values)))
        score: Floats = (raw - self._threshold) / self._unit
        return score

    def _scaled(self, table: Floats) -> Floats:
        scaled: Floats = (table - self._middle) / self._spread
        return scaled


def _model(method: Method, rows: int, seed: int) -> Any:
    if method == "isolation_forest":
        from sklearn.ensemble import IsolationForest

        # trees of the usual 256 rows stay so shallow that a crisis of one sign, hypoxia, passes for health
        return IsolationForest(n_estimators=100, max_samples=min(1024, rows), random_state=seed, n_jobs=1)
    from sklearn.svm import OneClassSVM

    return OneClassSVM(kernel="rbf", gamma="scale", nu=0.01)
