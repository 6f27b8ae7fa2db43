"""Sections 5 to 7 of seed document 003: each name has its counterpart and its test in a table."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (`\w+`(?:, `\w+`)*) \| `(digital_twins\.[\w.]+)` \| `(tests/[\w/]+\.py)::(test_\w+)` \|$"
)
TEXT = (
    (ROOT / "docs" / "reference" / "fhir.md").read_text(encoding="utf-8").partition("## Sections 5 to 7")[2]
)
ROWS = [found.groups() for line in TEXT.splitlines() if (found := ROW.match(line))]


def test_the_table_names_everything_that_the_document_declares(shared_data: Path) -> None:
    (seed,) = (shared_data.parent / "seeds").glob("003_*.txt")
    part = seed.read_text(encoding="utf-8").partition("\n## 5. ")[2].partition("\n## 8. ")[0]
    declared = set(re.findall(r"\b(?:func|struct|actor|protocol)\s+(\w+)", part))
    declared |= set(re.findall(r"\benum\s+(\w+Error)\b", part))
    named = {name for row in ROWS for name in re.findall(r"\w+", row[0])}
    assert len(declared) == 29
    assert named == declared


@pytest.mark.parametrize(("names", "place", "file", "test"), ROWS)
def test_each_counterpart_and_each_test_exists(names: str, place: str, file: str, test: str) -> None:
    room, _, rest = place.removeprefix("digital_twins.").partition(".")
    found = importlib.import_module(f"digital_twins.{room}")
    for attribute in rest.split("."):
        found = getattr(found, attribute)
    assert callable(found), names
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), names


def test_the_table_is_read() -> None:
    assert len(ROWS) == 16
