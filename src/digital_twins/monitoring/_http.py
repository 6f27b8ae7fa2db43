"""HTTP and WebSocket doors of the monitor, as Starlette routes: readings in, tiles and alerts out.

A device shows its password as a bearer token and speaks for itself only; people show a token that stands for
a name and a role.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.monitoring._association import Association
from digital_twins.monitoring._from_fhir import observation_readings
from digital_twins.monitoring._message import MAX_BYTES, decode_reading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import HTTPConnection, Request
    from starlette.websockets import WebSocket

    from digital_twins.monitoring._sample import Reading
    from digital_twins.monitoring._service import MonitorService

    Endpoint = Callable[[Request], Awaitable[JSONResponse]]

_LONGEST_FHIR = 1 << 20


class StaffMember(NamedTuple):
    """Who a token stands for."""

    name: str
    role: str


class _RefusedError(DigitalTwinError):
    http_status = 401


def _refused() -> _RefusedError:
    return _RefusedError("Not allowed.", "The token is missing or unknown.", "Send it as a bearer token.")


class _Doors:
    def __init__(
        self, service: MonitorService, devices: Mapping[str, str], staff: Mapping[str, StaffMember]
    ) -> None:
        self.service, self.devices, self.staff = service, devices, staff

    def device(self, request: HTTPConnection, name: str) -> None:
        token, secret = _bearer(request), self.devices.get(name)
        if secret is None or not hmac.compare_digest(secret.encode(), token.encode()):
            raise _refused()

    def member(self, request: HTTPConnection) -> StaffMember:
        token = _bearer(request).encode()
        for secret, member in self.staff.items():
            if hmac.compare_digest(secret.encode(), token):
                return member
        raise _refused()

    def take(self, reading: Reading) -> JSONResponse:
        if self.service.intake.offer(reading, received_s=self.service.clock()):
            return JSONResponse({"taken": 1}, status_code=202)
        return JSONResponse({"error": "busy"}, status_code=503, headers={"Retry-After": "1"})

    async def reading(self, request: Request) -> JSONResponse:
        name = request.path_params["device"]
        self.device(request, name)
        return self.take(decode_reading(name, await _body(request, MAX_BYTES)))

    async def observation(self, request: Request) -> JSONResponse:
        readings = observation_readings(_decoded(await _body(request, _LONGEST_FHIR)))
        for each in readings:
            self.device(request, each.device)
        for each in readings:
            answer = self.take(each)
            if answer.status_code != 202:
                return answer
        return JSONResponse({"taken": len(readings)}, status_code=202)

    async def stream(self, socket: WebSocket) -> None:
        name = socket.path_params["device"]
        try:
            self.device(socket, name)
        except _RefusedError:
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
        except _RefusedError:
            await socket.close(4401)
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.send_json(self.tiles())
                await asyncio.sleep(1.0)

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
        await asyncio.to_thread(self.service.store.flush)
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
        return JSONResponse({"shelved": key})

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
    service: MonitorService, *, devices: Mapping[str, str], staff: Mapping[str, StaffMember]
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
        ("POST", "/fhir/Observation", doors.observation),
        ("POST", "/fhir", doors.observation),
        ("GET", "/patients", doors.patients),
        ("GET", "/alerts", doors.alerts),
        ("POST", "/alerts/{alert:int}/acknowledge", doors.acknowledge),
        ("POST", "/shelves", doors.shelve),
        ("POST", "/associations", doors.associate),
    )
    routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in table]
    sockets = [WebSocketRoute("/stream/{device}", doors.stream), WebSocketRoute("/live", doors.live)]
    return Starlette(routes=[*routes, *sockets], exception_handlers={DigitalTwinError: _problem})


async def _problem(_: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, DigitalTwinError) else _refused()
    return JSONResponse(known.to_dict(), status_code=known.http_status)


def _bearer(request: HTTPConnection) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


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
