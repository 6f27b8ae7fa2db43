"""FHIR R4 clients, synchronous and asynchronous, over httpx."""

from __future__ import annotations

import asyncio
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._bulk_client import (
    BulkRequest,
    Download,
    Wait,
    answer_or_refuse,
    cancel_call,
    download_call,
    export_steps,
)
from digital_twins.fhir._exchange import (
    MEDIA_TYPE,
    Call,
    answer_of,
    checked_base,
    corrected_bundle,
    outgoing,
    read_credentials,
    retry_delay,
    unreachable,
)
from digital_twins.fhir._json import dumps
from digital_twins.fhir._paging import Pairs, SearchPages

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from digital_twins.fhir._bulk_client import BulkExport
    from digital_twins.fhir._resource import FHIRResource


class _Calls:
    """Builds the calls; knows nothing of how they are sent."""

    def __init__(
        self,
        base_url: str,
        auth: str | httpx.Auth | None,
        credentials_path: str | os.PathLike[str] | None,
        timeout_s: float,
        retries: int,
    ) -> None:
        self.base_url = checked_base(base_url)
        token = read_credentials(credentials_path) if credentials_path is not None else None
        if isinstance(auth, str):
            token, auth = auth, None
        self._headers = {"accept": MEDIA_TYPE}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._auth = auth
        self._timeout_s = timeout_s
        self._retries = retries

    def _options(self) -> dict[str, Any]:
        return {
            "headers": self._headers,
            "auth": self._auth,
            "timeout": self._timeout_s,
            "follow_redirects": False,
        }

    def _arguments(self, call: Call) -> dict[str, Any]:
        url = call.path if "://" in call.path else f"{self.base_url}/{call.path}".rstrip("/")
        headers = dict(call.headers or {})
        if call.body is not None:
            headers.setdefault("content-type", MEDIA_TYPE)
        arguments: dict[str, Any] = {"method": call.method, "url": url, "headers": headers}
        if call.params:
            arguments["params"] = list(call.params)
        if call.body is not None:
            arguments["content"] = call.body
        return arguments

    @staticmethod
    def _place(kind: str, name: str) -> str:
        return f"{quote(kind, safe='')}/{quote(name, safe='')}"

    def _read(self, kind: str, name: str) -> Call:
        return Call("GET", self._place(kind, name), what=f"The {kind} could not be read.")

    def _search(self, kind: str, asked: str | Pairs) -> Call:
        """Return the call for the parameters of a search, or for the address of a later page."""
        if isinstance(asked, str):
            return Call("GET", asked, what=f"The search for {kind} failed on a later page.")
        return Call("GET", quote(kind, safe=""), params=asked, what=f"The search for {kind} failed.")

    def _create(self, kind: str, resource: Mapping[str, Any], if_none_exist: str | None) -> Call:
        body, _ = outgoing(resource, kind)
        headers = {"prefer": "return=representation"}
        if if_none_exist:
            headers["if-none-exist"] = if_none_exist
        return Call("POST", kind, body=dumps(body), headers=headers, what=f"The {kind} could not be created.")

    def _update(self, resource: Mapping[str, Any], if_match: str | None) -> Call:
        body, kind = outgoing(resource)
        headers = {"prefer": "return=representation"}
        if if_match:
            headers["if-match"] = if_match
        place = self._place(kind, str(body.get("id", "")))
        return Call("PUT", place, body=dumps(body), headers=headers, what=f"The {kind} could not be updated.")

    def _delete(self, kind: str, name: str) -> Call:
        return Call("DELETE", self._place(kind, name), what=f"The {kind} could not be deleted.")

    def _transaction(self, bundle: Mapping[str, Any]) -> Call:
        return Call("POST", "", body=dumps(corrected_bundle(bundle)), what="The transaction failed.")

    def _metadata(self) -> Call:
        return Call("GET", "metadata", what="The CapabilityStatement could not be read.")


