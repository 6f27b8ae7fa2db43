"""The site builds without a warning, loads nothing from elsewhere, and shows what is taken from the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1800)  # half a minute of computing, which a loaded machine takes long over
ROOT = Path(__file__).parents[2]
_LOADED = re.compile(r"""<(?:script|img|iframe)[^>]+src=["']?https?://|<link[^>]+href=["']?https?://""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not _LOADED.search(page.read_text(encoding="utf-8")), page


def test_python_pages_show_the_lazy_names(site: Path) -> None:
    page = (site / "reference" / "python" / "imaging" / "index.html").read_text(encoding="utf-8")
    for name in ("Volume", "Volume.spacing_mm", "load_volume", "seg_from_masks"):
        assert f'id="digital_twins.imaging.{name}"' in page, name


def test_unverified_values_are_listed(site: Path) -> None:
    page = (site / "regulatory" / "intended-use" / "index.html").read_text(encoding="utf-8")
    assert "temozolomide: absorption_per_h" in page
    assert "alpha/beta the usual value (not verified)" in page
    assert "<!-- list of unverified values -->" not in page
