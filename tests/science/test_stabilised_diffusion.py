"""Stiff diffusion by one Chebyshev polynomial a step: exact exponential, order, mass, sign, derivatives."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from digital_twins.models import (
    Direction,
    Domain,
    Forcing,
    GradientOptions,
    ReactionDiffusionModel,
    SpatialGrowthModel,
    SurvivalMap,
    TensorDomain,
    density_gradient,
    density_tangents,
    lq_log_survival,
)
from digital_twins.models._diffusion import apply_polynomial, plan_diffusion, stage

SHAPE, SPACING_MM = (8, 11, 12), (1.0, 1.0, 1.0)


def _domain(kind: str) -> Domain:
    rng = np.random.default_rng(3)
    mask = rng.random(SHAPE) < 0.85
    if kind == "scalar":
        return Domain(mask, SPACING_MM, rng.uniform(0.2, 1.0, SHAPE))
    root = rng.normal(size=(*SHAPE, 3, 3))
    return TensorDomain(mask, SPACING_MM, 0.3 * root @ np.swapaxes(root, -1, -2) + 0.2 * np.eye(3))


def _blob(domain: Domain, radius_mm: float = 3.0) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(domain.shape, domain.spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return 0.8 / (1.0 + np.exp(np.sqrt(z**2 + y**2 + x**2) - radius_mm)) * domain.mask


def _forcing() -> Forcing:
    keep = np.ones(SHAPE)
    keep[3:5, 4:7, 4:8] = 0.0
    days = np.array([3.0, 4.0, 5.0, 10.0])
    jumps = lq_log_survival(np.full(4, 2.0), 0.06, 10.0)
    return Forcing(days, jumps, [2.0, 6.0], [0.9, 0.4], [9.0, 0.2], (SurvivalMap(12.0, keep),))


@pytest.mark.parametrize("kind", ["scalar", "tensor"])
def test_polynomial_is_the_matrix_exponential(kind: str) -> None:
    """Against scipy's dense exponential of the assembled operator, on a random mask."""
    rng = np.random.default_rng(0)
    mask = rng.random((4, 5, 5)) < 0.9
    if kind == "scalar":
        domain = Domain(mask, (1.0, 1.0, 1.0), rng.uniform(0.1, 2.0, mask.shape))
    else:
        root = rng.normal(size=(*mask.shape, 3, 3))
        domain = TensorDomain(mask, (1.0, 1.0, 1.0), root @ np.swapaxes(root, -1, -2) + 0.2 * np.eye(3))
    geometry = domain.geometry(np.float64)
    inside = np.flatnonzero(np.pad(mask, 1))
    fields = np.zeros((inside.size, *np.pad(mask, 1).shape))
    fields.reshape(inside.size, -1)[np.arange(inside.size), inside] = 1.0
    operator = np.empty((inside.size, inside.size))
    for column, field in enumerate(fields):
        flat = field.reshape(field.shape[0], -1)
        moved = flat.copy()
        stage(moved, flat, geometry, 1.0)
        operator[:, column] = (moved - flat).reshape(-1)[inside]
    np.testing.assert_allclose(operator, operator.T, atol=1e-14)
    density = rng.random(inside.size)
    for length in (10.0, 40.0):
        plan = plan_diffusion(length, domain.largest_conductance_per_mm2, accuracy=1e-12)
        assert plan.stabilised
        flat = np.zeros_like(fields[0]).reshape(fields.shape[1], -1)
        flat.reshape(-1)[inside] = density
        apply_polynomial(flat, np.zeros((3, *flat.shape)), geometry, plan)
        expected = expm(length * operator) @ density
        np.testing.assert_allclose(flat.reshape(-1)[inside], expected, rtol=1e-10, atol=1e-11)


def test_stiffness_decides() -> None:
    assert not plan_diffusion(0.2, 6.0, accuracy=1e-7).stabilised
    stiff = plan_diffusion(70.0, 6.0, accuracy=1e-7)
    assert stiff.stabilised
    assert stiff.coefficients.size < 130 < 2 * plan_diffusion(70.0, 6.0).repeats == 886
    assert np.all(stiff.coefficients > 0.0)
    assert stiff.coefficients.sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(("precision", "drift"), [("float64", 1e-6), ("float32", 1e-5)])
@pytest.mark.parametrize("kind", ["scalar", "tensor"])
def test_mass_and_sign(kind: str, precision: str, drift: float) -> None:
    domain = _domain(kind)
    density = np.where(np.random.default_rng(1).random(SHAPE) < 0.05, 1.0, 0.0) * domain.mask
    for _, state in ReactionDiffusionModel(4.0, 0.0).trajectory(
        density, domain, [1.0, 7.0, 90.0], precision=precision
    ):
        assert abs(state.astype(np.float64).sum() / density.sum() - 1.0) <= drift
        assert state.min() >= 0.0
        assert state.max() <= 1.0 + 1e-6


