"""The tumour engine on an own phantom of brain size: 77 x 116 x 36 voxels of 1.5 x 1.5 x 3 mm, one thread.

The peer of the forward solve is the plainest program: explicit Euler in numpy on the same faces with steps
of a quarter day, treatments as exact factors. CPU seconds (best of several), not wall time. Errors are
against a float64 solution on the whole domain with steps of at most 1/64 day. Bandwidth is measured in the
same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from unittest import mock

import numba
import numpy as np

from digital_twins.calibration import Belief
from digital_twins.imaging import Mask
from digital_twins.models import (
    Direction,
    Domain,
    EnsembleMember,
    Forcing,
    Gradient,
    GradientOptions,
    ReactionDiffusionModel,
    density_gradient,
    density_tangents,
    ensemble_trajectories,
    lq_log_survival,
)
from digital_twins.patient_modeling._calibrate import Calibrated, CalibrationSettings, calibrate
from digital_twins.patient_modeling._predict import run_ensemble
from digital_twins.patient_modeling._priors import growth_priors
from digital_twins.patient_modeling._scans import Visit
from digital_twins.patient_modeling._simulator import Simulator
from digital_twins.records import Treatment, parse_treatment

Figure = tuple[str, float, str, float | None]
SHAPE, SPACING_MM = (36, 116, 77), (3.0, 1.5, 1.5)
DIFFUSION, PROLIFERATION = 0.1, 0.05
WHOLE_DOMAIN = "digital_twins.models._active._WORTH"


def _phantom(
    shape: tuple[int, int, int] = SHAPE, spacing_mm: tuple[float, float, float] = SPACING_MM
) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with a hole, and the signed distance to a lesion of 15 mm radius in it."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    mask = (z**2 + y**2 + x**2 < 1.15) & ~(z**2 + 3 * y**2 + 8 * x**2 < 0.06)
    half = [n * h / 2 for n, h in zip(shape, spacing_mm, strict=True)]
    place = [half[0] * (z - 0.3), half[1] * (y + 0.2), half[2] * (x - 0.25)]
    return mask, 15.0 - np.sqrt(sum(p**2 for p in place))


def _chemoradiation() -> Forcing:
    """30 x 2 Gy on weekdays and 42 daily doses with the decay of temozolomide."""
    days = np.array([7.0 * week + day for week in range(6) for day in range(5)])
    log_survival = lq_log_survival(np.full(30, 2.0), 0.05, 10.0)
    return Forcing(days, log_survival, np.arange(42.0), np.full(42, 0.8), np.full(42, 9.242))


def _cpu_s(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def _numpy_euler(density: np.ndarray, domain: Domain, forcing: Forcing, days: float) -> np.ndarray:
    """Explicit Euler diffusion and logistic growth; kill and jumps as exact factors a step."""
    steps = int(days * 4)
    h = days / steps
    padded = np.pad(density, 1).astype(np.float32)
    faces = domain.geometry(np.float32).faces.reshape(3, *padded.shape)
    for step in range(steps):
        change = PROLIFERATION * padded * (1 - padded)
        for axis in range(3):
            flux = DIFFUSION * faces[axis] * (np.roll(padded, -1, axis) - padded)
            change += flux - np.roll(flux, 1, axis)
        start, end = step * h, (step + 1) * h
        kill = forcing.cumulative_log_kill([start, end])
        padded = (padded + h * change) * np.float32(np.exp(kill[0] - kill[1] + forcing.log_jumps(start, end)))
    return padded[1:-1, 1:-1, 1:-1]


@contextmanager
def _whole_domain() -> Iterator[None]:
    """Switch the active region off, to measure what it is worth."""
    with mock.patch(WHOLE_DOMAIN, 0.0):
        yield


def _triad_gb_per_s(megabytes: int) -> float:
    """Bandwidth of ``a = b + 2 c`` over arrays of so many megabytes together, counted as STREAM does."""

    @numba.njit
    def triad(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
        for i in range(a.size):
            a[i] = b[i] + np.float32(2.0) * c[i]

    arrays = [np.ones(megabytes * 250_000 // 3, dtype=np.float32) for _ in range(3)]
    triad(*arrays)
    rounds = max(1, 2000 // megabytes)
    seconds = _cpu_s(lambda: [triad(*arrays) for _ in range(rounds)], 5)
    return rounds * sum(a.nbytes for a in arrays) / seconds / 1e9


def figures() -> Iterator[Figure]:
    mask, distance = _phantom()
    domain = Domain(mask, SPACING_MM)
    start = 0.8 / (1.0 + np.exp(-distance / 2.0)) * mask
    model, forcing = ReactionDiffusionModel(DIFFUSION, PROLIFERATION), _chemoradiation()
    yield from _forward_figures(model, start, domain, forcing)
    yield from _large_figures(model, forcing)
    yield from _ensemble_figures(start, domain, forcing)
    yield from _stiff_figures()
    yield from _gradient_figures(model, start, domain, forcing)
    yield from _tangent_figures(model, start, domain, forcing)
    yield from _twin_figures(mask, distance)


def _forward_figures(
    model: ReactionDiffusionModel, start: np.ndarray, domain: Domain, forcing: Forcing
) -> Iterator[Figure]:
    """The forward solve, its error, the region's share in it and its distance to the memory's bandwidth.

    ``forward_90d_bandwidth`` counts, for the whole domain, 20 bytes a voxel and step of the mask's spans (the
    density read and written, three faces read), over its CPU time; ratios are to triads in DRAM and in cache.
    """

    def solve(tolerance: float, precision: str) -> np.ndarray:
        return model.solve(
            start, domain, [90.0], forcing=forcing, tolerance=tolerance, precision=precision
        ).density[0]

    fine = (model.proliferation_rate / 64.0 / 12.0) ** 2
    assert model.longest_step_days(fine) <= 1.0 / 64.0 * (1.0 + 1e-9)
    with _whole_domain():
        reference = solve(fine, "float64")
        solve(1e-4, "float32")
        whole_seconds = _cpu_s(lambda: solve(1e-4, "float32"), 9)
    solve(1e-4, "float32")
    seconds = _cpu_s(lambda: solve(1e-4, "float32"), 9)
    peer_seconds = _cpu_s(lambda: _numpy_euler(start, domain, forcing, 90.0), 1)
    error = np.linalg.norm(solve(1e-4, "float32") - reference) / np.linalg.norm(reference)
    peer = _numpy_euler(start, domain, forcing, 90.0)
    peer_error = np.linalg.norm(peer - reference) / np.linalg.norm(reference)
    yield "forward_90d", seconds, "cpu-s", seconds / peer_seconds
    yield "forward_90d_rel_l2", float(error), "1", float(error / peer_error)
    yield "forward_90d_whole_domain", whole_seconds, "cpu-s", whole_seconds / peer_seconds
    steps = round(90.0 / model.longest_step_days(1e-4) + 0.5)
    voxels = int(np.diff(domain.geometry(np.float32).spans, axis=1).sum())
    rate = 20.0 * steps * voxels / whole_seconds / 1e9
    for name, megabytes in (("dram", 192), ("cache", 6)):
        triad = _triad_gb_per_s(megabytes)
        yield f"triad_{name}", triad, "GB/s", None
        yield f"forward_90d_bandwidth_v_{name}", rate, "GB/s", rate / triad
    yield "forward_90d_float64", _cpu_s(lambda: solve(1e-4, "float64"), 7), "cpu-s", None

    def with_error() -> object:
        return model.solve(start, domain, [90.0], forcing=forcing, estimate_error=True)

    with_error()
    estimated = _cpu_s(with_error, 5)
    yield "forward_90d_with_error_estimate", estimated, "cpu-s", estimated / seconds


def _large_figures(model: ReactionDiffusionModel, forcing: Forcing) -> Iterator[Figure]:
    """The same lesion on 128 x 128 x 64 voxels of 1.5 mm."""
    shape, spacing_mm = (64, 128, 128), (1.5, 1.5, 1.5)
    mask, distance = _phantom(shape, spacing_mm)
    domain, start = Domain(mask, spacing_mm), 0.8 / (1.0 + np.exp(-distance / 2.0)) * mask

    def solve() -> object:
        return model.solve(start, domain, [90.0], forcing=forcing)

    solve()
    yield "forward_90d_128x128x64", _cpu_s(solve, 5), "cpu-s", None
    with _whole_domain():
        solve()
        yield "forward_90d_128x128x64_whole_domain", _cpu_s(solve, 5), "cpu-s", None


def _ensemble_figures(start: np.ndarray, domain: Domain, forcing: Forcing) -> Iterator[Figure]:
    """32 members, D x 0.5 to 1.5, k 0.03 to 0.07 per day, one thread; and wall time of 1 v 2 threads."""
    rng = np.random.default_rng(0)
    members = [
        EnsembleMember(
            ReactionDiffusionModel(DIFFUSION * rng.uniform(0.5, 1.5), rng.uniform(0.03, 0.07)), start, forcing
        )
        for _ in range(32)
    ]

    def solve(threads: int, days: tuple[float, ...] = (90.0,)) -> object:
        return ensemble_trajectories(members, domain, days, level=0.16, threads=threads)

    solve(1)
    yield "ensemble_32_members_90d", _cpu_s(lambda: solve(1), 3), "cpu-s", None
    weeks = tuple(np.arange(0.0, 91.0, 7.0))
    yield "ensemble_32_members_90d_weekly_maps", _cpu_s(lambda: solve(1, weeks), 2), "cpu-s", None
    wall = []
    for threads in (1, 2):
        begun = time.perf_counter()
        solve(threads)
        wall.append(time.perf_counter() - begun)
    yield "ensemble_32_members_2_threads_wall", wall[1], "s", wall[1] / wall[0]


def _stiff_figures() -> Iterator[Figure]:
    """D of 10 mm2/day on 1 mm voxels, 40 days: one polynomial a step, its ratio that to explicit steps."""
    z, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in (60, 80, 80)], indexing="ij")
    start = 0.8 / (1.0 + np.exp(np.sqrt(z**2 + y**2 + x**2) - 8.0))
    domain, model = (
        Domain(np.ones(start.shape, dtype=bool), (1.0, 1.0, 1.0)),
        ReactionDiffusionModel(10.0, 0.03),
    )

    def solve() -> np.ndarray:
        return model.solve(start, domain, [40.0]).density[0]

    found = solve()
    seconds = _cpu_s(solve, 3)
    with mock.patch("digital_twins.models._march.Aim.polynomial_accuracy", return_value=0.0):
        plain = solve()
        explicit = _cpu_s(solve, 1)
    yield "stiff_40d", seconds, "cpu-s", seconds / explicit
    yield (
        "stiff_40d_v_explicit_rel_l2",
        float(np.linalg.norm(found - plain) / np.linalg.norm(plain)),
        "1",
        None,
    )


def _tangent_figures(
    model: ReactionDiffusionModel, start: np.ndarray, domain: Domain, forcing: Forcing
) -> Iterator[Figure]:
    """Tangents by D, k, a radiosensitivity and a drug's sensitivity; the ratio is to one forward solve."""
    directions = [
        Direction(diffusion_coefficient=1.0),
        Direction(proliferation_rate=1.0),
        Direction(jump_log_survival=forcing.jump_log_survival / 0.05),
        Direction(amplitude_per_day=forcing.amplitude_per_day),
    ]
    days = [30.0, 60.0, 90.0]
    for precision in ("float32", "float64"):
        options = GradientOptions(precision=precision)

        def tangents(options: GradientOptions = options) -> None:
            for _ in density_tangents(
                model,
                start,
                domain,
                output_days=days,
                directions=directions,
                forcing=forcing,
                options=options,
            ):
                pass

        def forward(precision: str = precision) -> object:
            return model.solve(start, domain, days, forcing=forcing, precision=precision)

        tangents()
        forward()
        seconds, once = _cpu_s(tangents, 5), _cpu_s(forward, 7)
        yield f"tangents_4_{precision}", seconds, "cpu-s", seconds / once


