"""STOW-RS of one stored file (PS3.18 section 10.5), with what its outcome means for a queue."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

import httpx

from digital_twins._errors import DigitalTwinError
from digital_twins.dicom._multipart import new_boundary
from digital_twins.dicom._web_requests import body, store_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from digital_twins.storage import BlobFile

_TIMEOUT_S = 60.0
_DESTINATION_TROUBLE = frozenset({401, 403, 404, 407, 408, 429, 502, 503, 504})
_FAILED_SOP_SEQUENCE = "00081198"


class Outcome(Enum):
    """What became of one object."""

    STORED = auto()
    REFUSED = auto()
    """The server answered, and does not take this object."""
    UNREACHABLE = auto()
    """The server does not answer, or nobody may store there: this says nothing about the object."""
    BROKEN = auto()
    """The connection ended under this object."""


async def stow_file(root: str, file: BlobFile, *, headers: Mapping[str, str]) -> tuple[Outcome, str]:
    """Send a DICOM file as it is and return the outcome and, unless it is stored, why.

    Parameters
    ----------
    root
        DICOMweb root, e.g. ``https://pacs.example/dicom-web``.
    """
    boundary = new_boundary()

    async def pieces() -> AsyncIterator[bytes]:
        for piece in body([file], boundary):
            yield piece

    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
            answer = await http.post(
                root.rstrip("/") + "/studies",
                content=pieces(),
                headers={**headers, **store_headers(boundary)},
            )
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        return Outcome.UNREACHABLE, f"No connection ({type(error).__name__})."
    except httpx.TransportError as error:
        return Outcome.BROKEN, f"The connection broke ({type(error).__name__})."
    except DigitalTwinError as error:
        return Outcome.REFUSED, error.why
    except OSError:
        return Outcome.REFUSED, "The file is missing."
    if answer.status_code in _DESTINATION_TROUBLE:
        return Outcome.UNREACHABLE, f"The server answered {answer.status_code}."
    if answer.status_code not in {200, 201, 202, 204} or _names_a_failure(answer):
        return Outcome.REFUSED, f"The server did not store it ({answer.status_code})."
    return Outcome.STORED, ""


def _names_a_failure(answer: httpx.Response) -> bool:
    """Whether the store instances response has a FailedSOPSequence; XML is searched for its tag."""
    return f'"{_FAILED_SOP_SEQUENCE}"' in answer.text