@pytest.mark.parametrize("kind", ["scalar", "tensor"])
def test_order_two_in_time_under_treatment(kind: str) -> None:
    """Splitting alone is left: the diffusion of each step is exact to its accuracy."""
    shape = (4, 24, 26)
    mask = np.ones(shape, dtype=bool)
    turned = np.array([[1.0, 0.0, 0.0], [0.0, 0.9, 0.3], [0.0, 0.3, 0.8]])
    domain = (
        Domain(mask, SPACING_MM)
        if kind == "scalar"
        else TensorDomain(mask, SPACING_MM, np.broadcast_to(turned, (*shape, 3, 3)))
    )
    model, forcing = ReactionDiffusionModel(12.0, 0.2), replace(_forcing(), survival_maps=())
    _, y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    start = 0.4 + 0.1 * np.cos(np.pi * x) + 0.1 * np.cos(np.pi * y)
    fine = model.solve(start, domain, [20.0], forcing=forcing, tolerance=1e-8, precision="float64").density
    errors = []
    for tolerance in (4e-4, 1e-4, 2.5e-5):
        length = 12.0 * model.longest_step_days(tolerance)
        assert plan_diffusion(length, domain.largest_conductance_per_mm2, accuracy=1e-8).stabilised
        solved = model.solve(start, domain, [20.0], forcing=forcing, tolerance=tolerance, precision="float64")
        errors.append(np.linalg.norm(solved.density - fine) / np.linalg.norm(fine))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) < 0.1), (errors, orders)


@pytest.mark.parametrize("kind", ["scalar", "tensor"])
def test_derivatives_equal_central_differences(kind: str) -> None:
    domain, forcing = _domain(kind), _forcing()
    start, days = _blob(domain), [8.0, 20.0]
    given = {"output_days": days, "forcing": forcing, "options": GradientOptions(tolerance=1e-6)}

    def solved(diffusion: float, growth: float) -> np.ndarray:
        return (
            ReactionDiffusionModel(diffusion, growth)
            .solve(start, domain, days, forcing=forcing, tolerance=1e-6, precision="float64")
            .density
        )

    model = ReactionDiffusionModel(6.0, 0.04)
    weight = np.random.default_rng(2).normal(size=(2, *SHAPE))
    adjoint = density_gradient(
        model,
        start,
        domain,
        functional=lambda j, state: (float(np.vdot(weight[j], state)), weight[j]),
        **given,
    )
    directions = [Direction(diffusion_coefficient=1.0), Direction(proliferation_rate=1.0)]
    tangents = np.stack(
        [
            found[:, 1:-1, 1:-1, 1:-1].copy()
            for _, _, found in density_tangents(
                model,
                start,
                domain,
                directions=directions,
                **given,
            )
        ]
    )
    step = 1e-4
    differences = [
        (solved(6.0 * (1 + step), 0.04) - solved(6.0 * (1 - step), 0.04)) / (12.0 * step),
        (solved(6.0, 0.04 * (1 + step)) - solved(6.0, 0.04 * (1 - step))) / (0.08 * step),
    ]
    for index, (difference, by_adjoint) in enumerate(
        zip(differences, (adjoint.diffusion_coefficient, adjoint.proliferation_rate), strict=True)
    ):
        error = np.linalg.norm(tangents[:, index] - difference) / np.linalg.norm(difference)
        assert error <= 1e-5, (index, error)
        assert by_adjoint == pytest.approx(float(np.vdot(weight, difference)), rel=1e-5)


def test_other_laws_take_it_too() -> None:
    domain = _domain("scalar")
    stiff = SpatialGrowthModel(4.0, 0.1, law="allee", carrying_capacity=np.full(SHAPE, 1.0))
    coarse = stiff.solve(_blob(domain), domain, [8.0], tolerance=1e-4, precision="float64").density
    fine = stiff.solve(_blob(domain), domain, [8.0], tolerance=1e-6, precision="float64").density
    assert np.linalg.norm(coarse - fine) <= 2e-3 * np.linalg.norm(fine)
    assert coarse.min() >= 0.0


def test_faster_than_explicit_steps() -> None:
    """100:1 in stages, and at least 2:1 in CPU time, where explicit steps are many."""
    from digital_twins.models import _march

    domain = Domain(np.ones((24, 40, 40), dtype=bool), SPACING_MM)
    start, model = _blob(domain, 8.0), ReactionDiffusionModel(10.0, 0.03)

    def cpu_s() -> tuple[float, np.ndarray]:
        times = []
        for _ in range(3):
            begun = time.process_time()
            density = model.solve(start, domain, [14.0]).density
            times.append(time.process_time() - begun)
        return min(times), density

    fast, quick = cpu_s()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_march.Aim, "polynomial_accuracy", lambda *_: 0.0)
        slow, plain = cpu_s()
    assert np.linalg.norm(quick - plain) <= 1e-3 * np.linalg.norm(plain)
    assert slow >= 2.0 * fast, (slow, fast)
