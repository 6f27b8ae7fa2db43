"""The one place where a request becomes somebody: cookie or token in, rights out, deny by default."""

from __future__ import annotations

import asyncio
import re
import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response

from digital_twins.auth import NOBODY, TokenRefusedError, acting_as, cookie_name
from digital_twins.fhir import request_allowed
from digital_twins.server._problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from digital_twins.auth import Authority, Principal

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = re.compile(
    r"/(health|static/.*|favicon\.ico|\.well-known/openid-configuration|fhir/\.well-known/smart-configuration"
    r"|fhir/metadata|auth/(jwks|token|userinfo|introspect|revoke|authorize|code|sign-in|sign-out|account"
    r"|emergency|style\.css|provider(/callback)?))"
)
"""What nobody has to sign in for: liveness, styles, discovery, and the doors of signing in themselves."""

_TABLE: tuple[tuple[str, str, str], ...] = (
    (r"/(patients/[^/]+|queues)?", "r", "pages.view"),
    (r"/metrics", "r", "metrics.read"),
    (r"/auth/launch", "w", "launch.create"),
    (r"/cds-services(/.*)?", "rw", "cds.call"),
    (r"/api/(queues|peers|prefetch)(/.*)?", "r", "queue.read"),
    (r"/api/(queues|peers|prefetch)(/.*)?", "w", "queue.manage"),
    (r"/api/(rejections|merges|retention|holds)(/.*)?", "r", "archive.read"),
    (r"/api/(rejections|merges)(/.*)?", "w", "archive.manage"),
    (r"/api/patients/[^/]+/merge", "w", "archive.manage"),
    (r"/api/(retention|holds)(/.*)?", "w", "retention.manage"),
    (r"/api/(patients|twins|jobs|events)(/.*)?", "r", "twin.read"),
    (r"/api/(docs|openapi\.json)(/.*)?", "r", "twin.read"),
    (r"/api/twins/[^/]+/report/signatures(/.*)?", "w", "report.sign"),
    (r"/api/authenticators(/.*)?", "rw", "report.sign"),
    (r"/api/(patients|twins|jobs)(/.*)?", "w", "twin.manage"),
    (r"/dicom-web/.*", "r", "imaging.read"),
    (r"/dicom-web/.*", "w", "imaging.write"),
)
_CROSS_ORIGIN = re.compile(r"/(fhir|auth/token|auth/userinfo|auth/revoke|auth/jwks|\.well-known)(/.*)?")
_ORIGINS_S = 5.0


def action_for(method: str, path: str) -> str | None:
    """Return the action of the role table that a request needs, None where none is named: then it is denied.

    Requests below ``/fhir`` are not judged by actions but by scopes, and are not in this table.
    """
    kind = "r" if method in _SAFE else "w"
    for pattern, verbs, action in _TABLE:
        if kind in verbs and re.fullmatch(pattern, path):
            return action
    return None


