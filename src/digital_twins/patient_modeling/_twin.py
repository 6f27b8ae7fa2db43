"""The patient twin: a tumour's model with its state, parameters, uncertainty, history and provenance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from digital_twins._errors import InputError, StorageError
from digital_twins.patient_modeling._assimilate import assimilate
from digital_twins.patient_modeling._calibrate import (
    Calibrated,
    CalibrationSettings,
    Watch,
    calibrate,
    summary,
)
from digital_twins.patient_modeling._card import one_line, twin_card
from digital_twins.patient_modeling._life import (
    VersionChanges,
    branch_id,
    calibrated,
    changes_between,
    renewed,
    snapshot_of,
    with_provenance,
)
from digital_twins.patient_modeling._predict import Prediction, ensemble, output_days, run_ensemble
from digital_twins.patient_modeling._snapshot import (
    CalibrationResult,
    placed_in_time,
)
from digital_twins.patient_modeling._treatment_priors import completed
from digital_twins.patient_modeling._twin_digest import digest_of, fingerprint
from digital_twins.patient_modeling._twin_view import TwinView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    import xarray as xr

    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.records import Treatment


class PatientTwin(TwinView):
    """A patient's tumour as a calibrated reaction-diffusion model.

    Made by :class:`TumorTwinPipeline`. Days count from the baseline scan. Every :meth:`calibrate` adds a
    version; earlier versions stay in ``history`` as they were. The "current" state is the modelled one on
    the day of the last observation (``origin_day``); before any calibration that is the baseline itself.
    """

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
        version = self.version + 1
        result = summary(self._simulator, visits, treatments, found, version=version)
        made = calibrated(self.snapshot, found, result, visits=visits, treatments=treatments)
        self.history = (*self.history, with_provenance(made, self.snapshot, notes=notes, seed=seed))
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
            [fingerprint(t) for t in planned],
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
            input_hash=digest_of(question),
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
