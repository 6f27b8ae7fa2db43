"""What leaves the monitor: a durable queue for each receiver, retries, and a record of what arrived."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from digital_twins._errors import ConflictError, DigitalTwinError, StorageError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    import apsw

    from digital_twins.audit import Auditor
    from digital_twins.monitoring.alerts._alert import AlertStep
    from digital_twins.storage import Database

_log = get_logger(__name__)
_POLL_S = 0.25
_RETRY_S = (1.0, 2.0, 5.0, 10.0)
GIVE_UP_S = 3600.0
"""A message that was not delivered by then is of no use: it is recorded as failed, and the next one goes."""
_KEEP_S = 30 * 86_400.0


class NotDeliveredError(ConflictError):
    """A receiver did not take a message.

    Attributes
    ----------
    final
        It refused what was sent: the same again would be refused too.
    """

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__("The message was not delivered.", why, "See whether the receiver answers.")
        self.final = final


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one receiver.

    Attributes
    ----------
    number
        Of the record of delivery.
    step
        As in `AlertStep`, or ``charted`` for readings.
    at_s
        When that was, seconds since 1970 UTC.
    to
        Role for ``told`` and ``escalated``; else empty.
    alert
        As in `Alert.to_dict`; for ``charted`` ``patient`` and ``vitals`` by code.
    name
        ``urn:uuid:`` of the alert, unique over all monitors.
    """

    number: int
    step: str
    at_s: float
    to: str
    alert: dict[str, Any]
    name: str


class Channel(Protocol):
    """A way to a receiver: its name in the record, the steps that go there, and how one is sent."""

    name: str
    steps: frozenset[str]

    def send(self, delivery: Delivery) -> None:
        """Send one message; raises NotDeliveredError. The receiver must bear a repetition."""


def stage_deliveries(
    cursor: apsw.Cursor,
    steps: Iterable[tuple[AlertStep, str | None, bool]],
    wanted: Mapping[str, frozenset[str]],
) -> None:
    """Queue the steps that each channel wants, in the transaction that writes them."""
    rows = [
        (channel, step.alert_id, step.step, step.detail if step.step in {"told", "escalated"} else "",
         step.at_s, text)
        for step, text, _ in steps
        for channel, kinds in wanted.items()
        if text is not None and step.step in kinds
    ]  # fmt: skip
    queue(cursor, rows)


def queue(cursor: apsw.Cursor, rows: Sequence[tuple[str, int, str, str, float, str]]) -> None:
    """Queue messages: channel, alert, step, role, time (s) and the alert as JSON, inside a transaction."""
    if rows:
        cursor.executemany(
            "INSERT INTO monitor_delivery"
            "(channel, alert_id, step, role, at_s, body, attempts, state, problem)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, 'waiting', '')",
            rows,
        )


