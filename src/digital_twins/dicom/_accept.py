"""Accept headers of DICOMweb requests (PS3.18 section 8.7) and the refusal of what cannot be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError
from digital_twins.dicom._multipart import media_type

if TYPE_CHECKING:
    from collections.abc import Iterator


class NotAcceptableError(DigitalTwinError):
    """None of the media types that the client accepts can be given (HTTP 406)."""

    http_status = 406


@dataclass(frozen=True, slots=True)
class Accepted:
    """One media range of an Accept header.

    Attributes
    ----------
    multipart
        Whether the client takes multipart/related; ``*/*`` takes both.
    part_type
        Media type of the parts (for multipart) or of the body.
    transfer_syntax
        '*' when the client takes any, '' when it names none.
    any_shape
        Whether a single part may come without multipart all the same (``*/*``).
    """

    multipart: bool
    part_type: str
    transfer_syntax: str
    any_shape: bool = False


def parse_accept(header: str) -> list[Accepted]:
    """Read an Accept header, most wanted first; nothing means everything."""
    found: list[tuple[float, Accepted]] = []
    for item in _split(header or "*/*"):
        name, parameters = media_type(item)
        syntax = parameters.get("transfer-syntax", "")
        if name in {"multipart/related", "*/*", "multipart/*"}:
            part_type = parameters.get("type", "*/*").lower()
            syntax = syntax or ("*" if part_type == "*/*" else "")
            accepted = Accepted(
                multipart=True, part_type=part_type, transfer_syntax=syntax, any_shape=name == "*/*"
            )
        else:
            accepted = Accepted(multipart=False, part_type=name, transfer_syntax=syntax)
        weight = _weight(parameters.get("q", "1"))
        if weight > 0:
            found.append((weight, accepted))
    return [accepted for _weight_, accepted in sorted(found, key=lambda pair: -pair[0])]


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0


def _split(header: str) -> Iterator[str]:
    """Split at commas outside quotes."""
    start, quoted = 0, False
    for position, letter in enumerate(header):
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            yield header[start:position]
            start = position + 1
    yield header[start:]
