"""Bad input on the command line: three lines that say what, why and fix, exit code 1, and no file written."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from phantom_study import CENTRE, SHAPE, affine

from ct_series import ball
from digital_twins.cli import main
from digital_twins.imaging import Volume, save_nifti

if TYPE_CHECKING:
    from pathlib import Path

FRAME = "1.2.3.77.4"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound and unsound images of one small patient."""
    folder = tmp_path_factory.mktemp("files")
    lesion = ball(SHAPE, CENTRE, 3.0)
    image = np.where(lesion, 60.0, 40.0).astype(np.float32)
    broken = image.copy()
    broken[2, 3, 4] = np.nan
    arrays = {
        "image": image,
        "broken": broken,
        "lesion": lesion.astype(np.uint8),
        "smaller": ball(SHAPE, CENTRE, 2.5).astype(np.uint8),
        "empty": np.zeros(SHAPE, np.uint8),
        "elsewhere": ball(SHAPE, (2.0, 4.0, 4.0), 2.0).astype(np.uint8),
    }
    for name, array in arrays.items():
        save_nifti(Volume(array, affine(), frame_of_reference_uid=FRAME), folder / f"{name}.nii.gz")
    (folder / "words.nii.gz").write_bytes(b"this is no image")
    whole = (folder / "image.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.mark.parametrize(
    ("image", "mask", "more", "word"),
    [
        ("broken", "lesion", (), "NaN"),
        ("words", "lesion", (), "NIfTI file cannot be read"),
        ("cut", "lesion", (), "NIfTI file cannot be read"),
        ("image", "empty", (), "empty"),
        ("image", "lesion", ("--domain", "elsewhere"), "outside the domain"),
        ("image", "lesion", ("--scan", "-5:smaller"), "before"),
        ("image", "lesion", ("--scan", "5:empty"), "empty"),
        ("nowhere", "lesion", (), "does not exist"),
    ],
)
def test_images_that_make_no_twin(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    image: str,
    mask: str,
    more: tuple[str, ...],
    word: str,
) -> None:
    def path(name: str) -> str:
        day, _, stem = name.rpartition(":")
        return f"{day}:{files / stem}.nii.gz" if day else f"{files / stem}.nii.gz"

    out = tmp_path / "made.twin"
    words = ["build", "--image", path(image), "--mask", path(mask), "--patient-id", "PHANTOM-CLI"]
    words += [path(each) if not each.startswith("--") else each for each in more]
    assert main([*words, "--out", str(out)]) == 1
    assert_three_lines(capsys.readouterr().err, word)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("treatment", "word"),
    [
        ({"drug": "paclitaxel", "dose_mg_m2": -175, "cycles": 4}, "dose"),
        ({"drug": "elixir of life", "dose_mg_m2": 175, "cycles": 4}, "drug"),
        ({"type": "radiation", "total_dose_gy": -60, "fractions": 30}, "dose"),
    ],
)
def test_treatments_that_cannot_be_given(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    treatment: dict[str, object],
    word: str,
) -> None:
    words = ["simulate", str(tmp_path / "any.twin"), "--treatment", json.dumps(treatment)]
    assert main(words) == 1
    assert_three_lines(capsys.readouterr().err, word)


def assert_three_lines(err: str, word: str) -> None:
    shown = err.splitlines()
    start = next(i for i, line in enumerate(shown) if line.startswith("error:"))
    assert all(re.match(r" *[0-9.]+ s  ", line) for line in shown[:start]), err  # steps that were done before
    lines = shown[start:]
    assert [line.split(":")[0].strip() for line in lines] == ["error", "why", "fix"], err
    assert "nobody has foreseen" not in err
    assert word in err
    assert "PHANTOM-CLI" not in err