class Courier:
    """Sends what is queued, a thread for each channel: ``with Courier(database, channels)``.

    Messages of a channel go in order. One that is refused (`NotDeliveredError.final`), or is older than an
    hour, is recorded as failed, in the alert's life as ``undelivered``, and the next one goes.

    Parameters
    ----------
    database
        With `MIGRATIONS`.
    channels
        Where to.
    auditor
        Makes one audit event of each end of a delivery.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(
        self,
        database: Database,
        channels: Sequence[Channel],
        *,
        auditor: Auditor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._auditor, self._clock = database, auditor, clock
        self._ward = ward_identity(database)
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(each,), name=f"courier {each.name}", daemon=True)
            for each in channels
        ]

    def __enter__(self) -> Self:
        oldest_s = self._clock() - _KEEP_S
        self._database.write(
            lambda cursor: cursor.execute(
                "DELETE FROM monitor_delivery WHERE state <> 'waiting' AND at_s < ?", (oldest_s,)
            ).fetchall()
        )
        for each in self._threads:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for each in self._threads:
            each.join(30.0)

    def _work(self, channel: Channel) -> None:
        attempts = 0
        while not self._end.is_set():
            delivery = self._next(channel.name)
            if delivery is None:
                self._end.wait(_POLL_S)
                continue
            attempts += 1
            error = _attempt(channel, delivery)
            late = self._clock() - delivery.at_s >= GIVE_UP_S
            if error is not None and not error.final and not late:
                self._note(delivery, "waiting", error.why, attempts)
                self._end.wait(_RETRY_S[min(attempts, len(_RETRY_S)) - 1])
                continue
            state = "delivered" if error is None else "failed"
            while not self._note(delivery, state, "" if error is None else error.why, attempts, channel.name):
                if self._end.wait(_RETRY_S[-1]):
                    break
            attempts = 0

    def _next(self, channel: str) -> Delivery | None:
        try:
            with self._database.read() as connection:
                row = connection.execute(
                    "SELECT number, step, at_s, role, body, alert_id FROM monitor_delivery"
                    " WHERE channel = ? AND state = 'waiting' ORDER BY number LIMIT 1",
                    (channel,),
                ).fetchone()
        except StorageError as error:
            _log.error("monitor.delivery", what=error.what, why=error.why)
            return None
        if row is None:
            return None
        number, step, at_s, role, body, alert = row
        name = uuid.uuid5(self._ward, f"alert/{alert}").urn
        return Delivery(int(str(number)), str(step), float(str(at_s)), str(role), json.loads(str(body)), name)

    def _note(self, delivery: Delivery, state: str, problem: str, attempts: int, channel: str = "") -> bool:
        """Write what became of a message, its audit event with the end; False: it could not be written."""

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "UPDATE monitor_delivery SET state = ?, attempts = attempts + 1, problem = ?, done_s = ?"
                " WHERE number = ?",
                (state, problem, self._clock(), delivery.number),
            )
            if state == "failed" and delivery.step != "charted":
                cursor.execute(
                    "INSERT INTO monitor_step(alert_id, patient, key, step, at_s, by, detail)"
                    " VALUES (?, ?, ?, 'undelivered', ?, 'monitor', ?)",
                    (delivery.alert["id"], delivery.alert["patient"], delivery.alert["key"], self._clock(),
                     channel),
                )  # fmt: skip
            if self._auditor is not None and channel:
                self._auditor.stage(cursor, self._event(self._auditor, delivery, state, channel, attempts))

        try:
            self._database.write(work)
        except StorageError as error:
            _log.error("monitor.delivery", what=error.what, why=error.why)
            return False
        return True

    @staticmethod
    def _event(auditor: Auditor, delivery: Delivery, state: str, channel: str, attempts: int) -> Any:
        return auditor.event(
            "E",
            f"monitor.delivery.{state}",
            outcome="success" if state == "delivered" else "failure",
            entity=f"Alert/{delivery.alert.get('id', 0)}",
            patient_id=delivery.alert["patient"],
            detail={"channel": channel, "step": delivery.step, "attempts": attempts},
        )


def ward_identity(database: Database) -> uuid.UUID:
    """Return the UUID of a ward; made at first use."""
    made = str(uuid.uuid4())

    def work(cursor: apsw.Cursor) -> str:
        cursor.execute(
            "INSERT INTO monitor_identity(one, ward) VALUES (1, ?) ON CONFLICT(one) DO NOTHING", (made,)
        )
        row = cursor.execute("SELECT ward FROM monitor_identity WHERE one = 1").fetchone()
        return made if row is None else str(row[0])

    return uuid.UUID(database.write(work))


def _attempt(channel: Channel, delivery: Delivery) -> NotDeliveredError | None:
    try:
        channel.send(delivery)
    except NotDeliveredError as error:
        found = error
    except DigitalTwinError as error:
        found = NotDeliveredError(error.why)
    except Exception as error:  # noqa: BLE001  (a receiver's library must not end the courier)
        found = NotDeliveredError(type(error).__name__)
    else:
        return None
    _log.warning("monitor.undelivered", reason=found.why)
    return found
