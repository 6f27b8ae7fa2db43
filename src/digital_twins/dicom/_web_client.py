"""DICOMweb client (PS3.18), synchronous and asynchronous, that never holds a whole study."""

from __future__ import annotations

import asyncio
import time
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

import httpx

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError
from digital_twins.dicom._multipart import MultipartReader, new_boundary
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from pydicom.dataset import Dataset

_JSON = "application/dicom+json"
_OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_WAIT_S = 0.2
_MAX_PART_BYTES = 2**32


class DicomWebError(DigitalTwinError):
    """The DICOMweb server refused, failed, or could not be reached."""

    http_status = 502


class _Requests:
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
            if stated.isdigit():
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

    def search_path(self, level: str, study_uid: str | None, series_uid: str | None) -> str:
        """Return the resource of a search."""
        path = "" if study_uid is None else f"/studies/{study_uid}"
        return path + ("" if series_uid is None else f"/series/{series_uid}") + f"/{level}"

    def parameters(
        self, filters: Mapping[str, str | int], fields: Iterable[str], limit: int | None, offset: int
    ) -> list[tuple[str, str | int]]:
        """Return the query string of a search."""
        found: list[tuple[str, str | int]] = [*filters.items(), *(("includefield", f) for f in fields)]
        if limit is not None:
            found.append(("limit", limit))
        return [*found, ("offset", offset)] if offset else found

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


def _retrieve_path(study_uid: str, series_uid: str | None) -> str:
    return f"/studies/{study_uid}" + ("" if series_uid is None else f"/series/{series_uid}")


def _body(datasets: Iterable[Dataset], boundary: str) -> Iterator[bytes]:
    for dataset in datasets:
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield buffer.getvalue()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _store_headers(boundary: str) -> dict[str, str]:
    return {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": _JSON,
    }


