"""One version of a twin: what was known, believed and done, frozen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from digital_twins.units import SECONDS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from digital_twins.calibration import Belief, Estimate, Identifiability
    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.records import Treatment


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a version comes from.

    Attributes
    ----------
    inputs
        Name of each input to the SHA-256 of its content.
    software_version
        Version of this package.
    seed
        Seed that the caller gave.
    parent_version
        Version that was calibrated into this one, None for the first.
    notes
        Choices made on the way, in words: domain rule, solver, assumptions, scans left aside.
    """

    inputs: Mapping[str, str]
    software_version: str
    seed: int
    parent_version: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingReport:
    """How the samples of a posterior came to be.

    Attributes
    ----------
    particles, distinct
        Samples kept, and how many of them differ.
    effective
        Smallest effective sample size on the way, before resampling.
    acceptance
        Mean share of accepted moves; 1 where there are none.
    stages
        Tempering steps; 1 for an update without.
    """

    particles: int
    distinct: int
    effective: float
    acceptance: float
    stages: int


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Outcome of a calibration.

    Attributes
    ----------
    version
        Version of the twin that it made.
    estimates
        Every parameter after it.
    days, observed_cm3, modelled_cm3, dice
        One entry a visit: day, segmented and modelled volume, and the overlap of both masks on the model
        grid (reported, not fitted).
    residuals
        log(modelled / observed volume) over its standard deviation.
    cost, evaluations, converged, message
        See :class:`digital_twins.calibration.Fit`.
    identifiability
        What the data do not determine, in words.
    method
        ``"map"``, ``"lm"`` or ``"bayesian"``; ``"enkf"``, ``"particle"`` or ``"ekf"`` for an assimilation.
    observations
        What was compared: ``"volume"``, ``"shape"``, ``"cellularity"``, ``"uptake"``.
    information
        Posterior against prior as numbers (None in files of older versions). For an assimilation the prior is
        what was believed before it.
    sampling
        How the samples came to be, where there are any.
    jacobian
        ``"tangent"`` (exact derivatives) or ``"finite_difference"`` in the search for the mode; None for an
        assimilation and in files of older versions.
    """

    version: int
    estimates: Mapping[str, Estimate]
    days: tuple[float, ...]
    observed_cm3: tuple[float, ...]
    modelled_cm3: tuple[float, ...]
    dice: tuple[float, ...]
    residuals: tuple[float, ...]
    cost: float
    evaluations: int
    converged: bool
    message: str
    identifiability: tuple[str, ...]
    method: str = "map"
    observations: tuple[str, ...] = ("volume",)
    information: Identifiability | None = None
    sampling: SamplingReport | None = None
    jacobian: str | None = None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything about one version that a later calibration could change."""

    version: int
    created_utc: datetime
    belief: Belief
    visits: tuple[Visit, ...]
    treatment_history: tuple[Treatment, ...]
    provenance: Provenance
    current_volume_cm3: Estimate
    calibration: CalibrationResult | None = None

    @property
    def origin_day(self) -> float:
        """The twin's "now": day of its last observation, 0 before any follow-up."""
        return max((visit.day for visit in self.visits), default=0.0)


def shifted(treatment: Treatment, days: float) -> Treatment:
    """Return the treatment with every administration ``days`` later."""
    if days == 0.0:
        return treatment
    return replace(
        treatment,
        doses=tuple(replace(dose, day=dose.day + days) for dose in treatment.doses),
        fractions=tuple(replace(fraction, day=fraction.day + days) for fraction in treatment.fractions),
        day=None if treatment.day is None else treatment.day + days,
    )


def placed_in_time(treatment: Treatment, baseline: datetime | None, *, default_day: float) -> Treatment:
    """Shift a treatment onto the twin's timeline.

    One with a wall-clock ``start`` begins its day 0 there (when the baseline's time is known); any other
    begins it on ``default_day``.
    """
    if treatment.start is not None and baseline is not None:
        return shifted(treatment, (treatment.start - baseline).total_seconds() / SECONDS_PER_DAY)
    return shifted(treatment, default_day)