class FHIRClient(_Calls):
    """A FHIR R4 client.

    Parameters
    ----------
    base_url
        Address of the FHIR base.
    auth
        A bearer token, or any `httpx.Auth`; None for a server that needs none.
    credentials_path
        File ``{"access_token": "..."}`` with mode 0600, instead of ``auth``.
    timeout_s
        Longest wait for an answer.
    retries
        How often calls that may be repeated are repeated, with back-off.
    transport
        An `httpx.BaseTransport`, e.g. to talk to an application in this process.

    Examples
    --------
    >>> client = FHIRClient(base_url="https://fhir.hospital.example/R4")
    >>> patients = client.search("Patient", {"identifier": "MRN|12345678"})
    >>> patients[0].id

    Notes
    -----
    A DiagnosticReport that calls itself 'Digital Twin Analysis' is sent with the code of this software's own
    system instead of LOINC 59776-5 (which means something else) and as ``preliminary``; the report records
    both changes and a log line counts them.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: str | httpx.Auth | None = None,
        credentials_path: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, auth, credentials_path, timeout_s, retries)
        self._sleep: Callable[[float], None] = time.sleep
        self._http = httpx.Client(transport=transport, **self._options())
        # Documented calls never close: the connections go with the client.
        weakref.finalize(self, self._http.close)

    def _exchange(self, call: Call, into: Path | None = None) -> httpx.Response:
        """Send a call, again where that may help; with ``into`` a good answer's body goes to that file."""
        attempt = 0
        while True:
            try:
                response = self._once(call, into)
            except httpx.TransportError as error:
                delay = retry_delay(call, attempt, error)
                if delay is None or attempt >= self._retries:
                    raise unreachable(call, error) from None
            else:
                delay = retry_delay(call, attempt, response)
                if delay is None or attempt >= self._retries:
                    return response
            self._sleep(delay)
            attempt += 1

    def _once(self, call: Call, into: Path | None) -> httpx.Response:
        if into is None:
            return self._http.request(**self._arguments(call))
        with self._http.stream(**self._arguments(call)) as response:
            if response.status_code == 200:
                with into.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            else:
                response.read()
            return response

    def _send(self, call: Call) -> FHIRResource:
        return answer_of(call, self._exchange(call))

    def bulk_export(
        self,
        folder: str | os.PathLike[str],
        *,
        scope: str = "system",
        types: Sequence[str] = (),
        since: str | datetime | None = None,
        type_filters: Sequence[str] = (),
        elements: Sequence[str] = (),
        timeout_s: float = 3600.0,
    ) -> BulkExport:
        """Export resources in bulk and download them as NDJSON files (Bulk Data Access 2.0).

        The export is polled at the pace that the server asks for; files are streamed to disk and repeated
        when the connection breaks; the export is removed from the server at the end, or when it is broken
        off. Files on another host are fetched without credentials.

        Parameters
        ----------
        folder
            Where ``Type.N.ndjson`` go; it is made when missing.
        scope
            ``"system"``, ``"patient"`` (all patients) or ``"Group/ID"`` (members of a group).
        types
            Resource types; empty for all.
        since
            Only what was changed after this instant; `BulkExport.transaction_time` of the last export.
        type_filters
            Searches such as ``"Observation?code=http://loinc.org|21908-9"``.
        elements
            Elements to keep, e.g. ``"Patient.birthDate"``.
        timeout_s
            Longest wait for the server to finish.

        Raises
        ------
        InputError, FHIRRequestError
            The server refused, failed, took too long, or its files are not what its manifest says.
        """
        asked = BulkRequest(folder, scope, types, since, type_filters, elements, timeout_s)
        steps = export_steps(asked, self.base_url)
        answer: httpx.Response | None = None
        place = ""
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, Wait):
                    self._sleep(step.seconds)
                elif isinstance(step, Download):
                    self._download(step)
                else:
                    answer = self._exchange(step)
                    place = place or answer.headers.get("content-location", "")
        except StopIteration as end:
            done: BulkExport = end.value
            return done
        except BaseException:
            if place:
                with suppress(DigitalTwinError):
                    self._exchange(cancel_call(place))
            raise

    def _download(self, step: Download) -> None:
        call = download_call(step)
        if step.credentials:
            answer_or_refuse(call, self._exchange(call, step.part))
        else:
            with FHIRClient(self.base_url, timeout_s=self._timeout_s, retries=self._retries) as plain:
                answer_or_refuse(call, plain._exchange(call, step.part))
        step.finish()

    def search(
        self,
        kind: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        partial: bool = False,
    ) -> list[FHIRResource]:
        """Return every match of a search (and what ``_include`` adds), following all pages.

        A server that announces more matches than it sends, and no next page, is asked again with a larger
        ``_count``; what stays incomplete is an error.

        Parameters
        ----------
        kind
            Resource type.
        params
            FHIR search parameters; a list of values repeats the parameter (AND).
        limit
            Stop after this many resources.
        partial
            Take what the server sends although it announces more.

        Raises
        ------
        InputError, FHIRRequestError
            The server refused, could not be reached, or left out matches that it announced; messages hold no
            patient data.
        """
        pages = SearchPages(self.base_url, kind, params, limit=limit, partial=partial)
        asked: str | Pairs | None = pages.pairs
        while asked is not None:
            asked = pages.take(self._send(self._search(kind, asked)))
        return pages.resources

    def read(self, kind: str, name: str) -> FHIRResource:
        """Return a resource by type and id; NotFoundError when there is none."""
        return self._send(self._read(kind, name))

    def create(
        self, kind: str, resource: Mapping[str, Any], *, if_none_exist: str | None = None
    ) -> FHIRResource:
        """Create a resource and return it as stored; see the class about digital twin reports."""
        return self._send(self._create(kind, resource, if_none_exist))

    def update(self, resource: Mapping[str, Any], *, if_match: str | None = None) -> FHIRResource:
        """Store a resource under the id that it carries; ConflictError when ``if_match`` is outdated."""
        return self._send(self._update(resource, if_match))

    def delete(self, kind: str, name: str) -> None:
        """Delete a resource."""
        self._send(self._delete(kind, name))

    def transaction(self, bundle: Mapping[str, Any]) -> FHIRResource:
        """Send a transaction or batch bundle and return the response bundle."""
        return self._send(self._transaction(bundle))

    def capabilities(self) -> FHIRResource:
        """Return the server's CapabilityStatement."""
        return self._send(self._metadata())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> FHIRClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncFHIRClient(_Calls):
    """The same client for ``async`` code; see `FHIRClient` for parameters and behaviour."""

    def __init__(
        self,
        base_url: str,
        *,
        auth: str | httpx.Auth | None = None,
        credentials_path: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, auth, credentials_path, timeout_s, retries)
        self._http = httpx.AsyncClient(transport=transport, **self._options())

    async def _exchange(self, call: Call, into: Path | None = None) -> httpx.Response:
        """Send a call, again where that may help; with ``into`` a good answer's body goes to that file."""
        attempt = 0
        while True:
            try:
                response = await self._once(call, into)
            except httpx.TransportError as error:
                delay = retry_delay(call, attempt, error)
                if delay is None or attempt >= self._retries:
                    raise unreachable(call, error) from None
            else:
                delay = retry_delay(call, attempt, response)
                if delay is None or attempt >= self._retries:
                    return response
            await asyncio.sleep(delay)
            attempt += 1

    async def _once(self, call: Call, into: Path | None) -> httpx.Response:
        if into is None:
            return await self._http.request(**self._arguments(call))
        async with self._http.stream(**self._arguments(call)) as response:
            if response.status_code == 200:
                with into.open("wb") as file:
                    async for chunk in response.aiter_bytes():
                        file.write(chunk)
            else:
                await response.aread()
            return response

    async def _send(self, call: Call) -> FHIRResource:
        return answer_of(call, await self._exchange(call))

    async def bulk_export(
        self,
        folder: str | os.PathLike[str],
        *,
        scope: str = "system",
        types: Sequence[str] = (),
        since: str | datetime | None = None,
        type_filters: Sequence[str] = (),
        elements: Sequence[str] = (),
        timeout_s: float = 3600.0,
    ) -> BulkExport:
        """Export resources in bulk and download them as NDJSON files; see `FHIRClient.bulk_export`."""
        asked = BulkRequest(folder, scope, types, since, type_filters, elements, timeout_s)
        steps = export_steps(asked, self.base_url)
        answer: httpx.Response | None = None
        place = ""
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                elif isinstance(step, Download):
                    await self._download(step)
                else:
                    answer = await self._exchange(step)
                    place = place or answer.headers.get("content-location", "")
        except StopIteration as end:
            done: BulkExport = end.value
            return done
        except BaseException:
            if place:
                with suppress(DigitalTwinError):
                    await self._exchange(cancel_call(place))
            raise

    async def _download(self, step: Download) -> None:
        call = download_call(step)
        if step.credentials:
            answer_or_refuse(call, await self._exchange(call, step.part))
        else:
            async with AsyncFHIRClient(
                self.base_url, timeout_s=self._timeout_s, retries=self._retries
            ) as plain:
                answer_or_refuse(call, await plain._exchange(call, step.part))
        step.finish()

    async def search(
        self,
        kind: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        partial: bool = False,
    ) -> list[FHIRResource]:
        """Return every match of a search, following all pages; see `FHIRClient.search`."""
        pages = SearchPages(self.base_url, kind, params, limit=limit, partial=partial)
        asked: str | Pairs | None = pages.pairs
        while asked is not None:
            asked = pages.take(await self._send(self._search(kind, asked)))
        return pages.resources

    async def read(self, kind: str, name: str) -> FHIRResource:
        """Return a resource by type and id; NotFoundError when there is none."""
        return await self._send(self._read(kind, name))

    async def create(
        self, kind: str, resource: Mapping[str, Any], *, if_none_exist: str | None = None
    ) -> FHIRResource:
        """Create a resource and return it as stored."""
        return await self._send(self._create(kind, resource, if_none_exist))

    async def update(self, resource: Mapping[str, Any], *, if_match: str | None = None) -> FHIRResource:
        """Store a resource under the id that it carries."""
        return await self._send(self._update(resource, if_match))

    async def delete(self, kind: str, name: str) -> None:
        """Delete a resource."""
        await self._send(self._delete(kind, name))

    async def transaction(self, bundle: Mapping[str, Any]) -> FHIRResource:
        """Send a transaction or batch bundle and return the response bundle."""
        return await self._send(self._transaction(bundle))

    async def capabilities(self) -> FHIRResource:
        """Return the server's CapabilityStatement."""
        return await self._send(self._metadata())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncFHIRClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
