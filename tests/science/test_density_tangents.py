"""Hand-written tangents against central finite differences of the same scheme, and against the adjoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import (
    Direction,
    Domain,
    Forcing,
    GradientOptions,
    ReactionDiffusionModel,
    SurvivalMap,
    TensorDomain,
    density_gradient,
    density_tangents,
    lq_log_survival,
)

SHAPE, SPACING_MM = (9, 14, 13), (3.0, 1.5, 1.5)
DAYS = (12.0, 50.0)
MODEL = ReactionDiffusionModel(0.13, 0.061, 2.0)
PARAMETERS = {"D": 0.13, "k": 0.061, "theta": 2.0, "alpha": 0.06, "drug": 1.0, "map": 0.05, "scale": 1.0}


@cache
def _domain(*, tensor: bool) -> Domain:
    rng = np.random.default_rng(5)
    mask = rng.random(SHAPE) < 0.9
    if tensor:
        root = rng.normal(size=(*SHAPE, 3, 3))
        return TensorDomain(mask, SPACING_MM, root @ np.swapaxes(root, -1, -2) + 0.3 * np.eye(3))
    return Domain(mask, SPACING_MM, rng.uniform(0.2, 1.5, SHAPE))


def _case(
    values: dict[str, float], *, tensor: bool
) -> tuple[ReactionDiffusionModel, np.ndarray, Domain, Forcing]:
    """A blob on a random mask; radiation twice on some days, two drugs, a resection and a dose map."""
    domain = _domain(tensor=tensor)
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    density = values["scale"] * 1.6 / (1.0 + np.exp((np.sqrt(z**2 + y**2 + x**2) - 6.0) / 2.0)) * domain.mask
    keep = np.ones(SHAPE)
    keep[3:5, 5:9, 4:8] = 0.0
    dose_gy = 4.0 * np.exp(-((y / 6.0) ** 2))
    fractions = np.array([14.0, 10.0, 11.0, 12.0, 10.25, 13.0, 47.0])
    forcing = Forcing(
        fractions,
        lq_log_survival(np.full(fractions.size, 2.0), values["alpha"], 10.0),
        [3.0, 0.5, -1.0, 5.0, 12.0, 20.0],
        values["drug"] * np.array([0.9, 0.8, 0.05, 0.7, 0.9, 0.03]),
        [9.242, 9.242, 0.1, 9.242, 9.242, 0.0],
        (
            SurvivalMap(30.0, keep),
            SurvivalMap(12.0, np.exp(-values["map"] * dose_gy)),
            SurvivalMap(99.0, keep),
        ),
    )
    return ReactionDiffusionModel(values["D"], values["k"], values["theta"]), density, domain, forcing


def _directions(density: np.ndarray, forcing: Forcing) -> dict[str, Direction]:
    by_dose = forcing.survival_maps[1].survival
    return {
        "D": Direction(diffusion_coefficient=1.0),
        "k": Direction(proliferation_rate=1.0),
        "theta": Direction(carrying_capacity=1.0),
        "alpha": Direction(jump_log_survival=forcing.jump_log_survival / PARAMETERS["alpha"]),
        "drug": Direction(amplitude_per_day=forcing.amplitude_per_day),
        "map": Direction(survival=(None, by_dose * np.log(by_dose) / PARAMETERS["map"])),
        "scale": Direction(initial_density=density),
    }


def _central(value: Callable[[float], np.ndarray], step: float) -> np.ndarray:
    near, far = (value(step) - value(-step)) / (2 * step), (value(2 * step) - value(-2 * step)) / (4 * step)
    return (4.0 * near - far) / 3.0


@pytest.mark.parametrize("tensor", [False, True])
def test_tangents_equal_central_differences(tensor: bool) -> None:
    model, density, domain, forcing = _case(PARAMETERS, tensor=tensor)
    named = _directions(density, forcing)
    found = [
        (state[1:-1, 1:-1, 1:-1].copy(), tangents[:, 1:-1, 1:-1, 1:-1].copy())
        for _, state, tangents in density_tangents(
            model, density, domain, output_days=DAYS, directions=list(named.values()), forcing=forcing
        )
    ]
    plain = model.solve(density, domain, DAYS, forcing=forcing, precision="float64").density
    np.testing.assert_allclose([state for state, _ in found], plain, rtol=1e-12, atol=1e-15)

    def solved(name: str, step: float) -> np.ndarray:
        moved = {**PARAMETERS, name: PARAMETERS[name] * (1.0 + step)}
        model, density, domain, forcing = _case(moved, tensor=tensor)
        return model.solve(density, domain, DAYS, forcing=forcing, precision="float64").density

    for index, name in enumerate(named):
        differences = _central(lambda step, n=name: solved(n, step), 2e-4) / PARAMETERS[name]
        for (_, tangents), expected in zip(found, differences, strict=True):
            error = np.linalg.norm(tangents[index] - expected) / max(np.linalg.norm(expected), 1e-300)
            assert error <= 1e-7 if np.any(expected) else not np.any(tangents[index]), (name, error)


def test_tangents_and_adjoint_agree() -> None:
    model, density, domain, forcing = _case(PARAMETERS, tensor=False)
    weight = np.random.default_rng(0).normal(size=(2, *SHAPE))
    adjoint = density_gradient(
        model,
        density,
        domain,
        output_days=DAYS,
        functional=lambda j, state: (float(np.vdot(weight[j], state)), weight[j]),
        forcing=forcing,
    )
    expected = {
        "D": adjoint.diffusion_coefficient,
        "k": adjoint.proliferation_rate,
        "theta": adjoint.carrying_capacity,
        "alpha": adjoint.jump_log_survival @ forcing.jump_log_survival / PARAMETERS["alpha"],
        "drug": adjoint.amplitude_per_day @ forcing.amplitude_per_day,
        "scale": np.vdot(adjoint.initial_density, density),
    }
    named = _directions(density, forcing)
    totals = dict.fromkeys(named, 0.0)
    states = density_tangents(
        model, density, domain, output_days=DAYS, directions=list(named.values()), forcing=forcing
    )
    for j, (_, _, tangents) in enumerate(states):
        for name, tangent in zip(named, tangents, strict=True):
            totals[name] += float(np.vdot(weight[j], tangent[1:-1, 1:-1, 1:-1]))
    for name, value in expected.items():
        assert totals[name] == pytest.approx(value, rel=1e-9), name


def test_single_precision_agrees_with_double() -> None:
    model, density, domain, forcing = _case(PARAMETERS, tensor=False)
    named = _directions(density, forcing)
    fine, coarse = (
        [
            tangents.astype(np.float64)
            for _, _, tangents in density_tangents(
                model,
                density,
                domain,
                output_days=DAYS,
                directions=list(named.values()),
                forcing=forcing,
                options=GradientOptions(precision=precision),
            )
        ]
        for precision in ("float64", "float32")
    )
    for one, two in zip(fine, coarse, strict=True):
        for index, name in enumerate(named):
            assert np.linalg.norm(two[index] - one[index]) <= 1e-4 * np.linalg.norm(one[index]), name


def test_a_drug_that_was_not_given_has_a_derivative() -> None:
    """At a sensitivity of 0 the kill terms are all 0; the derivative still resolves their fast decay."""
    _, density, domain, _ = _case(PARAMETERS, tensor=False)

    def at(sensitivity: float) -> Forcing:
        return Forcing(
            dose_days=[2.0, 3.0], amplitude_per_day=np.full(2, sensitivity), decay_per_day=[40.0, 0.3]
        )

    def solved(step: float) -> np.ndarray:
        return MODEL.solve(density, domain, [9.0], forcing=at(step), precision="float64").density[0]

    direction = Direction(amplitude_per_day=[1.0, 1.0])
    ((_, _, tangents),) = density_tangents(
        MODEL, density, domain, output_days=[9.0], directions=[direction], forcing=at(0.0)
    )
    expected = _central(solved, 1e-3)
    found = tangents[0, 1:-1, 1:-1, 1:-1]
    assert np.linalg.norm(found - expected) <= 1e-8 * np.linalg.norm(expected)


def test_what_does_not_fit_is_refused() -> None:
    model, density, domain, forcing = _case(PARAMETERS, tensor=False)
    for direction in (
        Direction(jump_log_survival=[1.0]),
        Direction(amplitude_per_day=np.full(6, np.nan)),
        Direction(initial_density=np.ones((2, 2, 2))),
        Direction(survival=(np.ones((2, 2, 2)),)),
    ):
        with pytest.raises(InputError, match="does not fit"):
            list(
                density_tangents(
                    model, density, domain, output_days=DAYS, directions=[direction], forcing=forcing
                )
            )
    with pytest.raises(InputError, match="Without diffusion"):
        density_tangents(
            replace(model, diffusion_coefficient=0.0),
            density,
            domain,
            output_days=DAYS,
            directions=[Direction(diffusion_coefficient=1.0)],
        )
