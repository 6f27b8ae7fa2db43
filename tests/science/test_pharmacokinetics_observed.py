"""Simulated areas, peaks and half-lives beside those observed by a label or an independent study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digital_twins.pharmacology import concentration_mg_l
from digital_twins.records import DrugDose

TABLE = Path(__file__).with_name("pharmacokinetics_observed.json")
DOCS = Path(__file__).parents[2] / "docs" / "science" / "drug-kinetics.md"
WITHIN = 0.20
ASKED = {
    "cisplatin", "carboplatin", "paclitaxel", "docetaxel", "temozolomide", "gemcitabine", "fluorouracil",
    "doxorubicin", "pemetrexed",
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    if not TABLE.is_file():
        return []
    return list(json.loads(TABLE.read_text("utf-8"))["rows"])


def predicted(row: dict[str, Any]) -> float:
    """What the library's curve has of the row's quantity."""
    doses = [DrugDose(day=start / 24, dose_mg=mg, duration_hours=h) for start, mg, h in row["doses"]]
    end = max(start + h for start, _, h in row["doses"])
    if row["quantity"] == "half_life_h":
        hours = end + np.linspace(*row["window_h"], 50)
        curve = concentration_mg_l(row["drug"], doses, hours / 24)
        return float(np.log(2) / -np.polyfit(hours, np.log(curve), 1)[0])
    starts = [start + np.geomspace(1e-3, 1.0, 500) for start, _, _ in row["doses"]]
    during, after = np.linspace(0.0, end + 0.2, 6001), end + np.geomspace(0.01, 1000.0, 6000)
    hours = np.unique(np.concatenate([during, after, *starts]))
    curve = concentration_mg_l(row["drug"], doses, hours / 24)
    return float(curve.max() if row["quantity"] == "cmax_mg_l" else np.trapezoid(curve, hours))


@pytest.mark.parametrize("row", rows(), ids=lambda r: f"{r['drug']}-{r['regimen']}-{r['quantity']}")
def test_curves_agree_with_observations_or_say_why_not(row: dict[str, Any]) -> None:
    found = predicted(row)
    assert found == pytest.approx(row["model"], rel=0.005), "the table in the documents would be wrong"
    low, high = row.get("between", ((1 - WITHIN) * row["observed"], (1 + WITHIN) * row["observed"]))
    agrees = low <= found <= high
    assert agrees != ("why" in row), "a difference needs its reason, an agreement none"
    assert len(row["source"]) > 20


def test_every_drug_asked_for_has_an_observed_area() -> None:
    areas = {row["drug"] for row in rows() if row["quantity"] == "auc_mg_h_l"}
    assert areas == ASKED
    agreeing = {row["drug"] for row in rows() if row["quantity"] == "auc_mg_h_l" and "why" not in row}
    assert ASKED - agreeing == {"gemcitabine"}


def test_the_documents_show_the_table_as_it_is() -> None:
    page = DOCS.read_text("utf-8")
    for row in rows():
        difference = 100 * (row["model"] / row["observed"] - 1)
        line = f"| {row['observed']:.3g} | {row['model']:.3g} | {difference:+.0f} % |"
        assert line in page, (row["drug"], row["regimen"], line)
