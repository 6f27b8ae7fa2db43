"""Routes of UPS-RS (PS3.18 chapter 11), and its events over WebSocket (section 8.11)."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson
from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.dicom import _ups_model as ups
from digital_twins.dicom._multipart import TooLongError
from digital_twins.dicom._stow import UnsupportedMediaError
from digital_twins.dicom._ups import Condition
from digital_twins.dicom._web_base import JSON, base_url, json_answer, require_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from digital_twins.dicom._ups import Changed, Workitems
    from digital_twins.dicom._ups_model import Model
    from digital_twins.dicom._web_base import Door

_MAX_BODY_BYTES = 2**22
_MAX_RESULTS = 1000
_UID = re.compile(r"[0-9][0-9.]{0,63}")
_SUBSCRIBER = re.compile(r"[ -\[\]-~]{1,16}")
_POLICY_VIOLATION, _MORE_MESSAGES_S = 1008, 30.0


def workitem_routes(door: Door, workitems: Workitems) -> list[BaseRoute]:
    """Return the routes below the DICOMweb root."""
    web = _Web(door, workitems)
    item = "/workitems/{uid}"
    subscriber = item + "/subscribers/{subscriber}"
    return [
        Route("/workitems", door.guarded("write-workitem", web.create), methods=["POST"]),
        Route("/workitems", door.guarded("read-workitem", web.search)),
        Route(item, door.guarded("read-workitem", web.retrieve)),
        Route(item, door.guarded("write-workitem", web.update), methods=["POST"]),
        Route(item + "/state", door.guarded("write-workitem", web.state), methods=["PUT"]),
        Route(item + "/cancelrequest", door.guarded("write-workitem", web.cancel), methods=["POST"]),
        Route(subscriber, door.guarded("write-workitem", web.subscribe), methods=["POST"]),
        Route(subscriber, door.guarded("write-workitem", web.unsubscribe), methods=["DELETE"]),
        Route(subscriber + "/suspend", door.guarded("write-workitem", web.suspend), methods=["POST"]),
        WebSocketRoute("/subscribers/{subscriber}", web.channel),
    ]


class _Web:
    def __init__(self, door: Door, workitems: Workitems) -> None:
        self._door = door
        self._workitems = workitems
        self._bells: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def create(self, request: Request) -> Response:
        """Create Workitem: the UID comes from the query, from the object, or is made here."""
        model = await _body(request)
        stated = next((name for name, value in request.query_params.items() if not value), "")
        uid = (
            stated or request.query_params.get("workitem", "") or ups.first(model, ups.SOP_UID) or _new_uid()
        )
        if not _UID.fullmatch(uid):
            raise _bad("its UID is no UID")
        changed = await run_sync(lambda: self._workitems.create(model, uid, agent=request.state.agent))
        self._ring(changed.subscribers)
        return Response(status_code=201, headers={"Location": f"{base_url(request)}/workitems/{uid}"})

    async def search(self, request: Request) -> Response:
        """Search for workitems by any of their attributes, also in sequences."""
        require_json(request)
        conditions, limit, offset = _conditions(request.query_params.multi_items())
        found, more = await run_sync(lambda: self._workitems.search(conditions, limit=limit, offset=offset))
        self._door.audit(request, "E", "dicom.workitem.find", detail={"matches": len(found)})
        headers = (
            {"Warning": '299 digital-twins "there are additional results that can be requested"'}
            if more
            else {}
        )
        if not found:
            return Response(status_code=204, headers=headers)
        return json_answer(request, orjson.dumps(found), headers=headers)

    async def retrieve(self, request: Request) -> Response:
        """Retrieve Workitem, without the Transaction UID of who claimed it."""
        require_json(request)
        uid = request.path_params["uid"]
        model = await run_sync(self._workitems.get, uid)
        patient = ups.first(model, ups.PATIENT_ID)
        self._door.audit(request, "R", "dicom.workitem.read", patient_id=patient, detail={"workitem": uid})
        return json_answer(request, orjson.dumps([model]))

    async def update(self, request: Request) -> Response:
        """Update Workitem."""
        changes = await _body(request)
        transaction = _transaction(request) or ups.first(changes, ups.TRANSACTION)
        changes.pop(ups.TRANSACTION, None)
        uid, agent = request.path_params["uid"], request.state.agent
        changed = await run_sync(lambda: self._workitems.update(uid, changes, transaction, agent=agent))
        return self._answer(request, changed, 200)

    async def state(self, request: Request) -> Response:
        """Change Workitem State."""
        wanted = await _body(request)
        to, transaction = ups.first(wanted, ups.STATE), ups.first(wanted, ups.TRANSACTION)
        uid, agent = request.path_params["uid"], request.state.agent
        changed = await run_sync(lambda: self._workitems.change_state(uid, to, transaction, agent=agent))
        return self._answer(request, changed, 200)

    async def cancel(self, request: Request) -> Response:
        """Request Workitem Cancellation; the reason in the body may be left out."""
        details = await _body(request, required=False)
        uid, agent = request.path_params["uid"], request.state.agent
        changed = await run_sync(lambda: self._workitems.request_cancel(uid, details, agent=agent))
        return self._answer(request, changed, 202)

    async def subscribe(self, request: Request) -> Response:
        """Subscribe to one workitem, to all, or to those that match a filter."""
        uid, subscriber = request.path_params["uid"], _subscriber(request.path_params["subscriber"])
        asked = request.query_params
        conditions: list[Condition] = []
        if uid == ups.FILTERED:
            pairs = [part.partition("=") for part in asked.get("filter", "").split(",") if part]
            conditions = _conditions((name, value) for name, _equals, value in pairs)[0]
        lock = asked.get("deletionlock", "false").lower() == "true"
        changed = await run_sync(
            lambda: self._workitems.subscribe(
                uid, subscriber, lock=lock, conditions=conditions, agent=request.state.agent
            )
        )
        self._ring(changed.subscribers)
        place = base_url(request).replace("http", "ws", 1) + f"/subscribers/{subscriber}"
        return Response(status_code=201, headers={"Content-Location": place})

    async def unsubscribe(self, request: Request) -> Response:
        """Unsubscribe."""
        return await self._end(request, suspend=False)

    async def suspend(self, request: Request) -> Response:
        """Suspend a global subscription: no new workitems, the present ones stay subscribed."""
        if request.path_params["uid"] not in {ups.GLOBAL, ups.FILTERED}:
            raise _bad("only a global subscription can be suspended")
        return await self._end(request, suspend=True)

    async def channel(self, socket: WebSocket) -> None:
        """Send the events of a subscriber as they come; each is forgotten once it was sent."""
        try:
            await self._door.admit(socket, "read-workitem")
            subscriber = _subscriber(socket.path_params["subscriber"])
        except DigitalTwinError:
            await socket.close(_POLICY_VIOLATION)
            return
        await socket.accept()
        bell = asyncio.Event()
        self._bells[subscriber].add(bell)
        gone = asyncio.ensure_future(_until_gone(socket))
        try:
            await self._deliver(socket, subscriber, bell, gone)
        finally:
            gone.cancel()
            self._bells[subscriber].discard(bell)
            if not self._bells[subscriber]:
                del self._bells[subscriber]

    async def _deliver(
        self, socket: WebSocket, subscriber: str, bell: asyncio.Event, gone: asyncio.Future[None]
    ) -> None:
        after = 0
        while not gone.done():
            bell.clear()
            for number, body in await run_sync(self._workitems.waiting, subscriber, after):
                message = {**orjson.loads(body), "00000110": {"vr": "US", "Value": [number % 65536]}}
                await socket.send_text(orjson.dumps(message).decode())
                after = number
            if after:
                await run_sync(self._workitems.delivered, subscriber, after)
            rung = asyncio.ensure_future(bell.wait())
            # Another process may have written events: look again after a while without a bell.
            events: set[asyncio.Future[Any]] = {rung, gone}
            await asyncio.wait(events, timeout=_MORE_MESSAGES_S, return_when=asyncio.FIRST_COMPLETED)
            rung.cancel()

    async def _end(self, request: Request, *, suspend: bool) -> Response:
        uid, subscriber = request.path_params["uid"], _subscriber(request.path_params["subscriber"])
        await run_sync(
            lambda: self._workitems.unsubscribe(uid, subscriber, suspend=suspend, agent=request.state.agent)
        )
        return Response(status_code=200)

    def _answer(self, request: Request, changed: Changed, status: int) -> Response:
        self._ring(changed.subscribers)
        headers = {"Content-Location": f"{base_url(request)}/workitems/{changed.uid}"}
        if changed.warning:
            headers["Warning"] = f'299 digital-twins "{changed.warning}"'
        return Response(status_code=status, headers=headers)

    def _ring(self, subscribers: Iterable[str]) -> None:
        for subscriber in subscribers:
            for bell in self._bells.get(subscriber, ()):
                bell.set()


async def _until_gone(socket: WebSocket) -> None:
    """Read what the subscriber says, which means nothing, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _body(request: Request, *, required: bool = True) -> Model:
    """Read one DICOM JSON object, alone or in a list; raises InputError."""
    kind = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
    if kind not in {JSON, "application/json"}:
        raise UnsupportedMediaError(
            "The workitem cannot be read.", "Only DICOM JSON is taken.", f"Send Content-Type: {JSON}."
        )
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_BODY_BYTES:
            raise TooLongError(
                "The workitem request cannot be used.",
                f"The body is longer than {_MAX_BODY_BYTES} bytes.",
                "Refer to large values instead of sending them.",
            )
    if not raw and not required:
        return {}
    try:
        found: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _bad("the body is no JSON") from None
    model = found[0] if isinstance(found, list) and len(found) == 1 else found
    if not isinstance(model, dict) or not all(
        re.fullmatch(r"[0-9A-Fa-f]{8}", tag) and isinstance(element, dict) for tag, element in model.items()
    ):
        raise _bad("the body is not one DICOM JSON object")
    return {tag.upper(): element for tag, element in model.items()}


