"""The monitor: readings in, living twins and alerts out, all patients in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import ConflictError, NotFoundError
from digital_twins.monitoring.alerts import SIGNALS, Alert, AlertBook, Conditions, load_thresholds
from digital_twins.monitoring.detection import (
    TEXTS,
    ChangeDetector,
    QualityChecks,
    TechnicalAlarms,
    news2,
    plausible,
)
from digital_twins.monitoring.prediction import RiskWatch
from digital_twins.monitoring.signals import COLUMN, VITALS, Named, Quality
from digital_twins.monitoring.storage import Ring
from digital_twins.monitoring.twin import Body, LiveTwin, PersonalBaseline, TrendFilter, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.monitoring.alerts import AlertStep, Notice, Thresholds
    from digital_twins.monitoring.detection import AnomalyDetector
    from digital_twins.monitoring.ingest import Arrivals, Intake
    from digital_twins.monitoring.prediction import DeathRisk
    from digital_twins.monitoring.simulation import PatientProfile

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

_CHANGE, _NEWS2 = SIGNALS["CHANGE"], SIGNALS["NEWS2"]
_ANOMALY = {"isolation_forest": SIGNALS["ANOMALY_FOREST"], "one_class_svm": SIGNALS["ANOMALY_SVM"]}
_RISK = SIGNALS["DEATH_RISK"]
_TWIN_EVERY_S = 3.0
_DEPTH = 600  # readings a patient that stay in memory
_TOGETHER = 512  # readings whose tables fit into the processor's cache
_CACHED = 256  # patients whose perturbed states fit into the processor's cache
_ANOMALY_EVERY_S = 10.0
_AS_SENT = [COLUMN["ACVPU"], COLUMN["FIO2"]]
_NAMED_EVENTS = frozenset({"asystole", "vf", "vt", "apnoea"})


class PatientMonitor:
    """State of up to `capacity` patients, stepped in batches.

    `Intake.offer` takes readings at any rate; `step` works through what has arrived; `tick` lets timers run.
    Time is an argument everywhere, in seconds since 1970 UTC.

    Parameters
    ----------
    intake
        Where readings wait; it names their patients.
    capacity
        Patients at a time.
    thresholds
        Alert rules; the bundled ones if not given.
    detectors
        Anomaly detectors that score all patients every ten seconds.
    record, notify
        As for `AlertBook`.
    history
        Called after each pass with patients, times and clean values, to store them.
    risk
        Learned risk of in-hospital death, on vital signs, asked each hour.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        capacity: int = 256,
        thresholds: Thresholds | None = None,
        detectors: Sequence[AnomalyDetector] = (),
        record: Callable[[AlertStep, Alert | None], None] | None = None,
        notify: Callable[[Notice], None] | None = None,
        history: Callable[[Named, Floats, Floats], None] | None = None,
        risk: DeathRisk | None = None,
    ) -> None:
        self.intake = intake
        self.thresholds = thresholds or load_thresholds()
        self.alerts = AlertBook(self.thresholds, record=record, notify=notify)
        self.quality, self.trend = QualityChecks(capacity), TrendFilter(capacity)
        self.changes, self.baseline = ChangeDetector(capacity), PersonalBaseline(capacity)
        self.conditions = Conditions(self.thresholds.rules, capacity)
        self.technical = TechnicalAlarms(capacity, delay_s=self.thresholds.technical_delay_s)
        self.twin, self.ring = LiveTwin(Body(), capacity), Ring(capacity, _DEPTH)
        self.news2_score = np.zeros(capacity)
        self.spo2_scale = np.ones(capacity, dtype=np.intp)
        self.anomaly = np.full((capacity, len(SIGNALS)), np.nan)
        self.detectors = tuple(detectors)
        self.risk = None if risk is None else RiskWatch(risk, capacity)
        self._history = history
        self._patients: list[str | None] = [None] * capacity
        self._rows: dict[str, int] = {}
        self._row_of = np.full(capacity, -1, dtype=np.intp)  # by the intake's number of the patient
        self._free = list(range(capacity - 1, -1, -1))
        self.gone: dict[str, float] = {}
        self._stopped = np.zeros((capacity, 2), dtype=np.bool_)
        self.scored_s = -np.inf
        nobody = np.zeros(0, dtype=np.intp)
        self._use(nobody, np.zeros(0), np.zeros((0, len(VITALS))))  # compiled before anything comes

    @property
    def patients(self) -> Mapping[str, int]:
        """Row of every patient."""
        return self._rows

    def row_of(self, patient: str) -> int:
        """Return a patient's row; raises NotFoundError for one who is not monitored."""
        try:
            return self._rows[patient]
        except KeyError:
            raise NotFoundError(
                "The patient is not monitored.", "No reading has named this patient.", "Admit to a bed first."
            ) from None

    def describe(self, profile: PatientProfile) -> None:
        """Take over what is known of a patient: body, oxygen, scale of the saturation, own limits."""
        row = self._row(profile.patient)
        self.twin.forget(row, profile.body)
        self.twin.oxygen_fraction[row] = profile.oxygen_fraction
        self.spo2_scale[row] = profile.spo2_scale
        self.conditions.set_limits(row, profile.limits)

    def discharge(self, patient: str, *, at_s: float) -> None:
        """Forget a patient: alerts close, the row is made anew, readings from before are dropped."""
        row = self.row_of(patient)
        self.alerts.leave(patient, at_s=at_s)
        del self._rows[patient]
        self._row_of[self._row_of == row] = -1
        self._patients[row] = None
        for part in (self.quality, self.trend, self.changes, self.baseline, self.conditions, self.ring):
            part.forget(row)
        self.technical.forget(row)
        if self.risk is not None:
            self.risk.forget(row)
        self.twin.forget(row, Body())
        self.news2_score[row], self.spo2_scale[row] = 0.0, 1
        self.anomaly[row], self._stopped[row] = np.nan, False
        self.gone[patient] = at_s
        self._free.append(row)

    def step(self) -> int:
        """Work through every reading that has arrived; return how many were used.

        What cannot be used is counted and stops nothing: ``after-discharge``, and ``full`` for a patient
        beyond the capacity.
        """
        arrivals = self.intake.take_all()
        used = 0
        if arrivals is not None:
            rows, arrivals = self._placed(arrivals)
            used = len(rows)
            for chosen in _rounds(rows):
                for start in range(0, len(chosen), _TOGETHER):
                    part = chosen[start : start + _TOGETHER]
                    self._pass(rows[part], arrivals.rows(part))
        self._step_twins()
        return used

    def _placed(self, arrivals: Arrivals) -> tuple[Rows, Arrivals]:
        """Return the row of each reading, without those that cannot be used."""
        patient, names = arrivals.patient, self.intake.patients
        if self.gone:
            gone_s = np.full(len(names), -np.inf)
            for number in np.unique(patient).tolist():
                gone_s[number] = self.gone.get(names[number], -np.inf)
            known = arrivals.time_s > gone_s[patient]
            if not known.all():
                self.intake.counts["after-discharge"] += int(np.count_nonzero(~known))
                arrivals = arrivals.rows(np.flatnonzero(known))
                patient = arrivals.patient
        if len(self._row_of) < len(names):
            more = np.full(max(len(names), 2 * len(self._row_of)) - len(self._row_of), -1, dtype=np.intp)
            self._row_of = np.concatenate([self._row_of, more])
        rows = self._row_of[patient]
        for place in np.flatnonzero(rows < 0).tolist():
            number = int(patient[place])
            name = names[number]
            if self._row_of[number] < 0 and (name in self._rows or self._free):
                self._row_of[number] = self._row(name)
            rows[place] = self._row_of[number]
        fine = rows >= 0
        if not fine.all():
            self.intake.counts["full"] += int(np.count_nonzero(~fine))
            chosen = np.flatnonzero(fine)
            rows, arrivals = rows[chosen], arrivals.rows(chosen)
        return rows, arrivals

    def tick(self, now_s: float) -> None:
        """Let time pass: delays, stale signals, anomaly detectors, escalation."""
        if now_s - self.scored_s >= _ANOMALY_EVERY_S and self._rows:
            self.scored_s = now_s
            rows = np.fromiter(self._rows.values(), dtype=np.intp)
            values = self.quality.shown(now_s)[rows]
            for detector in self.detectors:
                self.anomaly[rows, _ANOMALY[detector.method]] = detector.score(values)
            if self.risk is not None:
                fresh = self.risk.tick(rows, now_s, values)
                self.anomaly[fresh, _RISK] = self.risk.risk[fresh]
        self._step_twins()
        for row, rule in self.conditions.tick(now_s):
            self._raise_rule(row, rule, now_s, None)
        began, ended = self.technical.tick(now_s, self.quality.stale(now_s))
        for row, column in began:
            self._raise_technical(row, column, now_s)
        for row, column in ended:
            self._end(row, f"technical:{VITALS[column].code}", now_s)
        self.alerts.tick(now_s)

    def view(self, patient: str, *, now_s: float) -> dict[str, Any]:
        """Return what the bed's tile shows: status, vital signs, score, twin, open alerts; plain values."""
        row = self.row_of(patient)
        shown = self.quality.shown(now_s)[row]
        return {
            "patient": patient,
            "bed": self.intake.associations.bed_of(patient, now_s) or "",
            "status": self.alerts.status(patient),
            "vitals": {
                each.code: None if np.isnan(shown[n]) else float(shown[n]) for n, each in enumerate(VITALS)
            },
            "news2": float(self.news2_score[row]),
            "alerts": [each.to_dict() for each in self.alerts.open_alerts() if each.patient == patient],
        }

    def place(self, patient: str) -> int:
        """Return a patient's row, a free one for a new patient; raises ConflictError when none is left."""
        return self._row(patient)

    def _row(self, patient: str) -> int:
        row = self._rows.get(patient)
        if row is None:
            if not self._free:
                raise ConflictError(
                    "The patient cannot be monitored.",
                    "The monitor is full.",
                    "Raise its capacity, or discharge patients who have left.",
                )
            row = self._rows[patient] = self._free.pop()
            self._patients[row] = patient
            self.gone.pop(patient, None)
        return row

    def _pass(self, rows: Rows, arrivals: Arrivals) -> None:
        for place in sorted(arrivals.events):
            for event in arrivals.events[place]:
                self._raise_event(int(rows[place]), event, float(arrivals.time_s[place]))
        late = arrivals.time_s < self.trend.time_s[rows]
        if late.any():
            self.intake.counts["late"] += int(np.count_nonzero(late))
            self._keep_late(arrivals.rows(np.flatnonzero(late)))
            fresh = np.flatnonzero(~late)
            rows, arrivals = rows[fresh], arrivals.rows(fresh)
            if not len(fresh):
                return
        clean = self._use(rows, arrivals.time_s, arrivals.values)
        if self._history is not None:
            self._history(Named(arrivals.patient, self.intake.patients), arrivals.time_s, clean)

    def _keep_late(self, arrivals: Arrivals) -> None:
        """Let what is too old for filters and twin go to the history, without values that cannot be any."""
        if self._history is not None:
            patients = Named(arrivals.patient, self.intake.patients)
            self._history(patients, arrivals.time_s, plausible(arrivals.values))

    def _use(self, rows: Rows, time_s: Floats, values: Floats) -> Floats:
        checked = self.quality.step(rows, time_s, values)
        found = self.trend.step(rows, time_s, checked.values)
        changed = self.changes.step(rows, found.innovation, found.nis)
        self.baseline.step(rows, time_s, checked.values)
        self.ring.put(rows, time_s, checked.values)
        self.technical.step(rows, time_s, checked.flags)
        self._stops(rows, time_s, np.stack([checked.asystole, checked.apnoea], axis=1), checked.values)
        score = news2(self._charted(rows), scale=self.spo2_scale[rows]).score
        self.news2_score[rows] = score
        signals = self.anomaly[rows].copy()
        signals[:, : len(VITALS)] = checked.values
        signals[:, _NEWS2], signals[:, _CHANGE] = score, changed.any(axis=1)
        blanked = np.zeros(signals.shape, dtype=np.bool_)
        blanked[:, : len(VITALS)] = (checked.flags != Quality.GOOD) & (checked.flags != Quality.MISSING)
        began, ended = self.conditions.step(rows, time_s, signals, blanked=blanked)
        if began or ended:
            at = dict(zip(rows.tolist(), range(len(rows)), strict=True))
            for row, rule in began:
                value = signals[at[row], SIGNALS[self.conditions.rules[rule].signal]]
                self._raise_rule(row, rule, float(time_s[at[row]]), float(value))
            for row, rule in ended:
                self._end(row, self.conditions.rules[rule].id, float(time_s[at[row]]))
        return checked.values

    def _step_twins(self) -> None:
        """Step the physiology of every patient with new readings; each reading counts once."""
        last, seen = self.twin.time_s, self.trend.time_s
        due = np.flatnonzero(np.isfinite(seen) & ~(seen - last < _TWIN_EVERY_S))
        for start in range(0, len(due), _CACHED):
            rows = due[start : start + _CACHED]
            fresh = self.quality.good_time_s[rows] > np.nan_to_num(last[rows], nan=-np.inf)[:, None]
            values = np.where(fresh, self.quality.good[rows], np.nan)
            self.twin.step(rows, seen[rows], measured(values))

    def _charted(self, rows: Rows) -> Floats:
        """Return what a nurse would chart: filtered levels, and as they are what is no measurement."""
        values = self.trend.level[rows]
        values[:, _AS_SENT] = self.quality.good[rows][:, _AS_SENT]
        return values

    def _stops(self, rows: Rows, time_s: Floats, stops: NDArray[np.bool_], values: Floats) -> None:
        before = self._stopped[rows]
        known = np.isfinite(values[:, [COLUMN["HR"], COLUMN["RR"]]])
        now = np.where(known, stops, before)
        self._stopped[rows] = now
        for place, kind in np.argwhere(now != before):
            name = ("asystole", "apnoea")[kind]
            if now[place, kind]:
                self._raise_event(int(rows[place]), name, float(time_s[place]))
            else:
                self._end(int(rows[place]), f"event:{name}", float(time_s[place]))

    def _raise_event(self, row: int, event: str, at_s: float) -> None:
        name = event if event in _NAMED_EVENTS else "device"
        priority, text = self.thresholds.events[name]
        self._raise(row, Alert(0, "", "", f"event:{event}", priority, text, "event", at_s))

    def _raise_rule(self, row: int, rule: int, at_s: float, value: float | None) -> None:
        limit = self.conditions.rules[rule]
        text = limit.text
        if self.risk is not None and limit.signal == "DEATH_RISK":
            text = f"{text}: {self.risk.told(row)}"
        self._raise(row, Alert(0, "", "", limit.id, limit.priority, text, "clinical", at_s, value=value))

    def _raise_technical(self, row: int, column: int, at_s: float) -> None:
        sign = VITALS[column]
        text = f"{sign.name}: {TEXTS[Quality(int(self.technical.kind[row, column]))]}"
        priority = self.thresholds.technical_priority
        self._raise(row, Alert(0, "", "", f"technical:{sign.code}", priority, text, "technical", at_s))

    def _raise(self, row: int, alert: Alert) -> None:
        patient = self._patients[row]
        if patient is not None:
            alert.patient = patient
            alert.bed = self.intake.associations.bed_of(patient, alert.raised_s) or ""
            self.alerts.raise_alert(alert)

    def _end(self, row: int, key: str, at_s: float) -> None:
        patient = self._patients[row]
        if patient is not None:
            self.alerts.end(patient, key, at_s=at_s)


def _rounds(rows: Rows) -> list[Rows]:
    """Return places so that each patient is at most once in a round, and readings keep their order."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(rows) else order
    if len(first) == len(rows):
        return [np.arange(len(rows))] if len(rows) else []
    turn = np.empty(len(rows), dtype=np.intp)
    sizes = np.diff(np.append(first, len(rows)))
    turn[order] = np.arange(len(rows)) - np.repeat(first, sizes)
    return [np.flatnonzero(turn == each) for each in range(int(sizes.max()))]
