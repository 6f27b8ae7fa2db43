"""Alerts and every step of their lives in SQLite, so that a restart resumes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from digital_twins.monitoring._alert import Alert
from digital_twins.monitoring._association import Association
from digital_twins.storage import Migration

if TYPE_CHECKING:
    import apsw

    from digital_twins.monitoring._alert import AlertStep
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
    ),
)


class AlertStore:
    """What must outlive the process: alerts, their steps, and the associations.

    Parameters
    ----------
    database
        Opened with `MIGRATIONS`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: list[tuple[AlertStep, str | None, bool]] = []

    def record(self, step: AlertStep, alert: Alert | None) -> None:
        """Remember one step until `flush`; the signature that `AlertBook` calls."""
        text = None if alert is None else json.dumps(alert.to_dict())
        self._pending.append((step, text, alert is not None and alert.closed_s is None))

    def flush(self) -> int:
        """Write what is remembered in one durable transaction; return how many steps.

        Raises
        ------
        StorageError
            It could not be made durable; it is kept for the next call.
        """
        pending = self._pending
        if not pending:
            return 0

        def work(cursor: apsw.Cursor) -> None:
            for step, text, is_open in pending:
                cursor.execute(
                    "INSERT INTO monitor_step(alert_id, patient, key, step, at_s, by, detail)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (step.alert_id, step.patient, step.key, step.step, step.at_s, step.by, step.detail),
                )
                if text is not None:
                    cursor.execute(
                        "INSERT OR REPLACE INTO monitor_alert(id, patient, open, data) VALUES (?, ?, ?, ?)",
                        (step.alert_id, step.patient, int(is_open), text),
                    )

        self._database.write(work)
        self._pending = []
        return len(pending)

    def open_alerts(self) -> tuple[list[Alert], int]:
        """Return the alerts that were open, and the next free number."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT data FROM monitor_alert WHERE open = 1 ORDER BY id").fetchall()
            last = connection.execute("SELECT max(id) FROM monitor_alert").fetchone()
        highest = int(last[0] or 0) if last is not None else 0
        return [Alert.from_dict(json.loads(str(row[0]))) for row in rows], highest + 1

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
        """Return all associations in the order in which they were told."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT kind, subject, target, since_s FROM monitor_association ORDER BY number"
            ).fetchall()
        return [
            Association(str(a), str(b), None if c is None else str(c), float(str(d))) for a, b, c, d in rows
        ]
