"""Model card and IEC 62304 documents: from the twin and the software as they are, with no blank."""

from __future__ import annotations

import json
import re
import runpy
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from digital_twins import InputError
from digital_twins.governance import ModelDocumentation, hindcast, software_bill
from tumour_phantom import RADIATION, follow_up, new_twin

if TYPE_CHECKING:
    from digital_twins.patient_modeling import PatientTwin

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/digital_twins/governance"


@pytest.fixture(scope="module")
def twin() -> PatientTwin:
    made = new_twin()
    made.calibrate(follow_up(new_twin(), {"proliferation_per_day": 0.03}, [28.0, 56.0]).scans, [RADIATION])
    return made


def test_the_card_tells_the_twin_s_own_numbers(twin, tmp_path):
    card = ModelDocumentation(twin).generate_model_card()
    text = card.to_markdown()
    estimate = twin.parameters["proliferation_per_day"]
    assert f"{estimate.value:.4g} /d, 95 % interval {estimate.low:.4g} to {estimate.high:.4g}" in text
    assert twin.content_digest in text
    assert twin.patient_id not in text
    for day, observed in zip(twin.calibration.days, twin.calibration.observed_cm3, strict=True):
        assert f"Day {day:g}: {observed:.2f} cm3 seen" in text
    assert all(remark in text for remark in twin.calibration.identifiability)
    short = ModelDocumentation(twin).generate_model_card(
        include_validation=False, include_limitations=False, include_intended_use=False
    )
    assert {"Validation", "Limitations", "Intended use"}.isdisjoint(short.sections)
    card.save(tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text())["title"] == card.title
    card.save(tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == text


def test_the_hindcast_does_not_see_the_last_scan(twin):
    seen = hindcast(twin)
    assert (seen.day, seen.trained_on) == (56.0, 1)
    assert seen.observed_cm3 == twin.visits[-1].volume_cm3
    assert seen.low_cm3 < seen.forecast_cm3 < seen.high_cm3
    assert len(twin.history) == 2
    assert hindcast(new_twin()) is None


def test_the_documents_are_whole(twin, tmp_path):
    written = ModelDocumentation(twin).generate_iec62304_docs(
        output_dir=tmp_path / "docs", software_safety_class="b"
    )
    assert len(written) == 9
    for path in written[:-1]:
        text = path.read_text(encoding="utf-8")
        assert "class B" in text
        assert not re.search(r"\|[ ]*\|", text), f"{path.name} has an empty cell"
    assert "[operator to supply]" in (tmp_path / "docs/05-risk-file.md").read_text(encoding="utf-8")
    assert "| governance |" in (tmp_path / "docs/03-architecture.md").read_text(encoding="utf-8")
    assert f"| numpy | {version('numpy')} |" in (tmp_path / "docs/04-soup.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="A, B and C"):
        ModelDocumentation(twin).generate_iec62304_docs(output_dir=tmp_path, software_safety_class="D")


def test_the_change_control_plan_and_checklists_are_whole(twin, tmp_path):
    documents = ModelDocumentation(twin)
    written = documents.generate_regulatory_docs(output_dir=tmp_path / "docs")
    assert len(written) == 6
    iec = {path.name for path in documents.generate_iec62304_docs(output_dir=tmp_path / "docs")}
    here = iec | {path.name for path in written}
    for path in written[::2]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\|[ ]*\|", text), f"{path.name} has an empty cell"
        assert "[operator to supply]" in text
        assert set(re.findall(r"[\w.-]+\.(?:md|cdx\.json)", text)) <= here
    plan = (tmp_path / "docs/predetermined-change-control-plan.md").read_text(encoding="utf-8")
    estimate = twin.parameters["proliferation_per_day"]
    assert f"{estimate.value:.4g} /d, {estimate.low:.4g} to {estimate.high:.4g}" in plan
    assert f"seed {twin.provenance.seed}, {twin.calibration.evaluations} evaluations" in plan
    assert "Forecast of day 56 from the 1 earlier" in plan
    assert twin.patient_id not in plan
    path, _, name = re.search(r"tests/\S+\.py::\w+", plan)[0].partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "docs/eu-mdr-annex-ii.json").read_text(encoding="utf-8"))
    assert {row["section"] for row in kept["rows"]} >= {"1.1", "1.2", "2", "3", "4", "5", "6.1", "6.2"}
    ModelDocumentation(new_twin()).generate_regulatory_docs(output_dir=tmp_path / "fresh")
    fresh = (tmp_path / "fresh/predetermined-change-control-plan.md").read_text(encoding="utf-8")
    assert "the twin was not calibrated" in fresh


def test_requirements_are_those_of_the_feature_table_and_trace_to_tests():
    made = runpy.run_path(str(ROOT / "scripts/make-requirements.py"))["requirements"]()
    kept = json.loads((PACKAGE / "requirements.json").read_text(encoding="utf-8"))
    assert kept == made, "run: python scripts/make-requirements.py"
    assert len(kept) > 60
    for each in kept:
        assert all((ROOT / test).is_file() for test in each["tests"]), each["id"]
        assert each["tests"] or each["state"] in {"not yet", "not demonstrated here"}, each["id"]
    known = {each["id"] for each in kept}
    for risk in json.loads((PACKAGE / "risks.json").read_text(encoding="utf-8")):
        assert set(risk["requirements"]) <= known


def test_the_bill_names_what_is_installed():
    bill = software_bill()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    versions = {each["name"]: each["version"] for each in bill["components"]}
    assert versions["numpy"] == version("numpy")
    assert versions["pydicom"] == version("pydicom")
    assert "pytest" not in versions
    assert len({each["bom-ref"] for each in bill["components"]}) == len(bill["components"])
