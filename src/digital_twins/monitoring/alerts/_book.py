"""The open alerts: raise once, tell, escalate on timers, acknowledge, shelve, close; each step is recorded.

Time comes in as an argument, never from a clock. Acknowledging here says that somebody knows; it never
silences the bedside.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.monitoring.alerts._alert import Alert, AlertStep, Notice
from digital_twins.monitoring.alerts._thresholds import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from digital_twins.monitoring.alerts._thresholds import Thresholds


class AlertBook:
    """Alerts of all patients.

    Parameters
    ----------
    thresholds
        Escalation, times and roles.
    record
        Called with every step and the alert after it; None for a shelf without an alert.
    notify
        Called with every notice. What it raises is recorded as an undelivered notice and stops nothing.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        *,
        record: Callable[[AlertStep, Alert | None], None] | None = None,
        notify: Callable[[Notice], None] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self._record_step = record
        self._notify = notify
        self._open: dict[tuple[str, str], Alert] = {}
        self._ended: dict[tuple[str, str], Alert] = {}
        self._shelves: dict[tuple[str, str], float] = {}
        self._wanted: dict[tuple[str, str], Alert] = {}
        self._next = self._stride = 1

    def number(self, first: int, stride: int) -> None:
        """Give out the numbers `first`, `first + stride` and so on: parts of a ward share one counting."""
        self._next, self._stride = first, stride

    def restore(self, alerts: Iterable[Alert], *, next_id: int) -> None:
        """Take over the open alerts of a monitor that stopped."""
        for alert in alerts:
            self._open[alert.patient, alert.key] = alert
        self._next = max(self._next, next_id)

    def remember(self, closed: Iterable[Alert]) -> None:
        """Take over alerts that closed a moment ago: the same cause within ``dedup_s`` opens them again."""
        for alert in closed:
            self._ended[alert.patient, alert.key] = alert

    def shelves(self) -> list[tuple[str, str, float, dict[str, Any] | None]]:
        """Return patient, rule, end (s) and the alert that waits behind it of every shelf."""
        return [
            (*place, until, self._wanted[place].to_dict() if place in self._wanted else None)
            for place, until in self._shelves.items()
        ]

    def resume_shelves(self, shelves: Iterable[tuple[str, str, float, dict[str, Any] | None]]) -> None:
        """Take over what `shelves` returned."""
        for patient, key, until, alert in shelves:
            self._shelves[patient, key] = until
            if alert is not None:
                self._wanted[patient, key] = Alert.from_dict(alert)

    def open_alerts(self) -> list[Alert]:
        """Return what is open, the most urgent first, then the latest."""
        return sorted(self._open.values(), key=lambda each: (-each.priority, -each.raised_s, each.id))

    def status(self, patient: str) -> str:
        """Return ``critical`` (an open high alert), ``warning`` (another clinical one) or ``normal``."""
        own = [each for each in self._open.values() if each.patient == patient and each.kind != "technical"]
        if any(each.priority == Priority.HIGH for each in own):
            return "critical"
        return "warning" if own else "normal"

    def raise_alert(self, alert: Alert) -> Alert | None:
        """Open an alert; its id is given here. None when its rule is shelved for the patient.

        The cause of an open alert, or of one that closed less than ``dedup_s`` ago, is the same alert.
        """
        place, at_s = (alert.patient, alert.key), alert.raised_s
        if self._shelves.get(place, 0.0) > at_s and alert.kind != "event":
            self._wanted[place] = alert
            return None
        known = self._open.get(place) or self._recent(place, at_s)
        if known is not None:
            return self._again(known, alert)
        alert.id, self._next, alert.told_from_s = self._next, self._next + self._stride, at_s
        self._open[place] = alert
        self._record(alert, "raised", at_s)
        self._escalate(alert, at_s)
        return alert

    def end(self, patient: str, key: str, *, at_s: float) -> None:
        """Say that a cause has gone; the alert closes, an event's only once it is acknowledged."""
        self._wanted.pop((patient, key), None)
        alert = self._open.get((patient, key))
        if alert is None or not alert.active:
            return
        alert.active, alert.ended_s = False, at_s
        self._record(alert, "ended", at_s)
        if alert.kind != "event" or alert.acknowledged_s is not None:
            self._close(alert, at_s)

    def acknowledge(self, alert_id: int, *, by: str, role: str, at_s: float) -> Alert:
        """Say that somebody knows of an alert; escalation stops.

        Raises
        ------
        NotFoundError
            There is no such open alert.
        InputError
            The role may not acknowledge.
        """
        alert = self._find(alert_id)
        self._check_role(role)
        if alert.acknowledged_s is None:
            alert.acknowledged_s, alert.acknowledged_by = at_s, by
            self._record(alert, "acknowledged", at_s, by=by, detail=role)
            if not alert.active:
                self._close(alert, at_s)
        return alert

    def shelve(self, patient: str, key: str, *, by: str, role: str, at_s: float, for_s: float) -> None:
        """Keep a rule quiet for a patient for some time; it is told at the end if the cause still holds.

        Raises
        ------
        ConflictError
            The alarm is never suppressed: an event, or one of high priority.
        InputError
            The role may not, or the time is not within ``longest_shelf_s``.
        """
        self._check_role(role)
        alert = self._open.get((patient, key))
        high = {rule.id for rule in self.thresholds.rules if rule.priority == Priority.HIGH}
        if key.startswith("event:") or key in high:
            raise ConflictError(
                "The alarm was not shelved.",
                "Alarms of high priority and those of devices are never suppressed.",
                "Acknowledge it instead.",
            )
        if not 0 < for_s <= self.thresholds.longest_shelf_s:
            raise InputError(
                "The alarm was not shelved.",
                f"The time is not within {self.thresholds.longest_shelf_s:g} seconds.",
                "Choose a shorter time.",
            )
        self._shelves[patient, key] = at_s + for_s
        if alert is not None:
            self._wanted[patient, key] = copy.copy(alert)
            self._record(alert, "shelved", at_s, by=by, detail=f"{for_s:g} s")
            self._close(alert, at_s)
            self._ended.pop((patient, key), None)
        elif self._record_step is not None:
            self._record_step(AlertStep(0, patient, key, "shelved", at_s, by, f"{for_s:g} s"), None)

    def tick(self, at_s: float) -> None:
        """Let timers run: escalation, telling again, the ends of shelves."""
        for alert in list(self._open.values()):
            if alert.acknowledged_s is None:
                self._escalate(alert, at_s)
            elif alert.active and at_s - alert.acknowledged_s >= self.thresholds.renotify_s:
                alert.acknowledged_s, alert.acknowledged_by, alert.level = None, "", 0
                alert.told_from_s = at_s
                self._record(alert, "told-again", at_s)
                self._escalate(alert, at_s)
        for place, until in list(self._shelves.items()):
            if at_s >= until:
                del self._shelves[place]
                wanted = self._wanted.pop(place, None)
                if wanted is not None:
                    wanted.raised_s, wanted.level, wanted.closed_s, wanted.active = at_s, 0, None, True
                    wanted.acknowledged_s, wanted.acknowledged_by, wanted.ended_s = None, "", None
                    self.raise_alert(wanted)
        for place, alert in list(self._ended.items()):
            if at_s - (alert.closed_s or 0.0) > self.thresholds.dedup_s:
                del self._ended[place]

    def leave(self, patient: str, *, at_s: float) -> None:
        """Close everything of a patient who was discharged."""
        for alert in [each for each in self._open.values() if each.patient == patient]:
            self._close(alert, at_s, detail="patient left")
        tables: tuple[dict[tuple[str, str], Any], ...] = (self._shelves, self._wanted, self._ended)
        for table in tables:
            for place in [each for each in table if each[0] == patient]:
                del table[place]

    def _recent(self, place: tuple[str, str], at_s: float) -> Alert | None:
        alert = self._ended.get(place)
        if alert is None or at_s - (alert.closed_s or 0.0) > self.thresholds.dedup_s:
            return None
        del self._ended[place]
        alert.closed_s = None
        self._open[place] = alert
        return alert

    def _again(self, known: Alert, alert: Alert) -> Alert:
        if not known.active or alert.kind == "event":
            known.active, known.ended_s, known.repeats = True, None, known.repeats + 1
            known.value = alert.value
            self._record(known, "repeated", alert.raised_s)
        return known

    def _escalate(self, alert: Alert, at_s: float) -> None:
        steps = self.thresholds.escalation.get(alert.priority, ())
        while alert.level < len(steps) and at_s - alert.told_from_s >= steps[alert.level].after_s:
            step = steps[alert.level]
            alert.level += 1
            self._record(alert, "told" if alert.level == 1 else "escalated", at_s, detail=step.to)
            self._tell(alert, step.to, at_s)

    def _tell(self, alert: Alert, to: str, at_s: float) -> None:
        if self._notify is None:
            return
        try:
            self._notify(Notice(alert.to_dict(), to, at_s))
        except Exception as error:  # noqa: BLE001  (a messenger that fails must not stop the monitor)
            self._record(alert, "undelivered", at_s, detail=type(error).__name__)

    def _close(self, alert: Alert, at_s: float, *, detail: str = "") -> None:
        place = (alert.patient, alert.key)
        self._open.pop(place, None)
        alert.closed_s = at_s
        self._ended[place] = alert
        self._record(alert, "closed", at_s, detail=detail)

    def _find(self, alert_id: int) -> Alert:
        for alert in self._open.values():
            if alert.id == alert_id:
                return alert
        raise NotFoundError(
            "The alert is not open.", "It has closed, or its number is wrong.", "Look at the list of alerts."
        )

    def _check_role(self, role: str) -> None:
        if role not in self.thresholds.may_acknowledge:
            raise InputError(
                "The alert was not changed.",
                "The role may not acknowledge alerts.",
                f"Ask one of: {', '.join(sorted(self.thresholds.may_acknowledge))}.",
            )

    def _record(self, alert: Alert, step: str, at_s: float, *, by: str = "monitor", detail: str = "") -> None:
        if self._record_step is not None:
            self._record_step(AlertStep(alert.id, alert.patient, alert.key, step, at_s, by, detail), alert)
