"""Messages and segments: parsed by splitting, read by path, written back byte for byte."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from digital_twins.hl7v2._delimiters import Delimiters, delimiters_of, unescape
from digital_twins.hl7v2._errors import HL7Error, malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_MESSAGE_BYTES = 16 * 2**20
MAX_SEGMENTS = 100_000
HEADERS = frozenset({"MSH", "FHS", "BHS"})
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_PATH = re.compile(
    r"(?:([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?-)?(\d+)(?:\[(\d+)\])?(?:\.(\d+))?(?:\.(\d+))?", re.ASCII
)
# HL7 table 0211, with the spellings that senders use beside it
_CHARACTER_SETS = {
    "": "ascii",
    "ASCII": "ascii",
    "8859/1": "latin-1",
    "ISO 8859/1": "latin-1",
    "ISO 8859-1": "latin-1",
    "ISO-8859-1": "latin-1",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
}


class Segment:
    """One line of a message; ``fields[n]`` is field n as it stands on the wire, ``fields[0]`` the name."""

    __slots__ = ("delimiters", "encoding", "fields", "name")

    def __init__(self, fields: Sequence[str], delimiters: Delimiters, encoding: str = "utf-8") -> None:
        self.fields = fields
        self.name = fields[0]
        self.delimiters = delimiters
        self.encoding = encoding

    def raw(self, number: int) -> str:
        """Return field `number` as it stands on the wire; empty when it is not there."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> list[list[list[str]]]:
        """Return the values of a field by repetition, component and subcomponent, unescaped."""
        text = self.raw(number)
        if not text:
            return []
        marks = self.delimiters
        if self.name in HEADERS and number < 3:
            return [[[text]]]
        if text.isalnum():  # most fields: a plain value
            return [[[text]]]
        return [
            [
                [unescape(value, marks, self.encoding) for value in part.split(marks.subcomponent)]
                for part in repetition.split(marks.component)
            ]
            for repetition in text.split(marks.repetition)
        ]

    def value(self, number: int, component: int = 1, *, repetition: int = 1, subcomponent: int = 1) -> str:
        """Return one value, unescaped; empty when it is not there. All numbers count from 1."""
        text = self.raw(number)
        if not text or (self.name in HEADERS and number < 3):
            return text if component == repetition == subcomponent == 1 else ""
        marks = self.delimiters
        for mark, wanted in (
            (marks.repetition, repetition),
            (marks.component, component),
            (marks.subcomponent, subcomponent),
        ):
            if mark in text:
                parts = text.split(mark, wanted)
                text = parts[wanted - 1] if wanted <= len(parts) else ""
            elif wanted > 1:
                return ""
        return unescape(text, marks, self.encoding)

    def __getitem__(self, path: str) -> str:
        """Return the value at a path such as ``"3.1"``, ``"3[2].4.2"``; see `Message`."""
        _, _, field, repetition, component, subcomponent = _split_path(path)
        return self.value(field, component, repetition=repetition, subcomponent=subcomponent)

    def to_text(self) -> str:
        """Return the line without its terminator."""
        fields = self.fields
        if self.name in HEADERS and len(fields) > 1:
            return fields[0] + fields[1] + fields[1].join(fields[2:])
        return self.delimiters.field.join(fields)

    def __repr__(self) -> str:
        return f"<Segment {self.name} with {len(self.fields) - 1} fields>"


class Message:
    """One HL7 v2 message.

    ``message["PID-3.1"]`` is a value, unescaped, empty when it is not there. A path names segment, field,
    component and subcomponent, all from 1; ``OBX[2]-5`` the second OBX, ``PID-3[2].1`` the second
    repetition. What a path leaves out is 1, so ``PID-5`` is the first part of the first name (a value that
    grew components in a later version is read the same, HL7 v2.5.1 section 2.8).

    Parameters
    ----------
    lines
        Segments, MSH first.
    delimiters
        As MSH names them.
    encoding
        Python name of the character set of MSH-18.
    terminator
        End of a segment; the standard's is a carriage return.
    ending
        Terminators after the last segment.
    """

    __slots__ = ("delimiters", "encoding", "ending", "lines", "terminator")

    def __init__(
        self,
        lines: Sequence[Segment],
        *,
        delimiters: Delimiters,
        encoding: str = "utf-8",
        terminator: str = "\r",
        ending: str = "\r",
    ) -> None:
        self.lines = lines
        self.delimiters = delimiters
        self.encoding = encoding
        self.terminator = terminator
        self.ending = ending

    def segments(self, name: str) -> list[Segment]:
        """Return every segment of a name, in order."""
        return [each for each in self.lines if each.name == name]

    def segment(self, name: str, number: int = 1) -> Segment | None:
        """Return the segment of a name and number (from 1), None when there is none."""
        for each in self.lines:
            if each.name == name:
                number -= 1
                if not number:
                    return each
        return None

    def __getitem__(self, path: str) -> str:
        name, number, field, repetition, component, subcomponent = _split_path(path)
        found = self.segment(name, number)
        if found is None:
            return ""
        return found.value(field, component, repetition=repetition, subcomponent=subcomponent)

    @property
    def kind(self) -> tuple[str, str]:
        """Message code and trigger event, e.g. ``("ADT", "A01")``."""
        return self["MSH-9.1"], self["MSH-9.2"]

    @property
    def control_id(self) -> str:
        """MSH-10, which the answer repeats."""
        return self["MSH-10"]

    def to_bytes(self) -> bytes:
        """Return the message as bytes in its character set; those of `parse` come back unchanged.

        Raises
        ------
        HL7Error
            A value has a character that the character set lacks.
        """
        text = self.terminator.join([each.to_text() for each in self.lines]) + self.ending
        try:
            return text.encode(self.encoding)
        except UnicodeEncodeError:
            raise HL7Error(
                "The HL7 v2 message cannot be written.",
                f"A value has a character that {self.encoding} (MSH-18) lacks.",
                "Build it with the character set 'UNICODE UTF-8'.",
            ) from None

    def __repr__(self) -> str:
        code, event = self.kind
        return f"<Message {code}^{event} with {len(self.lines)} segments>"


