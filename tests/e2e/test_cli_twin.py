"""From a sample patient's files to a calibrated twin and compared treatments, by the command line alone."""

from __future__ import annotations

import json

from digital_twins.cli import main

CHEMOTHERAPY = {
    "type": "chemotherapy",
    "drug": "cisplatin",
    "dose_mg_m2": 75,
    "schedule": "every_3_weeks",
    "cycles": 4,
}
RADIATION = {"type": "radiation", "total_dose_gy": 60, "fractions": 30}


def run(capsys, *words: object) -> dict:
    assert main([str(word) for word in words] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_sample_build_and_simulate(capsys, tmp_path):
    run(capsys, "sample", "lung", tmp_path / "lung")
    files = tmp_path / "lung"
    twin = run(
        capsys,
        "build",
        *("--image", files / "image.nii.gz"),
        *("--mask", files / "tumor_mask.nii.gz"),
        *("--patient-id", "SAMPLE"),
        *("--domain", files / "domain.nii.gz"),
        *("--scan", f"28:{files / 'scan_week_4.nii.gz'}"),
        *("--scan", f"56:{files / 'scan_week_8.nii.gz'}"),
        *("--out", tmp_path / "lung.twin"),
    )
    assert twin["version"] == 2
    rate = twin["proliferation_rate_per_day"]
    assert rate["low"] < rate["value"] < rate["high"]
    (tmp_path / "radiation.json").write_text(json.dumps(RADIATION))
    answer = run(
        capsys,
        "simulate",
        tmp_path / "lung.twin",
        *("--treatment", tmp_path / "radiation.json"),
        *("--treatment", json.dumps(CHEMOTHERAPY)),
        *("--horizon", 60),
    )
    assert len(answer["responses"]) == 2
    for response in answer["responses"]:
        assert (
            response["volume_change_low"]
            <= response["volume_change_percent"]
            <= response["volume_change_high"]
        )
        assert response["response_category"]
        assert len(response["days"]) == len(response["volume_cm3"]) == len(response["low_cm3"])
