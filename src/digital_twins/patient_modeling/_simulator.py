"""One tumour on its grid: from parameter values and treatments to densities and volumes over time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins.models import (
    Domain,
    ReactionDiffusionModel,
    TensorDomain,
    TumourState,
    trajectory_with_dead_cells,
    volume_above_mm3,
)
from digital_twins.patient_modeling._course import Solver, course_forcing
from digital_twins.patient_modeling._forcing import forcing_for, needs_state
from digital_twins.patient_modeling._priors import BASELINE_SCALE, DIFFUSION, PROLIFERATION
from digital_twins.patient_modeling._radiation_priors import CLEARANCE
from digital_twins.units import mm3_to_cm3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from digital_twins.imaging import Mask
    from digital_twins.models import Forcing
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]

DETECTION_THRESHOLD = 0.16
"""Density, as a part of the carrying capacity, at the visible edge: published for T2-weighted MR of glioma
(Swanson et al., Br J Cancer 2008;98:113, doi:10.1038/sj.bjc.6604125 [verify]), assumed for other organs."""
PLATEAU = 0.8
"""Density that the core approaches at baseline, as a part of the carrying capacity: an assumption."""
_TAIL_MM = 1.5
_CORE_WIDTHS = 5.0
TOLERANCE = 1.0e-3
"""Relative L2 error of the time discretisation that a patient's model aims for."""


