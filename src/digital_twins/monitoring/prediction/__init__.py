"""Learned risk: inputs, training, calibration and evaluation on intensive care records."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.prediction._evaluate import (
        cross_validate_death_risk as cross_validate_death_risk,
        evaluate_death_risk as evaluate_death_risk,
    )
    from digital_twins.monitoring.prediction._hypotension import evaluate_hypotension as evaluate_hypotension
    from digital_twins.monitoring.prediction._inputs import (
        StayInputs as StayInputs,
        predictor_inputs as predictor_inputs,
    )
    from digital_twins.monitoring.prediction._model import (
        DeathRisk as DeathRisk,
        bedside_risk as bedside_risk,
        load_death_risk as load_death_risk,
        save_death_risk as save_death_risk,
        train_death_risk as train_death_risk,
    )
    from digital_twins.monitoring.prediction._physionet import Stays as Stays, read_stays as read_stays
    from digital_twins.monitoring.prediction._watch import RiskWatch as RiskWatch

_ROOM = "digital_twins.monitoring.prediction"
_WHERE = {
    **dict.fromkeys(("cross_validate_death_risk", "evaluate_death_risk"), f"{_ROOM}._evaluate"),
    "evaluate_hypotension": f"{_ROOM}._hypotension",
    **dict.fromkeys(("StayInputs", "predictor_inputs"), f"{_ROOM}._inputs"),
    **dict.fromkeys(
        ("DeathRisk", "bedside_risk", "load_death_risk", "save_death_risk", "train_death_risk"),
        f"{_ROOM}._model",
    ),
    **dict.fromkeys(("Stays", "read_stays"), f"{_ROOM}._physionet"),
    "RiskWatch": f"{_ROOM}._watch",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
