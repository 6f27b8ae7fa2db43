"""What the analysis app asks for beside tiles: history of hours, alert rules, and which models run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.monitoring.detection import FEATURES
from digital_twins.monitoring.signals import COLUMN, VITALS, vital
from digital_twins.monitoring.twin import OBSERVED, SLOW, STATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.monitoring.engine import PatientMonitor
    from digital_twins.monitoring.storage import History

    Floats = NDArray[np.float64]

MOST_POINTS = 2000
_LONGEST_S = 31 * 86_400.0


def filed_readings(
    files: History | None, *, patient: str, codes: Sequence[str], since_s: float, until_s: float
) -> dict[str, tuple[Floats, Floats]]:
    """Return times (s) and values of some vital signs from the history files; None: there are none.

    Raises
    ------
    InputError
        The span is empty or longer than 31 days.
    NotFoundError
        A vital sign is not known.
    """
    if not 0.0 < until_s - since_s <= _LONGEST_S:
        raise InputError(
            "The history cannot be shown.",
            "The span is empty, or longer than 31 days.",
            "Choose another span.",
        )
    if files is None:
        return {vital(code).code: (np.empty(0), np.empty(0)) for code in codes}
    return {code: files.read(patient, code, since_s=since_s, until_s=until_s) for code in codes}


def history_view(
    monitor: PatientMonitor,
    filed: Mapping[str, tuple[Floats, Floats]],
    *,
    patient: str,
    since_s: float,
    until_s: float,
) -> dict[str, Any]:
    """Return readings from the files and from memory, drawn together where they are many.

    Parameters
    ----------
    monitor
        Whose memory.
    filed
        What `filed_readings` found.
    patient
        Whose; one who has left is found in the files.
    since_s, until_s
        Seconds since 1970 UTC.

    Returns
    -------
    dict
        A code each with ``t`` (s), ``mean``, ``low`` and ``high`` of up to 2,000 stretches of equal length,
        so that no peak is hidden, and ``readings``, their number.
    """
    series: dict[str, Any] = {}
    for code, (old_s, old) in filed.items():
        time_s, values = _remembered(monitor, patient, code)
        before = old_s < (time_s[0] if len(time_s) else np.inf)
        time_s, values = np.concatenate([old_s[before], time_s]), np.concatenate([old[before], values])
        within = (time_s >= since_s) & (time_s <= until_s)
        series[code] = _stretches(time_s[within], values[within], since_s, until_s)
    alerts = [each.to_dict() for each in monitor.alerts.open_alerts() if each.patient == patient]
    return {"patient": patient, "since_s": since_s, "until_s": until_s, "series": series, "alerts": alerts}


def _remembered(monitor: PatientMonitor, patient: str, code: str) -> tuple[Floats, Floats]:
    row = monitor.patients.get(patient)
    if row is None:
        return np.empty(0), np.empty(0)
    time_s, values = monitor.ring.read(row)
    column = values[:, COLUMN[code]].astype(np.float64)
    there = np.isfinite(column)
    return time_s[there], column[there]


def _stretches(time_s: Floats, values: Floats, since_s: float, until_s: float) -> dict[str, Any]:
    count = len(time_s)
    if count <= MOST_POINTS:
        shown = np.round(values, 2).tolist()
        return {"t": time_s.tolist(), "mean": shown, "low": shown, "high": shown, "readings": count}
    place = np.minimum((time_s - since_s) / (until_s - since_s) * MOST_POINTS, MOST_POINTS - 1).astype(
        np.intp
    )
    first = np.flatnonzero(np.diff(place, prepend=-1))
    size = np.diff(first, append=count)
    return {
        "t": (np.add.reduceat(time_s, first) / size).tolist(),
        "mean": np.round(np.add.reduceat(values, first) / size, 2).tolist(),
        "low": np.round(np.minimum.reduceat(values, first), 2).tolist(),
        "high": np.round(np.maximum.reduceat(values, first), 2).tolist(),
        "readings": count,
    }


def rules_view(monitor: PatientMonitor) -> dict[str, Any]:
    """Return the alert rules as they are in force, and for each patient the limits that differ."""
    told = monitor.thresholds
    rules, limit = told.rules, monitor.conditions.limit
    own = {
        patient: {
            each.id: float(limit[row, n]) for n, each in enumerate(rules) if limit[row, n] != each.limit
        }
        for patient, row in list(monitor.patients.items())
    }
    return {
        "rules": [
            {
                "id": each.id,
                "signal": each.signal,
                "when": "below" if each.below else "above",
                "limit": each.limit,
                "priority": each.priority.name.lower(),
                "marks": each.priority.marks,
                "delay_s": each.delay_s,
                "hysteresis": each.hysteresis,
                "text": each.text,
            }
            for each in rules
        ],
        "own_limits": {patient: limits for patient, limits in own.items() if limits},
        "events": [
            {"event": name, "priority": priority.name.lower(), "text": text}
            for name, (priority, text) in told.events.items()
        ],
        "escalation": [
            {"priority": priority.name.lower(), "after_s": each.after_s, "to": each.to}
            for priority, steps in told.escalation.items()
            for each in steps
        ],
        "may_acknowledge": sorted(told.may_acknowledge),
    }


def models_view(monitor: PatientMonitor) -> dict[str, Any]:
    """Return which models run here, on what, and what they are good for; see docs/science/monitoring.md."""
    noise = monitor.trend.noise
    cards: list[dict[str, Any]] = [
        {
            "name": "Trend filter",
            "method": "Kalman filter of level and slope of each vital sign (local linear trend, Harvey 1989)",
            "inputs": [each.code for each in VITALS],
            "outputs": ["level, slope, forecast with 95 % interval"],
            "settings": {
                f"{each.code} reading SD, {each.unit}": round(float(np.sqrt(noise.reading[n])), 4)
                for n, each in enumerate(VITALS)
            },
        },
        {
            "name": "Physiological twin",
            "method": "extended Kalman filter over circulation with baroreflex, gas exchange and heat",
            "inputs": list(OBSERVED),
            "outputs": [*STATES, *SLOW],
            "settings": {},
        },
        {
            "name": "NEWS2",
            "method": "National Early Warning Score 2 (Royal College of Physicians 2017), both SpO2 scales",
            "inputs": ["RR", "SPO2", "FIO2", "ART_SYS or NIBP_SYS", "HR or PULSE", "ACVPU", "TEMP"],
            "outputs": ["score 0 to 20"],
            "settings": {},
        },
    ]
    cards += [
        {
            "name": {"isolation_forest": "Isolation Forest", "one_class_svm": "One-Class SVM"}[each.method],
            "method": "learned from SIMULATED stable patients; above 0 is an anomaly",
            "inputs": list(FEATURES),
            "outputs": ["score"],
            "settings": {},
        }
        for each in monitor.detectors
    ]
    if monitor.risk is not None:
        model = monitor.risk.model
        cards.append(
            {
                "name": "Risk of in-hospital death",
                "method": "gradient boosted trees, calibrated; learned from charts of intensive care, asked "
                "each hour from hour 6 to 48, explained by SHAP values (docs/science/deterioration.md)",
                "inputs": list(model.names),
                "outputs": ["probability of death in the hospital at any later time"],
                "settings": {"training threshold": round(model.calibrated.threshold, 4)},
            }
        )
    return {"models": cards, "note": "Research use only: not a medical device."}
