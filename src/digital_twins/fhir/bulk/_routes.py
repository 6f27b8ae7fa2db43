"""The HTTP side of exports (Bulk Data Access 2.0.0: kick-off, status, files, delete)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from digital_twins.fhir._dates import to_instant
from digital_twins.fhir._edge import base_of, guarded
from digital_twins.fhir._http import json_body, json_response
from digital_twins.fhir._json import loads
from digital_twins.fhir._operations import announced
from digital_twins.fhir._outcome import Issue, bad_request, outcome
from digital_twins.fhir.bulk._request import NDJSON, Level, parameters_of, parse_export
from digital_twins.storage import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from digital_twins.fhir.bulk._exports import BulkExports, Export

_ACCEPTED = {"application/fhir+json", "application/json", "application/*", "*/*"}
_RETRY_AFTER_S = 1
_PIECE_BYTES = 1 << 20
_DEFINITION = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"

BULK_OPERATIONS = (
    announced("export", f"{_DEFINITION}/export", "system"),
    announced("export", f"{_DEFINITION}/patient-export", "type", "Patient"),
    announced("export", f"{_DEFINITION}/group-export", "instance", "Group"),
)
"""The three exports for the CapabilityStatement; `bulk_routes` serves them."""


def _anonymous(request: Request) -> str:
    return "anonymous"


def bulk_routes(
    exports: BulkExports,
    *,
    base: str = "/fhir",
    public_url: str | None = None,
    agent: Callable[[Request], str] = _anonymous,
    requires_token: bool = False,
    on_error: Callable[[BaseException], None] | None = None,
) -> list[Route]:
    """Return the routes of Bulk Data exports; they must stand before those of the REST interface.

    Parameters
    ----------
    exports
        What runs them.
    base
        Path of the FHIR base on this server.
    public_url
        Address of the base for links, when a proxy stands in front; by default that of the request.
    agent
        Names who asks; an export belongs to whoever asked for it.
    requires_token
        Whether files are given to holders of an access token only (``requiresAccessToken``).
    on_error
        Told of exceptions that nothing else explains.

    Returns
    -------
    list of Route
        ``$export`` of the system, of Patient and of a Group by GET and POST, the status of an export and its
        deletion, and its files.
    """
    door = _Door(exports, base.rstrip("/"), public_url, agent, requires_token)
    table = [
        ("/$export", door.kick_off, ["GET", "POST"]),
        ("/Patient/$export", door.kick_off, ["GET", "POST"]),
        ("/Group/{id}/$export", door.kick_off, ["GET", "POST"]),
        ("/$export-status/{export}", door.status, ["GET"]),
        ("/$export-status/{export}", door.delete, ["DELETE"]),
        ("/$export-file/{export}/{name}", door.file, ["GET"]),
    ]
    return [
        Route(door.base + path, guarded(handler, on_error), methods=verbs) for path, handler, verbs in table
    ]


class _Door:
    def __init__(
        self,
        exports: BulkExports,
        base: str,
        public_url: str | None,
        agent: Callable[[Request], str],
        requires_token: bool,
    ) -> None:
        self.exports = exports
        self.base = base
        self.public_url = public_url
        self.agent = agent
        self.requires_token = requires_token

    async def kick_off(self, request: Request) -> Response:
        preferences = {
            p.strip().lower() for p in request.headers.get("prefer", "").replace(";", ",").split(",")
        }
        if "respond-async" not in preferences:
            raise bad_request("An export needs the header 'Prefer: respond-async'.", code="required")
        accepted = {a.partition(";")[0].strip() for a in request.headers.get("accept", "*/*").split(",")}
        if not accepted & _ACCEPTED:
            raise bad_request("The answer is application/fhir+json.", code="not-supported", status=406)
        pairs = request.query_params.multi_items()
        if request.method == "POST":
            pairs = [*pairs, *parameters_of(loads(await json_body(request)))]
        group = request.path_params.get("id", "")
        level: Level = "group" if group else "patient" if "/Patient/" in request.url.path else "system"
        asked = parse_export(
            pairs,
            level=level,
            group=group,
            lenient="handling=lenient" in preferences,
            extra=self.exports.package_parameters,
        )
        here = base_of(request, self.base, self.public_url)
        path = request.url.path[len(self.base) :]
        url = f"{here}{path}{'?' + request.url.query if request.url.query else ''}"
        name = await asyncio.to_thread(self.exports.kick_off, asked, agent=self.agent(request), url=url)
        answer = json_response(
            outcome([Issue("informational", "The export was queued.", severity="information")]), 202
        )
        answer.headers["content-location"] = f"{here}/$export-status/{name}"
        return answer

    async def status(self, request: Request) -> Response:
        export = await asyncio.to_thread(
            self.exports.find, request.path_params["export"], agent=self.agent(request)
        )
        job = export.job
        if job.state is JobState.SUCCEEDED:
            return self.manifest(export, base_of(request, self.base, self.public_url))
        if job.state is JobState.FAILED:
            error = job.error or {}
            text = " ".join(str(error.get(part, "")) for part in ("what", "why", "fix"))
            return json_response(outcome([Issue("exception", text)]), 500)
        shown = f"{round(100 * job.progress)}% {job.progress_text}".strip() if job.progress else "queued"
        return Response(
            status_code=202, headers={"x-progress": shown[:100], "retry-after": str(_RETRY_AFTER_S)}
        )

    def manifest(self, export: Export, here: str) -> Response:
        """Return the manifest of a complete export."""
        result: dict[str, Any] = export.job.result or {}
        files = {
            kind: [
                {
                    "type": row["type"],
                    "url": f"{here}/$export-file/{export.job.job_id}/{row['name']}",
                    "count": row["count"],
                }
                for row in result.get(kind, ())
            ]
            for kind in ("output", "deleted", "error")
        }
        body = {
            "transactionTime": to_instant(result["at_us"]),
            "request": export.url,
            "requiresAccessToken": self.requires_token,
            **files,
        }
        expires = format_datetime(datetime.fromtimestamp(export.expires or 0, tz=UTC), usegmt=True)
        return JSONResponse(body, headers={"expires": expires})

    async def delete(self, request: Request) -> Response:
        await asyncio.to_thread(self.exports.cancel, request.path_params["export"], agent=self.agent(request))
        return json_response(
            outcome([Issue("informational", "The export was removed.", severity="information")]), 202
        )

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = await asyncio.to_thread(
            self.exports.file, request.path_params["export"], name, agent=self.agent(request)
        )
        if not self.exports.files.encrypted:
            return FileResponse(path, media_type=NDJSON)
        return StreamingResponse(_pieces(self.exports.files.open(path)), media_type=NDJSON)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from iter(partial(file.read, _PIECE_BYTES), b"")
