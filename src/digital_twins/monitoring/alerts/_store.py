"""Alerts and every step of their lives in the database, so that a restart resumes."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from digital_twins.monitoring.alerts._alert import Alert
from digital_twins.monitoring.alerts._delivery import queue, stage_deliveries
from digital_twins.monitoring.signals import Association
from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import apsw

    from digital_twins.audit import AuditEvent, Auditor
    from digital_twins.monitoring.alerts._alert import AlertStep
    from digital_twins.storage import Database

MIGRATIONS = (
    Migration(
        "monitoring.0001.alert",
        """
CREATE TABLE monitor_alert(
    id INTEGER PRIMARY KEY, patient TEXT NOT NULL, open INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX monitor_alert_open ON monitor_alert(open) WHERE open = 1;
CREATE TABLE monitor_step(
    number INTEGER PRIMARY KEY, alert_id INTEGER NOT NULL, patient TEXT NOT NULL, key TEXT NOT NULL,
    step TEXT NOT NULL, at_s REAL NOT NULL, by TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE monitor_association(
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, target TEXT,
    since_s REAL NOT NULL);
""",
        protected=(
            "monitor_alert.patient",
            "monitor_alert.data",
            "monitor_step.patient",
            "monitor_step.detail",
            "monitor_association.subject",
            "monitor_association.target",
        ),
    ),
    Migration(
        "monitoring.0002.parts",
        """
CREATE TABLE monitor_journal(number INTEGER PRIMARY KEY, part INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX monitor_journal_part ON monitor_journal(part, number);
CREATE TABLE monitor_snapshot(part INTEGER PRIMARY KEY, at_s REAL NOT NULL, data BLOB NOT NULL);
CREATE TABLE monitor_sample(
    number INTEGER PRIMARY KEY, part INTEGER NOT NULL, until_s REAL NOT NULL, kept INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE INDEX monitor_sample_part ON monitor_sample(part, until_s);
CREATE TABLE monitor_shape(one INTEGER PRIMARY KEY, parts INTEGER NOT NULL);
""",
        protected=(
            "monitor_journal.data",
            "monitor_snapshot.data",
            "monitor_sample.data",
        ),
    ),
    Migration(
        "monitoring.0003.delivery",
        """
CREATE TABLE monitor_delivery(
    number INTEGER PRIMARY KEY, channel TEXT NOT NULL, alert_id INTEGER NOT NULL, step TEXT NOT NULL,
    role TEXT NOT NULL, at_s REAL NOT NULL, body TEXT NOT NULL, attempts INTEGER NOT NULL,
    state TEXT NOT NULL, problem TEXT NOT NULL, done_s REAL);
CREATE INDEX monitor_delivery_waiting ON monitor_delivery(channel, number) WHERE state = 'waiting';
CREATE TABLE monitor_identity(one INTEGER PRIMARY KEY, ward TEXT NOT NULL);
""",
        protected=("monitor_delivery.body",),
    ),
    Migration(
        "monitoring.0004.workers",
        """
CREATE TABLE monitor_worker(owner TEXT PRIMARY KEY, beat INTEGER NOT NULL);
CREATE TABLE monitor_lease(
    part INTEGER PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, seen INTEGER NOT NULL);
CREATE TABLE monitor_mail(
    number INTEGER PRIMARY KEY, part INTEGER NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX monitor_mail_part ON monitor_mail(part, number);
CREATE TABLE monitor_answer(
    name TEXT PRIMARY KEY, status INTEGER NOT NULL, data BLOB NOT NULL, at_s REAL NOT NULL);
CREATE TABLE monitor_plan(one INTEGER PRIMARY KEY, plan TEXT NOT NULL);
""",
        protected=(
            "monitor_mail.data",
            "monitor_answer.data",
        ),
    ),
)


class AlertStore:
    """What must outlive the process: alerts, their steps, and the associations.

    Parameters
    ----------
    database
        Opened with `MIGRATIONS`, and with those of the audit outbox for an auditor.
    auditor
        Makes one audit event of every step, staged in the step's own transaction.
    outgoing
        Steps that go to each channel of a `Courier`, queued in the step's own transaction.
    """

    def __init__(
        self,
        database: Database,
        *,
        auditor: Auditor | None = None,
        outgoing: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._database, self._auditor, self._outgoing = database, auditor, outgoing or {}
        self._pending: list[tuple[AlertStep, str | None, bool]] = []
        self._guard = threading.Lock()

    def record(self, step: AlertStep, alert: Alert | None) -> None:
        """Remember one step until `flush`; the signature that `AlertBook` calls."""
        text = None if alert is None else json.dumps(alert.to_dict())
        with self._guard:
            self._pending.append((step, text, alert is not None and alert.closed_s is None))

    def take(self) -> list[tuple[AlertStep, str | None, bool]]:
        """Return the steps that wait, for `write`; give them back with `put_back` if that fails."""
        with self._guard:
            taken, self._pending = self._pending, []
        return taken

    def put_back(self, steps: list[tuple[AlertStep, str | None, bool]]) -> None:
        """Remember steps again, before the later ones."""
        with self._guard:
            self._pending[:0] = steps

    def write(self, cursor: apsw.Cursor, steps: Sequence[tuple[AlertStep, str | None, bool]]) -> None:
        """Write steps, the alerts after them and their audit events, inside a transaction."""
        from digital_twins.audit import stage_all

        for step, text, is_open in steps:
            cursor.execute(
                "INSERT INTO monitor_step(alert_id, patient, key, step, at_s, by, detail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (step.alert_id, step.patient, step.key, step.step, step.at_s, step.by, step.detail),
            )
            if text is not None:
                cursor.execute(
                    "INSERT INTO monitor_alert(id, patient, open, data) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT(id) DO UPDATE SET open = excluded.open, data = excluded.data",
                    (step.alert_id, step.patient, int(is_open), text),
                )
        stage_deliveries(cursor, steps, self._outgoing)
        if self._auditor is not None and steps:
            stage_all(cursor, [self._event(self._auditor, step) for step, _, _ in steps])

    def flush(self) -> int:
        """Write what is remembered in one durable transaction; return how many steps.

        Raises
        ------
        StorageError
            It could not be made durable; it is kept for the next call.
        """
        steps = self.take()
        if not steps:
            return 0
        try:
            self._database.write(lambda cursor: self.write(cursor, steps))
        except BaseException:
            self.put_back(steps)
            raise
        return len(steps)

    def open_alerts(self, *, part: int = 0, parts: int = 1) -> tuple[list[Alert], int]:
        """Return the alerts that were open, and the next free number.

        Parameters
        ----------
        part, parts
            Only alerts whose number leaves this remainder: each part of a ward counts in its own.
        """
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT data FROM monitor_alert WHERE open = 1 AND id % ? = ? ORDER BY id", (parts, part)
            ).fetchall()
            last = connection.execute(
                "SELECT max(id) FROM monitor_alert WHERE id % ? = ?", (parts, part)
            ).fetchone()
        highest = int(str(last[0])) if last is not None and last[0] is not None else part
        return [Alert.from_dict(json.loads(str(row[0]))) for row in rows], highest + parts

    def closed_alerts(self, *, since_s: float, part: int = 0, parts: int = 1) -> list[Alert]:
        """Return the alerts that closed after a time (s), of the last thousand, as for `open_alerts`."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT data FROM monitor_alert WHERE open = 0 AND id % ? = ? ORDER BY id DESC LIMIT 1000",
                (parts, part),
            ).fetchall()
        found = [Alert.from_dict(json.loads(str(row[0]))) for row in rows]
        return [each for each in reversed(found) if (each.closed_s or 0.0) >= since_s]

    @staticmethod
    def _event(auditor: Auditor, step: AlertStep) -> AuditEvent:
        who = auditor if step.by == "monitor" else auditor.acting(step.by)
        detail: dict[str, str | int] = {"key": step.key}
        if step.detail:
            detail["detail"] = step.detail
        return who.event(
            "C" if step.step == "raised" else "U" if step.by != "monitor" else "E",
            f"monitor.alert.{step.step}",
            entity=f"Alert/{step.alert_id}",
            patient_id=step.patient,
            detail=detail,
        )

    def chart(self, at_s: float, patients: Sequence[tuple[str, Mapping[str, float | None]]]) -> None:
        """Queue readings, by patient and code, for the channels that want them; raises StorageError."""
        rows = [
            (channel, 0, "charted", "", at_s, json.dumps({"patient": patient, "vitals": values}))
            for channel, kinds in self._outgoing.items()
            if "charted" in kinds
            for patient, values in patients
        ]
        self._database.write(lambda cursor: queue(cursor, rows))

    def deliveries(self, alert_id: int) -> list[tuple[str, str, str, int]]:
        """Return channel, step, state (waiting, delivered, failed) and attempts of an alert's messages."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT channel, step, state, attempts FROM monitor_delivery WHERE alert_id = ?"
                " ORDER BY number",
                (alert_id,),
            ).fetchall()
        return [(str(a), str(b), str(c), int(str(d))) for a, b, c, d in rows]

    def steps(self, alert_id: int) -> list[tuple[str, float, str, str]]:
        """Return step, time, person and detail of an alert's life, in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT step, at_s, by, detail FROM monitor_step WHERE alert_id = ? ORDER BY number",
                (alert_id,),
            ).fetchall()
        return [(str(a), float(str(b)), str(c), str(d)) for a, b, c, d in rows]

    def save_association(self, entry: Association) -> None:
        """Write one association durably."""
        self._database.write(
            lambda cursor: cursor.execute(
                "INSERT INTO monitor_association(kind, subject, target, since_s) VALUES (?, ?, ?, ?)",
                (entry.kind, entry.subject, entry.target, entry.since_s),
            ).fetchall()
        )

    def associations(self) -> list[Association]:
        """Return the associations in the order in which they were told."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT kind, subject, target, since_s FROM monitor_association ORDER BY number"
            ).fetchall()
        return [
            Association(str(a), str(b), None if c is None else str(c), float(str(d))) for a, b, c, d in rows
        ]
