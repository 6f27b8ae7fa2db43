"""Derivatives of what a patient's images would show by the logarithms of the model's parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins.models import (
    Direction,
    GradientOptions,
    ReactionDiffusionModel,
    solver_fallback,
    tangents_with_dead_cells,
)
from digital_twins.patient_modeling._forcing import needs_state
from digital_twins.patient_modeling._priors import BASELINE_SCALE, DIFFUSION, PROLIFERATION
from digital_twins.patient_modeling._radiation_priors import CLEARANCE
from digital_twins.patient_modeling._simulator import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from digital_twins.models import Forcing, TumourTangents
    from digital_twins.patient_modeling._simulator import Simulator
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]

_LOG_STEP = 1.0e-4
"""Of the central differences of a treatment's numbers, closed forms of its parameters: off by 1e-8 or so."""


def not_covered(simulator: Simulator, treatments: Sequence[Treatment]) -> str | None:
    """Say why no tangents can be had, as the end of a sentence; None where they can."""
    if needs_state(treatments):
        return "surgery and immunotherapy act on the tumour as it then is"
    if any(treatment.dose_map is not None for treatment in treatments):
        return "a dose map acts voxel by voxel"
    if simulator.solver != "cpu" and solver_fallback(simulator.solver) is None:
        return "the solver in JAX has none"
    return None


def observed_tangents(
    simulator: Simulator,
    parameters: Mapping[str, float],
    treatments: Sequence[Treatment],
    days: FloatArray,
    *,
    names: Sequence[str],
    precision: str = "float32",
) -> Iterator[TumourTangents]:
    """Yield what :meth:`Simulator.observed` yields, with derivatives by the logarithms of ``names``.

    Only where :func:`not_covered` has nothing to say.
    """
    horizon = float(days[-1]) if days.size else 0.0
    forcing = simulator.forcing(parameters, treatments, horizon)

    def moved(name: str, shift: float) -> Forcing:
        return simulator.forcing(
            {**parameters, name: parameters[name] * math.exp(shift)}, treatments, horizon
        )

    return tangents_with_dead_cells(
        ReactionDiffusionModel(parameters[DIFFUSION], parameters[PROLIFERATION]),
        simulator.density(parameters.get(BASELINE_SCALE, 1.0)),
        simulator.solver_domain,
        output_days=days,
        directions=[
            _direction(simulator, parameters, name, (moved(name, -_LOG_STEP), moved(name, _LOG_STEP)))
            for name in names
        ],
        forcing=forcing,
        clearance_half_life_days=parameters.get(CLEARANCE),
        options=GradientOptions(tolerance=TOLERANCE, precision=precision),
    )


def _direction(
    simulator: Simulator, parameters: Mapping[str, float], name: str, moved: tuple[Forcing, Forcing]
) -> Direction:
    """How everything moves with the logarithm of one parameter."""
    value = parameters[name]
    down, up = moved
    jumps = (up.jump_log_survival - down.jump_log_survival) / (2.0 * _LOG_STEP)
    doses = (up.amplitude_per_day - down.amplitude_per_day) / (2.0 * _LOG_STEP)
    return Direction(
        diffusion_coefficient=value if name == DIFFUSION else 0.0,
        proliferation_rate=value if name == PROLIFERATION else 0.0,
        jump_log_survival=jumps if np.any(jumps) else None,
        amplitude_per_day=doses if np.any(doses) else None,
        initial_density=simulator.density_slope(value) if name == BASELINE_SCALE else None,
        clearance_half_life_days=value if name == CLEARANCE else 0.0,
    )
