"""The doors that a monitor and the front of a divided ward have in common: who may enter, readings, the page.

A device shows its password as a bearer token and speaks for itself only; people show a token that stands for
a name and a role.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.monitoring.ingest import MAX_BYTES, decode_reading, observation_readings
from digital_twins.monitoring.signals import KINDS, MAX_WAVEFORM_BYTES, Association, decode_waveform
from digital_twins.monitoring.station._audited import Access, audited, audited_socket
from digital_twins.monitoring.station._page import STATION, Headers
from digital_twins.monitoring.station._people import COOKIE, People, RefusedError, bearer, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from digital_twins.monitoring.signals import AssociationLog, Reading, Waveforms
    from digital_twins.monitoring.station._audited import Endpoint, Socket
    from digital_twins.monitoring.station._people import StaffMember
    from digital_twins.monitoring.storage import AccessTrail

_LONGEST_FHIR = 1 << 20
_WAVE_EVERY_S = 0.25


class Entrance(ABC):
    """What each route does, but for what a monitor and a front do differently.

    Parameters
    ----------
    devices
        Password of each device.
    people
        Who may look.
    may_acknowledge
        Roles.
    waves
        Waveforms, and the clock by which they arrive (s).
    synthetic
        Whether the patients are simulated.
    """

    def __init__(
        self,
        devices: Mapping[str, str],
        people: People,
        *,
        may_acknowledge: AbstractSet[str],
        waves: tuple[Waveforms, Callable[[], float]],
        synthetic: bool = False,
    ) -> None:
        self.devices, self.people = devices, people
        self.waves, self.clock = waves
        self._may_acknowledge, self._synthetic = may_acknowledge, synthetic

    @abstractmethod
    async def take(self, readings: Sequence[Reading]) -> bool:
        """Take readings and return once they are durable; False: there is no room now."""

    @abstractmethod
    async def stream_one(self, reading: Reading) -> None:
        """Take a reading of a stream once there is room."""

    @abstractmethod
    async def tiles(self) -> dict[str, Any]:
        """Return the tiles of all beds."""

    @abstractmethod
    async def alerts(self, request: Request) -> Response:
        """List the open alerts."""

    @abstractmethod
    async def acknowledge(self, request: Request) -> Response:
        """Acknowledge one."""

    @abstractmethod
    async def shelve(self, request: Request) -> Response:
        """Shelve a rule."""

    @abstractmethod
    async def trends(self, request: Request) -> Response:
        """Return five minutes of one vital sign."""

    @abstractmethod
    async def history(self, request: Request) -> Response:
        """Return hours of a patient."""

    @abstractmethod
    async def thresholds(self, request: Request) -> Response:
        """Return the rules in force."""

    @abstractmethod
    async def models(self, request: Request) -> Response:
        """Return the models that run."""

    @abstractmethod
    async def bed(self, request: Request) -> Response:
        """Return all of one patient."""

    @abstractmethod
    async def what_if(self, request: Request) -> Response:
        """Return outlooks."""

    @abstractmethod
    async def place(self, entry: Association) -> None:
        """Add an association, durably."""

    @abstractmethod
    async def placed(self) -> AssociationLog:
        """Return the associations as of now."""

    def device(self, request: HTTPConnection, name: str) -> None:
        """Make sure that a device speaks for itself; raises RefusedError."""
        token, secret = bearer(request), self.devices.get(name)
        if secret is None or not hmac.compare_digest(secret.encode(), token.encode()):
            raise refused()

    def member(self, request: HTTPConnection) -> StaffMember:
        """Return who asks; raises RefusedError."""
        return self.people.member(request)

    async def _taken(self, readings: Sequence[Reading]) -> JSONResponse:
        if await self.take(readings):
            return JSONResponse({"taken": len(readings)}, status_code=202)
        return JSONResponse({"error": "busy"}, status_code=503, headers={"Retry-After": "1"})

    async def reading(self, request: Request) -> JSONResponse:
        """Take a device's message."""
        name = request.path_params["device"]
        self.device(request, name)
        return await self._taken([decode_reading(name, await body_of(request, MAX_BYTES))])

    async def observation(self, request: Request) -> JSONResponse:
        """Take FHIR Observations."""
        readings = observation_readings(decoded(await body_of(request, _LONGEST_FHIR)))
        for each in readings:
            self.device(request, each.device)
        return await self._taken(readings)

    async def stream(self, socket: WebSocket) -> None:
        """Take a device's messages."""
        name = socket.path_params["device"]
        try:
            self.device(socket, name)
        except RefusedError:
            socket.state.refused = True
            await socket.close(4401)
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                text = await socket.receive_text()
                try:
                    reading = decode_reading(name, text.encode())
                except InputError as error:
                    await socket.send_json(error.to_dict())
                    continue
                await self.stream_one(reading)

    async def live(self, socket: WebSocket) -> None:
        """Send the tiles once a second."""
        try:
            self.member(socket)
        except RefusedError:
            await socket.close(4401)
            return
        await socket.accept()
        now_s = asyncio.get_running_loop().time
        due_s = now_s()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.send_json(await self.tiles())
                due_s = max(due_s + 1.0, now_s())
                await asyncio.sleep(due_s - now_s())

    async def waveform(self, request: Request) -> JSONResponse:
        """Take a piece of a device's waveform."""
        name = request.path_params["device"]
        self.device(request, name)
        piece = decode_waveform(await body_of(request, MAX_WAVEFORM_BYTES))
        taken = self.waves.offer(name, piece, received_s=self.clock())
        return JSONResponse({"taken": taken}, status_code=202)

    async def waveforms(self, socket: WebSocket) -> None:
        """Send a patient's waveforms as they come."""
        try:
            self.member(socket)
        except RefusedError:
            await socket.close(4401)
            return
        await socket.accept()
        patient, seen = socket.path_params["patient"], dict[tuple[str, str], int]()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                now_s = self.clock()
                pieces = self.waves.fresh(patient, seen, now_s=now_s)
                await socket.send_json({"at_s": now_s, "waveforms": pieces})
                await asyncio.sleep(_WAVE_EVERY_S)

    async def patients(self, request: Request) -> JSONResponse:
        """Return the tiles."""
        self.member(request)
        return JSONResponse(await self.tiles())

    async def sign_in(self, request: Request) -> JSONResponse:
        """Open a session of a browser."""
        data = decoded(await body_of(request, MAX_BYTES))
        member, secret = self.people.sign_in(str(data.get("token", "")))
        request.state.who = member.name
        answer = JSONResponse(self.who(member), status_code=201)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=secure)
        return answer

    async def sign_out(self, request: Request) -> JSONResponse:
        """Close it."""
        self.member(request)
        self.people.sign_out(request)
        answer = JSONResponse({"signed_out": True})
        answer.delete_cookie(COOKIE)
        return answer

    async def session(self, request: Request) -> JSONResponse:
        """Who is signed in; nobody is an answer, so that the page need not fail to ask."""
        try:
            return JSONResponse(self.who(self.member(request)))
        except RefusedError:
            return JSONResponse({"name": None})

    def who(self, member: StaffMember) -> dict[str, Any]:
        """Return what the page shows of a person."""
        may = member.role in self._may_acknowledge
        return {**member._asdict(), "may_acknowledge": may, "simulated": self._synthetic}

    async def page(self, _: Request) -> FileResponse:
        """Return the central station."""
        return FileResponse(STATION / "index.html")

    async def associate(self, request: Request) -> JSONResponse:
        """Place a device or a patient."""
        self._check_role(request)
        data = decoded(await body_of(request, MAX_BYTES))
        target = data.get("target")
        try:
            kind, subject = str(data["kind"]), str(data["subject"])
            since_s = float(data.get("since_s", self.clock()))
        except (KeyError, TypeError, ValueError):
            raise malformed() from None
        named = kind in {"bed", "carried"} and isinstance(target, str)
        request.state.patient = target if named else None
        if kind not in KINDS or not subject or target == "" or not math.isfinite(since_s):
            raise malformed()
        if not (target is None or isinstance(target, str)):
            raise malformed()
        await self.place(Association(kind, subject, target, since_s))
        return JSONResponse({"associated": subject}, status_code=201)

    async def associations(self, request: Request) -> JSONResponse:
        """Return who lies where and which device speaks of whom, now; every known device is named."""
        self.member(request)
        beds, devices = (await self.placed()).places(self.clock())
        named = dict.fromkeys(self.devices, ("", "")) | devices
        return JSONResponse(
            {
                "at_s": self.clock(),
                "beds": [{"bed": bed, "patient": patient} for bed, patient in beds.items()],
                "devices": [
                    {"device": name, "bed": bed, "patient": patient}
                    for name, (bed, patient) in sorted(named.items())
                ],
            }
        )

    def _check_role(self, request: HTTPConnection) -> None:
        if self.member(request).role not in self._may_acknowledge:
            raise InputError(
                "Nothing was placed.",
                "The role may not say who lies where.",
                f"Ask one of: {', '.join(sorted(self._may_acknowledge))}.",
            )


