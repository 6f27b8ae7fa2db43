"""The reaction-diffusion solver against conservation laws, closed forms, convergence order and DOP853."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from digital_twins.models import (
    Domain,
    Forcing,
    ReactionDiffusionModel,
    fisher_wave_check,
    logistic_growth,
    lq_log_survival,
    volume_above_mm3,
)


def _chemoradiation(*, decay_per_day: float = 9.242) -> Forcing:
    """30 x 2 Gy on weekdays and 42 daily doses of a drug that is gone within hours."""
    weekdays = np.array([7.0 * week + day for week in range(6) for day in range(5)])
    log_survival = lq_log_survival(np.full(30, 2.0), 0.05, 10.0)
    return Forcing(weekdays, log_survival, np.arange(42.0), np.full(42, 0.8), np.full(42, decay_per_day))


def _blob(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], *, radius_mm: float
) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt(z**2 + (y + 1.0) ** 2 + (x - 2.0) ** 2)
    return 0.8 / (1.0 + np.exp((r - radius_mm) / 2.0))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("precision", "drift"), [("float64", 1e-12), ("float32", 1e-5)])
def test_mass_is_conserved_on_a_random_mask_with_random_diffusivity(
    precision: str, drift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 17, 15)) < rng.uniform(0.3, 0.9)
    domain = Domain(mask, (3.0, 1.0, 1.5), rng.uniform(0.05, 5.0, mask.shape))
    density = rng.random(mask.shape) * mask
    model = ReactionDiffusionModel(0.5, 0.0)
    state = model.solve(density, domain, [90.0], precision=precision).density[-1].astype(np.float64)
    assert abs(state.sum() / density.sum() - 1.0) <= drift
    assert np.all(state[~mask] == 0.0)
    assert state.std() < density[mask].std()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_density_stays_positive_and_below_capacity(precision: str) -> None:
    rng = np.random.default_rng(2)
    mask = rng.random((8, 20, 20)) < 0.8
    density = np.where(rng.random(mask.shape) < 0.05, 1.0, 0.0) * mask
    domain = Domain(mask, (3.0, 1.5, 1.5))
    for diffusion in (0.01, 0.3, 2.0):
        model = ReactionDiffusionModel(diffusion, 0.1)
        for _, state in model.trajectory(
            density, domain, np.arange(1.0, 60.0, 3.0), forcing=_chemoradiation(), precision=precision
        ):
            assert state.min() >= 0.0
            assert state.max() <= 1.0 + 1e-6


def test_uniform_field_under_jumps_and_fast_kill_is_exact() -> None:
    forcing = _chemoradiation()
    domain = Domain(np.ones((4, 5, 6), dtype=bool), (3.0, 1.5, 1.5))
    days = np.array([0.5, 3.0, 10.0, 45.0, 90.0])
    field = ReactionDiffusionModel(0.1, 0.05, 2.0).solve(
        np.full(domain.shape, 0.7), domain, days, forcing=forcing, tolerance=1e-2, precision="float64"
    )
    reference = _dop853(0.7, days, forcing, growth=0.05, capacity=2.0)
    assert np.abs(field.density / reference[:, None, None, None] - 1.0).max() <= 1e-8


def test_kill_without_growth_is_the_closed_form() -> None:
    forcing = _chemoradiation()
    days = np.array([0.25, 7.0, 41.99, 80.0])
    expected = [np.exp(-forcing.cumulative_log_kill(day) + forcing.log_jumps(0.0, day)) for day in days]
    solved = logistic_growth(1.0, days, proliferation_per_day=0.0, forcing=forcing)
    np.testing.assert_allclose(solved, expected, rtol=1e-12)


@pytest.mark.parametrize("decay_per_day", [0.0, 0.05, 9.242, 150.0])
def test_well_mixed_growth_agrees_with_dop853(decay_per_day: float) -> None:
    scale = max(decay_per_day, 0.2) / 9.242
    given = _chemoradiation(decay_per_day=decay_per_day)
    forcing = Forcing(
        given.jump_days,
        given.jump_log_survival,
        given.dose_days,
        given.amplitude_per_day * scale,
        given.decay_per_day,
    )
    days = np.array([0.5, 3.3, 30.0, 60.0])
    solved = logistic_growth(3.0, days, proliferation_per_day=0.08, carrying_capacity=9.0, forcing=forcing)
    np.testing.assert_allclose(solved, _dop853(3.0, days, forcing, growth=0.08, capacity=9.0), rtol=2e-9)


def test_doses_before_the_start_still_act() -> None:
    forcing = Forcing(
        dose_days=[-2.0],
        amplitude_per_day=[0.3],
        decay_per_day=[0.1],
        jump_days=[-1.0],
        jump_log_survival=[-1.0],
    )
    solved = logistic_growth(1.0, [5.0], proliferation_per_day=0.0, forcing=forcing)
    kill = forcing.cumulative_log_kill(5.0) - forcing.cumulative_log_kill(0.0)
    np.testing.assert_allclose(solved, np.exp(-kill), rtol=1e-12)


def _dop853(
    initial: float, days: np.ndarray, forcing: Forcing, *, growth: float, capacity: float
) -> np.ndarray:
    """Integrate between all events with an independent adaptive method."""
    events = np.unique(np.concatenate([[0.0], forcing.jump_days, forcing.dose_days, days]))
    size, sizes = initial, {}
    for start, end in zip(events, [*events[1:], events[-1]], strict=True):
        if start in days:
            sizes[start] = size
        size *= np.exp(forcing.jump_log_survival[forcing.jump_days == start].sum())
        if end > start:

            def slope(t: float, n: np.ndarray) -> np.ndarray:
                return n * (growth * (1.0 - n / capacity) - forcing.kill_rate_per_day(t))

            size = solve_ivp(
                slope, (start, np.nextafter(end, start)), [size], "DOP853", rtol=1e-12, atol=1e-40
            ).y[0, -1]
    return np.array([sizes[day] for day in days])


def test_second_order_in_time() -> None:
    shape, spacing = (10, 20, 20), (3.0, 1.5, 1.5)
    domain = Domain(np.ones(shape, dtype=bool), spacing)
    start = _blob(shape, spacing, radius_mm=8.0)
    model = ReactionDiffusionModel(0.1, 0.1)
    forcing = _chemoradiation()
    fine = model.solve(start, domain, [60.0], forcing=forcing, tolerance=1e-9, precision="float64").density[0]
    errors = []
    for days in (1.0, 0.5, 0.25):
        tolerance = 1e-6 * (days / model.longest_step_days(1e-6)) ** 2
        state = model.solve(
            start, domain, [60.0], forcing=forcing, tolerance=tolerance, precision="float64"
        ).density[0]
        errors.append(np.linalg.norm(state - fine) / np.linalg.norm(fine))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders >= 1.9), (errors, orders)
    assert np.all(orders <= 2.3), (errors, orders)


def test_second_order_in_space() -> None:
    """Pure diffusion of a cosine between no-flux walls decays at the analytic rate."""
    length, diffusion, day = 16.0, 0.5, 20.0
    errors = []
    for cells in (8, 16, 32):
        h = length / cells
        x = (np.arange(cells) + 0.5) * h
        wave = np.cos(np.pi * x / length)
        start = np.broadcast_to(1.0 + 0.5 * wave, (2, 2, cells))
        domain = Domain(np.ones(start.shape, dtype=bool), (h, h, h))
        state = ReactionDiffusionModel(diffusion, 0.0).solve(
            start, domain, [day], tolerance=1e-10, precision="float64"
        )
        exact = 1.0 + 0.5 * np.exp(-diffusion * (np.pi / length) ** 2 * day) * wave
        errors.append(np.abs(state.density[0, 0, 0] - exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) < 0.1), (errors, orders)


def test_fisher_wave_speed() -> None:
    assert abs(fisher_wave_check().relative_error) < 0.02
    assert abs(fisher_wave_check(0.3, 0.02, spacing_mm=1.5).relative_error) < 0.05


@pytest.mark.parametrize(("diffusion", "growth", "spacing_mm"), [(0.1, 0.05, 0.5), (0.5, 0.2, 0.5)])
def test_front_runs_at_its_speed_after_the_logarithmic_delay(
    diffusion: float, growth: float, spacing_mm: float
) -> None:
    """``x(t) = 2 sqrt(D k) t - 3/2 sqrt(D/k) ln t + const`` (Bramson 1983), from k t = 50 on."""
    days = np.array([50.0, 75.0, 100.0]) / growth
    speed, width = 2.0 * np.sqrt(diffusion * growth), np.sqrt(diffusion / growth)
    voxels = int(1.15 * speed * days[-1] / spacing_mm)
    rod = Domain(np.ones((1, 1, voxels), dtype=bool), (spacing_mm,) * 3)
    start = np.zeros(rod.shape)
    start[..., :6] = 1.0
    solved = ReactionDiffusionModel(diffusion, growth).solve(start, rod, days, precision="float64")
    places = [float(np.interp(-0.5, -line[0, 0], np.arange(voxels))) * spacing_mm for line in solved.density]
    found = (np.diff(places) + 1.5 * width * np.diff(np.log(days))) / np.diff(days)
    np.testing.assert_allclose(found, speed, rtol=0.02)


@pytest.mark.parametrize("diffusion", [0.5, 8.0], ids=["explicit", "polynomial"])
def test_exact_travelling_wave_at_second_order(diffusion: float) -> None:
    """``N = (1 + e^z)^-2``, ``z = (x - 5/sqrt(6) t)/sqrt(6)`` in units of sqrt(D/k) and 1/k.

    Ablowitz & Zeppetella, Bull Math Biol 1979;41:835, doi:10.1007/BF02462380. Steps of space and time are
    halved together.
    """
    growth, days = 0.2, 40.0
    width = np.sqrt(diffusion / growth)

    def wave(x: np.ndarray, day: float) -> np.ndarray:
        return (1.0 + np.exp((x / width - 5.0 / np.sqrt(6.0) * growth * day) / np.sqrt(6.0))) ** -2.0

    errors = []
    for level in range(3):
        h = 0.5 * width / 2**level
        x = (np.arange(round(100.0 * width / h)) + 0.5) * h - 40.0 * width
        rod = Domain(np.ones((1, 1, x.size), dtype=bool), (h, h, h))
        solved = ReactionDiffusionModel(diffusion, growth).solve(
            wave(x, 0.0)[None, None], rod, [days], tolerance=4e-4 / 4**level, precision="float64"
        )
        exact = wave(x, days)
        errors.append(np.linalg.norm(solved.density[0, 0, 0] - exact) / np.linalg.norm(exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) <= 0.1), (errors, orders)
    assert errors[-1] < 2e-3


def test_default_tolerance_holds_against_a_fine_reference() -> None:
    shape, spacing = (18, 40, 40), (3.0, 1.5, 1.5)
    domain = Domain(np.ones(shape, dtype=bool), spacing)
    start = _blob(shape, spacing, radius_mm=15.0)
    for diffusion, growth in ((0.1, 0.05), (0.05, 0.02), (0.3, 0.1)):
        model = ReactionDiffusionModel(diffusion, growth)
        fine = model.solve(
            start, domain, [90.0], forcing=_chemoradiation(), tolerance=1e-8, precision="float64"
        )
        fast = model.solve(start, domain, [90.0], forcing=_chemoradiation())
        error = np.linalg.norm(fast.density[0] - fine.density[0]) / np.linalg.norm(fine.density[0])
        assert error <= 2e-4


def test_volume_above_a_threshold_is_finer_than_the_grid() -> None:
    spacing = (2.0, 2.0, 2.0)
    shape = (40, 40, 40)
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt(z**2 + y**2 + x**2)
    for radius in (9.7, 10.0, 15.3, 22.1):
        density = np.pad(1.0 / (1.0 + np.exp((r - radius) / 2.5)), 1).astype(np.float32)
        volume = volume_above_mm3(density, 0.5, voxel_volume_mm3=8.0)
        assert volume == pytest.approx(4.0 / 3.0 * np.pi * radius**3, rel=2.0 / radius**2 + 0.002)
