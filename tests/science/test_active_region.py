"""The box that follows the tumour against solutions on the whole domain."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.models import (
    Direction,
    Domain,
    Forcing,
    GradientOptions,
    ReactionDiffusionModel,
    SurvivalMap,
    TensorDomain,
    _active,
    density_gradient,
    density_tangents,
    lq_log_survival,
)

SHAPE, SPACING_MM = (28, 56, 52), (2.0, 1.0, 1.0)


def _distance_mm() -> np.ndarray:
    axes = [(np.arange(n) - 0.4 * n) * h for n, h in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray(np.sqrt(z**2 + y**2 + x**2))


def _forcing(kind: str) -> Forcing:
    days = np.arange(5.0, 25.0)
    log_survival = lq_log_survival(np.full(days.size, 2.0), 0.3, 10.0)
    if kind == "radiation":
        return Forcing(days, log_survival)
    if kind == "resection":
        return Forcing(survival_maps=(SurvivalMap(10.0, (_distance_mm() > 9.0).astype(float)),))
    return Forcing()


class _Boxes:
    """The boxes that a solution used, and how often it had to enlarge one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.shares: list[float] = []
        self.enlarged = 0
        use, enlarge = _active.ActiveRegion._use, _active.ActiveRegion.enlarge

        def counted_use(region: _active.ActiveRegion, box: tuple) -> None:
            use(region, box)
            self.shares.append(float(np.prod([b - a for a, b in box]) / np.prod(region._domain.shape)))

        def counted_enlarge(region: _active.ActiveRegion, *arguments: object) -> None:
            self.enlarged += 1
            enlarge(region, *arguments)

        patch.setattr(_active.ActiveRegion, "_use", counted_use)
        patch.setattr(_active.ActiveRegion, "enlarge", counted_enlarge)


@pytest.mark.parametrize(
    ("diffusion", "growth", "kind"),
    [
        (0.05, 0.03, "none"),
        (0.05, 0.03, "radiation"),
        (0.05, 0.05, "resection"),
        (0.5, 0.08, "none"),
        (3.0, 0.05, "radiation"),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_what_is_left_out_is_a_small_part_of_the_tolerance(
    monkeypatch: pytest.MonkeyPatch, diffusion: float, growth: float, kind: str, precision: str
) -> None:
    """Also where a resection leaves nothing but the tail, and where the tumour outruns its first box."""
    rng = np.random.default_rng(1)
    domain = Domain(rng.random(SHAPE) < 0.97, SPACING_MM, rng.uniform(0.5, 1.0, SHAPE))
    start = 0.8 / (1.0 + np.exp(2.0 * (_distance_mm() - 5.0))) * domain.mask
    model, forcing, tolerance = ReactionDiffusionModel(diffusion, growth), _forcing(kind), 1e-4
    days = [20.0, 50.0]

    def solve() -> np.ndarray:
        return model.solve(
            start, domain, days, forcing=forcing, tolerance=tolerance, precision=precision
        ).density.astype(np.float64)

    boxes = _Boxes(monkeypatch)
    found = solve()
    assert min(boxes.shares) < 0.7
    with monkeypatch.context() as patch:
        patch.setattr(_active, "_WORTH", 0.0)
        whole = solve()
    for one, other in zip(found, whole, strict=True):
        bound = 0.2 * tolerance if precision == "float64" else 0.2 * tolerance + 3e-6
        assert np.linalg.norm(one - other) <= bound * np.linalg.norm(other)
        assert one.min() >= 0.0
    assert boxes.enlarged > 0 or np.any(found != whole), "the box was in use, to the end or until outrun"


def test_the_box_grows_with_the_tumour(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM)
    start = np.where(_distance_mm() < 2.0, 0.8, 0.0)
    boxes = _Boxes(monkeypatch)
    states = ReactionDiffusionModel(0.4, 0.1).trajectory(start, domain, [1.0, 60.0])
    first = boxes.shares[-1] if next(states) and boxes.shares else 1.0
    assert first < 0.2
    next(states)
    assert boxes.enlarged > 0
    assert boxes.shares[-1] > 2.0 * first


def test_mass_is_conserved_in_a_box() -> None:
    domain = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM)
    start = np.where(_distance_mm() < 5.0, 0.8, 0.0)
    for _, state in ReactionDiffusionModel(0.2, 0.0).trajectory(
        start, domain, [5.0, 40.0], precision="float64"
    ):
        assert state.sum() == pytest.approx(start.sum(), rel=1e-12)


def test_a_tensor_domain_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    mask = rng.random(SHAPE) < 0.95
    turned = np.array([[0.5, 0.2, 0.0], [0.2, 1.0, 0.4], [0.0, 0.4, 0.7]])
    domain = TensorDomain(mask, SPACING_MM, np.broadcast_to(turned, (*SHAPE, 3, 3)))
    start = 0.8 / (1.0 + np.exp(2.0 * (_distance_mm() - 5.0))) * mask
    model = ReactionDiffusionModel(0.05, 0.03)
    boxes = _Boxes(monkeypatch)
    found = model.solve(start, domain, [40.0], precision="float64").density
    assert min(boxes.shares) < 0.7
    monkeypatch.setattr(_active, "_WORTH", 0.0)
    whole = model.solve(start, domain, [40.0], precision="float64").density
    assert np.linalg.norm(found - whole) <= 2e-5 * np.linalg.norm(whole)


def test_tangents_in_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM)
    start = 0.8 / (1.0 + np.exp(2.0 * (_distance_mm() - 5.0)))
    forcing = _forcing("radiation")
    directions = [
        Direction(diffusion_coefficient=1.0),
        Direction(proliferation_rate=1.0),
        Direction(jump_log_survival=forcing.jump_log_survival / 0.3),
        Direction(initial_density=start),
    ]

    def tangents() -> np.ndarray:
        ((_, _, found),) = density_tangents(
            ReactionDiffusionModel(0.05, 0.03),
            start,
            domain,
            output_days=[40.0],
            directions=directions,
            forcing=forcing,
            options=GradientOptions(tolerance=1e-4),
        )
        return found.copy()

    boxes = _Boxes(monkeypatch)
    found = tangents()
    assert min(boxes.shares) < 0.7
    monkeypatch.setattr(_active, "_WORTH", 0.0)
    for one, other in zip(found, tangents(), strict=True):
        assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other)


