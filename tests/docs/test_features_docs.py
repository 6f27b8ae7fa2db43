"""docs/features.md holds every promised row once, with a known state and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
ROWS_OF = {"A": 8, "B": 10, "C": 6, "D": 16, "E": 4, "F": 4, "G": 6, "H": 8, "I": 5, "J": 2, "K": 8}
STATES = {"works", "partly", "not yet", "not demonstrated here"}


def rows() -> dict[str, list[str]]:
    """Cells of each row by its id; an id that stands twice fails."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"[A-K]\d+", cells[0]):
            assert cells[0] not in found, cells[0]
            found[cells[0]] = cells
    return found


def test_every_row_stands_once() -> None:
    expected = {f"{letter}{n}" for letter, count in ROWS_OF.items() for n in range(1, count + 1)}
    assert len(expected) == 77
    assert set(rows()) == expected


@pytest.mark.parametrize("cells", rows().values(), ids=lambda cells: cells[0])
def test_row_is_true_to_its_form(cells: list[str]) -> None:
    identifier, capability, state, missing, tests = cells
    assert capability
    assert state in STATES
    assert (state == "not demonstrated here") <= identifier.startswith("K")
    links = re.findall(r"\]\(([^)]+)\)", tests)
    for link in links:
        assert (PAGE.parent / link).is_file(), link
        assert "/tests/" in link
    if state in {"works", "partly"}:
        assert links, "a claim without a test"
    if state in {"partly", "not demonstrated here"}:
        assert missing, "say what is missing"
