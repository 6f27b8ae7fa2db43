"""The error of its time steps that a solution reports of itself, also far beyond the explicit limit."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.models import (
    Domain,
    Forcing,
    ReactionDiffusionModel,
    lq_log_survival,
)

SHAPE, SPACING_MM = (20, 22, 24), (1.0, 1.0, 1.0)


def _start(radius_mm: float = 6.0) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return 0.8 / (1.0 + np.exp((np.sqrt(z**2 + y**2 + x**2) - radius_mm) / 1.0))


def _forcing() -> Forcing:
    days = np.arange(10.0, 20.0)
    return Forcing(
        days, lq_log_survival(np.full(10, 2.0), 0.05, 10.0), days, np.full(10, 0.5), np.full(10, 9.0)
    )


@pytest.mark.parametrize(("diffusion", "growth"), [(0.1, 0.05), (0.3, 0.1), (3.0, 0.03)])
def test_reported_error_is_the_achieved_one(diffusion: float, growth: float) -> None:
    domain = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM)
    model = ReactionDiffusionModel(diffusion, growth)
    days = [20.0, 60.0]
    fine = model.solve(
        _start(), domain, days, forcing=_forcing(), tolerance=1e-9, precision="float64"
    ).density
    for tolerance in (1e-2, 1e-3, 1e-4):
        solved = model.solve(
            _start(),
            domain,
            days,
            forcing=_forcing(),
            tolerance=tolerance,
            precision="float64",
            estimate_error=True,
        )
        assert solved.relative_error is not None
        axes = (1, 2, 3)
        true = np.sqrt(np.sum((solved.density - fine) ** 2, axis=axes) / np.sum(fine**2, axis=axes))
        assert np.all(solved.relative_error <= tolerance)
        assert np.all(true <= 2.0 * solved.relative_error + 1e-8), (true, solved.relative_error)
        assert np.all(true >= 0.3 * solved.relative_error), (true, solved.relative_error)
    assert model.solve(_start(), domain, days).relative_error is None
