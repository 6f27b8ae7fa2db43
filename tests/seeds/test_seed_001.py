"""Document 001, 'Quick Start' 1 and 2, 'TumorTwin Integration': twin, responses, model, to the letter."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from seed_blocks import block
from seed_hospital import credentials_in, hospital_with

import foreign
from digital_twins.imaging import load_mask
from digital_twins.samples import sample_patient
from mr_series import write_multi_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def number(printed: str, label: str) -> float:
    found = re.search(rf"{label}: (-?[0-9.]+)", printed)
    assert found is not None, printed
    return float(found[1])


@pytest.mark.peers
# monai's and torch's own: their deprecations, and a decoder for GPUs that is not installed here
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:NvImgCodec")
def test_quick_start_1_and_2(
    seeds: Path, lung_files: Path, run_block: Callable[[str, dict[str, Any], Path], str]
) -> None:
    foreign.python_package("monai")
    namespace: dict[str, Any] = {}
    printed = run_block(
        block(seeds, "001", "1. Patient-Specific Tumor Digital Twin").source, namespace, lung_files
    )

    twin = namespace["patient_dt"]
    assert twin.patient_id == "ONCO-2026-001"
    baseline = load_mask(lung_files / "scan_week_0.nii.gz").volume_cm3
    week_4 = load_mask(lung_files / "scan_week_4.nii.gz").volume_cm3
    assert twin.baseline_volume_cm3 == pytest.approx(baseline, rel=0.1)
    low, high = twin.current_volume.low, twin.current_volume.high
    assert low <= week_4 * 1.1
    assert high >= week_4 * 0.9
    assert number(printed, "Tumor volume") == pytest.approx(twin.current_volume_cm3, abs=0.005)
    assert number(printed, "Growth rate") == pytest.approx(twin.proliferation_rate, abs=5e-5)
    assert twin.proliferation_rate > 0

    printed = run_block(block(seeds, "001", "2. Treatment Response Simulation").source, namespace, lung_files)
    for label, name in (("Chemo", "chemo_response"), ("Radiation", "radiation_response")):
        response = namespace[name]
        assert number(printed, f"{label} predicted tumor reduction") == pytest.approx(
            response.volume_change_percent, abs=0.05
        )
        assert response.volume_change_low <= response.volume_change_percent <= response.volume_change_high
    assert namespace["radiation_response"].treatment.total_dose_gy == 60


def test_dicom_fhir_integration(
    seeds: Path, tmp_path: Path, run_block: Callable[[str, dict[str, Any], Path], str]
) -> None:
    with hospital_with(tmp_path / "node", "MRN-123456", date(2025, 9, 1)) as node:
        source = block(seeds, "001", "DICOM/FHIR Integration").with_substitutions(
            {
                "https://hospital.pacs.local": f"{node.base_url}/dicom-web",
                "https://hospital.fhir.local/R4": f"{node.base_url}/fhir",
                "/secure/credentials.json": credentials_in(tmp_path),
            }
        )
        namespace: dict[str, Any] = {}
        run_block(source, namespace, tmp_path)
    assert namespace["studies"]
    twin = namespace["patient_dt"]
    assert twin.stage == "IIIA"
    assert twin.twin.baseline_volume_cm3 == pytest.approx(sample_patient("lung").lesion.volume_cm3, rel=0.1)
    found = namespace["recommendations"]
    assert {each.option for each in found} == {"surgery", "chemoradiation", "immunotherapy"}
    assert [each.rank for each in found] == [1, 2, 3]
    assert all(each.score.low <= each.score.high for each in found)
    assert sum(each.probability_best for each in found) == pytest.approx(1.0)
    assert "Nafees" in found.target


def test_tumortwin_integration(
    seeds: Path, tmp_path: Path, run_block: Callable[[str, dict[str, Any], Path], str]
) -> None:
    """To the letter but for the module's name; the preamble is the files that it names, and SEGs beside.

    The four files are multi-frame MR made of the bundled brain sample (real image and outline, contrast
    simulated); the SEG files beside them hold the real outline and the sample's simulated follow-up on days
    28, 56 and 84.
    """
    write_multi_frame(tmp_path)
    source = block(seeds, "001", "1. Tumor Growth Modeling").with_substitutions(
        {"from tumortwin import": "from digital_twins import"}
    )
    namespace: dict[str, Any] = {}
    run_block(source, namespace, tmp_path)

    patient, model, prediction = (namespace[name] for name in ("patient", "model", "prediction"))
    assert set(patient.images) == {"t1", "t1ce", "t2", "flair"}
    assert [visit.day for visit in patient.visits] == [0.0, 28.0, 56.0, 84.0]
    assert {visit.lesion_from for visit in patient.visits} == {"DICOM Segmentation"}
    twin = model.twin
    assert [visit.day for visit in twin.visits] == [28.0, 56.0]
    assert twin.origin_day == 56.0
    assert prediction.days[-1] == 56.0 + 180.0
    assert np.diff(prediction.days[prediction.days >= 56.0])[:-1] == pytest.approx(7.0)
    assert (prediction.low_cm3 <= prediction.volume_cm3).all()
    assert (prediction.volume_cm3 <= prediction.high_cm3).all()
    # the visit of day 84 was not used: its volume is a real test of the forecast
    (unseen,) = [visit.lesion.volume_cm3 for visit in patient.visits if visit.day == 84.0]
    at = int(np.searchsorted(prediction.days, 84.0))
    assert prediction.low_cm3[at] < unseen < prediction.high_cm3[at]
    estimate = twin.parameters["proliferation_per_day"]
    assert estimate.source == "calibrated"
    assert estimate.low < estimate.value < estimate.high
