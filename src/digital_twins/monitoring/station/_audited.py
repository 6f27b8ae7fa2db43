"""Every door that shows or changes a patient writes one audit event, however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from digital_twins._errors import DigitalTwinError
from digital_twins.monitoring.station._people import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from digital_twins.monitoring.station._people import People
    from digital_twins.monitoring.storage import AccessTrail

    Endpoint = Callable[[Request], Awaitable[Response]]
    Socket = Callable[[WebSocket], Awaitable[None]]

NOBODY = "anonymous"


class Access(NamedTuple):
    """What is written of a door.

    Attributes
    ----------
    kind, action
        Of the event.
    written
        A success writes its own event, in the transaction of what it did, or is no access of a person:
        only refusals and failures are written here.
    """

    kind: str
    action: Literal["C", "R", "U", "D", "E"] = "R"
    written: bool = False


def audited(endpoint: Endpoint, access: Access, trail: AccessTrail, people: People) -> Endpoint:
    """Return an endpoint whose every request is one event.

    The handler may set ``request.state.patient`` and ``request.state.who``, where address and credentials do
    not say them.
    """

    async def run(request: Request) -> Response:
        who, status = _who(request, people), 500
        try:
            answer = await endpoint(request)
            status = answer.status_code
        except DigitalTwinError as error:
            status = error.http_status
            raise
        finally:
            if not access.written or status >= 400:
                trail.record(
                    access.kind,
                    access.action,
                    by=getattr(request.state, "who", who),
                    status=status,
                    patient=_patient(request),
                )
        return answer

    return run


def audited_socket(endpoint: Socket, access: Access, trail: AccessTrail, people: People) -> Socket:
    """Return the endpoint of a stream whose every opening is one event.

    The handler of a device sets ``socket.state.refused``.
    """

    async def run(socket: WebSocket) -> None:
        if access.written:
            await endpoint(socket)
            if getattr(socket.state, "refused", False):
                trail.record(access.kind, access.action, by=NOBODY, status=401)
            return
        who = _who(socket, people)
        status = 401 if who == NOBODY else 200
        trail.record(access.kind, access.action, by=who, status=status, patient=_patient(socket))
        await endpoint(socket)

    return run


def _who(connection: HTTPConnection, people: People) -> str:
    try:
        return people.member(connection).name
    except RefusedError:
        return NOBODY


def _patient(connection: HTTPConnection) -> str | None:
    named = getattr(connection.state, "patient", None)
    found = named or connection.path_params.get("patient") or connection.query_params.get("patient")
    return str(found) if found else None
