"""Signal quality, and what looks wrong: change points, anomalies, NEWS2, technical alarms."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.detection._anomaly import (
        AnomalyDetector as AnomalyDetector,
        healthy_values as healthy_values,
    )
    from digital_twins.monitoring.detection._changes import ChangeDetector as ChangeDetector
    from digital_twins.monitoring.detection._features import FEATURES as FEATURES, features as features
    from digital_twins.monitoring.detection._news2 import News2 as News2, news2 as news2
    from digital_twins.monitoring.detection._quality import (
        Checked as Checked,
        QualityChecks as QualityChecks,
        plausible as plausible,
    )
    from digital_twins.monitoring.detection._technical import (
        TEXTS as TEXTS,
        TechnicalAlarms as TechnicalAlarms,
    )

_ROOM = "digital_twins.monitoring.detection"
_WHERE = {
    **dict.fromkeys(("AnomalyDetector", "healthy_values"), f"{_ROOM}._anomaly"),
    "ChangeDetector": f"{_ROOM}._changes",
    **dict.fromkeys(("FEATURES", "features"), f"{_ROOM}._features"),
    **dict.fromkeys(("News2", "news2"), f"{_ROOM}._news2"),
    **dict.fromkeys(("Checked", "QualityChecks", "plausible"), f"{_ROOM}._quality"),
    **dict.fromkeys(("TEXTS", "TechnicalAlarms"), f"{_ROOM}._technical"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
