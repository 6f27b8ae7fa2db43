"""Workitems (Unified Procedure Steps) in the database, with subscriptions and the events that wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from digital_twins._errors import ConflictError, NotFoundError
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom import _ups_model as ups
from digital_twins.dicom._json_match import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import apsw

    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._ups_model import Model

_MAX_WAITING = 10_000
"""Events kept for a subscriber who does not listen; the oldest are dropped."""
_CANCEL_TIME = "00404052"


@dataclass(frozen=True, slots=True)
class Changed:
    """What a write did.

    Attributes
    ----------
    subscribers
        Those for whom an event was queued.
    warning
        Text for a Warning header, '' for none.
    """

    uid: str
    subscribers: tuple[str, ...] = ()
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A matching key: path of tags, and the value as DICOM writes it."""

    path: tuple[str, ...]
    value: str


class Workitems:
    """Workitems, their subscribers, and the events that wait for them.

    Every write is one transaction with its one audit event.
    """

    def __init__(self, store: DicomStore) -> None:
        self._store = store

    def create(self, model: Model, uid: str, *, agent: str) -> Changed:
        """Keep a new workitem; raises InputError for an unfit one and ConflictError when the UID is taken."""
        ups.check_new(model)
        kept = {
            **model,
            ups.SOP_UID: {"vr": "UI", "Value": [uid]},
            ups.SOP_CLASS: {"vr": "UI", "Value": [ups.PUSH_CLASS]},
        }
        kept.pop(ups.TRANSACTION, None)

        def write(cursor: apsw.Cursor) -> Changed:
            if cursor.execute("SELECT 1 FROM dicom_workitem WHERE uid = ?", (uid,)).fetchone():
                raise ConflictError(
                    "The workitem cannot be created.",
                    "A workitem with this UID exists already.",
                    "Use another UID, or update the existing workitem.",
                )
            cursor.execute(
                "INSERT INTO dicom_workitem (uid, state, transaction_uid, model) VALUES (?, ?, '', ?)",
                (uid, ups.SCHEDULED, orjson.dumps(kept)),
            )
            for subscriber, lock, conditions in self._global(cursor):
                if _fits(kept, conditions):
                    _subscribe(cursor, uid, subscriber, lock=lock)
            self._audit(cursor, "C", "dicom.workitem.create", agent, kept)
            return Changed(uid, _notify(cursor, kept, uid, ups.STATE_REPORT))

        return self._store.database.write(write)

    def get(self, uid: str) -> Model:
        """Return a workitem without its Transaction UID; raises NotFoundError."""
        with self._store.database.read() as connection:
            return _row(connection.cursor(), uid)[0]

    def search(self, conditions: Sequence[Condition], *, limit: int, offset: int) -> tuple[list[Model], bool]:
        """Return workitems that match, oldest first, and whether there are more behind the limit."""
        found: list[Model] = []
        with self._store.database.read() as connection:
            rows: Any = connection.execute("SELECT model FROM dicom_workitem ORDER BY id")
            for (raw,) in rows:
                model: Model = orjson.loads(raw)
                if _fits(model, conditions):
                    found.append(model)
                if len(found) > offset + limit:
                    break
        return found[offset : offset + limit], len(found) > offset + limit

    def update(self, uid: str, changes: Model, transaction: str, *, agent: str) -> Changed:
        """Change attributes of a workitem.

        Raises
        ------
        NotFoundError, InputError, ConflictError
            Not there; a wrong Transaction UID or fixed attributes; ended already.
        """
        ups.check_update(changes)

        def change(model: Model, state: str, owner: str) -> tuple[str, str, Sequence[int], str]:
            ups.check_owner(state, owner, transaction)
            before = {tag: model.get(tag) for tag in (ups.READINESS, ups.PROGRESS, ups.PERFORMER)}
            model.update(changes)
            kinds = {
                ups.READINESS: ups.STATE_REPORT,
                ups.PROGRESS: ups.PROGRESS_REPORT,
                ups.PERFORMER: ups.ASSIGNED,
            }
            events = [kind for tag, kind in kinds.items() if model.get(tag) != before[tag]]
            return state, owner, events, ""

        return self._change(uid, change, "dicom.workitem.update", agent)

    def change_state(self, uid: str, to: str, transaction: str, *, agent: str) -> Changed:
        """Claim, complete or cancel a workitem.

        Raises
        ------
        NotFoundError, InputError, ConflictError
            As `digital_twins.dicom._ups_model.check_transition` says.
        """

        def change(model: Model, state: str, owner: str) -> tuple[str, str, Sequence[int], str]:
            if not ups.check_transition(model, state, owner, to=to, transaction=transaction):
                return state, owner, (), f"The UPS is already in the requested state of {to}."
            model[ups.STATE] = {"vr": "CS", "Value": [to]}
            if to == ups.CANCELED:
                _note_cancellation(model, {})
            return to, transaction, (ups.STATE_REPORT,), ""

        return self._change(uid, change, "dicom.workitem.state", agent)

    def request_cancel(self, uid: str, request: Model, *, agent: str) -> Changed:
        """Cancel a workitem that nobody performs; ask the performer of one in progress by an event.

        Raises
        ------
        NotFoundError, ConflictError
            Not there; completed already.
        """

        def change(model: Model, state: str, owner: str) -> tuple[str, str, Sequence[int], str]:
            if state == ups.COMPLETED:
                ups.check_owner(state, owner, "")
            if state == ups.CANCELED:
                return state, owner, (), "The UPS is already in the requested state of CANCELED."
            if state == ups.IN_PROGRESS:
                return state, owner, (ups.CANCEL_REQUESTED,), ""
            model[ups.STATE] = {"vr": "CS", "Value": [ups.CANCELED]}
            _note_cancellation(model, ups.cancel_details(request))
            return ups.CANCELED, owner, (ups.STATE_REPORT,), ""

        return self._change(uid, change, "dicom.workitem.cancel", agent, extra=ups.cancel_details(request))

    def subscribe(
        self, uid: str, subscriber: str, *, lock: bool, conditions: Sequence[Condition], agent: str
    ) -> Changed:
        """Send the events of one workitem, of all, or of those that match; raises NotFoundError."""

        def write(cursor: apsw.Cursor) -> Changed:
            if uid in {ups.GLOBAL, ups.FILTERED}:
                keys = orjson.dumps([(c.path, c.value) for c in conditions]).decode()
                cursor.execute(
                    "INSERT INTO dicom_workitem_global (subscriber, deletion_lock, conditions)"
                    " VALUES (?, ?, ?) ON CONFLICT (subscriber) DO UPDATE SET"
                    " deletion_lock = excluded.deletion_lock, conditions = excluded.conditions",
                    (subscriber, int(lock), keys),
                )
                rows: list[Any] = cursor.execute("SELECT uid, model FROM dicom_workitem").fetchall()
                for known, raw in rows:
                    if _fits(orjson.loads(raw), conditions):
                        _subscribe(cursor, known, subscriber, lock=lock)
                self._audit(cursor, "C", "dicom.workitem.subscribe", agent, {})
                return Changed(uid)
            model = _row(cursor, uid)[0]
            _subscribe(cursor, uid, subscriber, lock=lock)
            # A new subscriber learns the present state at once (PS3.4 section CC.2.3.3).
            _queue(cursor, subscriber, ups.event(model, uid, ups.STATE_REPORT))
            self._audit(cursor, "C", "dicom.workitem.subscribe", agent, model)
            return Changed(uid, (subscriber,))

        return self._store.database.write(write)

    def unsubscribe(self, uid: str, subscriber: str, *, suspend: bool, agent: str) -> Changed:
        """End a subscription; `suspend` ends only the taking of new workitems by a global one."""

        def write(cursor: apsw.Cursor) -> Changed:
            model: Model = {}
            if uid in {ups.GLOBAL, ups.FILTERED}:
                cursor.execute("DELETE FROM dicom_workitem_global WHERE subscriber = ?", (subscriber,))
                if not suspend:
                    cursor.execute(
                        "DELETE FROM dicom_workitem_subscriber WHERE subscriber = ?", (subscriber,)
                    )
            else:
                model = _row(cursor, uid)[0]
                cursor.execute(
                    "DELETE FROM dicom_workitem_subscriber WHERE subscriber = ? AND workitem = ?",
                    (subscriber, uid),
                )
            self._audit(cursor, "D", "dicom.workitem.unsubscribe", agent, model)
            return Changed(uid)

        return self._store.database.write(write)

    def waiting(self, subscriber: str, after: int) -> list[tuple[int, bytes]]:
        """Return number and body of the events that wait for a subscriber, oldest first."""
        with self._store.database.read() as connection:
            rows: list[Any] = connection.execute(
                "SELECT id, body FROM dicom_workitem_event WHERE subscriber = ? AND id > ?"
                " ORDER BY id LIMIT 100",
                (subscriber, after),
            ).fetchall()
        return [(int(number), bytes(body)) for number, body in rows]

    def delivered(self, subscriber: str, up_to: int) -> None:
        """Forget the events that were sent."""
        self._store.database.write(
            lambda cursor: (
                cursor.execute(
                    "DELETE FROM dicom_workitem_event WHERE subscriber = ? AND id <= ?", (subscriber, up_to)
                )
                and None
            )
        )

    def _change(
        self,
        uid: str,
        change: Callable[[Model, str, str], tuple[str, str, Sequence[int], str]],
        kind: str,
        agent: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Changed:
        def write(cursor: apsw.Cursor) -> Changed:
            model, state, owner = _row(cursor, uid)
            state, owner, events, warning = change(model, state, owner)
            cursor.execute(
                "UPDATE dicom_workitem SET state = ?, transaction_uid = ?, model = ? WHERE uid = ?",
                (state, owner, orjson.dumps(model), uid),
            )
            told: set[str] = set()
            for event in events:
                details = extra if event == ups.CANCEL_REQUESTED else None
                told |= set(_notify(cursor, model, uid, event, details))
            self._audit(cursor, "U", kind, agent, model)
            return Changed(uid, tuple(sorted(told)), warning)

        return self._store.database.write(write)

    def _global(self, cursor: apsw.Cursor) -> list[tuple[str, bool, list[Condition]]]:
        rows: list[Any] = cursor.execute(
            "SELECT subscriber, deletion_lock, conditions FROM dicom_workitem_global"
        ).fetchall()
        return [
            (name, bool(lock), [Condition(tuple(path), value) for path, value in orjson.loads(raw)])
            for name, lock, raw in rows
        ]

    def _audit(
        self, cursor: apsw.Cursor, action: Literal["C", "U", "D"], kind: str, agent: str, model: Model
    ) -> None:
        stage(
            cursor,
            AuditEvent(
                action=action,
                kind=kind,
                outcome="success",
                agent=agent,
                entity=ups.first(model, ups.SOP_UID) or None,
                patient=self._store.pseudonym(ups.first(model, ups.PATIENT_ID)),
                detail={"state": ups.first(model, ups.STATE)} if model else {},
            ),
        )


def _row(cursor: apsw.Cursor, uid: str) -> tuple[Model, str, str]:
    row: Any = cursor.execute(
        "SELECT model, state, transaction_uid FROM dicom_workitem WHERE uid = ?", (uid,)
    ).fetchone()
    if row is None:
        raise NotFoundError(
            "The workitem is not here.", "No workitem with that UID was created.", "Search /workitems for it."
        )
    return orjson.loads(row[0]), row[1], row[2]


def _fits(model: Model, conditions: Sequence[Condition]) -> bool:
    return all(matches(model, condition.path, condition.value) for condition in conditions)


def _subscribe(cursor: apsw.Cursor, uid: str, subscriber: str, *, lock: bool) -> None:
    cursor.execute(
        "INSERT INTO dicom_workitem_subscriber (workitem, subscriber, deletion_lock)"
        " VALUES (?, ?, ?) ON CONFLICT (workitem, subscriber) DO UPDATE SET"
        " deletion_lock = excluded.deletion_lock",
        (uid, subscriber, int(lock)),
    )


def _notify(
    cursor: apsw.Cursor, model: Model, uid: str, kind: int, extra: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    rows: list[Any] = cursor.execute(
        "SELECT subscriber FROM dicom_workitem_subscriber WHERE workitem = ? ORDER BY 1", (uid,)
    ).fetchall()
    body = ups.event(model, uid, kind, extra)
    for (subscriber,) in rows:
        _queue(cursor, subscriber, body)
    return tuple(row[0] for row in rows)


def _queue(cursor: apsw.Cursor, subscriber: str, body: Model) -> None:
    cursor.execute(
        "INSERT INTO dicom_workitem_event (subscriber, body) VALUES (?, ?)", (subscriber, orjson.dumps(body))
    )
    cursor.execute(
        "DELETE FROM dicom_workitem_event WHERE subscriber = ?1 AND id <="
        " (SELECT id FROM dicom_workitem_event WHERE subscriber = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        (subscriber, _MAX_WAITING),
    )


def _note_cancellation(model: Model, details: Model) -> None:
    """Write when and why a workitem was cancelled into its progress (PS3.4 section CC.2.2.2)."""
    progress = (ups.items(model, ups.PROGRESS) or [{}])[0]
    now = datetime.now(tz=UTC).strftime("%Y%m%d%H%M%S")
    progress.setdefault(_CANCEL_TIME, {"vr": "DT", "Value": [now]})
    progress.update(details)
    model[ups.PROGRESS] = {"vr": "SQ", "Value": [progress]}
