"""Machine code on disk is of the text that runs: also of what is compiled into a function from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from digital_twins.monitoring.twin import _kernels

_KERNEL = """
import numba
import law
from digital_twins.monitoring.signals import cached_by

times = numba.njit(law.times)

def kernel(x):
    return times(x)

kernel = numba.njit(cache=True)(cached_by(kernel, law))
print(kernel(3.0), sum(kernel.stats.cache_hits.values()))
"""


def run(folder: Path) -> list[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(
        [sys.executable, str(folder / "kernel.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


def test_an_edit_of_the_law_is_seen_though_the_kernels_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(_KERNEL, encoding="utf-8")
    (tmp_path / "law.py").write_text("def times(x):\n    return 2.0 * x\n", encoding="utf-8")
    assert run(tmp_path) == ["6.0", "0"]
    assert run(tmp_path) == ["6.0", "1"]
    (tmp_path / "law.py").write_text("def times(x):\n    return 5.0 * x\n", encoding="utf-8")
    assert run(tmp_path) == ["15.0", "0"]


def test_the_twins_kernels_are_named_after_their_law() -> None:
    names = {each: getattr(_kernels, each).py_func.__qualname__ for each in ("moved_and_slopes", "taken_in")}
    assert len({name.rpartition("_")[2] for name in names.values()}) == 1
    assert all(name.startswith(f"{each}_") for each, name in names.items())
