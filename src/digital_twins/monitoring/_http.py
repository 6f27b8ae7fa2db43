"""HTTP and WebSocket doors of the monitor, as Starlette routes: readings in, tiles and alerts out.

A device shows its password as a bearer token and speaks for itself only; people show a token that stands for
a name and a role.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.monitoring._association import Association
from digital_twins.monitoring._from_fhir import observation_readings
from digital_twins.monitoring._message import MAX_BYTES, decode_reading
from digital_twins.monitoring._people import COOKIE, People, RefusedError, bearer, refused
from digital_twins.monitoring._review import filed_readings, history_view, models_view, rules_view
from digital_twins.monitoring._station import STATION, Headers, bed_page, trends, what_if
from digital_twins.monitoring._waveforms import MAX_WAVEFORM_BYTES, decode_waveform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from digital_twins.monitoring._history import History
    from digital_twins.monitoring._intake import Intake
    from digital_twins.monitoring._monitor import PatientMonitor
    from digital_twins.monitoring._people import StaffMember
    from digital_twins.monitoring._sample import Reading
    from digital_twins.monitoring._waveforms import Waveforms

    Endpoint = Callable[[Request], Awaitable[Response]]

_LONGEST_FHIR = 1 << 20
_TREND_S = 300.0
_WAVE_EVERY_S = 0.25


class Watched(Protocol):
    """What stands behind the doors: a running monitor, or the virtual ward."""

    synthetic: bool
    monitor: PatientMonitor
    intake: Intake
    waveforms: Waveforms

    @property
    def history(self) -> History | None:
        """Files of all readings; None: nothing is kept."""

    def clock(self) -> float:
        """Return the time, in seconds since 1970 UTC or since the ward's start."""

    def associate(self, entry: Association) -> None:
        """Place a device or a patient."""

    async def durable(self) -> None:
        """Return once what was taken and done is durable."""


class _Doors:
    def __init__(
        self, service: Watched, devices: Mapping[str, str], staff: Mapping[str, StaffMember]
    ) -> None:
        self.service, self.devices, self.people = service, devices, People(staff)

    def device(self, request: HTTPConnection, name: str) -> None:
        token, secret = bearer(request), self.devices.get(name)
        if secret is None or not hmac.compare_digest(secret.encode(), token.encode()):
            raise refused()

    def member(self, request: HTTPConnection) -> StaffMember:
        return self.people.member(request)

    async def take(self, readings: Sequence[Reading]) -> JSONResponse:
        for each in readings:
            if not self.service.intake.offer(each, received_s=self.service.clock()):
                return JSONResponse({"error": "busy"}, status_code=503, headers={"Retry-After": "1"})
        await self.service.durable()
        return JSONResponse({"taken": len(readings)}, status_code=202)

    async def reading(self, request: Request) -> JSONResponse:
        name = request.path_params["device"]
        self.device(request, name)
        return await self.take([decode_reading(name, await _body(request, MAX_BYTES))])

    async def observation(self, request: Request) -> JSONResponse:
        readings = observation_readings(_decoded(await _body(request, _LONGEST_FHIR)))
        for each in readings:
            self.device(request, each.device)
        return await self.take(readings)

    async def stream(self, socket: WebSocket) -> None:
        name = socket.path_params["device"]
        try:
            self.device(socket, name)
        except RefusedError:
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
                while not self.service.intake.offer(reading, received_s=self.service.clock()):
                    await asyncio.sleep(0.1)

    async def live(self, socket: WebSocket) -> None:
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
                await socket.send_json(self.tiles())
                due_s = max(due_s + 1.0, now_s())
                await asyncio.sleep(due_s - now_s())

    async def waveform(self, request: Request) -> JSONResponse:
        name = request.path_params["device"]
        self.device(request, name)
        piece = decode_waveform(await _body(request, MAX_WAVEFORM_BYTES))
        taken = self.service.waveforms.offer(name, piece, received_s=self.service.clock())
        return JSONResponse({"taken": taken}, status_code=202)

    async def waveforms(self, socket: WebSocket) -> None:
        try:
            self.member(socket)
        except RefusedError:
            await socket.close(4401)
            return
        await socket.accept()
        patient, seen = socket.path_params["patient"], dict[tuple[str, str], int]()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                now_s = self.service.clock()
                pieces = self.service.waveforms.fresh(patient, seen, now_s=now_s)
                await socket.send_json({"at_s": now_s, "waveforms": pieces})
                await asyncio.sleep(_WAVE_EVERY_S)

    def tiles(self) -> dict[str, Any]:
        now_s = self.service.clock()
        monitor = self.service.monitor
        return {
            "at_s": now_s,
            "patients": [monitor.view(each, now_s=now_s) for each in list(monitor.patients)],
            "counts": dict(self.service.intake.counts),
        }

    async def patients(self, request: Request) -> JSONResponse:
        self.member(request)
        return JSONResponse(self.tiles())

    async def alerts(self, request: Request) -> JSONResponse:
        self.member(request)
        return JSONResponse([each.to_dict() for each in self.service.monitor.alerts.open_alerts()])

    async def acknowledge(self, request: Request) -> JSONResponse:
        member = self.member(request)
        alert = self.service.monitor.alerts.acknowledge(
            int(request.path_params["alert"]), by=member.name, role=member.role, at_s=self.service.clock()
        )
        await self.service.durable()
        return JSONResponse(alert.to_dict())

    async def shelve(self, request: Request) -> JSONResponse:
        member = self.member(request)
        data = _decoded(await _body(request, MAX_BYTES))
        try:
            patient, key, for_s = str(data["patient"]), str(data["key"]), float(data["for_s"])
        except (KeyError, TypeError, ValueError):
            raise _malformed() from None
        self.service.monitor.alerts.shelve(
            patient, key, by=member.name, role=member.role, at_s=self.service.clock(), for_s=for_s
        )
        await self.service.durable()
        return JSONResponse({"shelved": key})

    async def sign_in(self, request: Request) -> JSONResponse:
        data = _decoded(await _body(request, MAX_BYTES))
        member, secret = self.people.sign_in(str(data.get("token", "")))
        answer = JSONResponse(self.who(member), status_code=201)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=secure)
        return answer

    async def sign_out(self, request: Request) -> JSONResponse:
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
        may = member.role in self.service.monitor.thresholds.may_acknowledge
        return {**member._asdict(), "may_acknowledge": may, "simulated": self.service.synthetic}

    async def trends(self, request: Request) -> JSONResponse:
        self.member(request)
        now_s = self.service.clock()
        code = request.query_params.get("code", "HR")
        found = trends(self.service.monitor, code, since_s=now_s - _TREND_S)
        return JSONResponse({"code": code, "at_s": now_s, "patients": found})

    async def history(self, request: Request) -> JSONResponse:
        self.member(request)
        asked = request.query_params
        try:
            since_s, until_s = float(asked["since_s"]), float(asked["until_s"])
            patient, codes = asked["patient"], asked["codes"].split(",")
        except (KeyError, ValueError):
            raise _malformed() from None
        span: dict[str, Any] = {"patient": patient, "since_s": since_s, "until_s": until_s}
        filed = await asyncio.to_thread(filed_readings, self.service.history, codes=codes, **span)
        found = history_view(self.service.monitor, filed, **span)
        return JSONResponse(found)

    async def thresholds(self, request: Request) -> JSONResponse:
        self.member(request)
        return JSONResponse(rules_view(self.service.monitor))

    async def models(self, request: Request) -> JSONResponse:
        self.member(request)
        return JSONResponse(models_view(self.service.monitor))

    async def bed(self, request: Request) -> JSONResponse:
        self.member(request)
        patient = request.path_params["patient"]
        return JSONResponse(bed_page(self.service.monitor, patient, now_s=self.service.clock()))

    async def what_if(self, request: Request) -> JSONResponse:
        self.member(request)
        data = _decoded(await _body(request, MAX_BYTES))
        return JSONResponse(what_if(self.service.monitor, request.path_params["patient"], data))

    async def page(self, _: Request) -> FileResponse:
        return FileResponse(STATION / "index.html")

    async def associate(self, request: Request) -> JSONResponse:
        self.member(request)
        data = _decoded(await _body(request, MAX_BYTES))
        target = data.get("target")
        try:
            kind, subject, since_s = str(data["kind"]), str(data["subject"]), float(data["since_s"])
        except (KeyError, TypeError, ValueError):
            raise _malformed() from None
        if kind not in {"device", "bed"} or not (target is None or isinstance(target, str)):
            raise _malformed()
        self.service.associate(Association(kind, subject, target, since_s))
        return JSONResponse({"associated": subject}, status_code=201)


