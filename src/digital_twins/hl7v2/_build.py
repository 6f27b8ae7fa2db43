"""Build messages, and the answer to one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins.hl7v2._delimiters import Delimiters, escape
from digital_twins.hl7v2._errors import HL7Error
from digital_twins.hl7v2._message import _CHARACTER_SETS, _NAME, Message, Segment, _split_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_PLACE = 1000


def _control_id() -> str:
    return uuid.uuid4().hex[:20]


@dataclass(frozen=True, slots=True)
class Header:
    """What MSH says of a message that we build.

    Attributes
    ----------
    kind
        MSH-9, e.g. ``"ADT^A01^ADT_A01"``.
    sending_application, sending_facility, receiving_application, receiving_facility
        MSH-3 to MSH-6, their first component.
    at_utc
        MSH-7; written with its offset.
    control_id
        MSH-10: at most 20 characters; a random one by default.
    processing_id, version
        MSH-11 and MSH-12.
    character_set
        MSH-18.
    """

    kind: str
    sending_application: str = "TWIN"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    at_utc: datetime = field(default_factory=lambda: datetime.now(tz=UTC))
    control_id: str = field(default_factory=_control_id)
    processing_id: str = "P"
    version: str = "2.5.1"
    character_set: str = "UNICODE UTF-8"


def build_message(
    header: Header,
    segments: Iterable[tuple[str, Mapping[str, str]]] = (),
    *,
    delimiters: Delimiters | None = None,
) -> Message:
    r"""Return a message of a header and segments.

    Parameters
    ----------
    header
        What MSH says.
    segments
        Name and values of each; a value is named by its path inside the segment and escaped here, e.g.
        ``("PID", {"3.1": "4711", "5.1": "Muster", "5.2": "Eva"})``.
    delimiters
        Others than ``|^~\&``.

    Raises
    ------
    HL7Error
        A segment name or a path has not the form of one, or the character set is not known.
    """
    marks = delimiters or Delimiters()
    encoding = _CHARACTER_SETS.get(header.character_set)
    if encoding is None:
        raise HL7Error(
            "The HL7 v2 message cannot be built.",
            "Its character set is none of ASCII, 8859/1 and UNICODE UTF-8.",
            "Use UNICODE UTF-8.",
        )
    kind = dict(zip(("9.1", "9.2", "9.3"), header.kind.split("^"), strict=False))
    values = {
        "3": header.sending_application,
        "4": header.sending_facility,
        "5": header.receiving_application,
        "6": header.receiving_facility,
        "7": header.at_utc.strftime("%Y%m%d%H%M%S%z"),
        **kind,
        "10": header.control_id,
        "11": header.processing_id,
        "12": header.version,
        "18": header.character_set,
    }
    first = _fields("MSH", values, marks)
    first[1:3] = [marks.field, marks.encoding]
    lines = [Segment(first, marks, encoding)]
    lines += [Segment(_fields(name, each, marks), marks, encoding) for name, each in segments]
    return Message(lines, delimiters=marks, encoding=encoding)


def _fields(name: str, values: Mapping[str, str], marks: Delimiters) -> list[str]:
    if not _NAME.fullmatch(name):
        raise HL7Error(
            "The HL7 v2 message cannot be built.", "A segment name is not three capitals.", "Use e.g. PID."
        )
    tree: dict[int, dict[int, dict[int, dict[int, str]]]] = {}
    for path, value in values.items():
        _, _, number, repetition, component, subcomponent = _split_path(path)
        if max(number, repetition, component, subcomponent) > MAX_PLACE:
            raise HL7Error(
                "The HL7 v2 message cannot be built.", f"A path counts beyond {MAX_PLACE}.", "Use less."
            )
        parts = tree.setdefault(number, {}).setdefault(repetition, {}).setdefault(component, {})
        parts[subcomponent] = escape(value, marks)
    fields = [name, *[""] * max(tree, default=0)]
    for number, repetitions in tree.items():
        written = {
            r: _join({c: _join(s, marks.subcomponent) for c, s in parts.items()}, marks.component)
            for r, parts in repetitions.items()
        }
        fields[number] = _join(written, marks.repetition)
    return fields


def _join(parts: Mapping[int, str], mark: str) -> str:
    return mark.join(parts.get(n, "") for n in range(1, max(parts) + 1)).rstrip(mark)


def acknowledge(
    message: Message | None, code: str = "AA", *, error: HL7Error | None = None, application: str = "TWIN"
) -> Message:
    """Return the ACK to a message, with MSA and, for an error, ERR (HL7 v2.5.1 section 2.15).

    Parameters
    ----------
    message
        What is answered; None when nothing of it could be read.
    code
        MSA-1: AA, AE or AR; CA, CE or CR for a commit acknowledgement.
    error
        What was wrong; its text holds no patient data.
    application
        MSH-3 when the message names no receiving application.
    """
    event = message.kind[1] if message is not None else ""
    header = Header(
        kind=f"ACK^{event}^ACK" if event else "ACK",
        sending_application=(message["MSH-5"] if message is not None else "") or application,
        sending_facility=message["MSH-6"] if message is not None else "",
        receiving_application=message["MSH-3"] if message is not None else "",
        receiving_facility=message["MSH-4"] if message is not None else "",
        processing_id=(message["MSH-11"] if message is not None else "") or "P",
        version=(message["MSH-12"] if message is not None else "") or "2.5.1",
    )
    lines = [("MSA", {"1": code, "2": message.control_id if message is not None else ""})]
    if error is not None:
        place = {f"2.{n}": part for n, part in enumerate(error.location.split("^"), start=1) if part}
        lines.append(
            (
                "ERR",
                {**place, "3.1": error.code, "3.3": "HL70357", "4": "E", "8": f"{error.what} {error.why}"},
            )
        )
    return build_message(header, lines)
