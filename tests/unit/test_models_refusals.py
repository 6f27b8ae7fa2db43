"""What the solvers refuse."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import (
    Direction,
    Domain,
    Forcing,
    GradientOptions,
    ReactionDiffusionModel,
    SpatialGrowthModel,
    density_gradient,
    density_tangents,
    lq_log_survival,
)

BOX = np.ones((3, 3, 3), dtype=bool)


@pytest.mark.parametrize(
    "arrays",
    [
        {"jump_days": [1.0]},
        {"jump_days": [1.0], "jump_log_survival": [0.1]},
        {"dose_days": [1.0], "amplitude_per_day": [1.0], "decay_per_day": [-1.0]},
        {"dose_days": [np.nan], "amplitude_per_day": [1.0], "decay_per_day": [1.0]},
        {"dose_days": [[1.0]], "amplitude_per_day": [1.0], "decay_per_day": [1.0]},
    ],
)
def test_forcing(arrays: dict) -> None:
    with pytest.raises(InputError):
        Forcing(**arrays)


def test_domain() -> None:
    for mask, spacing, diffusivity in (
        (np.zeros((3, 3, 3)), (1, 1, 1), None),
        (np.ones((3, 3)), (1, 1, 1), None),
        (BOX, (1, 0, 1), None),
        (BOX, (1, 1, 1), np.ones((2, 2, 2))),
        (BOX, (1, 1, 1), -np.ones((3, 3, 3))),
    ):
        with pytest.raises(InputError):
            Domain(mask, spacing, diffusivity)


def test_model_and_start() -> None:
    for arguments in (
        (-1.0, 0.1),
        (0.1, np.nan),
        (0.1, 0.1, 0.0),
        (2.0e3, 0.1),
        (0.1, 60.0),
        (0.1, -60.0),
    ):
        with pytest.raises(InputError):
            ReactionDiffusionModel(*arguments)
    domain, model = Domain(BOX, (1, 1, 1)), ReactionDiffusionModel(0.1, 0.1)
    for density, days in (
        (np.ones((2, 2, 2)), [1.0]),
        (-np.ones((3, 3, 3)), [1.0]),
        (np.full((3, 3, 3), np.nan), [1.0]),
        (np.ones((3, 3, 3)), [2.0, 1.0]),
        (np.ones((3, 3, 3)), [-1.0]),
        (np.ones((3, 3, 3)), [np.nan]),
        (np.ones((3, 3, 3)), [[1.0]]),
        (np.ones((3, 3, 3)), [1.0e9]),
        (np.full((3, 3, 3), 2.0e5), [1.0]),
    ):
        with pytest.raises(InputError):
            model.solve(density, domain, days)


@pytest.mark.parametrize(
    "asked", [{"tolerance": 0.0}, {"tolerance": -1.0}, {"tolerance": np.nan}, {"precision": "float16"}]
)
def test_accuracy(asked: dict) -> None:
    domain, density = Domain(BOX, (1, 1, 1)), np.ones((3, 3, 3))
    options = GradientOptions(**asked)
    given = {"output_days": [1.0], "options": options}
    model = ReactionDiffusionModel(0.1, 0.1)
    for solve in (
        lambda: model.solve(density, domain, [1.0], **asked),
        lambda: SpatialGrowthModel(0.1, 0.1).solve(density, domain, [1.0], **asked),
        lambda: list(density_tangents(model, density, domain, directions=[Direction(1.0)], **given)),
        lambda: density_gradient(model, density, domain, functional=lambda _, n: (0.0, n), **given),
    ):
        with pytest.raises(InputError, match="accuracy"):
            solve()


def test_linear_quadratic_law() -> None:
    assert lq_log_survival(2.0, 0.3, 10.0) == pytest.approx(-(0.3 * 2 + 0.03 * 4))
    for arguments in ((-1.0, 0.3, 10.0), (np.nan, 0.3, 10.0), (2.0, -0.1, 10.0), (2.0, 0.3, 0.0)):
        with pytest.raises(InputError):
            lq_log_survival(*arguments)
