"""bandit over our source: no finding of high or medium severity that nobody has reviewed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from foreign import python_package

pytestmark = pytest.mark.peers
SOURCE = Path(__file__).parents[2] / "src"


def findings(target: Path) -> tuple[list[str], list[str], int]:
    """Return the findings of medium or high severity, the files it could not read, and the lines it read."""
    python_package("bandit")
    arguments = ["-m", "bandit", "-q", "-r", "-ll", "-f", "json", str(target)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    found = [f"{each['test_id']} {each['filename']}:{each['line_number']}" for each in report["results"]]
    return found, report["errors"], report["metrics"]["_totals"]["loc"]


def test_no_high_or_medium_finding_is_left() -> None:
    found, unread, lines = findings(SOURCE)
    assert (found, unread) == ([], [])
    assert lines > 50_000


def test_bandit_would_find_one(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import pickle\n\npickle.loads(b'')\n", encoding="utf-8")
    found, _, _ = findings(tmp_path)
    assert [each.split()[0] for each in found] == ["B301"]


def test_each_exception_names_its_rule_and_its_reason() -> None:
    marked = [
        f"{path.name}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "# nosec" in line
    ]
    reasoned = re.compile(r"# noqa: S608  \([^)]+\)  # nosec B608$")
    assert [line for line in marked if not reasoned.search(line)] == []
    assert marked
