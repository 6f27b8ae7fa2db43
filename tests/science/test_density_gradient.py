"""The discrete adjoint against central finite differences of the same scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import (
    Domain,
    Forcing,
    GradientOptions,
    ReactionDiffusionModel,
    SurvivalMap,
    density_gradient,
    lq_log_survival,
)

SHAPE, SPACING_MM = (9, 14, 13), (3.0, 1.5, 1.5)
DAYS = (12.0, 50.0)


def _case() -> tuple[np.ndarray, Domain, Forcing]:
    """A blob on a random mask; radiation twice on some days, two drugs, a resection and a dose map."""
    rng = np.random.default_rng(5)
    mask = rng.random(SHAPE) < 0.9
    domain = Domain(mask, SPACING_MM, rng.uniform(0.2, 1.5, SHAPE))
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    density = 1.6 / (1.0 + np.exp((np.sqrt(z**2 + y**2 + x**2) - 6.0) / 2.0)) * mask
    keep = np.ones(SHAPE)
    keep[3:5, 5:9, 4:8] = 0.0
    dose_gy = 4.0 * np.exp(-((y / 6.0) ** 2))
    fractions = np.array([14.0, 10.0, 11.0, 12.0, 10.25, 13.0, 47.0])
    forcing = Forcing(
        fractions,
        lq_log_survival(np.full(fractions.size, 2.0), 0.06, 10.0),
        [3.0, 0.5, -1.0, 5.0, 12.0, 20.0],
        [0.9, 0.8, 0.05, 0.7, 0.9, 0.03],
        [9.242, 9.242, 0.1, 9.242, 9.242, 0.0],
        (SurvivalMap(30.0, keep), SurvivalMap(12.0, np.exp(-0.05 * dose_gy)), SurvivalMap(99.0, keep)),
    )
    return density, domain, forcing


def _functional(index: int, density: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of squares towards a fixed field: smooth, not linear, another one on each day."""
    weight = 1.0 + index
    target = 0.3 * np.cos(np.arange(density.size)).reshape(density.shape)
    return float(weight * np.sum((density - target) ** 2)), 2.0 * weight * (density - target)


def _value(model: ReactionDiffusionModel, density: np.ndarray, domain: Domain, forcing: Forcing) -> float:
    solved = model.solve(density, domain, DAYS, forcing=forcing, precision="float64").density
    return sum(_functional(j, state)[0] for j, state in enumerate(solved))


def _central(value: Callable[[float], float], step: float) -> float:
    near, far = (value(step) - value(-step)) / (2 * step), (value(2 * step) - value(-2 * step)) / (4 * step)
    return (4.0 * near - far) / 3.0


MODEL = ReactionDiffusionModel(0.13, 0.061, 2.0)


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
def test_gradient_equals_central_differences(memory_bytes: int) -> None:
    density, domain, forcing = _case()
    options = GradientOptions(memory_bytes=memory_bytes)
    found = density_gradient(
        MODEL, density, domain, output_days=DAYS, functional=_functional, forcing=forcing, options=options
    )
    assert found.value == pytest.approx(_value(MODEL, density, domain, forcing), rel=1e-12)
    for name in ("diffusion_coefficient", "proliferation_rate", "carrying_capacity"):
        at = getattr(MODEL, name)

        def moved(step: float, name: str = name, at: float = at) -> float:
            return _value(replace(MODEL, **{name: at * (1.0 + step)}), density, domain, forcing)

        assert getattr(found, name) * at == pytest.approx(_central(moved, 1e-4), rel=1e-6), name
    for name in ("jump_log_survival", "amplitude_per_day"):
        for index in range(getattr(forcing, name).size):
            direction = np.eye(getattr(forcing, name).size)[index]
            assert getattr(found, name)[index] == pytest.approx(
                _central(
                    lambda step, n=name, d=direction: _value(
                        MODEL, density, domain, replace(forcing, **{n: getattr(forcing, n) + step * d})
                    ),
                    1e-4,
                ),
                rel=1e-5,
                abs=1e-9 * found.value,
            ), (name, index)


