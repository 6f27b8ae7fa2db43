"""What the blocks of the source documents find when they run: files, a node, and a patient in it.

The preamble, in full. A block runs to the letter, except that these strings are replaced in it:

- host names of the hospital by the addresses of the embedded node on 127.0.0.1,
- absolute paths (credentials, DICOM folder) by paths in a temporary folder.

Relative file names are found because the block runs in a folder that holds them. The patient is the bundled
lung sample: `patient_001_ct.nii.gz` is its CT; `patient_001_mri_t1.nii.gz` is the same CT again, since the
sample has one modality; the mask and the `scan_week_N` files are its outlines. For the connector, the sample
is sent to the node under the medical record number of the document, with study dates moved into the
document's date range.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.samples import write_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def seeds(shared_data: Path) -> Path:
    """Folder of the source documents."""
    return shared_data.parent / "seeds"


@pytest.fixture(scope="session")
def lung_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lung sample under the file names of the documents."""
    folder = tmp_path_factory.mktemp("lung")
    write_sample("lung", folder)
    for original, name in (
        ("image", "patient_001_ct"),
        ("image", "patient_001_mri_t1"),
        ("tumor_mask", "patient_001_tumor_mask"),
    ):
        shutil.copy(folder / f"{original}.nii.gz", folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def run_block(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Any], Path], str]:
    """Run the source of a block in a namespace and a folder; return what it printed."""

    def run(source: str, namespace: dict[str, Any], folder: Path) -> str:
        monkeypatch.chdir(folder)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "<seed>", "exec"), namespace)
        return printed.getvalue()

    return run
