"""`twin growth fit` on a small synthetic table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from digital_twins.cli import main

COLUMNS = ["--patient", "who", "--time", "day", "--volume", "mm3"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["who,day,mm3"]
    for patient in range(30):
        logs = rng.normal(8, 1) + np.cumsum(rng.normal(0, 0.2, 7))
        lines += [f"p{patient},{40 * i},{np.exp(x):.1f}" for i, x in enumerate(logs)]
    path = tmp_path / "volumes.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_it_prints_the_table(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["growth", "fit", str(table), *COLUMNS, "--models", "logistic", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    models = [row["model"] for row in answer["models"]]
    assert models == ["last_value", "gompertz_unpooled", "logistic"]
    assert answer["default"] in models
    wanted = {
        "model",
        "mean_absolute_error",
        "pinball",
        "coverage_50",
        "coverage_80",
        "coverage_95",
        "seconds",
    }
    assert set(answer) == {"default", "models"}
    assert all(set(row) == wanted for row in answer["models"])


@pytest.mark.parametrize(
    "change",
    [["--volume", "none"], ["--models", "oracle"], ["--hold-out", "3"], ["--min-readings", "8"]],
)
def test_wrong_use_is_explained(table: Path, change: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["growth", "fit", str(table), *COLUMNS, *change, "--json"]) == 1
    assert set(json.loads(capsys.readouterr().err)) == {"error", "what", "why", "fix"}


def test_a_table_that_is_none_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.csv"
    assert main(["growth", "fit", str(path), *COLUMNS]) == 1
    path.write_text("who,day,mm3\np1,0,large\n", encoding="utf-8")
    assert main(["growth", "fit", str(path), *COLUMNS]) == 1
    path.write_text("who,day,mm3\n", encoding="utf-8")
    assert main(["growth", "fit", str(path), *COLUMNS]) == 1
    assert "large" not in capsys.readouterr().err
