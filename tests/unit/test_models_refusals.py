"""What the solvers refuse."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import Domain, Forcing, ReactionDiffusionModel, lq_log_survival

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
    for arguments in ((-1.0, 0.1), (0.1, np.nan), (0.1, 0.1, 0.0)):
        with pytest.raises(InputError):
            ReactionDiffusionModel(*arguments)
    domain, model = Domain(BOX, (1, 1, 1)), ReactionDiffusionModel(0.1, 0.1)
    for density, days in (
        (np.ones((2, 2, 2)), [1.0]),
        (-np.ones((3, 3, 3)), [1.0]),
        (np.full((3, 3, 3), np.nan), [1.0]),
        (np.ones((3, 3, 3)), [2.0, 1.0]),
        (np.ones((3, 3, 3)), [-1.0]),
    ):
        with pytest.raises(InputError):
            model.solve(density, domain, days)


def test_linear_quadratic_law() -> None:
    assert lq_log_survival(2.0, 0.3, 10.0) == pytest.approx(-(0.3 * 2 + 0.03 * 4))
    for arguments in ((-1.0, 0.3, 10.0), (np.nan, 0.3, 10.0), (2.0, -0.1, 10.0), (2.0, 0.3, 0.0)):
        with pytest.raises(InputError):
            lq_log_survival(*arguments)