@pytest.mark.parametrize("kind", ["radiation", "resection"])
@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
def test_gradient_in_a_box(monkeypatch: pytest.MonkeyPatch, kind: str, memory_bytes: int) -> None:
    """Also of a functional that looks at far voxels, and with a box that the tumour outruns."""
    domain = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM)
    start = np.where(_distance_mm() < 6.0, 0.8, 0.0)
    forcing = _forcing(kind)
    weight = np.random.default_rng(0).normal(size=SHAPE)
    boxes = _Boxes(monkeypatch)
    model = ReactionDiffusionModel(0.1, 0.04, 2.0)
    whole, part = (
        density_gradient(
            model,
            start,
            domain,
            output_days=[8.0, 40.0],
            functional=lambda _, n: (0.5 * float(np.vdot(n - weight, n - weight)), n - weight),
            forcing=forcing,
            options=GradientOptions(everywhere=everywhere, memory_bytes=memory_bytes),
        )
        for everywhere in (True, False)
    )
    assert min(boxes.shares) < 0.7
    if kind == "radiation":  # what a resection leaves is all tail: the box becomes the whole domain
        assert part.tape_bytes < 0.9 * whole.tape_bytes
    assert part.value == pytest.approx(whole.value, rel=1e-8)
    for name in ("diffusion_coefficient", "proliferation_rate", "carrying_capacity"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), rel=1e-5), name
    np.testing.assert_allclose(part.jump_log_survival, whole.jump_log_survival, rtol=1e-5)
    inside = _distance_mm() < 5.0
    np.testing.assert_allclose(
        part.initial_density[inside], whole.initial_density[inside], rtol=1e-5, atol=1e-8
    )
    for one, other in zip(part.survival, whole.survival, strict=True):
        np.testing.assert_allclose(one[inside], other[inside], rtol=1e-5, atol=1e-8)
