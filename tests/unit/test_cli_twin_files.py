"""`twin build --export`, `twin simulate --export` and `twin cite` on the lung sample."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from digital_twins.cli import main
from digital_twins.imaging import load_mask, load_volume
from digital_twins.patient_modeling import PatientTwin, citations
from digital_twins.samples import write_sample


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_sample("lung", folder)
    words = ["build", "--image", "image.nii.gz", "--mask", "tumor_mask.nii.gz", "--domain", "domain.nii.gz"]
    files = [str(folder / word) if word.endswith(".gz") else word for word in words]
    scan = f"28:{folder / 'scan_week_4.nii.gz'}"
    given = '{"drug": "cisplatin", "dose_mg": 140, "days": [0, 21]}'
    out = ["--out", str(folder / "a.twin"), "--export", str(folder / "plain"), "--json"]
    assert main([*files, "--patient-id", "P-7", "--scan", scan, "--given", given, *out]) == 0
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_build_exports_plain_files(built: Path) -> None:
    twin = PatientTwin.open(built / "a.twin")
    table = rows(built / "plain" / "parameters.csv")
    (row,) = [r for r in table if (r["version"], r["parameter"]) == ("2", "proliferation_per_day")]
    assert float(row["value"]) == twin.proliferation_rate
    lesion = load_mask(built / "plain" / "lesion.nii.gz")
    assert (lesion.array == twin.lesion.array).all()
    assert load_volume(built / "plain" / "density.nii.gz").array == pytest.approx(twin.density.array)
    assert twin.twin_id in (built / "plain" / "twin.html").read_text(encoding="utf-8")
    assert len(rows(built / "plain" / "sources.csv")) == len(citations(twin))


def test_simulate_exports_courses(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    radiation = '{"type": "radiation", "total_dose_gy": 60, "fractions": 30}'
    options = ["--horizon", "28", "--json", "--export", str(built / "sim")]
    plans = ["--treatment", '{"type": "observation"}', "--treatment", radiation]
    assert main(["simulate", str(built / "a.twin"), *plans, *options]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert [Path(path).name for path in answer["exported"]] == [
        "courses.csv",
        "probability_1.nii.gz",
        "probability_2.nii.gz",
    ]
    assert "treatment 2 of 2" in captured.err
    table = rows(built / "sim" / "courses.csv")
    for number, response in enumerate(answer["responses"], start=1):
        mine = [float(r["volume_cm3"]) for r in table if r["option"] == str(number)]
        assert mine == pytest.approx(response["volume_cm3"])
    shown = load_volume(built / "sim" / "probability_2.nii.gz").array
    assert 0.0 <= shown.min() <= shown.max() <= 1.0


def test_an_export_that_cannot_be_written_says_so(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (built / "file").write_text("x")
    words = ["simulate", str(built / "a.twin"), "--treatment", '{"type": "observation"}', "--horizon", "7"]
    assert main([*words, "--export", str(built / "file" / "below")]) == 1
    assert "folder of the export" in capsys.readouterr().err


def test_cite_names_equation_drug_and_method(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", str(built / "a.twin"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["citations"]
    by_use = {each["used_for"]: each for each in found}
    assert "doi:10.1046/j.1365-2184.2000.00177.x" in by_use["growth equation"]["reference"]
    assert by_use["calibration (map)"]["reference"].startswith("Marquardt")
    (drug,) = [each for use, each in by_use.items() if "cisplatin: clearance_l_h" in use]
    assert "Urien" in drug["reference"]
    assert drug["verified"] is True
    assert by_use["density at the visible edge"]["verified"] is False
    assert not any("radiation" in use for use in by_use)
    assert not any("[verify]" in each["reference"] for each in found)
    assert main(["cite", str(built / "a.twin")]) == 0
    assert "not verified in this source" in capsys.readouterr().out
    assert main(["cite", str(built / "no.twin")]) == 1
