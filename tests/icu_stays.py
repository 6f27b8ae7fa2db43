"""SIMULATED intensive care stays in the shape of the PhysioNet/CinC Challenge 2012."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digital_twins.monitoring import read_stays, save_death_risk, train_death_risk
from digital_twins.monitoring.prediction import _learned

Row = tuple[int, int, str, float]


def write_stays(folder: Path, rows: list[Row], died: dict[int, int]) -> Path:
    """Write the two files of a set."""
    folder.mkdir(parents=True, exist_ok=True)
    record, minute, parameter, value = zip(*rows, strict=True)
    table = {
        "record": pa.array(record, pa.int32()),
        "minute": pa.array(minute, pa.int16()),
        "parameter": pa.array(parameter),
        "value": pa.array(value, pa.float32()),
    }
    pq.write_table(pa.table(table), folder / "records.parquet")
    with (folder / "outcomes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("RecordID", "In-hospital_death"), *died.items()])
    return folder


def simulated(folder: Path, count: int, seed: int) -> Path:
    """Stays in which lactate, pressure and pulse tell a part of the outcome; a third has no lactate."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    died = {}
    for record in range(1000, 1000 + count):
        ill = rng.normal()
        died[record] = int(rng.random() < 1 / (1 + np.exp(-(2.5 * ill - 1.5))))
        rows += [(record, 0, "Age", float(rng.integers(30, 90))), (record, 0, "ICUType", 3.0)]
        for hour in range(0, 48, 2):
            minute = 60 * hour + int(rng.integers(0, 50))
            rows.append((record, minute, "HR", 85 + 10 * ill + rng.normal(0, 8)))
            rows.append((record, minute, "NIMAP", 76 - 6 * ill + rng.normal(0, 7)))
            rows.append((record, minute, "NISysABP", 112 - 8 * ill + rng.normal(0, 10)))
        if rng.random() < 0.67:
            rows += [(record, m, "Lactate", 2 * np.exp(0.7 * ill + rng.normal(0, 0.2))) for m in (60, 1500)]
    return write_stays(folder, rows, died)


def small_model(folder: Path) -> Path:
    """A model file of simulated stays, with few trees."""
    path, kinds = folder / "model.zip", _learned._KINDS
    try:
        _learned._KINDS = tuple((change, 40) for change, _ in kinds)
        stays = read_stays(simulated(folder / "stays", 300, 1))
        save_death_risk(path, {"vitals": train_death_risk(stays, vitals_only=True)})
    finally:
        _learned._KINDS = kinds
    return path
