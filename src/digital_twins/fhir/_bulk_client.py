"""The client's side of a Bulk Data export (Bulk Data Access 2.0.0): steps that both clients carry out.

The steps are a generator that never waits and never sends: it yields what is to be done and is told the
outcome, so that the synchronous and the asynchronous client share every decision.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from digital_twins._errors import InputError
from digital_twins.fhir._exchange import Call, FHIRRequestError, answer_of
from digital_twins.fhir._resource import FHIRResource

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterator, Sequence

    import httpx

_WHAT = "The bulk export failed."
_TYPE = re.compile(r"[A-Za-z]{1,64}")
_FIRST_POLL_S, _LONGEST_POLL_S = 0.5, 60.0


@dataclass(frozen=True, slots=True)
class BulkFile:
    """One downloaded file: the resource type and how many resources it holds."""

    type: str
    path: Path
    count: int


@dataclass(frozen=True, slots=True)
class BulkExport:
    """A finished export on this machine.

    Attributes
    ----------
    transaction_time
        The server's instant of the data: what ``since`` of the next export should say.
    output, deleted, error
        Files of resources, of Bundles that name deleted ones, and of OperationOutcomes.
    """

    transaction_time: str
    output: tuple[BulkFile, ...]
    deleted: tuple[BulkFile, ...] = ()
    error: tuple[BulkFile, ...] = ()

    def resources(self, kind: str | None = None) -> Iterator[FHIRResource]:
        """Yield the exported resources, of one type if asked, reading one line at a time."""
        for file in self.output:
            if kind is None or file.type == kind:
                with file.path.open("rb") as lines:
                    yield from (FHIRResource(orjson.loads(line)) for line in lines if line.strip())


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """What `FHIRClient.bulk_export` asks for; see there."""

    folder: str | os.PathLike[str]
    scope: str = "system"
    types: Sequence[str] = ()
    since: str | datetime | None = None
    type_filters: Sequence[str] = ()
    elements: Sequence[str] = ()
    timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Download:
    """Stream an address into a file; ``credentials`` says whether they go along."""

    url: str
    path: Path
    credentials: bool

    @property
    def part(self) -> Path:
        """Where the bytes go while they arrive."""
        return self.path.with_name(self.path.name + ".part")

    def finish(self) -> None:
        """Put the complete file in its place."""
        self.part.replace(self.path)


Step = Call | Wait | Download


def kick_off(request: BulkRequest) -> Call:
    """Return the call that starts an export.

    Raises
    ------
    InputError
        The scope is none of ``"system"``, ``"patient"`` and ``"Group/ID"``.
    """
    where = {"system": "$export", "patient": "Patient/$export"}.get(request.scope.lower())
    if where is None and re.fullmatch(r"Group/[A-Za-z0-9.\-]{1,64}", request.scope):
        where = f"{request.scope}/$export"
    if where is None:
        raise InputError(
            "The export cannot be started.",
            "Its scope is none of 'system', 'patient' and 'Group/ID'.",
            "Give scope='Group/123' to export the members of that group.",
        )
    since = request.since
    if isinstance(since, datetime):
        since = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    pairs = [
        ("_type", ",".join(request.types)),
        ("_since", since or ""),
        *(("_typeFilter", text) for text in request.type_filters),
        ("_elements", ",".join(request.elements)),
    ]
    headers = {"prefer": "respond-async"}
    return Call("GET", where, params=[p for p in pairs if p[1]], headers=headers, what=_WHAT)


def export_steps(request: BulkRequest, base_url: str) -> Generator[Step, Any, BulkExport]:
    """Yield the steps of an export and return it; `cancel_call` ends one that is broken off."""
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = yield kick_off(request)
    place = started.headers.get("content-location", "")
    if started.status_code != 202 or not place:
        raise _unexpected("It did not answer the kick-off with 202 and a Content-Location.", started)
    _check_origin(base_url, place)
    manifest = yield from _poll(place, request.timeout_s)
    files: dict[str, list[BulkFile]] = {"output": [], "deleted": [], "error": []}
    numbers: dict[str, int] = {}
    for kind, found in files.items():
        for row in manifest.get(kind) or ():
            found.append((yield from _fetch(row, kind, folder, (manifest, base_url, numbers))))
    yield cancel_call(place)
    return BulkExport(str(manifest.get("transactionTime", "")), *(tuple(found) for found in files.values()))


def cancel_call(place: str) -> Call:
    """Return the call that removes an export from the server."""
    return Call("DELETE", place, what=_WHAT)


def _poll(place: str, timeout_s: float) -> Generator[Step, Any, dict[str, Any]]:
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_POLL_S
    while True:
        answer: httpx.Response = yield Call("GET", place, headers={"accept": "application/json"}, what=_WHAT)
        if answer.status_code != 202:
            break
        if time.monotonic() > deadline:
            raise FHIRRequestError(
                _WHAT, "The server did not finish in time.", "Give a larger timeout_s.", status=202
            )
        yield Wait(_asked_pause(answer.headers.get("retry-after", "")) or pause_s)
        pause_s = min(1.5 * pause_s, _LONGEST_POLL_S)
    return dict(answer_of(Call("GET", place, what=_WHAT), answer))


def _asked_pause(text: str) -> float | None:
    """Return the seconds that Retry-After asks for, as a number or as an HTTP date; at most a minute."""
    if text.isdecimal():
        return min(float(text), _LONGEST_POLL_S)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(tz=UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, _FIRST_POLL_S), _LONGEST_POLL_S)


def _fetch(
    row: Any, output: str, folder: Path, known: tuple[dict[str, Any], str, dict[str, int]]
) -> Generator[Step, Any, BulkFile]:
    manifest, base_url, numbers = known
    kind, url = str(row.get("type", "")), str(row.get("url", ""))
    if not _TYPE.fullmatch(kind) or urlsplit(url).scheme not in {"http", "https"}:
        raise _unexpected("Its manifest names a file without a type or an address.")
    credentials = _origin(url) == _origin(base_url)
    if not credentials and manifest.get("requiresAccessToken"):
        raise _unexpected("Its files lie on another host than base_url, where credentials must not go.")
    stem = kind if output == "output" else f"{output}-{kind}"
    numbers[stem] = numbers.get(stem, 0) + 1
    path = folder / f"{stem}.{numbers[stem]}.ndjson"
    yield Download(url, path, credentials)
    count = _lines(path)
    if isinstance(row.get("count"), int) and row["count"] != count:
        raise _unexpected("A file has another number of resources than the manifest says.")
    return BulkFile(kind, path, count)


def _lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _check_origin(base_url: str, place: str) -> None:
    if "://" in place and _origin(place) != _origin(base_url):
        raise _unexpected("Its status address lies on another host than base_url.")


def _unexpected(why: str, answer: httpx.Response | None = None) -> Exception:
    if answer is not None and answer.status_code >= 300:
        answer_of(Call("GET", "", what=_WHAT), answer)
    status = None if answer is None else answer.status_code
    return FHIRRequestError(_WHAT, why, "Ask who runs the server.", status=status)


def download_call(step: Download) -> Call:
    """Return the call that fetches a file."""
    return Call("GET", step.url, headers={"accept": "application/fhir+ndjson"}, what=_WHAT)


def answer_or_refuse(call: Call, answer: httpx.Response) -> None:
    """Raise what a failed download means."""
    if answer.status_code != 200:
        answer_of(call, answer)
        raise _unexpected("It did not answer a download with 200.")
