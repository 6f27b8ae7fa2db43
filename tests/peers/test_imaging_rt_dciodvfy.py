"""David Clunie's validator finds no error in the RTSTRUCT and REG that we write."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from ct_series import AXIAL, ball, ct_series, oblique, tilted
from digital_twins.imaging import (
    RigidRegistration,
    StructureDetails,
    as_mask,
    registration_object,
    structures_from_masks,
    volume_from_series,
)
from foreign import program

pytestmark = pytest.mark.peers


def _errors(path):
    run = subprocess.run([program("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
    text = (run.stdout + run.stderr).splitlines()
    assert text
    return [line for line in text if line.startswith("Error")]


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_no_error_in_our_rtstruct(tmp_path, affine):
    series = ct_series(np.zeros((6, 24, 22), np.int16), affine)
    image = volume_from_series(series)
    masks = [as_mask(image, ball(image.shape, (3, 12, 11), r)) for r in (2.0, 3.0)]
    masks.append(as_mask(image, np.zeros(image.shape, bool)))
    dataset = structures_from_masks(
        masks,
        series,
        series_description="PREDICTED day 30, NOT ACQUIRED",
        series_number=900,
        details=StructureDetails(names=("Lesion", "Lesion 95 %"), interpreted_types=("GTV", "CTV")),
    )
    dataset.save_as(tmp_path / "rs.dcm")
    assert _errors(tmp_path / "rs.dcm") == []


def test_no_error_in_our_registration(tmp_path):
    moving = ct_series(np.zeros((4, 12, 11), np.int16), AXIAL, frame_uid="1.2.3.5")
    fixed = ct_series(np.zeros((4, 12, 11), np.int16), oblique())
    shift = np.eye(4)
    shift[:3, 3] = [1.5, 2.5, -3.5]
    dataset = registration_object(
        RigidRegistration(shift, "1.2.3.5", "1.2.3.4"),
        fixed,
        moving,
        series_description="Alignment",
        series_number=7,
    )
    dataset.save_as(tmp_path / "reg.dcm")
    assert _errors(tmp_path / "reg.dcm") == []


def test_no_error_on_a_real_series(tmp_path):
    from digital_twins.samples import sample_patient

    patient = sample_patient("lung")
    dataset = structures_from_masks(
        [visit.mask for visit in patient.visits],
        patient.baseline_images(),
        series_description="Visits",
        series_number=8,
    )
    dataset.save_as(tmp_path / "rs.dcm")
    assert _errors(tmp_path / "rs.dcm") == []
