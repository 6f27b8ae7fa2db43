"""Damaged bytes are refused with what, why and fix, or read; nothing else ever comes out."""

from __future__ import annotations

import numpy as np
import pytest

from ct_series import AXIAL, ball, ct_series
from digital_twins import DigitalTwinError
from digital_twins.imaging import (
    as_mask,
    load_mask,
    load_volume,
    save_nifti,
    save_nrrd,
    seg_from_masks,
    volume_from_series,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    series = ct_series(np.zeros((6, 12, 11), np.int16), AXIAL)
    image = volume_from_series(series)
    mask = as_mask(image, ball(image.shape, (2.5, 6, 5), 2.2))
    series[0].save_as(folder / "ct.dcm", enforce_file_format=True)
    seg_from_masks([mask], series, series_description="Lesion", series_number=2).save_as(folder / "seg.dcm")
    for name in ("a.nii", "a.nii.gz"):
        save_nifti(mask, folder / name)
    save_nrrd(mask, folder / "a.nrrd")
    return folder


@pytest.mark.parametrize("name", ["ct.dcm", "seg.dcm", "a.nii", "a.nii.gz", "a.nrrd"])
def test_damaged_files(files, tmp_path, name, full):
    whole = (files / name).read_bytes()
    rng = np.random.default_rng(6)
    refused = complete = 0
    rounds = 2000 if full else 60
    for n in range(rounds):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 6000), rng.integers(1, 12)):
            data[at] = rng.integers(256)
        if n % 3 == 0:
            del data[rng.integers(min(140, len(data) // 2), len(data)) :]
        (tmp_path / name).write_bytes(data)
        for load in (load_volume, load_mask):
            try:
                load(tmp_path / name)
            except DigitalTwinError as error:
                refused += 1
                complete += all((error.what, error.why, error.fix))
    assert complete == refused > rounds // 3
