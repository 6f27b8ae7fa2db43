"""The table of docs/reference/monitor-features.md: each object and each test that it names is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| ([^|]+) \| `([\w.]+)` \| `([\w/.]+)::(\w+)` \|$",
    (ROOT / "docs" / "reference" / "monitor-features.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
NAMED = (
    *("three", "interval", "Isolation Forest", "One-Class SVM", "alert_thresholds.yaml", "profiles"),
    *("status levels", "escalation", "roles", "encryption", "audit"),
)
"""What the document names, as the work order lists it."""


def test_every_named_feature_has_a_row() -> None:
    told = " ".join(row[0] for row in ROWS)
    assert [each for each in NAMED if each not in told] == []
    page = (ROOT / "docs" / "reference" / "monitor-features.md").read_text(encoding="utf-8")
    assert len(ROWS) == sum(line.startswith("| ") for line in page.splitlines()) - 1  # all but the head


def test_every_object_exists() -> None:
    for _, name, *_ in ROWS:
        parts = name.split(".")
        found, depth = importlib.import_module(".".join(parts[:2])), 2
        for part in parts[2:]:
            depth += 1
            if hasattr(found, part):
                found = getattr(found, part)
            elif isinstance(found, type):
                source = Path(str(importlib.import_module(found.__module__).__file__)).read_text("utf-8")
                assert re.search(rf"self\.{part}\b", source), name
            else:
                found = importlib.import_module(".".join(parts[:depth]))


def test_every_test_exists() -> None:
    for _, _, file, name in ROWS:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        found = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in found, f"{file}::{name}"
