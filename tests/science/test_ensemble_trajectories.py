"""Ensembles in one call against single solutions; the same sums for any number of threads; stopping."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.models import (
    Domain,
    EnsembleMember,
    Forcing,
    ReactionDiffusionModel,
    SpatialGrowthModel,
    ensemble_trajectories,
    summarise_ensemble,
    volume_above_mm3,
)

SHAPE, SPACING_MM, LEVEL = (12, 20, 18), (2.0, 1.0, 1.0), 0.16
DAYS = np.array([0.0, 10.0, 30.0])


def _members(count: int) -> list[EnsembleMember]:
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    density = 0.8 / (1.0 + np.exp(np.sqrt(z**2 + y**2 + x**2) - 5.0))
    rng = np.random.default_rng(0)
    return [
        EnsembleMember(
            ReactionDiffusionModel(0.02 + 0.1 * rng.random(), 0.02 + 0.05 * rng.random()),
            density * (0.8 + 0.2 * rng.random()) if i % 2 else (lambda d=density: d),
            Forcing([5.0], [-0.3 * rng.random()]),
        )
        for i in range(count)
    ] + [EnsembleMember(SpatialGrowthModel(0.05, 0.03, law="gompertz"), density)]


def test_summary_is_that_of_single_solutions() -> None:
    domain, members = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM), _members(5)
    found = ensemble_trajectories(members, domain, DAYS, level=LEVEL, tolerance=1e-3)
    fields = []
    for index, member in enumerate(members):
        density = member.density() if callable(member.density) else member.density
        solved = [
            state.copy()
            for _, state in member.model.trajectory(
                density, domain, DAYS, forcing=member.forcing, tolerance=1e-3
            )
        ]
        volumes = [volume_above_mm3(s, LEVEL, voxel_volume_mm3=domain.voxel_volume_mm3) for s in solved]
        np.testing.assert_allclose(found.volume_mm3[index], volumes, rtol=1e-12)
        fields.append(np.array(solved)[:, 1:-1, 1:-1, 1:-1])
    np.testing.assert_allclose(found.mean_density, np.mean(fields, axis=0), rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(found.share_above, np.mean([f >= LEVEL for f in fields], axis=0), atol=1e-6)


def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    domain, members = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM), _members(12)
    one, many = (
        ensemble_trajectories(members, domain, DAYS, level=LEVEL, threads=threads) for threads in (1, 6)
    )
    for name in ("volume_mm3", "share_above", "mean_density"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_members_run_side_by_side() -> None:
    """Two members that wait for each other can only end when both run at a time."""
    domain = Domain(np.ones((3, 3, 3), dtype=bool), (1.0, 1.0, 1.0))
    barrier = threading.Barrier(2, timeout=30)

    def states() -> Iterator[tuple[float, np.ndarray]]:
        barrier.wait()
        yield 0.0, np.full((5, 5, 5), 0.5, dtype=np.float32)

    found = summarise_ensemble([states, states], domain, np.zeros(1), level=LEVEL, threads=2)
    np.testing.assert_array_equal(found.share_above, 1.0)


@pytest.mark.parametrize("threads", [1, 3])
def test_errors_and_cancelling_end_every_member(threads: int) -> None:
    domain, members = Domain(np.ones(SHAPE, dtype=bool), SPACING_MM), _members(8)
    members[2] = EnsembleMember(members[2].model, np.full(SHAPE, -1.0))
    with pytest.raises(InputError, match="initial density"):
        ensemble_trajectories(members, domain, DAYS, level=LEVEL, threads=threads)

    def cancel(share: float, text: str) -> None:
        assert text == "member 1 of 9"
        assert share == pytest.approx(1 / 9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensemble_trajectories(_members(8), domain, DAYS, level=LEVEL, threads=threads, progress=cancel)
    with pytest.raises(InputError, match="no members"):
        ensemble_trajectories([], domain, DAYS, level=LEVEL)