def _transaction(request: Request) -> str:
    """Return the Transaction UID of the query: ``?transaction-uid=1.2``, ``?transaction=1.2`` or ``?1.2``."""
    asked = request.query_params
    bare = next((name for name, value in asked.items() if not value and _UID.fullmatch(name)), "")
    return asked.get("transaction-uid") or asked.get("transaction") or bare


def _conditions(parameters: Iterable[tuple[str, str]]) -> tuple[list[Condition], int, int]:
    from pydicom.datadict import tag_for_keyword

    found: list[Condition] = []
    numbers = {"limit": _MAX_RESULTS, "offset": 0}
    for name, value in parameters:
        if name in numbers:
            if not re.fullmatch(r"\d{1,9}", value):
                raise _bad(f"'{name}' is no whole number")
            numbers[name] = int(value)
        elif name not in {"includefield", "fuzzymatching", "accept", "charset"}:
            path = []
            for part in name.split("."):
                tag = int(part, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", part) else tag_for_keyword(part)
                if tag is None:
                    raise _bad("a parameter is neither a DICOM keyword nor a tag")
                path.append(f"{tag:08X}")
            found.append(Condition(tuple(path), value))
    return found, min(numbers["limit"], _MAX_RESULTS), numbers["offset"]


def _subscriber(name: str) -> str:
    if not _SUBSCRIBER.fullmatch(name.strip()):
        raise _bad("the subscriber is no AE title")
    return name.strip()


def _new_uid() -> str:
    from uuid import uuid4

    return f"2.25.{uuid4().int}"


def _bad(why: str) -> InputError:
    return InputError(
        "The workitem request cannot be used.",
        why[0].upper() + why[1:] + ".",
        "See PS3.18 chapter 11 for the form of workitem requests.",
    )
