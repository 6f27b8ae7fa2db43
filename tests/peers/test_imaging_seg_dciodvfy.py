"""David Clunie's validator finds no error in the SEG that we write."""

from __future__ import annotations

import os
import shutil
import subprocess

import numpy as np
import pytest

from ct_series import AXIAL, ball, ct_series, oblique, tilted
from digital_twins.imaging import SegDetails, as_mask, grid, seg_from_masks, volume_from_series

pytestmark = pytest.mark.peers


@pytest.fixture
def dciodvfy():
    found = shutil.which("dciodvfy")
    if found is None:
        message = "needs dciodvfy: apt-get install dicom3tools (make peers)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
@pytest.mark.parametrize("model_grid", [False, True])
def test_no_error_in_our_seg(dciodvfy, tmp_path, affine, model_grid):
    series = ct_series(np.zeros((6, 12, 11), np.int16), affine)
    image = volume_from_series(series)
    like = grid(image, spacing_mm=1.2) if model_grid else image
    masks = [as_mask(like, ball(like.shape, tuple(np.array(like.shape) / 2), r)) for r in (2.0, 3.0)]
    seg = seg_from_masks(
        masks,
        series,
        series_description="PREDICTED day 30, NOT ACQUIRED",
        series_number=900,
        details=SegDetails(labels=("Lesion", "Lesion 95 %"), tracking_uid=("1.2.3.40", "1.2.3.41")),
    )
    seg.save_as(tmp_path / "seg.dcm")
    run = subprocess.run([dciodvfy, str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False)
    assert not [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]