class DicomWebClient:
    """A DICOMweb server, synchronously.

    Parameters
    ----------
    base_url
        The DICOMweb root, e.g. ``http://127.0.0.1:8042/dicom-web``.
    headers
        Sent with every request, e.g. ``{"Authorization": "Bearer ..."}``.
    timeout_s
        Without a byte for this long a request fails.
    retries
        Further attempts, with doubling pauses, of searches and retrievals that could not start.
    transport
        Another httpx transport, e.g. one that calls an ASGI app.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._requests = _Requests(base_url, retries)
        self._http = httpx.Client(headers=dict(headers or {}), timeout=timeout_s, transport=transport)
        # Documented calls never close: the connections go with the client.
        weakref.finalize(self, self._http.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search_studies(
        self, *, limit: int | None = None, offset: int = 0, fields: Iterable[str] = (), **filters: str | int
    ) -> list[Dataset]:
        """QIDO-RS for studies.

        Parameters
        ----------
        fields
            Further attributes to return (``includefield``), or "all".
        **filters
            Keyword to matching value, e.g. ``PatientName="Doe*"``, ``StudyDate="20240101-"``.

        Raises
        ------
        InputError
            The server does not accept the query.
        DicomWebError
            The server failed or cannot be reached.
        """
        return self._search("studies", None, None, self._requests.parameters(filters, fields, limit, offset))

    def search_series(
        self,
        study_uid: str | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        fields: Iterable[str] = (),
        **filters: str | int,
    ) -> list[Dataset]:
        """QIDO-RS for series, of one study or of all; as `search_studies`."""
        return self._search(
            "series", study_uid, None, self._requests.parameters(filters, fields, limit, offset)
        )

    def search_instances(
        self,
        study_uid: str | None = None,
        series_uid: str | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        fields: Iterable[str] = (),
        **filters: str | int,
    ) -> list[Dataset]:
        """QIDO-RS for instances, of one series, one study or all; as `search_studies`."""
        parameters = self._requests.parameters(filters, fields, limit, offset)
        return self._search("instances", study_uid, series_uid, parameters)

    def retrieve_study(self, study_uid: str) -> Iterator[Dataset]:
        """WADO-RS of a study: yields one data set after the other as they arrive; raises NotFoundError."""
        return self._retrieve(_retrieve_path(study_uid, None))

    def retrieve_series(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """WADO-RS of a series, as `retrieve_study`."""
        return self._retrieve(_retrieve_path(study_uid, series_uid))

    def retrieve_instance(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
        """WADO-RS of one instance; raises NotFoundError."""
        return next(self._retrieve(_retrieve_path(study_uid, series_uid) + f"/instances/{sop_uid}"))

    def retrieve_metadata(self, study_uid: str, series_uid: str | None = None) -> list[Dataset]:
        """WADO-RS metadata of a study or series, without bulk data."""
        response = self._send("GET", _retrieve_path(study_uid, series_uid) + "/metadata", {"Accept": _JSON})
        return self._requests.results(response)

    def store(self, datasets: Iterable[Dataset]) -> Dataset:
        """STOW-RS: send data sets one after the other and return the store instances response.

        Some may have failed: they are in its FailedSOPSequence. A store is not repeated by itself.

        Raises
        ------
        InputError
            Nothing was stored.
        DicomWebError
            The server failed or cannot be reached.
        """
        boundary = new_boundary()
        try:
            response = self._http.post(
                self._requests.base_url + "/studies",
                content=_body(datasets, boundary),
                headers=_store_headers(boundary),
            )
        except httpx.TransportError as error:
            raise self._requests.unreachable(error) from error
        return self._requests.stored(response)

    def _search(
        self,
        level: str,
        study_uid: str | None,
        series_uid: str | None,
        parameters: list[tuple[str, str | int]],
    ) -> list[Dataset]:
        path = self._requests.search_path(level, study_uid, series_uid)
        return self._requests.results(self._send("GET", path, {"Accept": _JSON}, parameters))

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        parameters: Any = None,
        *,
        stream: bool = False,
    ) -> httpx.Response:
        attempt = 0
        while True:
            url = self._requests.base_url + path
            request = self._http.build_request(method, url, headers=headers, params=parameters)
            try:
                response = self._http.send(request, stream=stream)
                wait_s = self._requests.wait_s(attempt, response)
            except httpx.TransportError as error:
                wait_s = self._requests.wait_s(attempt, error)
                if wait_s is None:
                    raise self._requests.unreachable(error) from error
            else:
                if wait_s is None:
                    return response
                response.close()
            attempt += 1
            time.sleep(wait_s)

    def _retrieve(self, path: str) -> Iterator[Dataset]:
        response = self._send("GET", path, {"Accept": _OBJECTS}, stream=True)
        try:
            self._requests.check(response)
            reader = self._requests.reader(response)
            for chunk in response.iter_bytes():
                yield from self._requests.objects(reader, chunk)
            reader.finish()
        except httpx.TransportError as error:
            raise self._requests.unreachable(error) from error
        finally:
            response.close()


class AsyncDicomWebClient:
    """A DICOMweb server, asynchronously; parameters, methods and errors as in `DicomWebClient`."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._requests = _Requests(base_url, retries)
        self._http = httpx.AsyncClient(headers=dict(headers or {}), timeout=timeout_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search_studies(
        self, *, limit: int | None = None, offset: int = 0, fields: Iterable[str] = (), **filters: str | int
    ) -> list[Dataset]:
        """QIDO-RS for studies."""
        return await self._search(
            "studies", None, None, self._requests.parameters(filters, fields, limit, offset)
        )

    async def search_series(
        self,
        study_uid: str | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        fields: Iterable[str] = (),
        **filters: str | int,
    ) -> list[Dataset]:
        """QIDO-RS for series, of one study or of all."""
        parameters = self._requests.parameters(filters, fields, limit, offset)
        return await self._search("series", study_uid, None, parameters)

    async def search_instances(
        self,
        study_uid: str | None = None,
        series_uid: str | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        fields: Iterable[str] = (),
        **filters: str | int,
    ) -> list[Dataset]:
        """QIDO-RS for instances, of one series, one study or all."""
        parameters = self._requests.parameters(filters, fields, limit, offset)
        return await self._search("instances", study_uid, series_uid, parameters)

    def retrieve_study(self, study_uid: str) -> AsyncIterator[Dataset]:
        """WADO-RS of a study: yields one data set after the other as they arrive."""
        return self._retrieve(_retrieve_path(study_uid, None))

    def retrieve_series(self, study_uid: str, series_uid: str) -> AsyncIterator[Dataset]:
        """WADO-RS of a series."""
        return self._retrieve(_retrieve_path(study_uid, series_uid))

    async def retrieve_metadata(self, study_uid: str, series_uid: str | None = None) -> list[Dataset]:
        """WADO-RS metadata of a study or series, without bulk data."""
        path = _retrieve_path(study_uid, series_uid) + "/metadata"
        return self._requests.results(await self._send("GET", path, {"Accept": _JSON}))

    async def store(self, datasets: Iterable[Dataset]) -> Dataset:
        """STOW-RS: send data sets one after the other and return the store instances response."""
        boundary = new_boundary()

        async def body() -> AsyncIterator[bytes]:
            for piece in _body(datasets, boundary):
                yield piece

        try:
            response = await self._http.post(
                self._requests.base_url + "/studies", content=body(), headers=_store_headers(boundary)
            )
        except httpx.TransportError as error:
            raise self._requests.unreachable(error) from error
        return self._requests.stored(response)

    async def _search(
        self,
        level: str,
        study_uid: str | None,
        series_uid: str | None,
        parameters: list[tuple[str, str | int]],
    ) -> list[Dataset]:
        path = self._requests.search_path(level, study_uid, series_uid)
        return self._requests.results(await self._send("GET", path, {"Accept": _JSON}, parameters))

    async def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        parameters: Any = None,
        *,
        stream: bool = False,
    ) -> httpx.Response:
        attempt = 0
        while True:
            url = self._requests.base_url + path
            request = self._http.build_request(method, url, headers=headers, params=parameters)
            try:
                response = await self._http.send(request, stream=stream)
                wait_s = self._requests.wait_s(attempt, response)
            except httpx.TransportError as error:
                wait_s = self._requests.wait_s(attempt, error)
                if wait_s is None:
                    raise self._requests.unreachable(error) from error
            else:
                if wait_s is None:
                    return response
                await response.aclose()
            attempt += 1
            await asyncio.sleep(wait_s)

    async def _retrieve(self, path: str) -> AsyncIterator[Dataset]:
        response = await self._send("GET", path, {"Accept": _OBJECTS}, stream=True)
        try:
            self._requests.check(response)
            reader = self._requests.reader(response)
            async for chunk in response.aiter_bytes():
                for dataset in self._requests.objects(reader, chunk):
                    yield dataset
            reader.finish()
        except httpx.TransportError as error:
            raise self._requests.unreachable(error) from error
        finally:
            await response.aclose()
