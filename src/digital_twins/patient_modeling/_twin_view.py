"""What a twin shows of its current version, and how scans and treatments come into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging import Mask, Volume, as_mask
from digital_twins.patient_modeling._context import tumour_context
from digital_twins.patient_modeling._priors import PROLIFERATION
from digital_twins.patient_modeling._radiation_forcing import on_model_grid, with_dose_map
from digital_twins.patient_modeling._resection import on_grid
from digital_twins.patient_modeling._scans import Visit, read_visit
from digital_twins.patient_modeling._simulator import DETECTION_THRESHOLD, Simulator
from digital_twins.patient_modeling._snapshot import (
    CalibrationResult,
    Provenance,
    Snapshot,
    placed_in_time,
)
from digital_twins.patient_modeling._surgery_forcing import removed_share
from digital_twins.patient_modeling._twin_digest import content_digest, fingerprint
from digital_twins.records import NEOPLASM, Treatment, parse_treatment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from digital_twins.calibration import Estimate


class TwinView:
    """One tumour's model with its versions, as far as it can be looked at; see :class:`PatientTwin`."""

    def __init__(
        self,
        twin_id: str,
        patient_id: str,
        *,
        baseline: datetime | None,
        image: Volume | None,
        simulator: Simulator,
        clinical_data: Mapping[str, Any],
        history: Sequence[Snapshot],
    ) -> None:
        self.twin_id = twin_id
        self.patient_id = patient_id
        self.baseline = baseline
        self.image = image
        self.clinical_data: Mapping[str, Any] = dict(clinical_data)
        self.history: tuple[Snapshot, ...] = tuple(history)
        self._simulator = simulator

    @property
    def snapshot(self) -> Snapshot:
        """The current version."""
        return self.history[-1]

    @property
    def version(self) -> int:
        """Number of the current version, 1 for a new twin."""
        return self.snapshot.version

    @property
    def created_utc(self) -> datetime:
        """When the current version was made."""
        return self.snapshot.created_utc

    @property
    def parameters(self) -> Mapping[str, Estimate]:
        """Every parameter with its 95 % interval."""
        return self.snapshot.belief.estimates()

    @property
    def treatment_history(self) -> tuple[Treatment, ...]:
        """Treatments given, in days since baseline."""
        return self.snapshot.treatment_history

    @property
    def visits(self) -> tuple[Visit, ...]:
        """Follow-up scans that the current version was calibrated on, in order of day."""
        return self.snapshot.visits

    @property
    def provenance(self) -> Provenance:
        """Where the current version comes from."""
        return self.snapshot.provenance

    @property
    def calibration(self) -> CalibrationResult | None:
        """Outcome of the calibration that made the current version; None for a new twin."""
        return self.snapshot.calibration

    @property
    def origin_day(self) -> float:
        """The twin's "now": day of its last observation, 0 before any follow-up."""
        return self.snapshot.origin_day

    @property
    def baseline_volume_cm3(self) -> float:
        """Segmented volume of the baseline lesion."""
        return self._simulator.lesion_volume_cm3

    @property
    def current_volume(self) -> Estimate:
        """Tumour volume on ``origin_day`` with its 95 % interval: segmented if new, else modelled."""
        return self.snapshot.current_volume_cm3

    @property
    def current_volume_cm3(self) -> float:
        """Tumour volume on ``origin_day``."""
        return self.current_volume.value

    @property
    def proliferation_rate(self) -> float:
        """Proliferation rate k per day."""
        return self.parameters[PROLIFERATION].value

    @property
    def proliferation_rate_interval(self) -> tuple[float, float]:
        """95 % interval of k per day."""
        estimate = self.parameters[PROLIFERATION]
        return estimate.low, estimate.high

    @property
    def detection_threshold(self) -> float:
        """Density at the visible edge, as a part of the carrying capacity."""
        return DETECTION_THRESHOLD

    @property
    def domain(self) -> Mask:
        """Where tumour cells can live, on the model grid."""
        return self._simulator.domain

    @property
    def lesion(self) -> Mask:
        """Baseline lesion on the model grid: its densest voxels, as many as the segmented volume fills."""
        density = self._simulator.density()
        voxels = round(self.baseline_volume_cm3 * 1000.0 / self.domain.voxel_volume_mm3)
        inside = np.zeros(density.size, dtype=bool)
        inside[np.argpartition(density.ravel(), -voxels)[-voxels:]] = True
        return as_mask(self._grid, inside.reshape(density.shape), meaning=NEOPLASM)

    @property
    def density(self) -> Volume:
        """Tumour cell density on ``origin_day``, as a part of the carrying capacity, most probable values."""
        belief = self.snapshot.belief.values
        days = np.array([self.origin_day])
        (_, state), *_ = self._simulator.states(belief, self.treatment_history, days)
        return self._grid.with_array(state[1:-1, 1:-1, 1:-1].copy())

    def resection_share(self, surgery: Mapping[str, Any] | Treatment) -> NDArray[np.float64]:
        """Share of each voxel that a surgery takes out now, 0..1, on the model grid (that of ``domain``).

        Now is ``origin_day``, the lesion that of the most probable parameters.

        Raises
        ------
        InputError
            When the treatment is no surgery, or cannot be understood.
        """
        operation = self._parsed(surgery)
        if operation.kind != "surgery":
            raise InputError(
                f"A {operation.kind} treatment takes no tissue out.",
                "Only a surgery has a resection.",
                "Pass e.g. {'type': 'surgery', 'margin_mm': 10}.",
            )
        context = tumour_context(self.domain, np.pad(self.density.array, 1), DETECTION_THRESHOLD)
        return removed_share(operation, context)

    @property
    def _grid(self) -> Volume:
        domain = self.domain
        return Volume(
            domain.array,
            domain.affine,
            frame_of_reference_uid=domain.frame_of_reference_uid,
            patient_id=domain.patient_id,
        )

    def _new_visits(self, scans: Sequence[Any]) -> tuple[list[Visit], list[str]]:
        known = {visit.digest for visit in self.visits} | {self.provenance.inputs["tumor_segmentation"]}
        added: list[Visit] = []
        notes: list[str] = []
        for scan in scans:
            visit = read_visit(scan, frame=self.domain, baseline=self.baseline)
            if visit.digest in known:
                notes.append(f"A scan of day {visit.day:g} was left aside: its content is already known.")
                continue
            known.add(visit.digest)
            added.append(visit)
            if visit.day_from != "given":
                notes.append(f"The scan of day {visit.day:g} has its day from: {visit.day_from}.")
        return added, notes

    def _parsed(self, treatment: Mapping[str, Any] | Treatment) -> Treatment:
        surface = self.clinical_data.get("body_surface_area_m2")
        parsed = parse_treatment(
            with_dose_map(treatment), body_surface_area_m2=surface, allow_before_baseline=True
        )
        return on_grid(on_model_grid(parsed, self.domain), self.domain)

    def _given(self, treatments: Sequence[Mapping[str, Any] | Treatment]) -> tuple[Treatment, ...]:
        return tuple(placed_in_time(self._parsed(t), self.baseline, default_day=0.0) for t in treatments)

    def _all_treatments(self, added: Sequence[Mapping[str, Any] | Treatment]) -> tuple[Treatment, ...]:
        """Treatments given so far and those added; one given twice counts once."""
        before = self.treatment_history
        known = {fingerprint(t) for t in before}
        return (*before, *(t for t in self._given(added) if fingerprint(t) not in known))

    @property
    def content_digest(self) -> str:
        """SHA-256 over what determines the current version's predictions (not over when it was made)."""
        return content_digest(self.twin_id, self.snapshot)
