"""ADT messages as moves in the bed book, in the transaction that stores the message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins.hl7v2._errors import missing
from digital_twins.hl7v2._values import SiteMapping, identifiers, instant, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from digital_twins.hl7v2._message import Message, Segment
    from digital_twins.records import BedBook

_MOVES = {"A01", "A02", "A04"}


def move_beds(cursor: apsw.Cursor, book: BedBook, message: Message, *, mapping: SiteMapping) -> None:
    """Move the patients of an ADT message in the bed book.

    A01, A02 and A04 put the patient into the bed of PV1-3, A17 both patients into theirs (or swaps their beds
    where it names none), A03 ends the stay, A11 and A12
    take the admission or the transfer back, A13 the discharge. Other events move nobody. The moment is
    EVN-6, else EVN-2, else MSH-7. A place without a bed moves nobody: a ward is not a bed.

    Parameters
    ----------
    cursor
        Of the transaction that stores the message.
    book
        The associations of device, bed and patient.
    message
        An ADT message.
    mapping
        Names of this site.

    Raises
    ------
    HL7Error
        A swap does not name two patients.
    InputError
        A swap that names no beds, of patients who are in none.
    """
    kind, event = message.kind
    if kind != "ADT":
        return
    at = event_time(message, mapping)
    people = _people(message, mapping)
    if event == "A17":
        _swap(cursor, book, people, at)
        return
    for patient, pv1 in people[:1]:
        bed = bed_of(pv1)
        if event in _MOVES and bed:
            visit = text_of(pv1.value(19)) if pv1 is not None else ""
            book.move_in(cursor, patient, bed, at=at, visit=visit)
        elif event == "A03":
            book.leave_in(cursor, patient, at)
        elif event in {"A11", "A12"}:
            book.take_back_in(cursor, patient, reopen=event == "A12")
        elif event == "A13":
            book.return_in(cursor, patient)


def _swap(
    cursor: apsw.Cursor, book: BedBook, people: Sequence[tuple[str, Segment | None]], at: datetime
) -> None:
    if len(people) != 2:
        raise missing("PID", 3, "identifiers of two patients", number=2)
    beds = [bed_of(pv1) for _, pv1 in people]
    if all(beds):  # the message says where both are now
        for (patient, pv1), bed in zip(people, beds, strict=True):
            book.move_in(cursor, patient, bed, at=at, visit=text_of(pv1.value(19)) if pv1 else "")
    else:
        book.swap_in(cursor, people[0][0], people[1][0], at=at)


def bed_of(pv1: Segment | None) -> str:
    """Return ``ward/room/bed`` of PV1-3; empty when it names no bed (PV1-3.3)."""
    if pv1 is None or not text_of(pv1.value(3, 3)):
        return ""
    return "/".join(text_of(pv1.value(3, n)) for n in (1, 2, 3))


def _people(message: Message, mapping: SiteMapping) -> list[tuple[str, Segment | None]]:
    """Return ``system|value`` of each PID with the PV1 that follows it."""
    found: list[tuple[str, Segment | None]] = []
    for segment in message.lines:
        if segment.name == "PID":
            names = identifiers(segment, 3, mapping, facility=message["MSH-4"])
            if names:
                found.append((f"{names[0]['system']}|{names[0]['value']}", None))
        elif segment.name == "PV1" and found and found[-1][1] is None:
            found[-1] = (found[-1][0], segment)
    return found


def event_time(message: Message, mapping: SiteMapping) -> datetime:
    """Return when the event of a message happened: EVN-6, else EVN-2, else MSH-7, else now.

    Raises
    ------
    HL7Error
        One of them is no time.
    """
    evn = message.segment("EVN")
    texts = [(evn.value(n), ("EVN", n)) for n in (6, 2)] if evn is not None else []
    for text, place in [*texts, (message["MSH-7"], ("MSH", 7))]:
        when = instant(text, mapping, place=place)
        if when is not None:
            return when
    return datetime.now(tz=UTC)
