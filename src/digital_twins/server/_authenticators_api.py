"""Authenticators of whoever is signed in, in the ``/api`` door: registered, listed, revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response

from digital_twins._errors import InputError
from digital_twins.auth import NotSignedInError
from digital_twins.server._models import AuthenticatorBegin, AuthenticatorNew, AuthenticatorView
from digital_twins.server._signing_api import session_of

if TYPE_CHECKING:
    from digital_twins.auth import Authenticator, Authority, User
    from digital_twins.server._signed_reports import ReportSigning


def add_authenticators(app: FastAPI, signing: ReportSigning | None) -> None:
    """Add the routes; each speaks of the own account only."""

    def acting() -> tuple[Authority, User, str]:
        if signing is None:
            raise InputError(
                "There are no authenticators here.",
                "Nobody signs in at this node.",
                "Set authentication = true.",
            )
        authority, session = signing.signatures.authority, session_of()
        found = authority.sessions.alive(session)
        if found is None:
            raise NotSignedInError("Nothing was done.", "The session has ended.", "Sign in again.")
        return authority, found[0], session

    @app.get(
        "/authenticators",
        response_model=list[AuthenticatorView],
        summary="Own authenticators for electronic signatures",
        tags=["signing"],
    )
    def listed() -> list[AuthenticatorView]:
        authority, user, _ = acting()
        return [_view(each) for each in authority.authenticators.of(user.name)]

    @app.post(
        "/authenticators/challenge",
        response_model=dict[str, Any],
        summary="Begin to register one: options for navigator.credentials.create",
        tags=["signing"],
    )
    def begin(asked: AuthenticatorBegin) -> dict[str, Any]:
        authority, user, session = acting()
        return authority.authenticators.registration(user, session, password=asked.password, code=asked.code)

    @app.post("/authenticators", response_model=AuthenticatorView, summary="Register one", tags=["signing"])
    def register(given: AuthenticatorNew) -> AuthenticatorView:
        authority, user, session = acting()
        made = authority.authenticators.register(user, session, given.credential, label=given.label)
        return _view(made)

    @app.delete("/authenticators/{credential}", status_code=204, summary="Revoke one", tags=["signing"])
    def revoke(credential: str) -> Response:
        authority, user, _ = acting()
        authority.authenticators.revoke(user.name, credential, agent=f"user:{user.name}")
        return Response(status_code=204)


def _view(each: Authenticator) -> AuthenticatorView:
    return AuthenticatorView(
        credential=each.credential,
        label=each.label,
        created_utc=datetime.fromtimestamp(each.created, tz=UTC),
    )