def _gradient_figures(
    model: ReactionDiffusionModel, start: np.ndarray, domain: Domain, forcing: Forcing
) -> Iterator[Figure]:
    """Every derivative by one reverse sweep; the ratio is to the forward solve.

    Everywhere: on the whole domain, beside the forward solve on the whole domain. Region: derivatives by
    parameters, jumps and doses in the region around the tumour, beside the plain forward solve.
    """
    target = np.roll(start, 2, axis=1)

    def misfit(_: int, density: np.ndarray) -> tuple[float, np.ndarray]:
        residual = density - target.astype(density.dtype)
        return 0.5 * float(np.vdot(residual, residual)), residual

    kinds = (
        ("", 1 << 30, True),
        ("_sqrt_checkpoints", 0, True),
        ("_region", 1 << 30, False),
        ("_region_sqrt_checkpoints", 0, False),
    )
    for precision in ("float32", "float64"):
        for name, memory, everywhere in kinds:
            options = GradientOptions(precision=precision, memory_bytes=memory, everywhere=everywhere)

            def gradient(options: GradientOptions = options) -> Gradient:
                return density_gradient(
                    model,
                    start,
                    domain,
                    output_days=[45.0, 90.0],
                    functional=misfit,
                    forcing=forcing,
                    options=options,
                )

            def forward(precision: str = precision) -> object:
                return model.solve(start, domain, [45.0, 90.0], forcing=forcing, precision=precision)

            with _whole_domain() if everywhere else nullcontext():
                found = gradient()
                forward()
                pairs = [(_cpu_s(gradient, 1), _cpu_s(forward, 1)) for _ in range(9)]
            seconds, once = (min(column) for column in zip(*pairs, strict=True))
            field = start.size * np.dtype(precision).itemsize
            yield f"gradient_{precision}{name}", seconds, "cpu-s", seconds / once
            tape = found.tape_bytes / (found.steps * field)
            yield f"gradient_tape_{precision}{name}", tape, "steps x field", None


