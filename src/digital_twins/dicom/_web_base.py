"""What the DICOMweb handlers share: who asks, what they may, the audit event, and the forms of an answer."""

from __future__ import annotations

import inspect
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import orjson
from starlette.responses import Response, StreamingResponse

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._accept import NotAcceptableError, parse_accept
from digital_twins.dicom._body import parse_range
from digital_twins.dicom._json import BASE_MARK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.requests import HTTPConnection, Request

    from digital_twins.dicom._accept import Accepted
    from digital_twins.dicom._body import Body
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance

Operation = Literal["search", "retrieve", "store", "read-workitem", "write-workitem"]
JSON = "application/dicom+json"
_JSON_RANGES = frozenset({"*/*", "application/*", "application/json", JSON})
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GZIP_FROM_BYTES = 1024
_IN_MEMORY_BYTES = 4 * 2**20
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class SignInRequiredError(DigitalTwinError):
    """The request carries no credentials, or none that are valid (HTTP 401)."""

    http_status = 401


@dataclass(frozen=True, slots=True)
class Door:
    """The store behind the routes, and who may use it.

    Attributes
    ----------
    authorize
        Returns the name of who asks for an operation, for the audit trail, or raises; None lets everybody in
        under the peer's address.
    """

    store: DicomStore
    authorize: Callable[[HTTPConnection, Operation], str | Awaitable[str]] | None = None

    def guarded(
        self, operation: Operation, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler behind the sign-in, with its errors as problem documents (RFC 9457)."""

        async def guarded(request: Request) -> Response:
            try:
                request.state.agent = await self.admit(request, operation)
                return await handler(request)
            except DigitalTwinError as error:
                return problem(error)

        return guarded

    async def admit(self, connection: HTTPConnection, operation: Operation) -> str:
        """Return who asks; raises what `authorize` raises."""
        if self.authorize is None:
            return connection.client.host if connection.client is not None else "unknown"
        name = self.authorize(connection, operation)
        return await name if inspect.isawaitable(name) else name

    def audit(
        self,
        request: Request,
        action: Literal["C", "R", "U", "D", "E"],
        kind: str,
        *,
        instance: Instance | None = None,
        patient_id: str = "",
        detail: Mapping[str, str | int],
    ) -> None:
        """Queue the one audit event of a request."""
        self.store.record(
            AuditEvent(
                action=action,
                kind=kind,
                outcome="success",
                agent=request.state.agent,
                entity=None if instance is None else instance.study_uid,
                patient=self.store.pseudonym(patient_id if instance is None else instance.patient_id),
                detail=dict(detail),
            )
        )


def problem(error: DigitalTwinError) -> Response:
    """Return an error as application/problem+json."""
    body = {"title": error.what, "detail": error.why, "fix": error.fix, "status": error.http_status}
    headers = {"WWW-Authenticate": "Bearer"} if error.http_status == 401 else None
    return Response(
        orjson.dumps(body),
        status_code=error.http_status,
        media_type="application/problem+json",
        headers=headers,
    )


def accepted(request: Request) -> list[Accepted]:
    """Return what the client takes: the query parameter `accept` before the header (PS3.18 section 8.7.5)."""
    taken = parse_accept(", ".join(request.headers.getlist("accept")))
    if b"accept=" not in request.scope["query_string"]:
        return taken
    # A form decoder reads the plus sign of application/dicom+json as a space.
    stated = ", ".join(request.query_params.getlist("accept")).replace("dicom ", "dicom+")
    return [*parse_accept(stated), *taken]


def require_json(request: Request) -> None:
    """Raise NotAcceptableError for a client that takes no DICOM JSON."""
    if not any(item.part_type in _JSON_RANGES for item in accepted(request)):
        raise NotAcceptableError(
            "The answer cannot be given in the accepted form.",
            "It comes as DICOM JSON only.",
            f"Accept {JSON}.",
        )


def base_url(request: HTTPConnection) -> str:
    """Return the DICOMweb root as this client wrote it."""
    scheme = {"ws": "http", "wss": "https"}.get(request.url.scheme, request.url.scheme)
    host, server = request.url.netloc, request.scope.get("server")
    if server is not None and host == server[0]:
        host = f"{host}:{server[1]}"  # dicomweb-client leaves the port out of the Host header
    return f"{scheme}://{host}{request.scope.get('root_path', '')}"


def json_answer(
    request: Request, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with DICOM JSON in which the mark for the DICOMweb root is replaced; compressed when wanted."""
    body = body.replace(BASE_MARK, base_url(request).encode())
    fields = {"Vary": "Accept-Encoding", **(headers or {})}
    if len(body) > _GZIP_FROM_BYTES and takes_gzip(request):
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
        body = packer.compress(body) + packer.flush()
        fields["Content-Encoding"] = "gzip"
    return Response(body, status_code=status, media_type=JSON, headers=fields)


def ignored(names: Iterable[str]) -> list[str]:
    """Return the text of a warning for each query parameter that is not supported.

    A name that is no plain word is not repeated: it stands in a header of the answer.
    """
    return [
        f"parameter {name} was ignored" if _PLAIN_NAME.fullmatch(name) else "a parameter was ignored"
        for name in names
    ]


def warning_header(texts: Iterable[str]) -> dict[str, str]:
    """Return a Warning header (RFC 7234 section 5.5, as PS3.18 uses it), or nothing when all is well."""
    found = ", ".join(f'299 digital-twins "{text}"' for text in texts)
    return {"Warning": found} if found else {}


def takes_gzip(request: Request) -> bool:
    """Whether the client accepts a gzip content coding."""
    codings = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    refused = {"gzip;q=0", "gzip;q=0.0"}
    return any(c.split(";")[0] in {"gzip", "*"} and c not in refused for c in codings)


def not_modified(request: Request, tag: str) -> Response | None:
    """Return the answer 304 when the client's copy is still right."""
    known = [item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers={"ETag": tag}) if {tag, "*"} & set(known) else None


async def body_answer(request: Request, body: Body, kind: str, tag: str) -> Response:
    """Answer with a body of known length, or with the range of it that the client asks for."""
    from anyio.to_thread import run_sync

    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    wanted = request.headers.get("range")
    if wanted and request.headers.get("if-range", tag) != tag:
        wanted = None
    span = parse_range(wanted, body.length)
    if span is None:
        if body.length <= _IN_MEMORY_BYTES:
            return Response(await run_sync(body.read), media_type=kind, headers=headers)
        headers["Content-Length"] = str(body.length)
        return StreamingResponse(body.pieces(0, body.length), media_type=kind, headers=headers)
    start, stop = span
    headers |= {
        "Content-Range": f"bytes {start}-{stop - 1}/{body.length}",
        "Content-Length": str(stop - start),
    }
    return StreamingResponse(body.pieces(start, stop), status_code=206, media_type=kind, headers=headers)


def whole_numbers(text: str) -> list[int]:
    """Read a list of frame numbers; raises InputError."""
    numbers = text.split(",")
    if len(numbers) > 10_000 or not all(n.isascii() and n.isdigit() and len(n) < 8 for n in numbers):
        raise InputError(
            "The frame list cannot be used.",
            "Frame numbers are whole numbers from 1, separated by commas.",
            "Ask for .../frames/1 or .../frames/1,2,3.",
        )
    return [int(n) for n in numbers]