def test_gradient_by_fields_equals_central_differences() -> None:
    density, domain, forcing = _case()
    found = density_gradient(
        MODEL, density, domain, output_days=DAYS, functional=_functional, forcing=forcing
    )
    scale = float(np.vdot(found.initial_density, density))
    by_scale = _central(lambda s: _value(MODEL, density * (1.0 + s), domain, forcing), 1e-4)
    assert scale == pytest.approx(by_scale, rel=1e-6)
    assert np.all(found.initial_density[~domain.mask] == 0.0)
    voxel = np.unravel_index(np.argmax(np.abs(found.initial_density)), density.shape)

    def nudged(step: float) -> float:
        other = density.copy()
        other[voxel] += step
        return _value(MODEL, other, domain, forcing)

    assert found.initial_density[voxel] == pytest.approx(_central(nudged, 1e-4), rel=1e-6)
    dose_map = forcing.survival_maps[1]

    def scaled(step: float) -> float:
        maps = (forcing.survival_maps[0], SurvivalMap(12.0, dose_map.survival ** (1.0 + step)))
        return _value(MODEL, density, domain, replace(forcing, survival_maps=maps))

    by_alpha = float(np.vdot(found.survival[1], dose_map.survival * np.log(dose_map.survival)))
    assert by_alpha == pytest.approx(_central(scaled, 1e-4), rel=1e-6)
    assert np.any(found.survival[0]), "tissue that was taken out would have mattered"
    assert not np.any(found.survival[2]), "a map after the last output does nothing"


def test_single_precision_agrees_with_double() -> None:
    density, domain, forcing = _case()
    fine, coarse = (
        density_gradient(
            MODEL,
            density,
            domain,
            output_days=DAYS,
            functional=_functional,
            forcing=forcing,
            options=GradientOptions(precision=precision),
        )
        for precision in ("float64", "float32")
    )
    for name in ("value", "diffusion_coefficient", "proliferation_rate", "carrying_capacity"):
        assert getattr(coarse, name) == pytest.approx(getattr(fine, name), rel=2e-4), name


def test_tape_takes_fewer_fields_than_steps() -> None:
    density, domain, forcing = _case()
    field_bytes = 8 * int(np.prod([n + 2 for n in SHAPE]))
    whole, sparse = (
        density_gradient(
            MODEL,
            density,
            domain,
            output_days=DAYS,
            functional=_functional,
            forcing=forcing,
            options=GradientOptions(memory_bytes=memory, tolerance=1e-6),
        )
        for memory in (1 << 30, 0)
    )
    assert whole.tape_bytes <= 1.25 * whole.steps * field_bytes
    assert sparse.tape_bytes <= (2.0 * np.sqrt(sparse.steps) + 6) * field_bytes
    assert sparse.diffusion_coefficient == pytest.approx(whole.diffusion_coefficient, rel=1e-12)


def test_a_resection_takes_out_what_it_covers_and_leaves_the_rest() -> None:
    density, domain, _ = _case()
    keep = np.ones(SHAPE)
    keep[:, :7, :] = 0.0
    forcing = Forcing(survival_maps=(SurvivalMap(5.0, keep),))
    at, after = MODEL.solve(density, domain, [5.0, 5.0 + 1e-9], forcing=forcing, precision="float64").density
    np.testing.assert_allclose(after, at * keep, atol=1e-8)
    assert at[keep == 0.0].max() > 0.1, "an output on the day of surgery is the tumour before it"


def test_what_cannot_be_differentiated_is_refused() -> None:
    density, domain, _ = _case()
    with pytest.raises(InputError, match="diffusion"):
        density_gradient(
            ReactionDiffusionModel(0.0, 0.1), density, domain, output_days=DAYS, functional=_functional
        )
    with pytest.raises(InputError, match="survival map"):
        SurvivalMap(1.0, np.full(SHAPE, 1.5))
    with pytest.raises(InputError, match="does not fit"):
        MODEL.solve(
            density, domain, DAYS, forcing=Forcing(survival_maps=(SurvivalMap(1.0, np.ones((2, 2, 2))),))
        )
