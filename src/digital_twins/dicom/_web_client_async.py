"""DICOMweb client (PS3.18), asynchronous: the methods of the synchronous one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import httpx

from digital_twins.dicom._multipart import new_boundary
from digital_twins.dicom._web_download import Download
from digital_twins.dicom._web_requests import (
    JSON,
    OBJECTS,
    Asked,
    Requests,
    body as store_body,
    retrieve_path,
    store_headers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from pydicom.dataset import Dataset

    from digital_twins.dicom._web_download import DownloadedStudy, Progress


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
        self._requests = Requests(base_url, retries)
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
        return await self._search("studies", None, None, Asked(filters, fields, limit, offset))

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
        parameters = Asked(filters, fields, limit, offset)
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
        parameters = Asked(filters, fields, limit, offset)
        return await self._search("instances", study_uid, series_uid, parameters)

    def retrieve_study(self, study_uid: str) -> AsyncIterator[Dataset]:
        """WADO-RS of a study: yields one data set after the other as they arrive."""
        return self._retrieve(retrieve_path(study_uid, None))

    def retrieve_series(self, study_uid: str, series_uid: str) -> AsyncIterator[Dataset]:
        """WADO-RS of a series."""
        return self._retrieve(retrieve_path(study_uid, series_uid))

    async def retrieve_metadata(self, study_uid: str, series_uid: str | None = None) -> list[Dataset]:
        """WADO-RS metadata of a study or series, without bulk data."""
        path = retrieve_path(study_uid, series_uid) + "/metadata"
        return self._requests.results(await self._send("GET", path, {"Accept": JSON}))

    async def download_study(
        self,
        study_uid: str,
        folder: str | Path | None = None,
        *,
        series_uid: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> DownloadedStudy:
        """Write a study into files as it arrives; as `DicomWebClient.download_study`."""
        download = Download(folder, progress)
        path, attempt, reached = retrieve_path(study_uid, series_uid), 0, 0
        try:
            while True:
                response = await self._send("GET", path, download.headers, stream=True)
                try:
                    self._requests.check(response)
                    download.start(response)
                    async for chunk in response.aiter_bytes():
                        download.feed(chunk)
                    return download.finish()
                except httpx.TransportError as error:
                    # Whoever gets further is not stuck: the attempts are counted anew.
                    attempt = attempt if download.done_bytes <= reached else 0
                    wait_s = self._requests.wait_s(attempt, error)
                    if wait_s is None:
                        raise self._requests.unreachable(error) from error
                finally:
                    await response.aclose()
                attempt, reached = attempt + 1, max(reached, download.done_bytes)
                await asyncio.sleep(wait_s)
        finally:
            download.abandon()

    async def store(self, datasets: Iterable[Dataset | Path]) -> Dataset:
        """STOW-RS: send data sets one after the other and return the store instances response."""
        boundary = new_boundary()

        async def body() -> AsyncIterator[bytes]:
            for piece in store_body(datasets, boundary):
                yield piece

        try:
            response = await self._http.post(
                self._requests.base_url + "/studies", content=body(), headers=store_headers(boundary)
            )
        except httpx.TransportError as error:
            raise self._requests.unreachable(error) from error
        return self._requests.stored(response)

    async def _search(
        self,
        level: str,
        study_uid: str | None,
        series_uid: str | None,
        asked: Asked,
    ) -> list[Dataset]:
        path = self._requests.search_path(level, study_uid, series_uid, asked)
        return self._requests.results(await self._send("GET", path, {"Accept": JSON}))

    async def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        stream: bool = False,
    ) -> httpx.Response:
        attempt = 0
        while True:
            url = self._requests.base_url + path
            request = self._http.build_request(method, url, headers=headers)
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
        response = await self._send("GET", path, {"Accept": OBJECTS}, stream=True)
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
