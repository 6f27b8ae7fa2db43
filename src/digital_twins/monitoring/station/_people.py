"""Who stands before the monitor: a person with a token, or a browser in which that person has signed in."""

from __future__ import annotations

import hmac
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import HTTPConnection

COOKIE = "station"
SESSION_S = 12 * 3600.0
"""Length of a sign-in: one shift."""


class StaffMember(NamedTuple):
    """Who a token stands for."""

    name: str
    role: str


class RefusedError(DigitalTwinError):
    """The caller could not be identified."""

    http_status = 401


def refused() -> RefusedError:
    """Return the one answer to everybody who is not known."""
    return RefusedError("Not allowed.", "The token is missing or unknown.", "Send it as a bearer token.")


class People:
    """Staff by token, and the browsers in which they signed in.

    Parameters
    ----------
    staff
        Token to person.
    clock
        Rising seconds.
    """

    def __init__(
        self, staff: Mapping[str, StaffMember], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._staff, self._clock = staff, clock
        self._sessions: dict[str, tuple[StaffMember, float]] = {}

    def known(self, token: str) -> StaffMember:
        """Return who a token stands for; raises RefusedError."""
        for secret, member in self._staff.items():
            if hmac.compare_digest(secret.encode(), token.encode()):
                return member
        raise refused()

    def sign_in(self, token: str) -> tuple[StaffMember, str]:
        """Return the person, and the secret that the browser keeps; raises RefusedError."""
        member, now_s = self.known(token), self._clock()
        self._sessions = {name: each for name, each in self._sessions.items() if each[1] > now_s}
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = (member, now_s + SESSION_S)
        return member, secret

    def sign_out(self, request: HTTPConnection) -> None:
        """Forget the browser."""
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)

    def member(self, request: HTTPConnection) -> StaffMember:
        """Return who asks, by bearer token or by cookie.

        A cookie counts only for what the station's own page sends: a page of another origin gets nothing,
        though the browser might send the cookie along.

        Raises
        ------
        RefusedError
            Nobody who is known.
        """
        token = bearer(request)
        if token:
            return self.known(token)
        member, until_s = self._sessions.get(request.cookies.get(COOKIE, ""), (None, 0.0))
        if member is None or until_s <= self._clock() or not _same_origin(request):
            raise refused()
        return member


def bearer(request: HTTPConnection) -> str:
    """Return the bearer token of a request; empty: none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _same_origin(request: HTTPConnection) -> bool:
    reads: bool = request.scope["type"] == "http" and request.scope["method"] == "GET"
    origin = request.headers.get("origin")
    if origin is None:
        return reads
    return bool(urlsplit(origin).netloc == request.headers.get("host", ""))
