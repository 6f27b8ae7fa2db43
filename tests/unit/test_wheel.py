"""The built wheel installs into an empty environment beside the package that also owns `unification`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from foreign import PEERS, missing_peer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the tools of this environment, without the network."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_code_and_data_but_no_unification_init(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "digital_twins/py.typed" in names
    assert "unification/__init__.py" not in names
    assert any(n.startswith("digital_twins/samples/data/") for n in names)


@pytest.mark.peers
def test_wheel_installs_beside_logical_unification(wheel: Path, tmp_path: Path) -> None:
    wheels = PEERS / "wheels"
    if not wheels.is_dir():
        missing_peer("logical-unification")
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", str(target)]
    subprocess.run(
        [*pip, "--find-links", str(wheels), "logical-unification"], check=True, capture_output=True
    )
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True)
    check = (
        "import digital_twins, unification;"
        "from unification import unify, var;"
        "assert unify(var('x'), 1, {}) ;"
        "print(digital_twins.__file__, unification.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(target)) == 2
