"""Files of messages: FHS, BHS, messages, BTS, FTS (HL7 v2.5.1 section 2.10.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins.hl7v2._errors import malformed
from digital_twins.hl7v2._message import (
    Message,
    Segment,
    assemble,
    header_delimiters,
    split_header,
    split_lines,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BATCH_BYTES = 256 * 2**20
_AROUND = frozenset({"FHS", "BHS", "BTS", "FTS"})


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of a file, with the lines around them in their order."""

    parts: tuple[Segment | Message, ...]
    encoding: str
    terminator: str
    ending: str

    @property
    def messages(self) -> list[Message]:
        """The messages in their order."""
        return [each for each in self.parts if isinstance(each, Message)]

    @property
    def headers(self) -> list[Segment]:
        """FHS, BHS, BTS and FTS lines in their order."""
        return [each for each in self.parts if isinstance(each, Segment)]

    def to_bytes(self) -> bytes:
        """Return the file as bytes; those of `parse_batch` come back unchanged."""
        lines = [
            line.to_text()
            for part in self.parts
            for line in (part.lines if isinstance(part, Message) else (part,))
        ]
        return (self.terminator.join(lines) + self.ending).encode(self.encoding)


def parse_batch(data: bytes, *, max_bytes: int = MAX_BATCH_BYTES) -> Batch:
    """Return the messages of a file: one message, several, or batches with their headers.

    The character set is that of the first message.

    Raises
    ------
    HL7Error
        As for `parse`; or a count in BTS-1 or FTS-1 is not that of the messages or batches before it.
    """
    if len(data) > max_bytes:
        raise malformed(f"The file has more than {max_bytes} bytes.", "Send less at once.")
    start = data[:3] if data[:3] in {b"FHS", b"BHS"} else b"MSH"
    lines, ending, terminator, encoding = split_lines(data, start)
    parts: list[Segment | Message] = []
    marks = header_delimiters(lines[0])
    at = 0
    while at < len(lines):
        name = lines[at][:3]
        if name == "MSH":
            stop = next((n for n in range(at + 1, len(lines)) if lines[n][:3] in {"MSH", *_AROUND}), None)
            found = lines[at:stop]
            parts.append(
                assemble(
                    found,
                    header_delimiters(found[0]),
                    encoding=encoding,
                    terminator=terminator,
                    ending=terminator,
                )
            )
            at += len(found)
            continue
        if name not in _AROUND:
            raise malformed(f"Line {at + 1} belongs to no message.")
        if name in {"FHS", "BHS"}:
            marks = header_delimiters(lines[at])
            fields = split_header(lines[at])
        else:
            fields = lines[at].split(marks.field)
        parts.append(Segment(fields, marks, encoding))
        at += 1
    _check_counts(parts)
    return Batch(tuple(parts), encoding, terminator, ending)


def _check_counts(parts: Sequence[Segment | Message]) -> None:
    messages = batches = 0
    for part in parts:
        if isinstance(part, Message):
            messages += 1
        elif part.name == "BHS":
            messages = 0
        elif part.name in {"BTS", "FTS"}:
            batches += part.name == "BTS"
            counted = messages if part.name == "BTS" else batches
            if part.raw(1) and part.raw(1) != str(counted):
                raise malformed(f"{part.name}-1 does not count what stands before it.")
