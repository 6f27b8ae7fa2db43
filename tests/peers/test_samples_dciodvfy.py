"""David Clunie's validators find no error in the sample patients' DICOM objects."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from digital_twins.samples import NAMES, write_sample

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", params=NAMES)
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp(request.param)
    write_sample(request.param, made)
    return made / "dicom"


@pytest.mark.parametrize("tool", ["dciodvfy", "dcentvfy"])
def test_no_error(folder, tool):
    if shutil.which(tool) is None:
        message = f"needs {tool}: apt-get install dicom3tools (make peers)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    paths = sorted(map(str, folder.glob("*.dcm")))
    runs = [paths] if tool == "dcentvfy" else [[p] for p in paths]
    for arguments in runs:
        run = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
        assert not [s for s in (run.stdout + run.stderr).splitlines() if s.startswith("Error")]
