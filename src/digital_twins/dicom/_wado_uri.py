"""WADO-URI requests (PS3.18 chapter 9): the older retrieval of one object by query parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._accept import parse_accept
from digital_twins.dicom._contexts import EXPLICIT_LE
from digital_twins.dicom._render import JPEG, Rendering, Viewport, parse_rendering
from digital_twins.dicom._voi import parse_window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.dicom._stored import Instance

_DICOM = "application/dicom"
_MAX_SIDE = 8192
_KNOWN = frozenset(
    {
        *("requestType", "studyUID", "seriesUID", "objectUID", "contentType", "charset", "frameNumber"),
        *("imageQuality", "windowCenter", "windowWidth", "rows", "columns", "region", "transferSyntax"),
    }
)


@dataclass(frozen=True, slots=True)
class UriRequest:
    """One WADO-URI request.

    Attributes
    ----------
    uids
        Study, series and instance.
    rendering
        How to draw; None when the object itself is asked for.
    stated
        Whether the media type was stated; else an object without pixels comes as it is.
    transfer_syntax
        For the object itself; None means as it is stored.
    region
        What is drawn: left, top, right and bottom from 0 to 1; None for all of it.
    ignored
        Names of query parameters that are not supported.
    """

    uids: tuple[str, str, str]
    rendering: Rendering | None
    stated: bool
    frame: int | None
    transfer_syntax: str | None
    region: tuple[float, float, float, float] | None = None
    ignored: tuple[str, ...] = ()

    def rendering_of(self, instance: Instance) -> Rendering | None:
        """Return how to draw one object: the region is in parts of its sides, a viewport in pixels."""
        if self.rendering is None or self.region is None:
            return self.rendering
        left, top, right, bottom = self.region
        columns, rows = instance.columns, instance.rows
        source = (left * columns, top * rows, (right - left) * columns, (bottom - top) * rows)
        own_size = Viewport(max(1, round(source[2])), max(1, round(source[3])))
        viewport = self.rendering.viewport or own_size
        return replace(self.rendering, viewport=replace(viewport, region=source))


def parse_wado_uri(parameters: Mapping[str, str], accept: str) -> UriRequest:
    """Read the query of a WADO-URI request.

    Raises
    ------
    InputError
        A required parameter is missing or malformed, or anonymisation is asked for.
    """
    if parameters.get("requestType") != "WADO":
        raise _bad("requestType must be WADO")
    uids = (
        parameters.get("studyUID", ""),
        parameters.get("seriesUID", ""),
        parameters.get("objectUID", ""),
    )
    if not all(uids):
        raise _bad("studyUID, seriesUID and objectUID are required")
    if "anonymize" in parameters:
        raise _bad("anonymize is not offered here")
    frame = parameters.get("frameNumber")
    if frame is not None and not (frame.isascii() and frame.isdigit() and 0 < int(frame) < 10**7):
        raise _bad("frameNumber is a whole number from 1")
    wanted = parameters.get("contentType") or (accept if accept not in {"", "*/*"} else "")
    if _DICOM in wanted.split(";")[0]:
        syntax = parameters.get("transferSyntax", EXPLICIT_LE)
        return UriRequest(
            uids,
            rendering=None,
            stated=True,
            frame=None,
            transfer_syntax=None if syntax == "*" else syntax,
        )
    return UriRequest(
        uids,
        rendering=_rendering(parameters, wanted or JPEG),
        stated=bool(wanted),
        frame=None if frame is None else int(frame),
        transfer_syntax=EXPLICIT_LE,
        region=_region(parameters["region"]) if "region" in parameters else None,
        ignored=tuple(name for name in parameters if name not in _KNOWN),
    )


def _rendering(parameters: Mapping[str, str], media_types: str) -> Rendering:
    quality = {"quality": parameters["imageQuality"]} if "imageQuality" in parameters else {}
    plain = parse_rendering(quality, parse_accept(media_types), thumbnail=False)
    center, width = parameters.get("windowCenter"), parameters.get("windowWidth")
    if (center is None) != (width is None):
        raise _bad("windowCenter and windowWidth belong together")
    window = None if center is None else parse_window(f"{center},{width}")
    return replace(plain, window=window, viewport=_viewport(parameters))


def _viewport(parameters: Mapping[str, str]) -> Viewport | None:
    rows, columns = parameters.get("rows"), parameters.get("columns")
    sides = [_MAX_SIDE if side is None else _side(side) for side in (columns, rows)]
    return None if rows is None and columns is None else Viewport(sides[0], sides[1])


def _region(text: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise _bad("region is four numbers: left, top, right, bottom") from None
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise _bad("region lies between 0,0 and 1,1")
    return left, top, right, bottom


def _side(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_SIDE):
        raise _bad(f"rows and columns are from 1 to {_MAX_SIDE}")
    return int(text)


def _bad(why: str) -> InputError:
    return InputError(
        "The WADO-URI request cannot be answered.",
        why[0].upper() + why[1:] + ".",
        "See PS3.18 chapter 9, or use WADO-RS.",
    )
