"""ViewDefinitions against the official tests of SQL on FHIR v2, and from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins._errors import InputError
from digital_twins.cli import main
from digital_twins.fhir import View

if TYPE_CHECKING:
    from pathlib import Path


def comparable(row: dict[str, Any]) -> str:
    """Text of a row in which 5 and 5.0 are one number."""
    numbers = {n: float(v) if type(v) in {int, float} else v for n, v in row.items()}
    return json.dumps(numbers, sort_keys=True)


def passes(case: dict[str, Any], resources: list[dict[str, Any]]) -> bool:
    try:
        view = View(case["view"])
        rows = list(view.rows(resources))
    except InputError:
        return bool(case.get("expectError"))
    if case.get("expectError"):
        return False
    names = case.get("expectColumns")
    expected = sorted(map(comparable, case.get("expect", [])))
    return sorted(map(comparable, rows)) == expected and names in (None, [c.name for c in view.columns])


def test_official_view_tests(shared_data: Path) -> None:
    failed, count = [], 0
    for file in sorted((shared_data / "fhir" / "sql-on-fhir").glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        for case in document["tests"]:
            count += 1
            if not passes(case, document["resources"]):
                failed.append(f"{file.stem}: {case['title']}")
    print(f"SQL on FHIR: {count - len(failed)} of {count}")  # noqa: T201  (what the test reports)
    assert count == 134
    assert failed == []


VIEW = {
    "resource": "Patient",
    "select": [
        {"column": [{"name": "id", "path": "getResourceKey()"}]},
        {"forEachOrNull": "name", "column": [{"name": "family", "path": "family"}]},
    ],
}
PATIENTS = [
    {"resourceType": "Patient", "id": "a", "name": [{"family": "One"}, {"family": "Two"}]},
    {"resourceType": "Patient", "id": "b"},
    {"resourceType": "Observation", "id": "c"},
]


def test_twin_fhir_view_and_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view, bundle, lines = tmp_path / "view.json", tmp_path / "bundle.json", tmp_path / "more.ndjson"
    view.write_text(json.dumps(VIEW), encoding="utf-8")
    entries = [{"resource": resource} for resource in PATIENTS]
    bundle.write_text(json.dumps({"resourceType": "Bundle", "entry": entries}), encoding="utf-8")
    lines.write_text(json.dumps({**PATIENTS[1], "id": "d"}) + "\n", encoding="utf-8")
    assert main(["fhir", "view", str(view), str(bundle), str(lines)]) == 0
    assert capsys.readouterr().out == "id,family\nPatient/a,One\nPatient/a,Two\nPatient/b,\nPatient/d,\n"
    assert main(["fhir", "path", "name.family", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["One", "Two"]
    assert main(["fhir", "view", str(bundle), str(bundle)]) == 1
    assert "ViewDefinition" in capsys.readouterr().err
