"""What the parts of a divided ward tell each other in their database: associations, readings, requests.

A reading that one part heard of a patient whom another watches is written as mail in the transaction that
makes it durable, and taken out of the mail in the transaction in which the other part journals it: it is
there once, whoever is killed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from digital_twins.monitoring.parts._lease import check_epoch
from digital_twins.monitoring.signals import Association
from digital_twins.monitoring.storage import Line, line_of, reading_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import apsw

    from digital_twins.monitoring.parts._part import WardPart
    from digital_twins.monitoring.signals import Reading
    from digital_twins.storage import Database

_ENCODE = msgspec.msgpack.Encoder().encode
_LINES = msgspec.msgpack.Decoder(list[Line])
_MOST_MAIL = 2000
ANSWERED_S = 60.0
"""An answer that nobody fetched is forgotten after that."""


class Ask(msgspec.Struct, frozen=True):
    """An HTTP request of the ward's front to a part.

    Attributes
    ----------
    name
        Of the request, unique.
    method, path, body
        As it came in.
    member, role
        Who asks.
    until_s
        How long somebody waits for the answer, in seconds since 1970 UTC.
    """

    name: str
    method: str
    path: str
    body: bytes
    member: str
    role: str
    until_s: float


_ASKS = msgspec.msgpack.Decoder(Ask)


class Heard(NamedTuple):
    """What a poll found: new associations, readings with times of arrival by mail number, requests."""

    associations: list[Association]
    readings: list[tuple[int, list[tuple[Reading, float]]]]
    asks: list[tuple[int, Ask]]


class Post(NamedTuple):
    """What one transaction has to write: readings by part, mail that is done with, associations known."""

    readings: list[tuple[int, Reading, float]]
    done: list[int]
    known: int | None


NO_POST = Post([], [], None)


class Exchange:
    """The mail of one part.

    Parameters
    ----------
    database
        Of the ward.
    part
        Number, count and epoch.
    """

    def __init__(self, database: Database, part: WardPart) -> None:
        self._database, self._part = database, part
        self.known = 0
        self._told = -1 if part.count > 1 else 0
        self._out: list[tuple[int, Reading, float]] = []
        self._done: list[int] = []
        self._busy: set[int] = set()

    def poll(self) -> Heard:
        """Return what is new; raises StorageError.

        Mail and associations are of one moment: whoever sent a reading knew no association that is not here.
        """
        with self._database.read() as connection:
            entries = self._news(connection)
            mail = connection.execute(
                "SELECT number, kind, data FROM monitor_mail WHERE part = ? ORDER BY number LIMIT ?",
                (self._part.number, _MOST_MAIL + len(self._busy)),
            ).fetchall()
        readings, asks = [], []
        for number, kind, data in mail:
            place = int(str(number))
            if place in self._busy:
                continue
            self._busy.add(place)
            if str(kind) == "ask":
                asks.append((place, _ASKS.decode(bytes(data))))  # type: ignore[arg-type]
            else:
                lines = _LINES.decode(bytes(data))  # type: ignore[arg-type]
                readings.append((place, [reading_of(line) for line in lines]))
        return Heard(entries, readings, asks)

    def news(self) -> list[Association]:
        """Return the associations that were told since the last call; raises StorageError."""
        with self._database.read() as connection:
            return self._news(connection)

    def _news(self, connection: apsw.Connection) -> list[Association]:
        told = told_since(connection, self.known)
        if told:
            self.known = told[-1][0]
        return [entry for _, entry in told]

    def send(self, part: int, reading: Reading, received_s: float) -> None:
        """Remember a reading for another part until the next transaction."""
        self._out.append((part, reading, received_s))

    def used(self, number: int) -> None:
        """Say that mail was used: it goes in the next transaction."""
        self._done.append(number)

    def unused(self, number: int) -> None:
        """Say that there was no room for mail: it comes again."""
        self._busy.discard(number)

    def take(self) -> Post:
        """Return what waits to be written; give it back with `put_back` if that fails."""
        out, self._out = self._out, []
        done, self._done = self._done, []
        return Post(out, done, self.known if self.known != self._told else None)

    def put_back(self, post: Post) -> None:
        """Remember again what could not be written."""
        self._out[:0] = post.readings
        self._done[:0] = post.done

    def written(self, post: Post) -> None:
        """Say that it is durable."""
        self._busy.difference_update(post.done)
        if post.known is not None:
            self._told = post.known

    def write(self, cursor: apsw.Cursor, post: Post) -> None:
        """Write it inside a transaction; raises PartLostError when the part has gone to another worker."""
        part = self._part
        if part.epoch:
            check_epoch(cursor, part.number, part.epoch)
            if post.known is not None:
                cursor.execute("UPDATE monitor_lease SET seen = ? WHERE part = ?", (post.known, part.number))
        by_part: dict[int, list[Line]] = {}
        for other, reading, received_s in post.readings:
            by_part.setdefault(other, []).append(line_of(reading, received_s))
        send_lines(cursor, by_part)
        forget_mail(cursor, post.done)

    @property
    def sending(self) -> bool:
        """Whether readings wait to be sent."""
        return bool(self._out)

    def answer(self, cursor: apsw.Cursor, number: int, ask: Ask, answer: tuple[int, bytes]) -> None:
        """Write the answer to a request inside a transaction, and forget the request."""
        part, now_s = self._part, time.time()
        if part.epoch:
            check_epoch(cursor, part.number, part.epoch)
        cursor.execute("DELETE FROM monitor_answer WHERE at_s < ?", (now_s - ANSWERED_S,))
        cursor.execute(
            "INSERT INTO monitor_answer(name, status, data, at_s) VALUES (?, ?, ?, ?)"
            " ON CONFLICT(name) DO NOTHING",
            (ask.name, *answer, now_s),
        )
        forget_mail(cursor, [number])


def told_since(reader: apsw.Connection | apsw.Cursor, known: int) -> list[tuple[int, Association]]:
    """Return the associations after the one of a number, with theirs, in the order of telling."""
    rows = reader.execute(
        "SELECT number, kind, subject, target, since_s FROM monitor_association"
        " WHERE number > ? ORDER BY number",
        (known,),
    ).fetchall()
    return [
        (int(str(n)), Association(str(a), str(b), None if c is None else str(c), float(str(d))))
        for n, a, b, c, d in rows
    ]


def send_lines(cursor: apsw.Cursor, by_part: Mapping[int, Sequence[Line]]) -> None:
    """Write readings as mail to parts, inside a transaction."""
    for part, lines in by_part.items():
        cursor.execute(
            "INSERT INTO monitor_mail(part, kind, data) VALUES (?, 'reading', ?)", (part, _ENCODE(lines))
        )


def send_asks(cursor: apsw.Cursor, asks: Iterable[tuple[int, Ask]]) -> None:
    """Write requests as mail to parts, inside a transaction."""
    for part, ask in asks:
        cursor.execute(
            "INSERT INTO monitor_mail(part, kind, data) VALUES (?, 'ask', ?)", (part, _ENCODE(ask))
        )


def forget_mail(cursor: apsw.Cursor, numbers: Sequence[int]) -> None:
    """Take mail away, inside a transaction."""
    if numbers:
        cursor.executemany("DELETE FROM monitor_mail WHERE number = ?", [(each,) for each in numbers])
