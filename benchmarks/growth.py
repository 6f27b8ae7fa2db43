"""Growth laws without space: throughput of the closed forms, and the forecast table of real patients.

The peer of the closed form is scipy's DOP853 on one tumour; that of the forecasts is the last value carried
forward. The patients' table needs the development data beside the project (or TWIN_SHARED); without it only
the first figure is printed.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

from digital_twins.models import Forcing, compare_growth_models, growth_law, series_from_rows

Figure = tuple[str, float, str, float | None]
DAYS = np.linspace(0.0, 365.0, 20)
TUMOURS = 10_000


def figures() -> Iterator[Figure]:
    yield from _throughput()
    root = Path(os.environ.get("TWIN_SHARED", Path(__file__).parents[2] / "shared"))
    table = root / "data" / "tumor" / "laleh2022_nsclc" / "flat_patient_data.csv"
    if table.is_file():
        yield from _patients(table)


def _throughput() -> Iterator[Figure]:
    doses = Forcing([30.0], [-0.5], np.arange(42.0), np.full(42, 0.05), np.full(42, 9.242))
    table = np.exp(np.random.default_rng(0).normal(size=(TUMOURS, 3))) * [1.0, 0.01, 100.0]
    start = time.process_time()
    growth_law("gompertz").volumes(table, DAYS, forcing=doses)
    ours = (time.process_time() - start) / TUMOURS
    start = time.process_time()
    for v0, rate, limit in table[:20]:
        stops = np.unique(np.concatenate([DAYS, doses.dose_days]))
        volume = v0
        for a, b in pairwise(stops):
            run = solve_ivp(
                lambda t, v, r=rate, k=limit: (-r * np.log(v / k) - doses.kill_rate_per_day(t)) * v,
                (a, b - 1e-9),
                [volume],
                "DOP853",
                rtol=1e-8,
            )
            volume = run.y[0, -1]
    peer = (time.process_time() - start) / 20
    yield "treated_gompertz_course", ours * 1e6, "us", ours / peer


def _patients(table: Path) -> Iterator[Figure]:
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    days, volumes = ([float(row[name]) for row in rows] for name in ("T_days", "Lesion_normvol"))
    series = series_from_rows([row["Pt_hashID"] for row in rows], days, volumes, offset=1e-5)
    result = compare_growth_models(series, offset=1e-5)
    last = next(score for score in result.scores if score.model == "last_value")
    for score in result.scores:
        mark = "_default" if score.model == result.default else ""
        name = f"{score.model}{mark}"
        error = score.mean_absolute_error
        yield f"{name}.mean_absolute_error", error, "share", error / last.mean_absolute_error
        yield f"{name}.pinball", score.pinball, "share", score.pinball / last.pinball
        yield f"{name}.coverage_80", score.coverage_80, "share", None
    yield "table", sum(score.seconds for score in result.scores), "cpu_s", None
