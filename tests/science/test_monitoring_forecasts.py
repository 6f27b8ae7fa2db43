"""The trend filter on real data: forecast error beside persistence, intervals and innovations."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from digital_twins.monitoring import (
    VITALS,
    PersonalBaseline,
    Stays,
    TrendFilter,
    read_stays,
    replay_numerics,
)
from digital_twins.monitoring.prediction._parameters import NUMBER

Floats = NDArray[np.floating[Any]]
RECORD = "monitor/wfdb/multi-segment/s00001/s00001-2896-10-10-00-31n.hea"
PLACE = {each.code: place for place, each in enumerate(VITALS)}
CHARTED = {
    "HR": "HR",
    "RespRate": "RR",
    "Temp": "TEMP",
    "NISysABP": "NIBP_SYS",
    "NIMAP": "NIBP_MEAN",
    "SysABP": "ART_SYS",
    "MAP": "ART_MEAN",
}


@dataclass(frozen=True, eq=False)
class Run:
    """What the filter said at each reading: arrays [patient, step, vital], times [patient, step]."""

    time_s: Floats
    value: Floats
    standard: Floats
    forecast: dict[float, tuple[Floats, Floats, Floats]]


def run(time_s: Floats, value: Floats, aheads_s: tuple[float, ...]) -> Run:
    """Filter every patient with the default noise; the last steps of a patient may be NaN."""
    patients, steps = value.shape[:2]
    trend, baseline = TrendFilter(patients), PersonalBaseline(patients)
    standard = np.full(value.shape, np.nan)
    told = {each: tuple(np.full(value.shape, np.nan) for _ in range(3)) for each in aheads_s}
    for step in range(steps):
        rows = np.flatnonzero(np.isfinite(time_s[:, step]))
        found = trend.step(rows, time_s[rows, step], value[rows, step])
        baseline.step(rows, time_s[rows, step], value[rows, step])
        standard[rows, step] = np.sign(found.innovation) * np.sqrt(found.nis)
        for ahead, places in told.items():
            for place, each in zip(places, trend.forecast(ahead, baseline=baseline.mean), strict=True):
                place[rows, step] = each[rows]
    return Run(time_s, value, standard, {key: (a, b, c) for key, (a, b, c) in told.items()})


def told(found: Run, code: str, ahead_s: float, *, first_s: float = 0.0) -> dict[str, float]:
    """Mean error of persistence and filter over readings that come `ahead_s` later, or up to a third more.

    The 95 % interval of their ratio is a bootstrap over patients, of one patient over hours.
    """
    vital, rows = PLACE[code], []
    for patient in range(len(found.value)):
        at = np.flatnonzero(np.isfinite(found.value[patient, :, vital]))
        time_s, value = found.time_s[patient, at], found.value[patient, at, vital]
        later = np.searchsorted(time_s, time_s + ahead_s - 1e-6)
        asked = np.flatnonzero((later < at.size) & (time_s >= first_s))
        asked = asked[time_s[later[asked]] <= time_s[asked] + ahead_s * 4 / 3]
        truth = value[later[asked]]
        mean, low, high = (each[patient, at[asked], vital] for each in found.forecast[ahead_s])
        group = np.full(asked.size, patient) if len(found.value) > 1 else time_s[asked] // 3600
        errors = np.abs(truth - value[asked]), np.abs(truth - mean), (low <= truth) & (truth <= high)
        rows.append(np.stack([group, np.ones(asked.size), *errors], axis=1))
    table = np.concatenate(rows)
    group = np.unique(table[:, 0], return_inverse=True)[1]
    sums = np.stack([np.bincount(group, weights=each) for each in table[:, 1:].T])
    rng = np.random.default_rng(0)
    drawn = sums[:, rng.integers(sums.shape[1], size=(500, sums.shape[1]))].sum(axis=2)
    count, persistence, filtered, inside = sums.sum(axis=1)
    low, high = np.quantile(drawn[2] / drawn[1], [0.025, 0.975])
    return {
        "count": float(count),
        "persistence": float(persistence / count),
        "filter": float(filtered / count),
        "ratio": float(filtered / persistence),
        "low": float(low),
        "high": float(high),
        "inside": float(inside / count),
    }


def innovations(found: Run, code: str) -> dict[str, float]:
    """Mean NIS, share above chi-square's 95 % point, lag-1 autocorrelation of standard innovations."""
    first, second, every = [], [], []
    for row in found.standard[:, :, PLACE[code]]:
        each = row[np.isfinite(row)]
        every.append(each)
        first.append(each[:-1])
        second.append(each[1:])
    a, b, c = (np.concatenate(each) for each in (first, second, every))
    return {
        "mean_nis": float(np.mean(c**2)),
        "above": float(np.mean(c**2 > 3.841)),
        "lag_1": float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))),
    }