class Gate:
    """Pure ASGI middleware before every door.

    Parameters
    ----------
    app
        What is guarded.
    authority
        Knows sessions and tokens.
    """

    def __init__(self, app: ASGIApp, authority: Authority) -> None:
        self._app = app
        self._authority = authority
        self._cookie = cookie_name(authority)
        self._origins: tuple[float, frozenset[str]] = (float("-inf"), frozenset())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, self._sharing(scope, send))
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path, fields = scope["method"], scope["path"], dict(scope["headers"])
        if method == "OPTIONS" and b"access-control-request-method" in fields:
            await Response(status_code=204)(scope, receive, send)
            return
        principal, why = self._held(fields.get(b"authorization", b"")), ""
        if principal is None:
            principal, why = await self._identify(_headers(scope))
        # Most requests carry a token with the right, and there is nothing more to ask.
        if principal is NOBODY or principal.session or not _allowed(principal, method, path):
            refusal, why = self._judged(scope, principal, why)
            if refusal is not None:
                if why:
                    await self._record(principal, method, path, why)
                await refusal(scope, receive, send)
                return
        with acting_as(principal):
            await self._app(scope, receive, send)

    def _judged(self, scope: Scope, principal: Principal, why: str) -> tuple[Response | None, str]:
        """Return the refusal of a request (None: it may go on), and what is recorded of it."""
        method, path, headers = scope["method"], scope["path"], _headers(scope)
        if _OPEN.fullmatch(path):
            return None, why
        if principal is NOBODY:
            return self._sign_in(scope, path, headers), why
        if principal.session and method not in _SAFE and not self._own_site(headers):
            return _refusal(path, 403, "The request came from another site."), "site"
        if not _allowed(principal, method, path):
            return _refusal(path, 403, "The role or token does not have the right."), "right"
        return None, why

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        principal = self._held(headers.get("authorization", "").encode("latin-1"))
        if principal is None:
            principal, _ = await self._identify(headers)
        if not _allowed(principal, "GET", scope["path"]):
            await self._record(principal, "GET", scope["path"], "right")
            await send({"type": "websocket.close", "code": 1008})
            return
        with acting_as(principal):
            await self._app(scope, receive, send)

    def _held(self, shown: bytes) -> Principal | None:
        """Return who a bearer token stands for that was checked in the last seconds."""
        if shown[:7].lower() != b"bearer ":
            return None
        return self._authority.tokens.held(shown[7:].decode("latin-1"))

    async def _identify(self, headers: dict[str, str]) -> tuple[Principal, str]:
        """Return who asks and, where credentials were shown that are not valid, why not."""
        shown = headers.get("authorization", "")
        if shown[:7].lower() == "bearer ":
            try:
                return await asyncio.to_thread(self._authority.tokens.principal, shown[7:]), ""
            except TokenRefusedError as error:
                return NOBODY, str(error)
        secret = _cookie(headers.get("cookie", ""), self._cookie)
        if secret:
            found = self._authority.sessions.find(secret)
            return (found[1], "") if found else (NOBODY, "")
        return NOBODY, ""

    def _own_site(self, headers: dict[str, str]) -> bool:
        """Whether a browser says that its request comes from a page of this node (CSRF)."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site") == "same-origin"
        return origin == self._authority.base_url or urlsplit(origin).netloc == headers.get("host")

    def _sign_in(self, scope: Scope, path: str, headers: dict[str, str]) -> Response:
        page = path in {"/", "/queues"} or path.startswith("/patients/")
        if page and "text/html" in headers.get("accept", ""):
            query = scope.get("query_string", b"").decode("latin-1")
            target = f"{path}?{query}" if query else path
            return RedirectResponse(f"/auth/sign-in?{urlencode({'next': target})}", 303)
        answer = _refusal(path, 401, "No valid session or token was shown.")
        answer.headers["www-authenticate"] = f'Bearer realm="{self._authority.base_url}"'
        return answer

    async def _record(self, principal: Principal, method: str, path: str, why: str) -> None:
        entity = f"{method} /{path.split('/')[1]}"
        refused = self._authority.records.refused
        await asyncio.to_thread(lambda: refused("access", agent=principal.name, why=why, entity=entity))

    def _sharing(self, scope: Scope, send: Send) -> Send:
        """Let pages of registered apps read answers of the FHIR base and the token endpoint (CORS)."""
        shown = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if shown is None or not _CROSS_ORIGIN.fullmatch(scope["path"]):
            return send
        origin = shown.decode("latin-1")
        at, known = self._origins
        if time.monotonic() - at > _ORIGINS_S:
            known = self._authority.origins()
            self._origins = (time.monotonic(), known)
        if origin not in known:
            return send

        async def shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["access-control-allow-origin"] = origin
                headers["access-control-allow-methods"] = "GET, POST, PUT, PATCH, DELETE"
                headers["access-control-allow-headers"] = (
                    "authorization, content-type, accept, prefer, if-match, if-none-match, if-none-exist"
                )
                headers["access-control-expose-headers"] = "etag, location, last-modified"
                headers["access-control-max-age"] = "600"
                headers["cross-origin-resource-policy"] = "cross-origin"
                headers.add_vary_header("origin")
            await send(message)

        return shared


def _allowed(principal: Principal, method: str, path: str) -> bool:
    if path == "/fhir" or path.startswith("/fhir/"):
        return request_allowed(principal, method, path[5:])
    action = action_for(method, path)
    return action is not None and action in principal.actions


def _refusal(path: str, status: Literal[401, 403], why: str) -> Response:
    if path == "/fhir" or path.startswith("/fhir/"):
        code = "login" if status == 401 else "forbidden"
        issue = {"severity": "error", "code": code, "diagnostics": why}
        body = {"resourceType": "OperationOutcome", "issue": [issue]}
        return JSONResponse(body, status, media_type="application/fhir+json")
    fix = (
        "Sign in at /auth/sign-in, or send a bearer token." if status == 401 else "Ask for the role or scope."
    )
    return problem(status, "The request was refused.", why, fix)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _cookie(text: str, name: str) -> str | None:
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return None
    return found.value if found is not None else None
