"""The DICOMweb routes of a node (PS3.18): Starlette routes for the server to mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from digital_twins.dicom._attributes import Level
from digital_twins.dicom._native_model import wants_xml, xml_answer, xml_document
from digital_twins.dicom._qido import parse_search, run_search
from digital_twins.dicom._stow import Inbox, refuse_coding
from digital_twins.dicom._ups import Workitems
from digital_twins.dicom._ups_web import workitem_routes
from digital_twins.dicom._web_base import Door, ignored, json_answer, warning_header
from digital_twins.dicom._web_bulk import BulkRetrieval
from digital_twins.dicom._web_retrieve import Retrieval

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import HTTPConnection, Request
    from starlette.routing import BaseRoute

    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Stored
    from digital_twins.dicom._web_base import Operation

_PATH_KEYWORDS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"


def dicomweb_routes(
    store: DicomStore,
    *,
    on_stored: Callable[[Stored], None] | None = None,
    authorize: Callable[[HTTPConnection, Operation], str | Awaitable[str]] | None = None,
    max_object_bytes: int = 2**30,
    max_file_bytes: int = 2**32,
) -> list[BaseRoute]:
    """Return QIDO-RS, WADO-RS, WADO-URI, STOW-RS and UPS-RS routes, to be mounted at the DICOMweb root.

    Parameters
    ----------
    store
        What is searched, retrieved from and stored to.
    on_stored
        Called in the event loop for every object that came to be on disk; must not block.
    authorize
        Who a request comes from, for the audit trail. It gets the request and what it is for (``"search"``,
        ``"retrieve"``, ``"store"``, ``"read-workitem"`` or ``"write-workitem"``) and may raise, e.g.
        `SignInRequiredError`. By default everybody is let in under the peer's address.
    max_object_bytes
        Most that the metadata and bulk data of a STOW-RS request may take: they are gathered in memory.
    max_file_bytes
        Longest DICOM file that STOW-RS takes; it goes to the disk while it arrives.
    """
    door = Door(store, authorize)
    return [
        *_retrieve_routes(door),
        *_search_routes(door),
        *_store_routes(door, on_stored, max_object_bytes=max_object_bytes, max_file_bytes=max_file_bytes),
        *workitem_routes(door, Workitems(store)),
    ]


def _search_routes(door: Door) -> list[Route]:
    resources = (
        ("/studies", Level.STUDY),
        ("/series", Level.SERIES),
        ("/instances", Level.INSTANCE),
        (_STUDY + "/series", Level.SERIES),
        (_STUDY + "/instances", Level.INSTANCE),
        (_SERIES + "/instances", Level.INSTANCE),
    )
    return [Route(path, door.guarded("search", _search(door, level))) for path, level in resources]


def _search(door: Door, level: Level) -> Callable[[Request], Awaitable[Response]]:
    """Return the QIDO-RS handler of one level."""

    async def handler(request: Request) -> Response:
        xml = wants_xml(request)
        path = {_PATH_KEYWORDS[name]: uid for name, uid in request.path_params.items()}
        search = parse_search(level, path, request.query_params.multi_items())
        answers, more = await run_sync(run_search, door.store, search)
        detail: dict[str, str | int] = {"level": level.name.lower(), "matches": len(answers)}
        door.audit(request, "E", "dicom.find", detail=detail)
        warnings = ignored(search.ignored)
        if more:
            warnings.append("there are additional results that can be requested")
        headers = warning_header(warnings)
        if not answers:
            return Response(status_code=204, headers=headers)
        if xml:
            return await run_sync(lambda: xml_answer(request, answers, headers=headers))
        return await run_sync(lambda: json_answer(request, orjson.dumps(answers), headers=headers))

    return handler


def _retrieve_routes(door: Door) -> list[Route]:
    wado = Retrieval(door)
    bulk = BulkRetrieval(door, wado)
    values, pixels = bulk.every(pixels_only=False), bulk.every(pixels_only=True)
    rendered, thumbnail = wado.rendered(thumbnail=False), wado.rendered(thumbnail=True)
    table: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        (_FRAMES, wado.frames),  # first: asked for most, and every pattern before it costs time
        *((path, wado.objects) for path in (_STUDY, _SERIES, _INSTANCE)),
        *((path + "/metadata", wado.metadata) for path in (_STUDY, _SERIES, _INSTANCE)),
        *((path + "/rendered", rendered) for path in (_STUDY, _SERIES, _INSTANCE, _FRAMES)),
        *((path + "/thumbnail", thumbnail) for path in (_STUDY, _SERIES, _INSTANCE, _FRAMES)),
        *((path + "/bulkdata", values) for path in (_STUDY, _SERIES, _INSTANCE)),
        *((path + "/pixeldata", pixels) for path in (_STUDY, _SERIES, _INSTANCE)),
        (_INSTANCE + "/bulkdata/{tag}", bulk.one),
        ("/wado", wado.wado_uri),
    ]
    return [Route(path, door.guarded("retrieve", handler)) for path, handler in table]


def _store_routes(
    door: Door, on_stored: Callable[[Stored], None] | None, *, max_object_bytes: int, max_file_bytes: int
) -> list[Route]:
    async def handler(request: Request) -> Response:
        # Objects are not refused for the form of an answer that few read (RFC 9110 section 12.5.1 allows it).
        xml = wants_xml(request, strict=False)
        refuse_coding(request)
        inbox = Inbox(door.store, request.path_params.get("study"), request.state.agent)
        try:
            await inbox.receive(
                request.headers.get("content-type", ""),
                request.stream(),
                max_object_bytes=max_object_bytes,
                max_file_bytes=max_file_bytes,
            )
        except ClientDisconnect:  # nobody waits for the answer
            return Response(status_code=400)
        finally:  # what came before a body broke off is stored
            for stored in inbox.stored:
                if on_stored is not None:
                    on_stored(stored)
        if xml:
            return xml_document(request, inbox.response(), status=inbox.status)
        return json_answer(request, orjson.dumps(inbox.response()), status=inbox.status)

    return [Route(path, door.guarded("store", handler), methods=["POST"]) for path in ("/studies", _STUDY)]
