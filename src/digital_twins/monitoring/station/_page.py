"""The central station: its page, and what its page asks for beside tiles and alerts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.datastructures import MutableHeaders

from digital_twins._errors import InputError
from digital_twins.monitoring.alerts import SIGNALS
from digital_twins.monitoring.signals import COLUMN, VITALS
from digital_twins.monitoring.twin import SLOW, STATES, Action, outlook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from digital_twins.monitoring.engine import PatientMonitor

STATION = Path(__file__).parent / "static"
"""Folder of the station's page, style, modules and the vendored uPlot."""
_ANOMALIES = [SIGNALS["ANOMALY_FOREST"], SIGNALS["ANOMALY_SVM"]]
AHEAD_MINUTES = (0, 1, 2, 5, 10, 15, 20, 30)
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Headers:
    """Pure ASGI middleware: every answer carries the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, answer)


def trends(monitor: PatientMonitor, code: str, *, since_s: float) -> dict[str, Any]:
    """Return the readings of one vital sign of every patient that are in memory.

    Parameters
    ----------
    monitor
        Whose.
    code
        Of the vital sign; ``MAP`` is the line's, else the cuff's.
    since_s
        Older readings are left out; seconds since 1970 UTC.

    Raises
    ------
    InputError
        There is no such vital sign.
    """
    columns = _columns(code)
    found = {}
    for patient, row in list(monitor.patients.items()):
        times, values = monitor.ring.read(row)
        fresh = times >= since_s
        found[patient] = {
            "t": np.round(times[fresh], 1).tolist(),
            "v": _plain(_first(values[fresh], columns)),
        }
    return found


def bed_page(monitor: PatientMonitor, patient: str, *, now_s: float) -> dict[str, Any]:
    """Return all of one bed: tile, trends, twin with standard deviations, forecasts with 95 % intervals.

    Raises
    ------
    NotFoundError
        The patient is not monitored.
    """
    row = monitor.row_of(patient)
    times, values = monitor.ring.read(row)
    sd = np.sqrt(np.maximum(np.diagonal(monitor.twin.covariance[row]), 0.0))
    mean = monitor.twin.mean[row]
    twin = [
        {"name": name, "mean": float(mean[n]), "sd": float(sd[n])} for n, name in enumerate((*STATES, *SLOW))
    ]
    shown = {code: _plain(_first(values, _columns(code))) for code in _SHOWN}
    return {
        **monitor.view(patient, now_s=now_s),
        "at_s": now_s,
        "trend": {"t": np.round(times, 1).tolist(), **shown},
        "forecast": _forecasts(monitor, row),
        "twin": twin,
        "anomaly": [None if np.isnan(each) else float(each) for each in monitor.anomaly[row, _ANOMALIES]],
        "risk": None if monitor.risk is None else monitor.risk.view(row),
    }


def what_if(monitor: PatientMonitor, patient: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outlook of a patient without and with an action; the keys of `data` are those of `Action`.

    Raises
    ------
    NotFoundError
        The patient is not monitored.
    InputError
        The action is not one of a number each, or outside of what the model can say.
    """
    row = monitor.row_of(patient)
    names = Action.__dataclass_fields__
    try:
        values = {name: None if each is None else float(each) for name, each in data.items()}
        action = Action(**values)  # type: ignore[arg-type]
        usable = all(values[name] is not None for name in values if name != "oxygen_fraction")
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise InputError(
            "The action cannot be simulated.",
            "It has an unknown name, or a value that is no number.",
            f"Use numbers for: {', '.join(names)}.",
        )
    return {
        "without": outlook(monitor.twin, row).to_dict(),
        "with": outlook(monitor.twin, row, action=action).to_dict(),
    }


_SHOWN = ("HR", "MAP", "SPO2", "RR", "TEMP")
_MOST = {"SPO2": 100.0}
"""What a reading cannot exceed: the trend filter knows no ceiling."""
_MAP = (COLUMN["ART_MEAN"], COLUMN["NIBP_MEAN"])


def _columns(code: str) -> tuple[int, ...]:
    if code == "MAP":
        return _MAP
    if code not in COLUMN:
        known = ", ".join(("MAP", *(each.code for each in VITALS)))
        raise InputError("There is no such trend.", "The code names no vital sign.", f"Use one of: {known}.")
    return (COLUMN[code],)


def _first(values: Any, columns: tuple[int, ...]) -> Any:
    """Of each reading the first of some columns that has a value."""
    found = values[:, columns[0]]
    for each in columns[1:]:
        found = np.where(np.isnan(found), values[:, each], found)
    return found


def _plain(values: Any) -> list[float | None]:
    return [None if np.isnan(each) else round(float(each), 1) for each in values]


def _forecasts(monitor: PatientMonitor, row: int) -> dict[str, Any]:
    told: dict[str, Any] = {code: {"mean": [], "low": [], "high": []} for code in _SHOWN}
    place = {code: _columns(code)[0] for code in _SHOWN}
    if np.isnan(monitor.trend.level[row, _MAP[0]]):
        place["MAP"] = _MAP[1]
    for minutes in AHEAD_MINUTES:
        parts = monitor.trend.forecast(minutes * 60.0, baseline=monitor.baseline.mean)
        for name, part in zip(("mean", "low", "high"), parts, strict=True):
            for code in _SHOWN:
                value = min(part[row, place[code]], _MOST.get(code, np.inf))
                told[code][name].append(None if np.isnan(value) else round(float(value), 1))
    start = monitor.trend.time_s[row]
    return {"from_s": None if np.isnan(start) else float(start), "minutes": list(AHEAD_MINUTES), **told}
