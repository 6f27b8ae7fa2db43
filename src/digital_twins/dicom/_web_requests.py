"""What the DICOMweb clients share: requests, answers, errors, and when to try again (PS3.18)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError
from digital_twins.dicom._multipart import MultipartReader
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.storage import BlobFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydicom.dataset import Dataset

JSON = "application/dicom+json"
OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_WAIT_S = 0.2
_MAX_PART_BYTES = 2**32
_PIECE_BYTES = 2**18


class DicomWebError(DigitalTwinError):
    """The DICOMweb server refused, failed, or could not be reached."""

    http_status = 502


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search asks for: matching values, further attributes, and the page."""

    filters: Mapping[str, str | int]
    fields: Iterable[str]
    limit: int | None
    offset: int


class Requests:
    """What both clients share: requests to send, answers to read, and when to try again."""

    def __init__(self, base_url: str, retries: int) -> None:
        self.base_url = base_url.rstrip("/")
        self.retries = retries

    def wait_s(self, attempt: int, cause: httpx.Response | httpx.TransportError) -> float | None:
        """Return the pause before the next attempt of an idempotent request, None to give up."""
        if attempt >= self.retries:
            return None
        if isinstance(cause, httpx.Response):
            if cause.status_code not in _RETRIED:
                return None
            stated = cause.headers.get("retry-after", "")
            if stated.isdecimal():
                return min(float(stated), 30.0)
        return float(_FIRST_WAIT_S * 2**attempt)

    def check(self, response: httpx.Response) -> None:
        """Raise for an answer that is none."""
        status = response.status_code
        if status < 400:
            return
        if status == 404:
            raise NotFoundError(
                "The DICOMweb server does not have what was asked for.",
                "It answered 404 (not found).",
                "Check the UIDs and the base URL.",
            )
        kind = InputError if status in {400, 406, 409, 415} else DicomWebError
        raise kind(
            f"The DICOMweb server refused the request with status {status}.",
            response.reason_phrase or "It gave no reason.",
            "Check the request, the credentials and the server's log.",
        )

    def unreachable(self, error: httpx.TransportError) -> DicomWebError:
        """Return the error for a server that cannot be reached."""
        return DicomWebError(
            f"The DICOMweb server at {httpx.URL(self.base_url).host} could not be reached.",
            type(error).__name__,
            "Check the base URL and that the server runs.",
        )

    def search_path(self, level: str, study_uid: str | None, series_uid: str | None, asked: Asked) -> str:
        """Return the resource and the query string of a search.

        Wildcards stay as they are: Orthanc 1.10 does not recognise a percent-encoded one.
        """
        path = "" if study_uid is None else f"/studies/{study_uid}"
        path += ("" if series_uid is None else f"/series/{series_uid}") + f"/{level}"
        found: list[tuple[str, str | int]] = [
            *asked.filters.items(),
            *(("includefield", f) for f in asked.fields),
        ]
        if asked.limit is not None:
            found.append(("limit", asked.limit))
        if asked.offset:
            found.append(("offset", asked.offset))
        query = "&".join(f"{name}={quote(str(value), safe='*?,-.:')}" for name, value in found)
        return f"{path}?{query}" if query else path

    def results(self, response: httpx.Response) -> list[Dataset]:
        """Read the DICOM JSON of a search or of metadata."""
        from pydicom.dataset import Dataset

        self.check(response)
        if response.status_code == 204 or not response.content:
            return []
        with quiet_pydicom():
            return [Dataset.from_json(item, lambda *_: b"") for item in response.json()]

    def objects(self, reader: MultipartReader, chunk: bytes) -> Iterator[Dataset]:
        """Turn the next bytes of a retrieval into the objects that they complete."""
        from pydicom import dcmread

        for part in reader.feed(chunk):
            with quiet_pydicom():
                dataset = dcmread(BytesIO(part.body))
            yield dataset

    def reader(self, response: httpx.Response) -> MultipartReader:
        """Return the reader for the body of a retrieval."""
        return MultipartReader(response.headers.get("content-type", ""), max_part_bytes=_MAX_PART_BYTES)

    def stored(self, response: httpx.Response) -> Dataset:
        """Read a store instances response; raises when nothing at all was stored."""
        if response.status_code == 409:
            raise InputError(
                "The DICOMweb server stored none of the objects.",
                "It answered 409 (conflict).",
                "Check that the objects are complete and belong to the patient of their study.",
            )
        self.check(response)
        return self.results(httpx.Response(200, content=b"[" + response.content + b"]"))[0]


def retrieve_path(study_uid: str, series_uid: str | None) -> str:
    """Return the resource of a study or series."""
    return f"/studies/{study_uid}" + ("" if series_uid is None else f"/series/{series_uid}")


def body(datasets: Iterable[Dataset | Path | BlobFile], boundary: str) -> Iterator[bytes]:
    """Yield a multipart body of data sets, or of files that are read piece by piece."""
    for dataset in datasets:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        if isinstance(dataset, (Path, BlobFile)):
            with dataset.open("rb") if isinstance(dataset, Path) else dataset.open() as file:
                yield from iter(partial(file.read, _PIECE_BYTES), b"")
        else:
            buffer = BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            yield buffer.getvalue()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def store_headers(boundary: str) -> dict[str, str]:
    """Return the headers of a store request."""
    return {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": JSON,
    }
