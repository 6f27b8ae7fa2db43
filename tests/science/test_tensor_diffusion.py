"""Anisotropic diffusion against exact moments, the rotated Gaussian, front distances and its own symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import Domain, ReactionDiffusionModel, TensorDomain, density_gradient
from digital_twins.models._tensor import selling


def _rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    n = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def _tensor(
    values: tuple[float, float, float], degrees: float, axis: tuple[float, float, float]
) -> np.ndarray:
    rotation = _rotation(degrees, axis)
    return rotation @ np.diag(values) @ rotation.T


def _random_tensors(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    root = rng.normal(size=(*shape, 3, 3))
    return root @ np.swapaxes(root, -1, -2) + 0.2 * np.eye(3)


def _places(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def test_selling_splits_a_tensor_into_positive_weights() -> None:
    tensors = _random_tensors(np.random.default_rng(0), (500,))
    offsets, weights = selling(tensors)
    assert weights.min() >= 0.0
    whole = np.einsum("nk,nka,nkb->nab", weights, offsets.astype(float), offsets.astype(float))
    np.testing.assert_allclose(whole, tensors, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("precision", "drift"), [("float64", 1e-12), ("float32", 1e-5)])
def test_mass_is_conserved_and_density_positive_with_random_tensors(precision: str, drift: float) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((10, 14, 13)) < 0.7
    domain = TensorDomain(mask, (3.0, 1.0, 1.5), _random_tensors(rng, mask.shape))
    density = np.where(rng.random(mask.shape) < 0.1, 1.0, 0.0) * mask
    for _, state in ReactionDiffusionModel(0.3, 0.0).trajectory(
        density, domain, [1.0, 10.0, 60.0], precision=precision
    ):
        assert abs(state.astype(np.float64).sum() / density.sum() - 1.0) <= drift
        assert state.min() >= 0.0
        assert state.max() <= 1.0 + 1e-6
        assert np.all(state[1:-1, 1:-1, 1:-1][~mask] == 0.0)


def test_operator_is_symmetric() -> None:
    rng = np.random.default_rng(2)
    mask = rng.random((7, 8, 9)) < 0.7
    graph = TensorDomain(mask, (2.0, 1.0, 1.0), _random_tensors(rng, mask.shape)).graph
    here = np.repeat(graph.voxels, np.diff(graph.start))
    edges = {(int(a), int(b)): w for a, b, w in zip(here, graph.neighbour, graph.weight, strict=True)}
    assert all(edges[b, a] == pytest.approx(w, rel=1e-14) for (a, b), w in edges.items())
    assert graph.weight.min() > 0.0


def test_nothing_passes_a_diagonal_wall() -> None:
    rows = np.arange(12)
    mask = np.ones((1, 12, 12), dtype=bool)
    mask[0, rows, 11 - rows] = False
    one_side = (rows[:, None] + rows[None, :] < 11)[None]
    tensors = np.broadcast_to(_tensor((0.1, 2.0, 0.1), 45.0, (1.0, 0.0, 0.0)), (*mask.shape, 3, 3))
    state = ReactionDiffusionModel(1.0, 0.0).solve(
        (mask & one_side).astype(float), TensorDomain(mask, (1.0, 1.0, 1.0), tensors), [40.0]
    )
    assert state.density[0][mask & ~one_side].max() == 0.0


def test_isotropic_tensor_is_the_scalar_scheme() -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((6, 9, 8)) < 0.8
    density = rng.random(mask.shape)
    spacing = (3.0, 1.5, 1.0)
    tensors = np.broadcast_to(np.eye(3), (*mask.shape, 3, 3))
    model = ReactionDiffusionModel(0.2, 0.05)
    solved = [
        model.solve(density, domain, [20.0], precision="float64").density
        for domain in (Domain(mask, spacing), TensorDomain(mask, spacing, tensors))
    ]
    np.testing.assert_allclose(solved[0], solved[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("degrees", "axis"), [(0.0, (1, 0, 0)), (30.0, (1, 0, 0)), (52.0, (1, -2, 0.5))])
def test_rotated_gaussian(degrees: float, axis: tuple[float, float, float]) -> None:
    """A Gaussian stays one, its covariance grows by 2 D t; at second order in space."""
    tensor = _tensor((1.0, 0.15, 0.1), degrees, axis)
    errors = []
    for cells in (20, 40):
        spacing = (30.0 / cells, 24.0 / cells, 24.0 / cells)
        shape = (cells, cells, cells)
        place = _places(shape, spacing)
        domain = TensorDomain(np.ones(shape, dtype=bool), spacing, np.broadcast_to(tensor, (*shape, 3, 3)))
        before, day = 2.6 * np.eye(3), 2.0

        def gaussian(covariance: np.ndarray, place: np.ndarray = place) -> np.ndarray:
            exponent = np.einsum("...a,ab,...b->...", place, np.linalg.inv(covariance), place)
            return np.exp(-0.5 * exponent) / np.sqrt(np.linalg.det(covariance))

        state = ReactionDiffusionModel(1.0, 0.0).solve(
            gaussian(before), domain, [day], precision="float64", tolerance=1e-10
        )
        exact = gaussian(before + 2.0 * day * tensor)
        errors.append(np.linalg.norm(state.density[0] - exact) / np.linalg.norm(exact))
        found = np.einsum("zyx,zyxa,zyxb->ab", state.density[0], place, place) / state.density[0].sum()
    np.testing.assert_allclose(found, before + 2.0 * day * tensor, atol=5e-3)
    assert errors[1] < 0.03
    assert errors[0] / errors[1] > 3.3, errors


def test_front_runs_by_the_root_of_each_eigenvalue_in_rotated_axes() -> None:
    """In coordinates D^(-1/2) x the tumour is a disc: distances along the axes are as the roots."""
    shape, spacing = (1, 161, 161), (1.0, 0.5, 0.5)
    place = _places(shape, spacing)
    reach = {}
    for degrees in (0.0, 27.0):
        tensor = _tensor((1.0, 1.0, 0.25), degrees, (1.0, 0.0, 0.0))
        domain = TensorDomain(np.ones(shape, dtype=bool), spacing, np.broadcast_to(tensor, (*shape, 3, 3)))
        start = np.exp(-np.einsum("...a,ab,...b->...", place, np.linalg.inv(tensor), place))
        state = ReactionDiffusionModel(0.4, 0.2).solve(start, domain, [55.0], precision="float64").density[0]
        inside = (state >= 0.5)[0]
        points = place[0][inside][:, 1:]
        second = points.T @ points / len(points)
        values, vectors = np.linalg.eigh(second)
        reach[degrees] = 2.0 * np.sqrt(values)
        along = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])) % 180.0
        assert along == pytest.approx(degrees, abs=0.5)
    for semiaxes in reach.values():
        assert semiaxes[1] / semiaxes[0] == pytest.approx(2.0, rel=0.02)
    np.testing.assert_allclose(reach[27.0], reach[0.0], rtol=0.01)
    assert 20.0 < reach[0.0][1] < 38.0


def test_gradient_through_a_tensor_domain() -> None:
    rng = np.random.default_rng(7)
    mask = rng.random((6, 9, 8)) < 0.8
    domain = TensorDomain(mask, (2.0, 1.0, 1.0), _random_tensors(rng, mask.shape))
    density = rng.random(mask.shape) * mask

    def square(_: int, state: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.sum(state**3)), 3.0 * state**2

    def value(diffusion: float, growth: float) -> float:
        model = ReactionDiffusionModel(diffusion, growth)
        return square(0, model.solve(density, domain, [15.0], precision="float64").density[0])[0]

    found = density_gradient(
        ReactionDiffusionModel(0.1, 0.06), density, domain, output_days=[15.0], functional=square
    )
    assert found.value == pytest.approx(value(0.1, 0.06), rel=1e-12)
    by_diffusion = (value(0.1 + 1e-5, 0.06) - value(0.1 - 1e-5, 0.06)) / 2e-5
    by_growth = (value(0.1, 0.06 + 1e-5) - value(0.1, 0.06 - 1e-5)) / 2e-5
    assert found.diffusion_coefficient == pytest.approx(by_diffusion, rel=1e-6)
    assert found.proliferation_rate == pytest.approx(by_growth, rel=1e-6)


def test_unusable_tensors_are_refused() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    good = np.broadcast_to(np.eye(3), (2, 2, 2, 3, 3))
    for tensors in (
        good[..., :2],
        -good,
        good * np.nan,
        good + np.array([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]]),
        good * np.array([1.0, 1.0, 1e-5]),
    ):
        with pytest.raises(InputError, match="tensors"):
            TensorDomain(mask, (1.0, 1.0, 1.0), tensors)
