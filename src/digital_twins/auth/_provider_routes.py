"""The two routes of sign-in through an OpenID provider."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from digital_twins._errors import DigitalTwinError
from digital_twins.auth._provider import PENDING_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from digital_twins.auth._accounts import User
    from digital_twins.auth._authority import Authority
    from digital_twins.auth._provider import ProviderSignIn

_COOKIE = "twin-provider"
_PATH = "/auth/provider"
_HEADERS = {"cache-control": "no-store", "referrer-policy": "no-referrer"}


def provider_routes(
    authority: Authority,
    provider: ProviderSignIn,
    admit: Callable[[Request, User, str], Response],
    refuse: Callable[[str, DigitalTwinError], Response],
) -> list[Route]:
    """Return the routes; ``admit`` begins a session and ``refuse`` shows why there is none."""

    async def leave(request: Request) -> Response:
        try:
            url, state = await asyncio.to_thread(provider.start, request.query_params.get("next", "/"))
        except DigitalTwinError as error:
            return refuse("Sign in", error)
        answer = RedirectResponse(url, 303, headers=_HEADERS)
        answer.set_cookie(
            _COOKIE,
            state,
            max_age=PENDING_S,
            path=_PATH,
            secure=authority.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def back(request: Request) -> Response:
        query, kept = dict(request.query_params), request.cookies.get(_COOKIE, "")
        try:
            user, target = await asyncio.to_thread(provider.finish, query, kept)
        except DigitalTwinError as error:
            return refuse("Sign in", error)
        answer = await asyncio.to_thread(admit, request, user, target)
        answer.delete_cookie(_COOKIE, path=_PATH)
        return answer

    return [Route(_PATH, leave), Route(f"{_PATH}/callback", back)]
