"""The tumour engine on an own phantom of brain size: 77 x 116 x 36 voxels of 1.5 x 1.5 x 3 mm, one thread.

The peer of the forward solve is the plainest program: explicit Euler in numpy on the same faces with steps
of a quarter day, treatments as exact factors. CPU seconds (best of several), not wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from digital_twins.calibration import Belief
from digital_twins.imaging import Mask
from digital_twins.models import (
    Domain,
    Forcing,
    Gradient,
    GradientOptions,
    ReactionDiffusionModel,
    density_gradient,
    lq_log_survival,
)
from digital_twins.patient_modeling._calibrate import calibrate
from digital_twins.patient_modeling._predict import run_ensemble
from digital_twins.patient_modeling._priors import growth_priors
from digital_twins.patient_modeling._scans import Visit
from digital_twins.patient_modeling._simulator import Simulator
from digital_twins.records import parse_treatment

Figure = tuple[str, float, str, float | None]
SHAPE, SPACING_MM = (36, 116, 77), (3.0, 1.5, 1.5)
DIFFUSION, PROLIFERATION = 0.1, 0.05


def _phantom() -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with a hole, and the signed distance to a lesion of 15 mm radius in it."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    mask = (z**2 + y**2 + x**2 < 1.15) & ~(z**2 + 3 * y**2 + 8 * x**2 < 0.06)
    distance = 15.0 - np.sqrt((54 * (z - 0.3)) ** 2 + (87 * (y + 0.2)) ** 2 + (58 * (x - 0.25)) ** 2)
    return mask, distance


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
    faces = domain.faces(np.float32).reshape(3, *padded.shape)
    for step in range(steps):
        change = PROLIFERATION * padded * (1 - padded)
        for axis in range(3):
            flux = DIFFUSION * faces[axis] * (np.roll(padded, -1, axis) - padded)
            change += flux - np.roll(flux, 1, axis)
        start, end = step * h, (step + 1) * h
        kill = forcing.cumulative_log_kill([start, end])
        padded = (padded + h * change) * np.float32(np.exp(kill[0] - kill[1] + forcing.log_jumps(start, end)))
    return padded[1:-1, 1:-1, 1:-1]


def figures() -> Iterator[Figure]:
    mask, distance = _phantom()
    domain = Domain(mask, SPACING_MM)
    start = 0.8 / (1.0 + np.exp(-distance / 2.0)) * mask
    model, forcing = ReactionDiffusionModel(DIFFUSION, PROLIFERATION), _chemoradiation()

    def solve(tolerance: float, precision: str) -> np.ndarray:
        return model.solve(
            start, domain, [90.0], forcing=forcing, tolerance=tolerance, precision=precision
        ).density[0]

    reference = solve(1e-9, "float64")
    solve(1e-4, "float32")
    seconds = _cpu_s(lambda: solve(1e-4, "float32"), 7)
    peer_seconds = _cpu_s(lambda: _numpy_euler(start, domain, forcing, 90.0), 1)
    error = np.linalg.norm(solve(1e-4, "float32") - reference) / np.linalg.norm(reference)
    peer = _numpy_euler(start, domain, forcing, 90.0)
    peer_error = np.linalg.norm(peer - reference) / np.linalg.norm(reference)
    yield "forward_90d", seconds, "cpu-s", seconds / peer_seconds
    yield "forward_90d_rel_l2", float(error), "1", float(error / peer_error)
    yield "forward_90d_float64", _cpu_s(lambda: solve(1e-4, "float64"), 5), "cpu-s", None
    yield from _gradient_figures(model, start, domain, forcing)
    yield from _twin_figures(mask, distance)


def _gradient_figures(
    model: ReactionDiffusionModel, start: np.ndarray, domain: Domain, forcing: Forcing
) -> Iterator[Figure]:
    """Every derivative by one reverse sweep, beside the forward solve and beside central differences.

    The ratio of ``gradient_*`` is to the forward solve, that of ``gradient_v_differences_*`` to two solves
    for each of four parameters.
    """
    target = np.roll(start, 2, axis=1)

    def misfit(_: int, density: np.ndarray) -> tuple[float, np.ndarray]:
        residual = density - target.astype(density.dtype)
        return 0.5 * float(np.vdot(residual, residual)), residual

    for precision in ("float32", "float64"):
        for name, memory in (("", 1 << 30), ("_sqrt_checkpoints", 0)):
            options = GradientOptions(precision=precision, memory_bytes=memory)

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

            found = gradient()
            forward()
            pairs = [(_cpu_s(gradient, 1), _cpu_s(forward, 1)) for _ in range(7)]
            seconds, once = (min(column) for column in zip(*pairs, strict=True))
            field = start.size * np.dtype(precision).itemsize
            yield f"gradient_{precision}{name}", seconds, "cpu-s", seconds / once
            yield f"gradient_v_differences_{precision}{name}", seconds, "cpu-s", seconds / (8.0 * once)
            yield (
                f"gradient_tape_{precision}{name}",
                found.tape_bytes / (found.steps * field),
                "steps x field",
                None,
            )


def _twin_figures(mask: np.ndarray, distance: np.ndarray) -> Iterator[Figure]:
    affine = np.diag([*SPACING_MM, 1.0])
    volume_cm3 = 4.0 / 3.0 * np.pi * 15.0**3 / 1000.0
    simulator = Simulator(Mask(mask, affine), distance.astype(np.float32), volume_cm3)
    belief = Belief.from_priors(growth_priors("glioma"))
    history = [
        parse_treatment({"type": "radiation", "total_dose_gy": 60, "fractions": 30, "day": 14}),
    ]
    truth = {
        **belief.values,
        "diffusion_mm2_per_day": 0.06,
        "proliferation_per_day": 0.035,
        "alpha_per_gy": 0.02,
    }
    days = np.array([30.0, 60.0, 90.0, 120.0])
    visits = [
        Visit(day, simulator.volume_cm3(state), state[1:-1, 1:-1, 1:-1] >= 0.16, str(day), "given")
        for day, state in simulator.states(truth, history, days)
    ]
    start = time.process_time()
    fit = calibrate(simulator, visits, history, belief)
    yield "calibrate_4_parameters_4_visits", time.process_time() - start, "cpu-s", None
    yield "calibrate_model_runs", float(fit.evaluations), "1", None
    members = belief.sample(48, seed=0)
    weeks = np.arange(0.0, 181.0, 7.0)
    start = time.process_time()
    run_ensemble(simulator, members, history, weeks)
    yield "ensemble_48_members_180d", time.process_time() - start, "cpu-s", None
