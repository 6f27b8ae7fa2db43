"""dciodvfy and dcmqi judge the objects that we write, and write ones for us to read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from ct_series import AXIAL, ct_series
from digital_twins.dicom import DocumentIdentity, Software, key_object_selection, secondary_capture
from digital_twins.imaging import (
    Volume,
    as_mask,
    masks_from_seg,
    parametric_map,
    seg_from_fractions,
    seg_from_masks,
    volume_from_parametric_map,
    volume_from_series,
)
from digital_twins.records import Code
from foreign import missing_peer

pytestmark = pytest.mark.peers
BESIDE_PYTHON = str(Path(sys.executable).parent)
LIVER, KIDNEY = Code("10200004", "SCT", "Liver"), Code("64033007", "SCT", "Kidney")
ADC, RATE = Code("113041", "DCM", "Apparent Diffusion Coefficient"), Code("um2/s", "UCUM", "um2/s")
IDENTITY = DocumentIdentity("1.2.3.60", "1.2.3.61", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 90, "Made")
SOFTWARE = Software("digital-twins", "0.1.0")


def program(name: str) -> str:
    """PyPI's build comes first: Debian's dciodvfy knows no label map."""
    return shutil.which(name, path=f"{BESIDE_PYTHON}:{os.environ.get('PATH', '')}") or missing_peer(name)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def objects() -> dict[str, Any]:
    series = ct_series(np.zeros((4, 13, 11), np.int16), AXIAL)
    image = volume_from_series(series)
    labels = np.random.default_rng(5).integers(0, 3, image.shape)
    masks = [as_mask(image, labels == n, meaning=m) for n, m in ((1, LIVER), (2, KIDNEY))]
    varied = Volume(np.random.default_rng(6).normal(900, 90, image.shape).astype(np.float32), image.affine)
    smooth = Volume(np.full(image.shape, 0.25), image.affine)
    named = {"series_description": "Made by a test", "series_number": 900}
    return {
        "binary": seg_from_masks(masks, series, **named),
        "labelmap": seg_from_masks(masks, series, segmentation_type="LABELMAP", **named),
        "fractional": seg_from_fractions([(smooth, LIVER)], series, **named),
        "map": parametric_map(varied, series, quantity=ADC, unit=RATE, **named),
        "key": key_object_selection(series, identity=IDENTITY, software=SOFTWARE),
        "capture": secondary_capture(
            np.zeros((9, 7, 3), np.uint8), series, identity=IDENTITY, software=SOFTWARE
        ),
    }


@pytest.mark.parametrize("name", ["binary", "labelmap", "fractional", "map", "key", "capture"])
def test_dciodvfy_finds_no_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "made.dcm"
    objects()[name].save_as(path, enforce_file_format=True)
    output = run(program("dciodvfy"), str(path))
    assert output.strip()
    assert not [line for line in output.splitlines() if line.startswith("Error")], output


def test_dcmqi_reads_equal_masks(tmp_path: Path) -> None:
    seg = objects()["binary"]
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    reader = program("segimage2itkimage")
    run(reader, "--inputDICOM", str(tmp_path / "seg.dcm"), "--outputDirectory", str(tmp_path))
    for number, mask in enumerate(masks_from_seg(seg), 1):
        theirs = SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd"))
        array = SimpleITK.GetArrayFromImage(theirs)
        if theirs.GetDirection()[8] * mask.affine[2, 0] < 0:
            array = array[::-1]
        np.testing.assert_array_equal(array > 0, mask.array)


@pytest.mark.shared
def test_we_read_equal_masks_from_dcmqi(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom/seg_sr_dcmqi/segmentations"
    seg = dcmread(folder / "liver.dcm")
    (liver,) = masks_from_seg(seg)
    label = SimpleITK.ReadImage(str(folder / "liver_seg.nrrd"))
    array = SimpleITK.GetArrayFromImage(label) > 0
    assert liver.array.sum() == array.sum()
    same = any(
        np.array_equal(liver.array, candidate[: len(liver.array)]) for candidate in (array, array[::-1])
    )
    assert same


@pytest.mark.shared
def test_we_read_the_parametric_map_that_dcmqi_writes(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom/seg_sr_dcmqi"
    source = folder / "paramaps/pm-example-float.nrrd"
    made = tmp_path / "theirs.dcm"
    output = run(
        program("itkimage2paramap"),
        "--inputImage",
        str(source),
        "--inputMetadata",
        str(folder / "json_examples/pm-example-float.json"),
        "--inputDICOMList",
        str(folder / "paramaps/pm-example-slice.dcm"),
        "--outputDICOM",
        str(made),
    )
    assert made.exists(), output
    volume, unit = volume_from_parametric_map(dcmread(made))
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(source)))
    assert unit.scheme == "UCUM"
    assert any(np.allclose(volume.array, candidate, rtol=1e-6) for candidate in (expected, expected[::-1]))