def record_of(header: Path) -> tuple[Floats, Floats]:
    frames = list(replay_numerics(header, device="D", start_s=0.0))
    value = np.full((1, len(frames), len(VITALS)), np.nan)
    for step, frame in enumerate(frames):
        for code, each in frame.values.items():
            if each > 0:  # the disconnected line, which the quality checks blank
                value[0, step, PLACE[code]] = each
    return np.array([[frame.device_time_s for frame in frames]]), value


def charted(stays: Stays) -> tuple[Floats, Floats]:
    keep = np.isin(stays.parameter, [NUMBER[name] for name in CHARTED])
    column = np.zeros(len(NUMBER), dtype=np.int64)
    for name, code in CHARTED.items():
        column[NUMBER[name]] = PLACE[code]
    stay, minute, value = stays.stay[keep], stays.minute[keep], stays.value[keep]
    vital = column[stays.parameter[keep]]
    both, place = np.unique(np.stack([stay, minute.astype(np.int64)], axis=1), axis=0, return_inverse=True)
    starts = np.searchsorted(both[:, 0], np.arange(len(stays)))
    step = np.arange(len(both)) - starts[both[:, 0]]
    time_s = np.full((len(stays), step.max() + 1), np.nan)
    time_s[both[:, 0], step] = both[:, 1] * 60.0
    values = np.full((*time_s.shape, len(VITALS)), np.nan)
    values[stay, step[place.ravel()], vital] = value
    return time_s, values


def keep(name: str, figures: dict[str, Any]) -> None:
    """To the log: --log-file FILE --log-file-level INFO writes what the documents show."""
    logging.getLogger(__name__).info("%s %s", name, json.dumps(figures))


@pytest.mark.shared
def test_forecasts_of_the_bedside_record_beat_persistence(shared_data: Path) -> None:
    """The second half of the record: the first was looked at when the forecast's return was chosen."""
    time_s, value = record_of(shared_data / RECORD)
    aheads = (60.0, 300.0, 900.0, 1800.0)
    found, half_s = run(time_s, value, aheads), time_s[0, time_s.shape[1] // 2]
    for code in ("HR", "RR", "SPO2", "NIBP_SYS"):
        keep(code, innovations(found, code))
        assert abs(innovations(found, code)["lag_1"]) < 0.4
        for ahead in aheads[2:] if code == "NIBP_SYS" else aheads:  # the cuff measures every 15 minutes or so
            figures = told(found, code, ahead, first_s=half_s)
            keep(f"{code} {ahead}", figures)
            assert figures["ratio"] < 1.0
            assert figures["high"] < 1.0 or ahead == 60.0 or code in {"SPO2", "NIBP_SYS"}
            assert 0.8 < figures["inside"] <= 1.0


@pytest.mark.shared
def test_forecasts_of_charted_stays_beat_persistence(shared_data: Path, full: bool) -> None:
    """Three of four stays; the fourth was looked at when the forecast's return was chosen."""
    stays = read_stays(shared_data / "monitor" / "physionet2012" / "set-a")
    unseen = np.flatnonzero(np.arange(len(stays)) % 4)
    aheads = (3600.0, 7200.0, 21600.0)
    found = run(*charted(stays.subset(unseen if full else unseen[:400])), aheads)
    for code in CHARTED.values():
        figures = innovations(found, code)
        keep(code, figures)
        assert 0.5 < figures["mean_nis"] < 3.0
        assert -0.6 < figures["lag_1"] < 0.1
        for ahead in aheads:
            figures = told(found, code, ahead)
            keep(f"{code} {ahead}", figures)
            assert figures["inside"] > 0.85
            if code == "TEMP":  # level with persistence: a fever is not known to end
                assert figures["ratio"] < 1.01
            else:
                assert figures["high"] < 1.0
