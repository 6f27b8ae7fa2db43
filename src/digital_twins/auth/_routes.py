"""The routes of ``/auth`` and discovery: sign-in pages, SMART launch, tokens."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from digital_twins._errors import DigitalTwinError
from digital_twins.auth._clients import CODE_PAGE
from digital_twins.auth._grants import Launch
from digital_twins.auth._oauth import (
    RedirectedError,
    approve,
    authorization_request,
    configuration,
    give_tokens,
    introspect,
    redirect,
    revoke,
    scope_for,
    userinfo,
)
from digital_twins.auth._principal import acting_principal
from digital_twins.auth._provider_routes import provider_routes
from digital_twins.auth._refusals import AccessDeniedError, NotSignedInError, OAuthError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from digital_twins.auth._accounts import User
    from digital_twins.auth._authority import Authority
    from digital_twins.auth._principal import Principal

_LONGEST_FORM = 65_536
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


def auth_routes(authority: Authority, *, patients: Callable[[], Sequence[tuple[str, str]]]) -> list[Route]:
    """Return the routes of ``/auth`` and ``/.well-known``.

    Parameters
    ----------
    authority
        As `open_authority` returns it.
    patients
        Returns ids and labels of the patients that who acts may choose from at a standalone launch.
    """
    pages, protocol = _Pages(authority, patients), _Protocol(authority)
    provider = authority.provider
    beside = provider_routes(authority, provider, pages.admit, pages.message) if provider else []
    return [
        *beside,
        Route("/.well-known/openid-configuration", protocol.configuration),
        Route("/fhir/.well-known/smart-configuration", protocol.configuration),
        Route("/auth/jwks", protocol.jwks),
        Route("/auth/token", protocol.token, methods=["POST"]),
        Route("/auth/userinfo", protocol.userinfo, methods=["GET", "POST"]),
        Route("/auth/introspect", protocol.introspect, methods=["POST"]),
        Route("/auth/revoke", protocol.revoke, methods=["POST"]),
        Route("/auth/authorize", pages.authorize, methods=["GET", "POST"]),
        Route("/auth/sign-in", pages.sign_in, methods=["GET", "POST"]),
        Route("/auth/sign-out", pages.sign_out, methods=["POST"]),
        Route("/auth/account", pages.account),
        Route("/auth/emergency", pages.emergency, methods=["POST"]),
        Route("/auth/launch", pages.launch, methods=["POST"]),
        Route(CODE_PAGE, pages.code),
        Route("/auth/style.css", pages.style),
    ]


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; a field that comes twice is refused (RFC 6749 section 3.1)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "The body must be application/x-www-form-urlencoded.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise OAuthError("invalid_request", "The body is too long.", status=413)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError:
        raise OAuthError("invalid_request", "The body is not UTF-8.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "A field comes twice.")
    return form


class _Protocol:
    def __init__(self, authority: Authority) -> None:
        self.authority = authority

    async def configuration(self, request: Request) -> Response:
        return JSONResponse(configuration(self.authority))

    async def jwks(self, request: Request) -> Response:
        return JSONResponse(self.authority.keys.public(), headers={"cache-control": "max-age=300"})

    async def _answer(
        self, request: Request, work: Callable[[dict[str, str], str], dict[str, Any] | None]
    ) -> Response:
        try:
            form = await _form(request)
            answer = await asyncio.to_thread(work, form, request.headers.get("authorization", ""))
        except OAuthError as error:
            headers = _NO_STORE | ({"www-authenticate": "Basic"} if error.http_status == 401 else {})
            body = {"error": error.code, "error_description": error.why}
            return JSONResponse(body, error.http_status, headers=headers)
        return JSONResponse(answer, headers=_NO_STORE) if answer is not None else Response(headers=_NO_STORE)

    async def token(self, request: Request) -> Response:
        return await self._answer(
            request, lambda form, authorization: give_tokens(self.authority, form, authorization)
        )

    async def userinfo(self, request: Request) -> Response:
        shown = request.headers.get("authorization", "")
        try:
            answer = await asyncio.to_thread(userinfo, self.authority, shown)
        except OAuthError as error:
            headers = _NO_STORE | {"www-authenticate": f'Bearer error="{error.code}"'}
            body = {"error": error.code, "error_description": error.why}
            return JSONResponse(body, error.http_status, headers=headers)
        return JSONResponse(answer, headers=_NO_STORE)

    async def introspect(self, request: Request) -> Response:
        def work(form: dict[str, str], authorization: str) -> dict[str, Any]:
            client = self.authority.authentication.recognise(form, authorization)
            if not client.confidential:
                raise OAuthError("invalid_client", "Only a client that proves who it is may ask.", status=401)
            return introspect(self.authority, form.get("token", ""))

        return await self._answer(request, work)

    async def revoke(self, request: Request) -> Response:
        def work(form: dict[str, str], authorization: str) -> None:
            client = self.authority.authentication.recognise(form, authorization)
            revoke(self.authority, form.get("token", ""), client=client)

        return await self._answer(request, work)


class _Pages:
    def __init__(self, authority: Authority, patients: Callable[[], Sequence[tuple[str, str]]]) -> None:
        import jinja2

        self.authority = authority
        self.patients = patients
        folder = files("digital_twins.auth") / "templates"
        self.styles = (folder / "style.css").read_bytes()
        loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
        self.templates = jinja2.Environment(loader=loader, autoescape=True)

    @property
    def cookie(self) -> str:
        return cookie_name(self.authority)

    def page(self, name: str, title: str, *, status: int = 200, goes_to: str = "", **values: Any) -> Response:
        text = self.templates.get_template(name).render(title=title, **values)
        parts = urlsplit(goes_to)
        # A browser holds the redirect that answers a form against form-action too.
        policy = f"{_POLICY} {parts.scheme}://{parts.netloc}" if goes_to else _POLICY
        headers = _NO_STORE | {"content-security-policy": policy}
        return Response(text, status, headers=headers, media_type="text/html")

    def message(self, title: str, error: DigitalTwinError) -> Response:
        return self.page("message.html", title, status=error.http_status, error=error.why)

    async def style(self, request: Request) -> Response:
        return Response(self.styles, media_type="text/css", headers={"cache-control": "max-age=3600"})

    def _session(self, request: Request) -> tuple[User, Principal] | None:
        secret = request.cookies.get(self.cookie)
        return self.authority.sessions.find(secret) if secret else None

    async def sign_in(self, request: Request) -> Response:
        if request.method == "GET":
            target = _local(request.query_params.get("next", "/"))
            return self.page("sign_in.html", "Sign in", next=target, provider=self._provider(target))
        try:
            form = await _form(request)
            target = _local(form.get("next", "/"))
            user = await asyncio.to_thread(
                self.authority.accounts.sign_in,
                form.get("name", "").strip().lower(),
                form.get("password", ""),
                form.get("code", ""),
            )
        except NotSignedInError as error:
            provider = self._provider(target)
            return self.page(
                "sign_in.html", "Sign in", status=401, next=target, error=error.why, provider=provider
            )
        except OAuthError as error:
            return self.message("Sign in", error)
        return await asyncio.to_thread(self.admit, request, user, target)

    def _provider(self, target: str) -> str:
        """Return the address of sign-in through the provider, empty without one."""
        return f"/auth/provider?{urlencode({'next': target})}" if self.authority.provider else ""

    def admit(self, request: Request, user: User, target: str) -> Response:
        """Begin a session, always with a new cookie, and go to a page of this node."""
        target, old = _local(target), request.cookies.get(self.cookie)
        secret = self.authority.sessions.start(user, replacing=old)
        answer = RedirectResponse(target, 303, headers=_NO_STORE)
        answer.set_cookie(
            self.cookie, secret, path="/", secure=self.authority.secure, httponly=True, samesite="lax"
        )
        return answer

    async def _checked_form(self, request: Request) -> tuple[User, Principal, dict[str, str]]:
        """Return who sent a form and its fields; refused without a session or its token."""
        found = self._session(request)
        if found is None:
            raise NotSignedInError("The form was refused.", "You are not signed in.", "Sign in again.")
        form = await _form(request)
        if not self.authority.sessions.form_token_right(found[1].session, form.get("form_token", "")):
            raise AccessDeniedError("The form was refused.", "It is not from this session.", "Load it again.")
        return *found, form

    async def sign_out(self, request: Request) -> Response:
        try:
            await self._checked_form(request)
        except DigitalTwinError as error:
            return self.message("Sign out", error)
        await asyncio.to_thread(self.authority.sessions.end, request.cookies[self.cookie])
        answer = RedirectResponse("/auth/sign-in", 303, headers=_NO_STORE)
        answer.delete_cookie(self.cookie, path="/")
        return answer

    async def account(self, request: Request) -> Response:
        found = self._session(request)
        if found is None:
            return RedirectResponse("/auth/sign-in?next=/auth/account", 303, headers=_NO_STORE)
        user, principal = found
        return self.page(
            "account.html",
            "Your account",
            user=user.display,
            roles=", ".join(user.roles),
            emergency=principal.emergency,
            may_break="emergency.use" in principal.actions,
            form_token=self.authority.sessions.form_token(principal.session),
        )

    async def emergency(self, request: Request) -> Response:
        try:
            _, principal, form = await self._checked_form(request)
            if "emergency.use" not in principal.actions:
                await asyncio.to_thread(
                    self.authority.records.refused, "emergency", agent=principal.name, why="role"
                )
                raise AccessDeniedError(
                    "The emergency access was refused.", "Your role does not have it.", "Call a clinician."
                )
            await asyncio.to_thread(self.authority.sessions.break_glass, principal, form.get("reason", ""))
        except DigitalTwinError as error:
            return self.message("Emergency access", error)
        return RedirectResponse("/auth/account", 303, headers=_NO_STORE)

    async def launch(self, request: Request) -> Response:
        """Begin an EHR launch: the answer names the address at which the app is opened."""
        principal = acting_principal()
        if principal is None or "launch.create" not in principal.actions:
            return JSONResponse({"error": "access_denied"}, 403)
        try:
            form = await _form(request)
            client = self.authority.clients.get(form.get("client_id", ""))
            if client is None or client.disabled or client.launch_url is None:
                raise OAuthError("invalid_client", "This app cannot be launched from here.")
            user = principal.name.removeprefix("user:").partition(" ")[0]
            made = Launch(client.id, user, form.get("patient", ""), form.get("encounter") or None)
            if not made.patient:
                raise OAuthError("invalid_request", "A patient is needed.")
            value = await asyncio.to_thread(self.authority.grants.launch, made)
        except OAuthError as error:
            body = {"error": error.code, "error_description": error.why}
            return JSONResponse(body, error.http_status)
        mark = "&" if urlsplit(client.launch_url).query else "?"
        query = urlencode({"iss": self.authority.fhir_base, "launch": value})
        return JSONResponse({"launch": value, "url": f"{client.launch_url}{mark}{query}"}, headers=_NO_STORE)

    async def code(self, request: Request) -> Response:
        """Show the code of a sign-in at a terminal without a browser, to be copied there."""
        return self.page("code.html", "Sign in at the terminal", code=request.query_params.get("code", ""))

    async def authorize(self, request: Request) -> Response:
        try:
            return await self._authorize(request)
        except RedirectedError as error:
            await asyncio.to_thread(
                self.authority.records.refused, "authorise", agent="anonymous", why=error.code
            )
            return RedirectResponse(error.url, 303, headers=_NO_STORE)
        except DigitalTwinError as error:
            await asyncio.to_thread(
                self.authority.records.refused, "authorise", agent="anonymous", why=type(error).__name__
            )
            return self.message("The app was refused", error)

    async def _authorize(self, request: Request) -> Response:
        asked = authorization_request(self.authority, dict(request.query_params))
        found = self._session(request)
        here = f"{request.url.path}?{request.url.query}"
        if found is None:
            return RedirectResponse(f"/auth/sign-in?{urlencode({'next': here})}", 303, headers=_NO_STORE)
        user, principal = found
        if request.method == "POST":
            _, _, form = await self._checked_form(request)
            if form.get("decision") != "allow":
                denied = redirect(
                    self.authority, asked.redirect_uri, {"error": "access_denied", "state": asked.state}
                )
                raise RedirectedError(denied, "access_denied")
            url = await asyncio.to_thread(
                approve, self.authority, asked, user, patient=form.get("patient"), scope=asked.scope
            )
            return RedirectResponse(url, 303, headers=_NO_STORE)
        patient = asked.launch.patient if asked.launch else user.patient
        choose = asked.needs_patient and not patient
        return self.page(
            "consent.html",
            "Allow access",
            goes_to=asked.redirect_uri,
            user=user.display,
            client=asked.client.name,
            scopes=scope_for(user, asked.scope).split(),
            action=here,
            form_token=self.authority.sessions.form_token(principal.session),
            patient=patient,
            choose=choose,
            patients=await asyncio.to_thread(self.patients) if choose else (),
        )


def cookie_name(authority: Authority) -> str:
    """Return the session cookie's name; ``__Host-`` ties it to this host and https (RFC 6265bis)."""
    return "__Host-twin-session" if authority.secure else "twin-session"


def _local(target: str) -> str:
    """Return a path on this node; anything that could lead elsewhere becomes the start page."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target or not target.isprintable():
        return "/"
    return target
