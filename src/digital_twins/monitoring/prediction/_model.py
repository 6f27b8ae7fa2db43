"""``twin monitor train``: the learned predictor for both sets of inputs, its file, and its reasons."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.monitoring.prediction._inputs import inputs_at, predictor_inputs
from digital_twins.monitoring.prediction._learned import (
    LEARNED_H,
    OUTPUT,
    Calibrated,
    Ensemble,
    calibrate,
    cross_fitted,
    fit_ensemble,
    folds,
    stacked,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from digital_twins.monitoring.prediction._physionet import Stays

    Floats = NDArray[np.floating[Any]]

_FORMAT = "digital-twins death risk 1"
_SETS = ("vitals", "all_inputs")


@dataclass(frozen=True, eq=False)
class DeathRisk:
    """A trained predictor of the risk of in-hospital death from the first 48 hours.

    Research use only: one hospital's intensive care units of 2001 to 2008 [verify], death at any later time
    of the stay, not deterioration on a ward.

    Attributes
    ----------
    ensemble
        What scores.
    calibrated
        What makes a probability of the score, and its threshold.
    names
        Names of the inputs, in order.
    vitals_only
        Whether it reads vital signs only.
    """

    ensemble: Ensemble
    calibrated: Calibrated
    names: tuple[str, ...]
    vitals_only: bool

    def risk(self, stays: Stays, *, hours: float = 48.0) -> Floats:
        """Return the risk of in-hospital death, [stay], from what is known at ``hours`` after admission."""
        inputs = predictor_inputs(stays, hours=hours, vitals_only=self.vitals_only)
        return self.calibrated.risk(self.ensemble.log_odds(inputs.values))

    def reasons(self, stays: Stays, *, hours: float = 48.0, number: int = 5) -> list[list[tuple[str, float]]]:
        """Return the inputs that move each stay's risk most, with their share of the log-odds.

        Positive raises the risk. All shares of a stay and the base sum to the log-odds of its risk.
        """
        inputs = predictor_inputs(stays, hours=hours, vitals_only=self.vitals_only)
        parts = self.calibrated.slope * self.ensemble.contributions(inputs.values)[:, :-1]
        order = np.argsort(-np.abs(parts), axis=1)[:, :number]
        return [
            [(self.names[place], float(row[place])) for place in places]
            for row, places in zip(parts, order, strict=True)
        ]


def train_death_risk(stays: Stays, *, vitals_only: bool = False, seed: int = 0) -> DeathRisk:
    """Return a predictor trained on stays as known at `LEARNED_H`, calibrated at 48 hours by cross-fitting.

    Raises
    ------
    InputError
        If fewer than five stays ended in death or in survival.
    """
    names = predictor_inputs(stays, vitals_only=vitals_only).names
    values, died = inputs_at(stays, LEARNED_H, vitals_only=vitals_only), stays.died

    def fitted(rows: NDArray[np.int64]) -> Ensemble:
        return fit_ensemble(*stacked(values[rows], died[rows]), seed=seed, alike=True)

    def judge_others(rows: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Floats]:
        ensemble = fitted(rows)
        return lambda others: ensemble.log_odds(values[others, -1])

    cross = cross_fitted(judge_others, folds(died, seed=seed))
    return DeathRisk(fitted(np.arange(len(stays))), calibrate(cross, died), names, vitals_only)


def save_death_risk(path: Path, models: dict[str, DeathRisk]) -> str:
    """Write predictors into one file (zip of text and JSON with hashes, no pickle); return its SHA-256.

    Parameters
    ----------
    models
        ``vitals`` and ``all_inputs``, or one of them.
    """
    parts: dict[str, bytes] = {}
    for name, model in models.items():
        for number, text in enumerate(model.ensemble.trees):
            parts[f"{name}/trees-{number}.txt"] = text.encode()
        about = {
            "names": model.names,
            "vitals_only": model.vitals_only,
            "calibrated": asdict(model.calibrated),
            "trees": len(model.ensemble.trees),
        }
        parts[f"{name}/model.json"] = json.dumps(about).encode()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    head = {"format": _FORMAT, "output": OUTPUT, "models": list(models), "sha256": hashes}
    parts["manifest.json"] = json.dumps(head, indent=1).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_death_risk(path: Path) -> dict[str, DeathRisk]:
    """Return the predictors of a file that `save_death_risk` wrote.

    Raises
    ------
    InputError
        If it is no such file or a part does not have the hash that the manifest states.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("manifest.json"))
            if head["format"] != _FORMAT:
                raise _no_model("It has another format.")
            parts = {name: archive.read(name) for name in head["sha256"]}
        for name, content in parts.items():
            if hashlib.sha256(content).hexdigest() != head["sha256"][name]:
                raise _no_model("A part was changed after it was written.")
        return {name: _model(parts, name) for name in head["models"] if name in _SETS}
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise _no_model("It is no zip file of models, or a part is missing.") from error


def bedside_risk(path: Path) -> DeathRisk:
    """Return the predictor on vital signs of a model file.

    Raises
    ------
    InputError
        It is no such file, or holds none on vital signs alone.
    """
    found = load_death_risk(path).get("vitals")
    if found is None:
        raise _no_model("It holds no model on vital signs, and monitors know no laboratory.")
    return found


def _model(parts: dict[str, bytes], name: str) -> DeathRisk:
    about = json.loads(parts[f"{name}/model.json"])
    trees = tuple(parts[f"{name}/trees-{number}.txt"].decode() for number in range(about["trees"]))
    return DeathRisk(
        Ensemble(trees),
        Calibrated(**about["calibrated"]),
        tuple(about["names"]),
        bool(about["vitals_only"]),
    )


def _no_model(why: str) -> InputError:
    return InputError("The model file cannot be read.", why, "Train one with: twin monitor train.")