def monitor_app(
    service: Watched, *, devices: Mapping[str, str], staff: Mapping[str, StaffMember]
) -> Starlette:
    """Return the HTTP application of a running monitor.

    Parameters
    ----------
    service
        What it serves.
    devices
        Password of each device.
    staff
        Token to name and role.
    """
    doors = _Doors(service, devices, staff)
    table: tuple[tuple[str, str, Endpoint], ...] = (
        ("POST", "/readings/{device}", doors.reading),
        ("POST", "/waveforms/{device}", doors.waveform),
        ("POST", "/fhir/Observation", doors.observation),
        ("POST", "/fhir", doors.observation),
        ("GET", "/", doors.page),
        ("POST", "/session", doors.sign_in),
        ("DELETE", "/session", doors.sign_out),
        ("GET", "/session", doors.session),
        ("GET", "/trends", doors.trends),
        ("GET", "/history", doors.history),
        ("GET", "/thresholds", doors.thresholds),
        ("GET", "/models", doors.models),
        ("GET", "/patients", doors.patients),
        ("POST", "/patients/{patient:path}/what-if", doors.what_if),
        ("GET", "/patients/{patient:path}", doors.bed),
        ("GET", "/alerts", doors.alerts),
        ("POST", "/alerts/{alert:int}/acknowledge", doors.acknowledge),
        ("POST", "/shelves", doors.shelve),
        ("POST", "/associations", doors.associate),
    )
    routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in table]
    sockets = [
        WebSocketRoute("/stream/{device}", doors.stream),
        WebSocketRoute("/live", doors.live),
        WebSocketRoute("/patients/{patient:path}/waveforms", doors.waveforms),
    ]
    files = Mount("/static", StaticFiles(directory=STATION))
    return Starlette(
        routes=[*routes, *sockets, files],
        exception_handlers={DigitalTwinError: _problem},
        middleware=[Middleware(Headers)],
    )


async def _problem(_: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, DigitalTwinError) else refused()
    return JSONResponse(known.to_dict(), status_code=known.http_status)


async def _body(request: Request, longest: int) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > longest:
            raise _malformed()
    return bytes(data)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(value, dict):
        raise _malformed()
    return value


def _malformed() -> InputError:
    return InputError(
        "The request cannot be used.",
        "Its body is not of the documented form.",
        "See the page on the monitor.",
    )