@dataclass(frozen=True, eq=False)
class Simulator:
    """Solves the model of one patient.

    At baseline the density rises inwards from the detection threshold at the lesion's edge towards a plateau
    (a logistic profile in the distance to the edge, a fifth of the inner radius wide, at most 5 mm) and
    falls exponentially outside (1.5 mm). So a uniform kill draws the visible edge inwards gradually instead
    of making the whole lesion vanish at once. The edge is shifted so that the volume above the threshold is
    the segmented volume times ``baseline_volume_scale``.

    Attributes
    ----------
    domain
        Domain mask on the model grid.
    distance_mm
        Signed distance to the edge of the segmented lesion, positive inside.
    lesion_volume_cm3
        Segmented volume at baseline.
    solver
        As for :class:`digital_twins.models.ReactionDiffusionModel`.
    diffusivity
        Relative diffusivity of each voxel of the model grid, or None where it is 1 everywhere.
    tensor
        Relative diffusion tensors [slice, row, column, 3, 3] along the grid's axes, or None.
    """

    domain: Mask
    distance_mm: NDArray[np.float32]
    lesion_volume_cm3: float
    solver: str = "cpu"
    diffusivity: NDArray[np.float32] | None = None
    tensor: NDArray[np.float32] | None = None

    @cached_property
    def solver_domain(self) -> Domain:
        """The domain as the solver takes it."""
        if self.tensor is not None:
            return TensorDomain(self.domain.array, self.domain.spacing_mm, self.tensor)
        return Domain(self.domain.array, self.domain.spacing_mm, self.diffusivity)

    def density(self, scale: float = 1.0) -> NDArray[np.float32]:
        """Baseline density for a true volume of ``scale`` times the segmented one."""
        shifts, volumes = self._shift_table
        wanted = np.log(scale * self.lesion_volume_cm3)
        return self._profile(float(np.interp(wanted, np.log(volumes), shifts)))

    def density_slope(self, scale: float = 1.0) -> FloatArray:
        """Derivative of :meth:`density` by the logarithm of the scale."""
        shifts, volumes = self._shift_table
        logs = np.log(volumes)
        wanted = float(np.log(scale * self.lesion_volume_cm3))
        if not logs[0] < wanted < logs[-1]:  # the table holds its ends
            return np.zeros(self.domain.shape)
        at = int(np.clip(np.searchsorted(logs, wanted) - 1, 0, logs.size - 2))
        mm_per_log = (shifts[at + 1] - shifts[at]) / (logs[at + 1] - logs[at])
        shift = float(np.interp(wanted, logs, shifts))
        core, tail = self._widths_mm
        density = self._profile(shift).astype(np.float64)
        inward = self.distance_mm + np.float32(shift)
        slope = np.where(inward > 0.0, (1.0 - density / PLATEAU) / core, 1.0 / tail)
        return np.asarray(mm_per_log * density * slope)

    def volume_cm3(self, padded: NDArray[Any]) -> float:
        """Volume above the detection threshold of a padded density."""
        voxel = self.solver_domain.voxel_volume_mm3
        return mm3_to_cm3(volume_above_mm3(padded, DETECTION_THRESHOLD, voxel_volume_mm3=voxel))

    def states(
        self, parameters: Mapping[str, float], treatments: Sequence[Treatment], days: FloatArray
    ) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """Yield (day, padded density) at each day from baseline on; the density is overwritten."""
        model = ReactionDiffusionModel(parameters[DIFFUSION], parameters[PROLIFERATION], solver=self.solver)
        horizon = float(days[-1]) if days.size else 0.0
        return model.trajectory(
            self.density(parameters.get(BASELINE_SCALE, 1.0)),
            self.solver_domain,
            days,
            forcing=self.forcing(parameters, treatments, horizon),
            tolerance=TOLERANCE,
        )

    def observed(
        self, parameters: Mapping[str, float], treatments: Sequence[Treatment], days: FloatArray
    ) -> Iterator[TumourState]:
        """Yield what an image would show at each day: living cells, and dead ones not cleared yet.

        Cells that radiation killed stay visible and are cleared with ``clearance_half_life_days``; without
        that parameter, and after drugs, they vanish at once. Arrays are overwritten by the next step.
        """
        half_life = parameters.get(CLEARANCE)
        if half_life is None:
            return (TumourState(day, state) for day, state in self.states(parameters, treatments, days))
        horizon = float(days[-1]) if days.size else 0.0
        return trajectory_with_dead_cells(
            ReactionDiffusionModel(parameters[DIFFUSION], parameters[PROLIFERATION], solver=self.solver),
            self.density(parameters.get(BASELINE_SCALE, 1.0)),
            self.solver_domain,
            output_days=days,
            forcing=self.forcing(parameters, treatments, horizon),
            clearance_half_life_days=half_life,
            tolerance=TOLERANCE,
        )

    def visible_cm3(self, state: TumourState) -> float:
        """Visible volume of a state that :meth:`observed` yields."""
        voxel = self.solver_domain.voxel_volume_mm3
        return mm3_to_cm3(state.visible_volume_mm3(DETECTION_THRESHOLD, voxel_volume_mm3=voxel))

    def forcing(
        self, parameters: Mapping[str, float], treatments: Sequence[Treatment], horizon_days: float
    ) -> Forcing:
        """What the treatments do to this tumour until the horizon, as the solvers take it.

        Surgery and immunotherapy depend on the tumour by then: for them the course is solved once.
        """
        if not needs_state(treatments):
            return forcing_for(treatments, parameters, horizon_days=horizon_days)
        model = ReactionDiffusionModel(parameters[DIFFUSION], parameters[PROLIFERATION], solver=self.solver)
        return course_forcing(
            Solver(
                model,
                self.solver_domain,
                self.domain,
                DETECTION_THRESHOLD,
                TOLERANCE,
                parameters.get(CLEARANCE),
            ),
            self.density(parameters.get(BASELINE_SCALE, 1.0)),
            parameters,
            treatments=treatments,
            horizon_days=horizon_days,
        )

    def volumes_cm3(
        self, parameters: Mapping[str, float], treatments: Sequence[Treatment], days: FloatArray
    ) -> FloatArray:
        """Visible volume at each day."""
        return np.array([self.visible_cm3(state) for state in self.observed(parameters, treatments, days)])

    @cached_property
    def _widths_mm(self) -> tuple[float, float]:
        spacing = min(self.domain.spacing_mm)
        inner = float(self.distance_mm.max())
        core = float(np.clip(inner / _CORE_WIDTHS, 0.75 * spacing, 5.0))
        return core, max(_TAIL_MM, 0.75 * spacing)

    def _profile(self, shift_mm: float) -> NDArray[np.float32]:
        core, tail = self._widths_mm
        inward = self.distance_mm + np.float32(shift_mm)
        level = DETECTION_THRESHOLD / PLATEAU
        inside = PLATEAU / (1.0 + (1.0 / level - 1.0) * np.exp(-np.maximum(inward, 0.0) / np.float32(core)))
        outside = np.exp(np.minimum(inward, 0.0) / np.float32(tail))
        return np.asarray(np.where(self.domain.array, inside * outside, 0.0), dtype=np.float32)

    @cached_property
    def _shift_table(self) -> tuple[FloatArray, FloatArray]:
        """Edge shifts and the volumes they give, for scales between a third and three."""
        inner = float(self.distance_mm.max())
        spacing = min(self.domain.spacing_mm)
        shifts = np.linspace(-0.55 * inner - spacing, 0.6 * inner + 2.0 * spacing, 49)
        volumes = np.array([self.volume_cm3(np.pad(self._profile(float(s)), 1)) for s in shifts])
        keep = np.concatenate([[True], np.diff(np.maximum.accumulate(volumes)) > 0.0]) & (volumes > 0.0)
        return shifts[keep], volumes[keep]