@lru_cache(maxsize=4096)
def _split_path(path: str) -> tuple[str, int, int, int, int, int]:
    match = _PATH.fullmatch(path)
    if match is None:
        raise HL7Error(
            "The path cannot be read.",
            "It is not of the form SEG-field.component.subcomponent.",
            "Write a path such as PID-3.1, PID-3[2].4.2 or OBX[2]-5.",
        )
    name, *numbers = match.groups()
    values = [int(each or 1) for each in numbers]
    if 0 in values:
        raise HL7Error("The path cannot be read.", "It counts from 0.", "Count from 1, as HL7 does.")
    number, field, repetition, component, subcomponent = values
    return name or "", number, field, repetition, component, subcomponent


def parse(data: bytes, *, max_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """Return the message in `data`.

    Fields are split at once, components when they are read. Segments may end with CR (the standard), LF or
    CR LF, all the same way. Character sets (MSH-18): none or ``ASCII``, ``8859/1``, ``UNICODE UTF-8``.

    Parameters
    ----------
    data
        One message without the frame of MLLP; for files of several see `parse_batch`.
    max_bytes
        Longest message that is read.

    Raises
    ------
    HL7Error
        It is too long, does not begin with MSH, names no usable delimiters or another character set, has
        bytes outside of its character set, or a line without a segment name.
    """
    if len(data) > max_bytes:
        raise malformed(f"It has more than {max_bytes} bytes.", "Send less at once.")
    lines, ending, terminator, encoding = split_lines(data, b"MSH")
    marks = header_delimiters(lines[0])
    return assemble(lines, marks, encoding=encoding, terminator=terminator, ending=ending)


def assemble(
    lines: Sequence[str], marks: Delimiters, *, encoding: str, terminator: str, ending: str
) -> Message:
    """Return the message of decoded lines, MSH first."""
    separator = marks.field
    segments = [Segment(split_header(lines[0]), marks, encoding)]
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split(separator)
        if not _NAME.fullmatch(fields[0]) or fields[0] in HEADERS:
            raise malformed(f"Line {number} does not begin with the name of a segment.")
        segments.append(Segment(fields, marks, encoding))
    return Message(segments, delimiters=marks, encoding=encoding, terminator=terminator, ending=ending)


def split_lines(data: bytes, start: bytes) -> tuple[list[str], str, str, str]:
    """Return lines, ending, terminator and encoding of bytes that begin with a header such as MSH."""
    if data[:3] != start or len(data) < 9:
        raise malformed(f"It does not begin with {start.decode()} and its delimiters.")
    terminator = "\r"
    if b"\n" in data:
        returns = data.count(b"\r")
        terminator = "\n" if not returns else "\r\n" if data.count(b"\r\n") == returns else "\r"
    encoding = _encoding(data, terminator.encode())
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise malformed(
            f"It has bytes outside of its character set ({encoding}).",
            "Name the character set in MSH-18: 8859/1 or UNICODE UTF-8.",
        ) from None
    body = text.rstrip(terminator)
    lines = body.split(terminator)
    if len(lines) > MAX_SEGMENTS:
        raise malformed(f"It has more than {MAX_SEGMENTS} segments.", "Send less at once.")
    return lines, text[len(body) :], terminator, encoding


def _encoding(data: bytes, terminator: bytes) -> str:
    """Return the Python name of the character set of the first MSH."""
    at = 0 if data[:3] == b"MSH" else data.find(terminator + b"MSH") + len(terminator)
    end = data.find(terminator, at)
    line = data[at : end if end >= 0 else None]
    first = ""
    if line[:3] == b"MSH" and line.count(line[3:4] or b"|") > 16:
        text = line.decode("latin-1")
        marks = header_delimiters(text)
        named = text.split(marks.field, 18)[17].partition(marks.repetition)[0]
        first = unescape(named, marks, "latin-1").strip().upper()
    found = _CHARACTER_SETS.get(first)
    if found is None:
        raise HL7Error(
            "The HL7 v2 message cannot be read.",
            "Its character set (MSH-18) is none of ASCII, 8859/1 and UNICODE UTF-8.",
            "Send UNICODE UTF-8.",
            code="103",
            location="MSH^1^18",
        )
    return found


def header_delimiters(line: str) -> Delimiters:
    """Return the delimiters of a header line (MSH, FHS or BHS)."""
    if len(line) < 8:
        raise malformed("Its header names no delimiters.")
    return delimiters_of("MSH" + line[3] + line[4:].partition(line[3])[0])


def split_header(line: str) -> list[str]:
    """Return the fields of a header line so that ``fields[n]`` is field n: the separator is field 1."""
    name, *fields = line.split(line[3])
    return [name, line[3], *fields]
