"""The patient twin: a tumour's model with its state, parameters, uncertainty, history and provenance."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from digital_twins import __version__
from digital_twins._errors import InputError, StorageError
from digital_twins.imaging import Mask, Volume, as_mask
from digital_twins.patient_modeling._assimilate import assimilate
from digital_twins.patient_modeling._calibrate import (
    Calibrated,
    CalibrationSettings,
    Watch,
    calibrate,
    summary,
    volume_estimate,
)
from digital_twins.patient_modeling._card import one_line, twin_card
from digital_twins.patient_modeling._context import tumour_context
from digital_twins.patient_modeling._life import (
    VersionChanges,
    branch_id,
    changes_between,
    renewed,
    snapshot_of,
)
from digital_twins.patient_modeling._predict import Prediction, ensemble, output_days, run_ensemble
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
from digital_twins.patient_modeling._treatment_priors import completed
from digital_twins.records import NEOPLASM, Treatment, parse_treatment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from digital_twins.calibration import Belief, Estimate


class PatientTwin:
    """A patient's tumour as a calibrated reaction-diffusion model.

    Made by :class:`TumorTwinPipeline`. Days count from the baseline scan. Every :meth:`calibrate` adds a
    version; earlier versions stay in ``history`` as they were. The "current" state is the modelled one on
    the day of the last observation (``origin_day``); before any calibration that is the baseline itself.
    """

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

    def calibrate(
        self,
        longitudinal_scans: Sequence[Any],
        treatment_history: Sequence[Mapping[str, Any] | Treatment] = (),
        *,
        method: str = "map",
        settings: CalibrationSettings | None = None,
        seed: int = 0,
        max_iterations: int = 30,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> CalibrationResult:
        """Fit the model to follow-up scans and make the next version of this twin.

        Scans and treatments add to those of earlier calibrations (a scan or treatment given twice counts
        once), and the fit always starts from the priors, so that no scan is counted twice. Growth, the
        baseline volume and the sensitivities to what was given before the last scan are estimated.

        Parameters
        ----------
        longitudinal_scans
            Segmentations: each ``(day, source)`` or a source with a DICOM date or ``week_N``/``day_N`` in its
            file name; sources as for :func:`digital_twins.imaging.load_mask`. A source may be a mapping of
            ``segmentation`` with an ``adc`` map or a ``pet`` image (SUV; ``pet_fwhm_mm``,
            ``pet_background_suv``) beside it, which are then compared as well.
        treatment_history
            Treatments given, as dictionaries (:func:`digital_twins.records.parse_treatment`) in days since
            baseline, or with a wall-clock ``start``.
        method
            ``"map"``: posterior mode with Laplace's interval. ``"lm"``: bounded Levenberg-Marquardt on the
            likelihood, with priors three times as wide, which only hold what nothing else does.
            ``"bayesian"``: samples by tempered sequential Monte Carlo that :meth:`predict` draws from, at
            some two thousand runs of the model.
        settings
            Particles, bounds, and which observations to use.
        seed
            Of the samples; kept in the provenance.
        progress, cancelled
            Called with a fraction and a text; asked whether to stop.

        Raises
        ------
        InputError
            When a scan or treatment cannot be used, with the reason; the twin is then as it was.
        concurrent.futures.CancelledError
            When ``cancelled`` said so; the twin is then as it was.
        """
        before = self.snapshot
        added, notes = self._new_visits(longitudinal_scans)
        visits = tuple(sorted((*before.visits, *added), key=lambda visit: visit.day))
        if not visits:
            raise InputError(
                "There is no follow-up scan to calibrate on.",
                "None was given, or only the baseline scan itself.",
                "Pass at least one segmentation of a later day.",
            )
        treatments = self._all_treatments(treatment_history)
        settings = settings or CalibrationSettings(max_iterations=max_iterations)
        found = calibrate(
            self._simulator,
            visits,
            treatments,
            before.belief,
            method=method,
            settings=settings,
            seed=seed,
            watch=Watch(progress, cancelled),
        )
        return self._next_version(found, visits, treatments, notes=notes, seed=seed)

    def assimilate(
        self,
        scan: Any,
        *,
        day: float | None = None,
        treatment_history: Sequence[Mapping[str, Any] | Treatment] = (),
        method: str = "enkf",
        settings: CalibrationSettings | None = None,
        seed: int = 0,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> CalibrationResult:
        """Update the twin with one new scan, without fitting the earlier ones again: makes the next version.

        What was believed so far is the prior, the scan the only new data. Cheaper than :meth:`calibrate`,
        which a later call can still do over all scans, and less exact: see docs/science/calibration.md.

        Parameters
        ----------
        scan, day
            As an entry of ``longitudinal_scans``; ``day`` may be given beside it. Not before the last
            observation.
        treatment_history
            Treatments given that the twin does not know yet.
        method
            ``"enkf"``: ensemble Kalman filter; ``"particle"``: particle filter; ``"ekf"``: extended Kalman
            filter (nine runs of the model for four parameters).
        settings
            Number of particles or members, and which observations to use.
        seed
            Of the ensemble; kept in the provenance.
        progress, cancelled
            As for :meth:`calibrate`.

        Raises
        ------
        InputError
            When the scan is known already or older than the twin, or cannot be used; or a treatment cannot.
        concurrent.futures.CancelledError
            When ``cancelled`` said so; the twin is then as it was.
        """
        added, notes = self._new_visits([scan if day is None else (day, scan)])
        if not added or added[0].day < self.origin_day:
            raise InputError(
                "The scan cannot be assimilated.",
                "Its content is already known to the twin."
                if not added
                else f"It is of day {added[0].day:g}, before the twin's last observation.",
                "Pass a newer scan, or calibrate on all scans.",
            )
        treatments = self._all_treatments(treatment_history)
        found = assimilate(
            self._simulator,
            added[0],
            treatments,
            self.snapshot.belief,
            method=method,
            settings=settings,
            seed=seed,
            watch=Watch(progress, cancelled),
        )
        return self._next_version(found, (*self.visits, added[0]), treatments, notes=notes, seed=seed)

    def _next_version(
        self,
        found: Calibrated,
        visits: tuple[Visit, ...],
        treatments: tuple[Treatment, ...],
        *,
        notes: Sequence[str],
        seed: int,
    ) -> CalibrationResult:
        before = self.snapshot
        version = before.version + 1
        result = summary(self._simulator, visits, treatments, found, version=version)
        scans = {f"scan_day_{visit.day:g}": visit.digest for visit in visits}
        images = {f"{i.kind}_day_{visit.day:g}": i.digest for visit in visits for i in visit.images}
        provenance = Provenance(
            inputs={**before.provenance.inputs, **scans, **images},
            software_version=__version__,
            seed=seed,
            parent_version=before.version,
            notes=tuple(dict.fromkeys((*before.provenance.notes, *notes, *_assumptions(treatments)))),
        )
        volume = volume_estimate(
            result.modelled_cm3[-1], found.volume_log_sd, source="modelled on the last visit's day"
        )
        made = Snapshot(
            version=version,
            created_utc=datetime.now(tz=UTC),
            belief=found.belief,
            visits=visits,
            treatment_history=treatments,
            provenance=provenance,
            current_volume_cm3=volume,
            calibration=result,
        )
        self.history = (*self.history, made)
        return result

    def predict(
        self,
        horizon_days: float,
        *,
        treatments: Sequence[Mapping[str, Any] | Treatment] = (),
        output_interval_days: float = 7.0,
        interval: float = 0.95,
        samples: int = 48,
        seed: int = 0,
        progress: Callable[[float, str], None] | None = None,
    ) -> Prediction:
        """Forecast from now (``origin_day``) on, with an ensemble over the parameters' uncertainty.

        Each member runs from baseline through the treatment history, then through the planned treatments.

        Parameters
        ----------
        horizon_days
            Days after ``origin_day``.
        treatments
            Planned treatments; their day 0 is ``origin_day`` unless they carry a wall-clock ``start``.
        interval
            Probability of the central interval.
        samples, seed
            Size of the ensemble (8 to 1,000) and its seed: the same seed gives the same numbers.

        Raises
        ------
        InputError
            When horizon, interval, samples or a treatment cannot be used.
        """
        if not 0.0 < interval < 1.0:
            raise InputError(
                "The interval of the prediction cannot be used.",
                f"It is {interval:g}; it must lie between 0 and 1.",
                "Use e.g. 0.95.",
            )
        days = output_days(self.origin_day, float(horizon_days), float(output_interval_days))
        members = ensemble(self.snapshot.belief, samples, seed=seed)
        planned = tuple(
            placed_in_time(self._parsed(t), self.baseline, default_day=self.origin_day) for t in treatments
        )
        course = (*self.treatment_history, *planned)
        members = completed(members, course, seed=seed)
        volumes, probability, density = run_ensemble(
            self._simulator, members, course, days, progress=progress
        )
        tail = 50.0 * (1.0 - interval)
        # "weibull": the k-th of n members leaves k / (n + 1) outside, so that few are not overconfident
        low, median, high = np.percentile(volumes, [tail, 50.0, 100.0 - tail], axis=0, method="weibull")
        question = [
            self.content_digest,
            [_fingerprint(t) for t in planned],
            list(days),
            samples,
            seed,
            interval,
        ]
        return Prediction(
            twin_id=self.twin_id,
            days=days,
            origin_day=self.origin_day,
            volume_cm3=median,
            low_cm3=low,
            high_cm3=high,
            interval=interval,
            samples_cm3=volumes,
            treatments=planned,
            model_version=self.version,
            input_hash=hashlib.sha256(json.dumps(question).encode()).hexdigest(),
            domain=self.domain,
            probability=probability,
            mean_density=density,
        )

    def changes(self, since: int | None = None, until: int | None = None) -> VersionChanges:
        """Compare two versions: by default the current one with its parent.

        Raises
        ------
        NotFoundError
            When the twin has no such version.
        """
        after = self.snapshot if until is None else snapshot_of(self.history, until)
        parent = after.provenance.parent_version
        before = snapshot_of(self.history, since or parent or after.version)
        return changes_between(before, after)

    def revert(self, version: int, *, reason: str = "") -> int:
        """Make a new version with the content of an old one; nothing is lost. Returns its number.

        Raises
        ------
        NotFoundError
            When the twin has no such version.
        """
        note = f"reverted to version {version}" + (f": {reason}" if reason else "")
        made = renewed(snapshot_of(self.history, version), self.version + 1, note)
        self.history = (*self.history, made)
        return made.version

    def branch(self, version: int, name: str) -> PatientTwin:
        """Make another twin of the patient that goes on from an old version, under an identifier of its own.

        Raises
        ------
        NotFoundError
            When the twin has no such version.
        """
        start = snapshot_of(self.history, version)
        made = renewed(start, version + 1, f"branch '{name}' of twin {self.twin_id}, version {version}")
        return PatientTwin(
            branch_id(self.twin_id, version, name),
            self.patient_id,
            baseline=self.baseline,
            image=self.image,
            simulator=self._simulator,
            clinical_data=self.clinical_data,
            history=(*(s for s in self.history if s.version <= version), made),
        )

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return twin_card(self)

    def to_dataframe(self) -> pd.DataFrame:
        """Return every parameter of every version as a pandas DataFrame, one row each.

        Raises
        ------
        MissingExtraError
            Without pandas (``pip install 'digital-twins[dataframe]'``).
        """
        from digital_twins.patient_modeling._frames import twin_frame

        return twin_frame(self)

    def to_xarray(self) -> xr.Dataset:
        """Return domain, lesion, current density and follow-up volumes as an xarray Dataset with units.

        Raises
        ------
        MissingExtraError
            Without xarray (``pip install 'digital-twins[xarray]'``).
        """
        from digital_twins.patient_modeling._frames import twin_dataset

        return twin_dataset(self)

    @property
    def content_digest(self) -> str:
        """SHA-256 over what determines the current version's predictions (not over when it was made)."""
        snapshot = self.snapshot
        content = [
            self.twin_id,
            snapshot.version,
            snapshot.belief.names,
            snapshot.belief.log_mean.tolist(),
            snapshot.belief.log_covariance.tolist(),
            *_sampled_content(snapshot.belief),
            [_fingerprint(t) for t in snapshot.treatment_history],
            sorted(snapshot.provenance.inputs.items()),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the twin with all its versions to one file (zip of JSON and arrays, no pickle).

        Raises
        ------
        StorageError
            When the file cannot be written.
        """
        from digital_twins.patient_modeling._file import to_bytes

        target = Path(path)
        try:
            target.write_bytes(to_bytes(self))
        except OSError as error:
            raise StorageError(
                "The twin could not be saved.", str(error.strerror), "Choose a folder that can be written."
            ) from error

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a twin that :meth:`save` wrote; its predictions are the same to the last bit.

        Raises
        ------
        InputError
            When the file is not a twin, or damaged.
        NotFoundError
            When there is no such file.
        """
        from digital_twins.patient_modeling._file import from_bytes, read_twin_file

        return from_bytes(read_twin_file(Path(path)), cls)

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
        known = {_fingerprint(t) for t in before}
        return (*before, *(t for t in self._given(added) if _fingerprint(t) not in known))


def _sampled_content(belief: Belief) -> list[Any]:
    """Samples of a belief for its digest; nothing where there are none, so that older digests stay."""
    cloud = belief.particles
    return [] if cloud is None else [cloud.names, cloud.logs.tolist(), cloud.weights.tolist()]


def _fingerprint(treatment: Treatment) -> str:
    """What a treatment does, as text: two with the same doses on the same days are the same."""
    doses = [(d.day, d.dose_mg, d.duration_hours) for d in treatment.doses]
    fractions = [(f.day, f.dose_gy) for f in treatment.fractions]
    told: list[Any] = [treatment.kind, treatment.drug, doses, fractions, treatment.day]
    if treatment.radiation is not None or treatment.dose_map is not None:
        effect = {} if treatment.radiation is None else treatment.radiation.stated()
        told += [effect, None if treatment.dose_map is None else treatment.dose_map.digest()]
    cut = [treatment.margin_mm, treatment.extent_of_resection, treatment.resection]
    if any(part is not None for part in cut):
        told += cut
    return json.dumps(told, sort_keys=True)


def _assumptions(treatments: Sequence[Treatment]) -> list[str]:
    return [f"{treatment.label}: {text}" for treatment in treatments for text in treatment.assumptions]
