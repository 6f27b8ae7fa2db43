"""The DICOMweb routes of a node (PS3.18): Starlette routes for the server to mount."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import orjson
from anyio.to_thread import run_sync
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._attributes import Level
from digital_twins.dicom._json import BASE_MARK, metadata
from digital_twins.dicom._multipart import new_boundary
from digital_twins.dicom._qido import MAX_RESULTS, parse_search, run_search
from digital_twins.dicom._store import not_found
from digital_twins.dicom._stow import Inbox
from digital_twins.dicom._wado import (
    NotAcceptableError,
    ObjectStream,
    choose_frame_format,
    etag,
    parse_accept,
    read_bulk,
    read_frames,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from digital_twins.dicom._store import DicomStore, Instance, Stored

_Detail = dict[str, str | int]
_JSON = "application/dicom+json"
_PATH_KEYWORDS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}


def dicomweb_routes(
    store: DicomStore,
    *,
    on_stored: Callable[[Stored], None] | None = None,
    agent: Callable[[Request], str] | None = None,
    max_object_bytes: int = 2**30,
) -> list[Route]:
    """Return QIDO-RS, WADO-RS and STOW-RS routes, to be mounted at the DICOMweb root.

    Parameters
    ----------
    store
        What is searched, retrieved from and stored to.
    on_stored
        Called in the event loop for every object that came to be on disk; must not block.
    agent
        Who a request comes from, for the audit trail; by default the peer's address.
    max_object_bytes
        Longest object that STOW-RS takes.
    """
    web = _Web(store, on_stored, agent or _address, max_object_bytes)
    study, series = "/studies/{study}", "/studies/{study}/series/{series}"
    instance = series + "/instances/{instance}"
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/studies", web.search(Level.STUDY)),
        ("GET", "/series", web.search(Level.SERIES)),
        ("GET", "/instances", web.search(Level.INSTANCE)),
        ("GET", study + "/series", web.search(Level.SERIES)),
        ("GET", study + "/instances", web.search(Level.INSTANCE)),
        ("GET", series + "/instances", web.search(Level.INSTANCE)),
        *(("GET", path, web.retrieve) for path in (study, series, instance)),
        *(("GET", path + "/metadata", web.metadata) for path in (study, series, instance)),
        ("GET", instance + "/frames/{frames}", web.frames),
        ("GET", instance + "/bulkdata/{tag}", web.bulk),
        ("POST", "/studies", web.store),
        ("POST", study, web.store),
    ]
    return [Route(path, _guarded(handler), methods=[method]) for method, path, handler in table]


class _Web:
    def __init__(
        self,
        store: DicomStore,
        on_stored: Callable[[Stored], None] | None,
        agent: Callable[[Request], str],
        max_object_bytes: int,
    ) -> None:
        self._store = store
        self._on_stored = on_stored
        self._agent = agent
        self._max_object_bytes = max_object_bytes

    def search(self, level: Level) -> Callable[[Request], Awaitable[Response]]:
        """Return the QIDO-RS handler of one level."""

        async def handler(request: Request) -> Response:
            _require_json(request)
            path = {_PATH_KEYWORDS[name]: uid for name, uid in request.path_params.items()}
            search = parse_search(level, path, request.query_params.multi_items())
            answers = await run_sync(run_search, self._store, search)
            detail: _Detail = {"level": level.name.lower(), "matches": len(answers)}
            self._audit(request, "E", "dicom.find", None, detail)
            headers = {}
            warnings = [f"parameter {name} was ignored" for name in search.ignored]
            if len(answers) == MAX_RESULTS:
                warnings.append("there may be more results, use limit and offset")
            if warnings:
                headers["Warning"] = ", ".join(f'299 digital-twins "{text}"' for text in warnings)
            if not answers:
                return Response(status_code=204, headers=headers)
            return _json(request, orjson.dumps(answers), headers=headers)

        return handler

    async def retrieve(self, request: Request) -> Response:
        """WADO-RS of a study, series or instance."""
        instances = await run_sync(self._instances, request)
        self._check_accept(request, instances)
        tag = etag(instances, "o")
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        self._audit(request, "R", "dicom.retrieve", instances[0], {"instances": len(instances)})
        if len(instances) == 1 and parse_accept(request.headers.get("accept", ""))[0].multipart is False:
            only = instances[0]
            return FileResponse(
                self._store.path(only),
                media_type=f"application/dicom; transfer-syntax={only.transfer_syntax}",
                headers={"ETag": tag},
            )
        stream = ObjectStream(self._store, instances)
        return StreamingResponse(
            stream.chunks(),
            media_type=stream.content_type,
            headers={"ETag": tag, "Content-Length": str(stream.content_length)},
        )

    async def metadata(self, request: Request) -> Response:
        """WADO-RS metadata of a study, series or instance."""
        _require_json(request)
        instances = await run_sync(self._instances, request)
        tag = etag(instances, "m")
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        objects = await run_sync(metadata, self._store, instances)
        self._audit(request, "R", "dicom.metadata", instances[0], {"instances": len(instances)})
        return _json(request, b"[" + b",".join(objects) + b"]", headers={"ETag": tag})

    async def frames(self, request: Request) -> Response:
        """WADO-RS frames by number."""
        numbers = _frame_numbers(request.path_params["frames"])
        instance = (await run_sync(self._instances, request))[0]
        accepted = parse_accept(request.headers.get("accept", ""))
        chosen = choose_frame_format(instance, accepted)
        frames = await run_sync(read_frames, self._store, instance, numbers, chosen)
        self._audit(request, "R", "dicom.frames", instance, {"frames": len(frames)})
        kind = f"{chosen.media_type}; transfer-syntax={chosen.transfer_syntax}"
        if len(frames) == 1 and not accepted[0].multipart:
            return Response(frames[0], media_type=kind, headers={"ETag": etag([instance], "f")})
        return _multipart(chosen.media_type, kind, frames)

    async def bulk(self, request: Request) -> Response:
        """WADO-RS bulk data that the metadata refer to."""
        instance = (await run_sync(self._instances, request))[0]
        tag = request.path_params["tag"]
        value = await run_sync(read_bulk, self._store, instance, tag)
        self._audit(request, "R", "dicom.bulk", instance, {"tag": tag})
        if not parse_accept(request.headers.get("accept", ""))[0].multipart:
            return Response(value, media_type="application/octet-stream")
        return _multipart("application/octet-stream", "application/octet-stream", [value])

    async def store(self, request: Request) -> Response:
        """STOW-RS."""
        inbox = Inbox(self._store, request.path_params.get("study"), self._agent(request))
        await inbox.receive(
            request.headers.get("content-type", ""), request.stream(), max_object_bytes=self._max_object_bytes
        )
        if self._on_stored is not None:
            for stored in inbox.stored:
                self._on_stored(stored)
        return _json(request, orjson.dumps(inbox.response()), status=inbox.status)

    def _instances(self, request: Request) -> list[Instance]:
        names = request.path_params
        if "instance" not in names:
            return self._store.instances(names["study"], names.get("series"))
        only = self._store.instance(names["instance"])
        if (only.study_uid, only.series_uid) != (names["study"], names["series"]):
            raise not_found("instance")
        return [only]

    def _check_accept(self, request: Request, instances: Sequence[Instance]) -> None:
        for item in parse_accept(request.headers.get("accept", "")):
            if item.part_type not in {"*/*", "application/dicom", "application/*"}:
                continue
            wanted = item.transfer_syntax
            if wanted in {"", "*"} or all(i.transfer_syntax == wanted for i in instances):
                return
        raise NotAcceptableError(
            "The objects cannot be given in the accepted form.",
            "They are given as application/dicom in the transfer syntax in which they were received.",
            'Accept multipart/related; type="application/dicom"; transfer-syntax=*.',
        )

    def _audit(
        self,
        request: Request,
        action: Literal["R", "E"],
        kind: str,
        instance: Instance | None,
        detail: _Detail,
    ) -> None:
        self._store.record(
            AuditEvent(
                action=action,
                kind=kind,
                outcome="success",
                agent=self._agent(request),
                entity=None if instance is None else instance.study_uid,
                patient=None if instance is None else self._store.pseudonym(instance.patient_id),
                detail=detail,
            )
        )


def _guarded(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except DigitalTwinError as error:
            body = {"title": error.what, "detail": error.why, "fix": error.fix, "status": error.http_status}
            return Response(
                orjson.dumps(body), status_code=error.http_status, media_type="application/problem+json"
            )

    return guarded


def _require_json(request: Request) -> None:
    kinds = {"*/*", "application/*", "application/json", _JSON}
    if not any(item.part_type in kinds for item in parse_accept(request.headers.get("accept", ""))):
        raise NotAcceptableError(
            "The answer cannot be given in the accepted form.",
            "Search results and metadata are given as JSON.",
            f"Accept {_JSON}.",
        )


def _json(
    request: Request, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Answer with JSON in which the mark for the DICOMweb root is replaced by the URL of this request."""
    root = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
    return Response(
        body.replace(BASE_MARK, root.encode()), status_code=status, media_type=_JSON, headers=headers
    )


def _multipart(kind: str, part_kind: str, bodies: Sequence[bytes]) -> Response:
    boundary = new_boundary()
    pieces: list[bytes] = []
    for body in bodies:
        pieces += [f"--{boundary}\r\nContent-Type: {part_kind}\r\n\r\n".encode(), body, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return Response(b"".join(pieces), media_type=f'multipart/related; type="{kind}"; boundary={boundary}')


def _frame_numbers(text: str) -> list[int]:
    numbers = text.split(",")
    if len(numbers) > 10_000 or not all(n.isascii() and n.isdigit() and len(n) < 8 for n in numbers):
        raise InputError(
            "The frame list cannot be used.",
            "Frame numbers are whole numbers from 1, separated by commas.",
            "Ask for .../frames/1 or .../frames/1,2,3.",
        )
    return [int(n) for n in numbers]


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"