def _twin_figures(mask: np.ndarray, distance: np.ndarray) -> Iterator[Figure]:
    affine = np.diag([*SPACING_MM, 1.0])
    volume_cm3 = 4.0 / 3.0 * np.pi * 15.0**3 / 1000.0
    simulator = Simulator(Mask(mask, affine), distance.astype(np.float32), volume_cm3)
    belief = Belief.from_priors(growth_priors("glioma"))
    radiation = [parse_treatment({"type": "radiation", "total_dose_gy": 60, "fractions": 30, "day": 14})]
    drug = [parse_treatment({"drug": "temozolomide", "dose_mg_m2": 75, "schedule": "daily", "cycles": 42})]
    yield from _calibration_figures(simulator, belief, drug, truth={"drug_sensitivity": 0.3})
    yield from _calibration_figures(simulator, belief, radiation, truth={"alpha_per_gy": 0.02})
    members = belief.sample(48, seed=0)
    weeks = np.arange(0.0, 181.0, 7.0)
    start = time.process_time()
    run_ensemble(simulator, members, radiation, weeks)
    yield "ensemble_48_members_180d", time.process_time() - start, "cpu-s", None


def _calibration_figures(
    simulator: Simulator, belief: Belief, history: list[Treatment], *, truth: dict[str, float]
) -> Iterator[Figure]:
    """Four visits, by exact derivatives and by differences; in CPU seconds and in runs of the model."""
    values = {**belief.values, "diffusion_mm2_per_day": 0.06, "proliferation_per_day": 0.035, **truth}
    days = np.array([30.0, 60.0, 90.0, 120.0])
    visits = [
        Visit(day, simulator.volume_cm3(state), state[1:-1, 1:-1, 1:-1] >= 0.16, str(day), "given")
        for day, state in simulator.states(values, history, days)
    ]

    def fit(jacobian: str) -> Calibrated:
        found = calibrate(simulator, visits, history, belief, settings=CalibrationSettings(jacobian=jacobian))
        assert found.jacobian == jacobian
        return found

    once = _cpu_s(lambda: simulator.volumes_cm3(belief.values, history, days), 9)
    fits = {jacobian: fit(jacobian) for jacobian in ("tangent", "finite_difference")}
    rounds = [{jacobian: _cpu_s(partial(fit, jacobian), 1) for jacobian in fits} for _ in range(3)]
    for jacobian, found in fits.items():
        seconds = min(each[jacobian] for each in rounds)
        name = f"calibrate_{len(found.belief.calibrated)}_parameters_4_visits_{jacobian}"
        yield name, seconds, "cpu-s", None
        yield f"{name}_runs", float(found.evaluations), "1", None
        yield f"{name}_run_equivalents", seconds / once, "1", None
        yield f"{name}_cost", found.cost, "1", None