def doors_app(doors: Entrance, trail: AccessTrail | None = None) -> Starlette:
    """Return the application of some doors; with a trail every access to a patient is an event of it."""

    def told(endpoint: Endpoint, access: Access | None) -> Endpoint:
        if trail is None or access is None:
            return endpoint
        return audited(endpoint, access, trail, doors.people)

    def seen(endpoint: Socket, access: Access) -> Socket:
        return endpoint if trail is None else audited_socket(endpoint, access, trail, doors.people)

    routes = [
        Route(path, told(endpoint, access), methods=[method])
        for method, path, endpoint, access in _table(doors)
    ]
    sockets = [
        WebSocketRoute("/stream/{device}", seen(doors.stream, Access("monitor.reading", "C", written=True))),
        WebSocketRoute("/live", seen(doors.live, Access("monitor.live"))),
        WebSocketRoute(
            "/patients/{patient:path}/waveforms", seen(doors.waveforms, Access("monitor.waveforms"))
        ),
    ]
    files = Mount("/static", StaticFiles(directory=STATION))
    return Starlette(
        routes=[*routes, *sockets, files],
        exception_handlers={DigitalTwinError: _problem},
        middleware=[Middleware(Headers)],
    )


def _table(doors: Entrance) -> tuple[tuple[str, str, Endpoint, Access | None], ...]:
    """Return method, path, what answers, and what the trail is told; None: no patient and no sign-in."""
    reading, bed = Access("monitor.reading", "C", written=True), Access("monitor.bed")
    return (
        ("POST", "/readings/{device}", doors.reading, reading),
        ("POST", "/waveforms/{device}", doors.waveform, reading),
        ("POST", "/fhir/Observation", doors.observation, reading),
        ("POST", "/fhir", doors.observation, reading),
        ("GET", "/", doors.page, None),
        ("POST", "/session", doors.sign_in, Access("monitor.sign-in", "E")),
        ("DELETE", "/session", doors.sign_out, Access("monitor.sign-out", "E")),
        ("GET", "/session", doors.session, None),
        ("GET", "/trends", doors.trends, Access("monitor.trends")),
        ("GET", "/history", doors.history, Access("monitor.history")),
        ("GET", "/thresholds", doors.thresholds, Access("monitor.thresholds")),
        ("GET", "/models", doors.models, None),
        ("GET", "/patients", doors.patients, Access("monitor.tiles")),
        ("POST", "/patients/{patient:path}/what-if", doors.what_if, Access("monitor.what-if", "E")),
        ("GET", "/patients/{patient:path}", doors.bed, bed),
        ("GET", "/alerts", doors.alerts, Access("monitor.alerts")),
        (
            *("POST", "/alerts/{alert:int}/acknowledge", doors.acknowledge),
            Access("monitor.acknowledge", "U", written=True),
        ),
        ("POST", "/shelves", doors.shelve, Access("monitor.shelve", "U", written=True)),
        ("POST", "/associations", doors.associate, Access("monitor.associate", "U")),
        ("GET", "/associations", doors.associations, Access("monitor.associations")),
    )


async def _problem(_: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, DigitalTwinError) else refused()
    return JSONResponse(known.to_dict(), status_code=known.http_status)


async def body_of(request: Request, longest: int) -> bytes:
    """Return the body; raises InputError when it is too long."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > longest:
            raise malformed()
    return bytes(data)


def decoded(data: bytes) -> dict[str, Any]:
    """Return a JSON object; raises InputError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise malformed() from None
    if not isinstance(value, dict):
        raise malformed()
    return value


def malformed() -> InputError:
    """Return the error of a request that is not of the documented form."""
    return InputError(
        "The request cannot be used.",
        "Its body is not of the documented form.",
        "See the page on the monitor.",
    )
