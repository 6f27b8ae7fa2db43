"""DICOMweb client (PS3.18), synchronous, that never holds a whole study."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Self

import httpx

from digital_twins.dicom._multipart import new_boundary
from digital_twins.dicom._web_download import Download
from digital_twins.dicom._web_requests import (
    JSON,
    OBJECTS,
    Asked,
    Requests,
    body,
    retrieve_path,
    store_headers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pydicom.dataset import Dataset

    from digital_twins.dicom._web_download import DownloadedStudy, Progress


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
        self._requests = Requests(base_url, retries)
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
        return self._search("studies", None, None, Asked(filters, fields, limit, offset))

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
        return self._search("series", study_uid, None, Asked(filters, fields, limit, offset))

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
        parameters = Asked(filters, fields, limit, offset)
        return self._search("instances", study_uid, series_uid, parameters)

    def retrieve_study(self, study_uid: str) -> Iterator[Dataset]:
        """WADO-RS of a study: yields one data set after the other as they arrive; raises NotFoundError."""
        return self._retrieve(retrieve_path(study_uid, None))

    def retrieve_series(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """WADO-RS of a series, as `retrieve_study`."""
        return self._retrieve(retrieve_path(study_uid, series_uid))

    def retrieve_instance(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
        """WADO-RS of one instance; raises NotFoundError."""
        return next(self._retrieve(retrieve_path(study_uid, series_uid) + f"/instances/{sop_uid}"))

    def retrieve_metadata(self, study_uid: str, series_uid: str | None = None) -> list[Dataset]:
        """WADO-RS metadata of a study or series, without bulk data."""
        response = self._send("GET", retrieve_path(study_uid, series_uid) + "/metadata", {"Accept": JSON})
        return self._requests.results(response)

    def download_study(
        self,
        study_uid: str,
        folder: str | Path | None = None,
        *,
        series_uid: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> DownloadedStudy:
        """Write a study into files as it arrives, holding no object whole.

        Parameters
        ----------
        folder
            Where the files go, each named by its SOP Instance UID; a temporary folder that lives as long as
            the returned study when None.
        series_uid
            Take this series only.
        progress
            Called after each piece.

        Raises
        ------
        NotFoundError
            The server has no such study or series.
        InputError
            The answer is malformed.
        DicomWebError
            The connection broke more often than the retries allow. A server that gives ranges (ours does) is
            asked for the rest only, another one from the start.
        """
        download = Download(folder, progress)
        path, attempt, reached = retrieve_path(study_uid, series_uid), 0, 0
        try:
            while True:
                response = self._send("GET", path, download.headers, stream=True)
                try:
                    self._requests.check(response)
                    download.start(response)
                    for chunk in response.iter_bytes():
                        download.feed(chunk)
                    return download.finish()
                except httpx.TransportError as error:
                    # Whoever gets further is not stuck: the attempts are counted anew.
                    attempt = attempt if download.done_bytes <= reached else 0
                    wait_s = self._requests.wait_s(attempt, error)
                    if wait_s is None:
                        raise self._requests.unreachable(error) from error
                finally:
                    response.close()
                attempt, reached = attempt + 1, max(reached, download.done_bytes)
                time.sleep(wait_s)
        finally:
            download.abandon()

    def store(self, datasets: Iterable[Dataset | Path]) -> Dataset:
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
                content=body(datasets, boundary),
                headers=store_headers(boundary),
            )
        except httpx.TransportError as error:
            raise self._requests.unreachable(error) from error
        return self._requests.stored(response)

    def _search(
        self,
        level: str,
        study_uid: str | None,
        series_uid: str | None,
        asked: Asked,
    ) -> list[Dataset]:
        path = self._requests.search_path(level, study_uid, series_uid, asked)
        return self._requests.results(self._send("GET", path, {"Accept": JSON}))

    def _send(
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
        response = self._send("GET", path, {"Accept": OBJECTS}, stream=True)
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
