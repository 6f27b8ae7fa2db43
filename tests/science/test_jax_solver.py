"""The JAX solver against the numba one, and the way to it from the pipeline."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import (
    Domain,
    Forcing,
    ReactionDiffusionModel,
    SurvivalMap,
    TensorDomain,
    _jax_solver,
    lq_log_survival,
    solver_fallback,
)
from foreign import python_package

SHAPE, SPACING_MM = (8, 12, 11), (2.0, 1.0, 1.0)


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take jax's own device, here a CPU, for an accelerator."""
    python_package("jax")
    monkeypatch.setattr(_jax_solver, "accelerator_missing", lambda: None)


def _case(kind: str) -> tuple[np.ndarray, Domain, Forcing]:
    rng = np.random.default_rng(4)
    mask = rng.random(SHAPE) < 0.9
    if kind == "tensor":
        root = rng.normal(size=(*SHAPE, 3, 3))
        domain: Domain = TensorDomain(mask, SPACING_MM, root @ np.swapaxes(root, -1, -2) + 0.3 * np.eye(3))
    else:
        domain = Domain(mask, SPACING_MM, rng.uniform(0.2, 1.5, SHAPE))
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    density = 1.6 / (1.0 + np.exp(np.sqrt(z**2 + y**2 + x**2) - 4.0)) * mask
    keep = np.ones(SHAPE)
    keep[3:5, 5:9, 4:8] = 0.0
    days = np.array([3.0, 3.25, 4.0, 17.0])
    jumps = lq_log_survival(np.full(4, 2.0), 0.06, 10.0)
    forcing = Forcing(days, jumps, [1.0, 5.0], [0.9, 0.3], [9.242, 0.0], (SurvivalMap(12.0, keep),))
    return density, domain, forcing


@pytest.mark.peers
@pytest.mark.usefixtures("accelerated")
@pytest.mark.parametrize("diffusion", [0.1, 6.0], ids=["explicit", "polynomial"])
@pytest.mark.parametrize("kind", ["scalar", "tensor"])
def test_equal_to_numba(kind: str, diffusion: float) -> None:
    density, domain, forcing = _case(kind)
    days = [0.0, 4.0, 12.0, 30.0]
    for precision, tolerance in (("float64", 1e-12), ("float32", 2e-6)):
        here, there = (
            ReactionDiffusionModel(diffusion, 0.06, 2.0, solver=solver).solve(
                density, domain, days, forcing=forcing, precision=precision
            )
            for solver in ("cpu", "gpu_parallel")
        )
        assert there.density.dtype == np.dtype(precision)
        error = np.linalg.norm(there.density - here.density) / np.linalg.norm(here.density)
        assert error <= tolerance, (precision, error)
        assert there.density.min() >= 0.0


@pytest.mark.peers
@pytest.mark.usefixtures("accelerated")
def test_double_precision_is_switched_on_for_the_solver_alone() -> None:
    import jax

    density, domain, _ = _case("scalar")
    model = ReactionDiffusionModel(0.1, 0.05, solver="gpu_parallel")
    states = model.trajectory(density, domain, [1.0, 2.0], precision="float64")
    next(states)
    assert not jax.config.jax_enable_x64


def test_without_jax_or_a_gpu_the_cpu_solves_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    density, domain, forcing = _case("scalar")
    monkeypatch.setitem(sys.modules, "jax", None)
    reason = solver_fallback("gpu_parallel")
    assert reason is not None
    assert "digital-twins[gpu]" in reason
    asked = ReactionDiffusionModel(0.1, 0.05, solver="gpu_parallel")
    plain = ReactionDiffusionModel(0.1, 0.05)
    np.testing.assert_array_equal(
        asked.solve(density, domain, [9.0], forcing=forcing).density,
        plain.solve(density, domain, [9.0], forcing=forcing).density,
    )
    with pytest.raises(InputError, match="not known"):
        ReactionDiffusionModel(0.1, 0.05, solver="abacus")


def test_jax_is_not_imported_by_the_cpu_solver() -> None:
    program = (
        "import sys, numpy as np\n"
        "from digital_twins.models import Domain, ReactionDiffusionModel\n"
        "from digital_twins.patient_modeling import TumorTwinPipeline\n"
        "TumorTwinPipeline()\n"
        "d = Domain(np.ones((2, 2, 2)), (1, 1, 1))\n"
        "ReactionDiffusionModel(.1, .1).solve(np.ones((2, 2, 2)), d, [1.0])\n"
        "sys.exit('jax' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
