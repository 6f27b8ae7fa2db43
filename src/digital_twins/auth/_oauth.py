"""The OAuth 2 protocol of the node: authorization requests, and what tokens are given for.

RFC 6749, 7636 (PKCE, S256 only), 7523 (private_key_jwt), 7009, 7662, 9207; SMART App Launch 2.2.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from digital_twins.auth._clients import COMMAND_LINE, OPEN_SCOPES
from digital_twins.auth._grants import GRANT_S
from digital_twins.auth._jwt import TokenRefusedError
from digital_twins.auth._refusals import OAuthError
from digital_twins.auth._roles import known_actions, rights_of
from digital_twins.auth._scopes import FhirScope, narrowed, parse_fhir_scope
from digital_twins.auth._sessions import ABSOLUTE_S
from digital_twins.auth._tokens import ACCESS_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    import apsw

    from digital_twins.auth._accounts import User
    from digital_twins.auth._authority import Authority
    from digital_twins.auth._clients import Client
    from digital_twins.auth._grants import Grant, Launch

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_PATIENT_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_SERVICE_GRANT_S = 86_400


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A checked request for authorization."""

    client: Client
    redirect_uri: str
    scope: str
    state: str
    challenge: str
    nonce: str | None
    launch: Launch | None

    @property
    def needs_patient(self) -> bool:
        """Whether somebody has to say which patient the app is for."""
        words = self.scope.split()
        return "launch/patient" in words or any(word.startswith("patient/") for word in words)


class RedirectedError(Exception):
    """A refusal that the client learns by redirection (RFC 6749 section 4.1.2.1)."""

    def __init__(self, url: str, code: str) -> None:
        super().__init__(code)
        self.url = url
        self.code = code


def authorization_request(authority: Authority, query: Mapping[str, str]) -> AuthorizationRequest:
    """Check a request for authorization.

    Raises
    ------
    OAuthError
        The client or its address is not known: people are shown an error, nobody is redirected.
    RedirectedError
        Anything else is wrong.
    """
    client = authority.clients.get(query.get("client_id", ""))
    if client is None or client.disabled:
        raise OAuthError("invalid_client", "This app is not registered here.")
    uri = query.get("redirect_uri", "")
    if not client.returns_to(uri):
        raise OAuthError("invalid_request", "The redirect address of this app is not registered.")
    state = query.get("state", "")

    def refuse(code: str, why: str) -> RedirectedError:
        return RedirectedError(
            redirect(authority, uri, {"error": code, "error_description": why, "state": state}), code
        )

    scope = _of_client(client, query.get("scope", ""))
    wrong = _wrong_part(authority, query, scope)
    if wrong is not None:
        raise refuse(*wrong)
    launch = None
    if "launch" in query or "launch" in scope.split():
        launch = authority.grants.launched(query.get("launch", ""), client=client.id)
        if launch is None:
            raise refuse("invalid_request", "The launch is unknown or too old.")
    return AuthorizationRequest(
        client, uri, scope, state, query["code_challenge"], query.get("nonce"), launch
    )


def _wrong_part(authority: Authority, query: Mapping[str, str], scope: str) -> tuple[str, str] | None:
    """Return error code and reason of the first part of a request that cannot be used."""
    challenge = query.get("code_challenge", "")
    checks = (
        (query.get("response_type") == "code", "unsupported_response_type", "Only code is offered."),
        (
            query.get("code_challenge_method") == "S256" and _CHALLENGE.fullmatch(challenge) is not None,
            "invalid_request",
            "PKCE with S256 is required.",
        ),
        (query.get("state", "") != "", "invalid_request", "state is required."),
        (scope != "", "invalid_scope", "None of the scopes is registered for this app."),
        (
            "/" not in scope or query.get("aud", "").rstrip("/") == authority.fhir_base,
            "invalid_request",
            "aud must be the FHIR base of this server.",
        ),
    )
    return next(((code, why) for right, code, why in checks if not right), None)


def redirect(authority: Authority, uri: str, parameters: Mapping[str, str]) -> str:
    """Return a registered address with an answer in its query, the issuer among it (RFC 9207)."""
    mark = "&" if urlsplit(uri).query else "?"
    return f"{uri}{mark}{urlencode({**parameters, 'iss': authority.base_url})}"


def _of_client(client: Client, asked: str) -> str:
    """Return what of the asked scopes the client is registered for."""
    registered = client.scope.split()
    allowed = [found for word in registered if (found := parse_fhir_scope(word)) is not None]
    kept: list[str] = []
    for word in asked.split():
        scope = parse_fhir_scope(word)
        if scope is not None:
            kept.extend(str(part) for part in narrowed(scope, allowed))
        elif word in registered and (word in OPEN_SCOPES or word in known_actions()):
            kept.append(word)
    return " ".join(dict.fromkeys(kept))


def scope_for(user: User, scope: str) -> str:
    """Return what of a scope somebody may give away: no more than the own roles allow."""
    rights = rights_of(user.roles)
    allowed = [FhirScope("*", each.kind, each.actions) for each in rights.fhir]
    kept: list[str] = []
    for word in scope.split():
        asked = parse_fhir_scope(word)
        if asked is not None:
            own = asked.level == "patient" or (asked.level == "user" and user.patient is None)
            kept.extend(str(part) for part in narrowed(asked, allowed) if own)
        elif word in OPEN_SCOPES or word in rights.actions:
            kept.append(word)
    return " ".join(dict.fromkeys(kept))


def approve(
    authority: Authority, request: AuthorizationRequest, user: User, *, patient: str | None, scope: str
) -> str:
    """Store somebody's consent and return the address that the browser goes to.

    Raises
    ------
    OAuthError
        The patient is missing, or is not one that this person or this launch may give.
    RedirectedError
        Nothing of the scope may be given by this person.
    """
    if request.launch is not None:
        if request.launch.user != user.name:
            raise OAuthError("access_denied", "The app was launched by somebody else.", status=403)
        patient = request.launch.patient
    if user.patient is not None and patient not in {None, user.patient}:
        raise OAuthError("access_denied", "This account is for another patient.", status=403)
    patient = user.patient or patient or None
    if request.needs_patient and not (patient and _PATIENT_ID.fullmatch(patient)):
        raise OAuthError("invalid_request", "A patient has to be chosen.")
    given = scope_for(user, scope)
    if not given:
        answer = {"error": "access_denied", "state": request.state}
        raise RedirectedError(redirect(authority, request.redirect_uri, answer), "access_denied")
    context: dict[str, Any] = {"auth_time": int(authority.records.now())}
    if request.launch is not None and request.launch.encounter:
        context["encounter"] = request.launch.encounter
    grant = authority.grants.new(request.client.id, user.name, given, patient, context)
    code = authority.grants.authorise(
        grant,
        redirect_uri=request.redirect_uri,
        challenge=request.challenge,
        nonce=request.nonce,
        lifetime_s=ABSOLUTE_S if request.client.id == COMMAND_LINE else GRANT_S,
    )
    return redirect(authority, request.redirect_uri, {"code": code, "state": request.state})


def give_tokens(authority: Authority, form: Mapping[str, str], authorization: str) -> dict[str, Any]:
    """Answer a token request.

    Raises
    ------
    OAuthError
        With the code of RFC 6749 section 5.2.
    """
    client = authority.authentication.recognise(form, authorization)
    try:
        return _tokens_for(authority, client, form)
    except OAuthError as error:
        if error.code == "invalid_grant":  # a reused code or token ended its grant: access tokens end with it
            authority.tokens.forget()
        raise


def _tokens_for(authority: Authority, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
    kind = form.get("grant_type")
    if kind == "authorization_code":
        verifier = form.get("code_verifier", "")
        if not _VERIFIER.fullmatch(verifier):
            raise OAuthError("invalid_request", "code_verifier is missing or malformed.")
        grant, nonce = authority.grants.redeem(
            form.get("code", ""),
            client=client.id,
            redirect_uri=form.get("redirect_uri", ""),
            verifier=verifier,
        )
        return _answer(authority, grant, nonce=nonce, first=True)
    if kind == "refresh_token":
        grant = authority.grants.refresh(form.get("refresh_token", ""), client=client.id)
        return _answer(authority, _by_present_roles(authority, grant))
    if kind == "client_credentials":
        return _service(authority, client, form.get("scope", ""))
    raise OAuthError("unsupported_grant_type", "This grant type is not offered.")


def _by_present_roles(authority: Authority, grant: Grant) -> Grant:
    """Return a grant with no more than the person's roles allow now: they may have changed since the consent.

    Raises
    ------
    OAuthError
        ``invalid_grant``: nothing is left.
    """
    user = authority.accounts.get(grant.user)
    scope = scope_for(user, grant.scope) if user is not None else ""
    if not scope:
        authority.records.refused("token", agent=f"client:{grant.client}", why="refresh-roles")
        raise OAuthError("invalid_grant", "The roles of the person allow nothing of this any more.")
    return replace(grant, scope=scope)


def _service(authority: Authority, client: Client, asked: str) -> dict[str, Any]:
    if not client.confidential:
        raise OAuthError("unauthorized_client", "Only a client that proves who it is acts for itself.")
    words = _of_client(client, asked).split()
    scope = " ".join(word for word in words if word.startswith("system/") or word in known_actions())
    if not scope:
        raise OAuthError("invalid_scope", "None of the scopes is registered for this client.")
    grant = authority.grants.new(client.id, "", scope, None, {})
    authority.records.database.write(
        lambda cursor: authority.grants.create(cursor, grant, lifetime_s=_SERVICE_GRANT_S)
    )
    return _answer(authority, grant)


def _answer(
    authority: Authority, grant: Grant, *, nonce: str | None = None, first: bool = False
) -> dict[str, Any]:
    user = authority.accounts.get(grant.user) if grant.user else None
    scope = grant.scope.split()
    answer: dict[str, Any] = {
        "access_token": authority.tokens.access_token(grant, user.roles if user else ()),
        "token_type": "Bearer",
        "expires_in": ACCESS_S,
        "scope": grant.scope,
    }
    if grant.patient is not None:
        answer |= {"patient": grant.patient, "need_patient_banner": "encounter" not in grant.context}
    if "encounter" in grant.context:
        answer["encounter"] = grant.context["encounter"]
    if "openid" in scope and user is not None:
        answer["id_token"] = authority.tokens.id_token(
            grant, nonce=nonce, fhir_user=user.fhir_user, display=user.display
        )
    agent = f"user:{grant.user} client:{grant.client}" if grant.user else f"client:{grant.client}"

    def work(cursor: apsw.Cursor) -> str | None:
        detail: dict[str, str | int] = {"grant": grant.id, "scope": grant.scope, "first": int(first)}
        authority.records.event(
            cursor,
            "token",
            agent=agent,
            entity=f"client:{grant.client}",
            patient=grant.patient,
            detail=detail,
        )
        if user is not None and {"offline_access", "online_access"} & set(scope):
            return authority.grants.refresh_token(cursor, grant)
        return None

    refresh = authority.records.database.write(work)
    if refresh is not None:
        answer["refresh_token"] = refresh
    return answer


def introspect(authority: Authority, token: str) -> dict[str, Any]:
    """Return what is known of a token (RFC 7662); ``{"active": False}`` for every token that is not good."""
    held = authority.grants.of_refresh(token)
    if held is not None:
        grant, expires = held
        found: dict[str, Any] = {"active": True, "token_type": "refresh_token", "exp": expires}
        return found | {"client_id": grant.client, "sub": grant.user, "scope": grant.scope}
    try:
        claims = authority.tokens.claims(token)
    except TokenRefusedError:
        return {"active": False}
    names = ("iss", "aud", "sub", "client_id", "scope", "iat", "exp", "patient")
    return {"active": True, "token_type": "Bearer"} | {n: claims[n] for n in names if n in claims}


def userinfo(authority: Authority, authorization: str) -> dict[str, Any]:
    """Return who a token stands for (OpenID Connect Core section 5.3), with roles and scope as they are now.

    Raises
    ------
    OAuthError
        ``invalid_token`` (401); ``insufficient_scope`` (403) for one of a service or without ``openid``.
    """
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer":
        raise OAuthError("invalid_token", "No bearer token was shown.", status=401)
    try:
        claims = authority.tokens.claims(token.strip())
    except TokenRefusedError as error:
        authority.records.refused("userinfo", agent="anonymous", why=str(error))
        raise OAuthError("invalid_token", "The token is not good any more.", status=401) from None
    scope = str(claims["scope"]).split()
    user = authority.accounts.get(str(claims["sub"]))
    if user is None or "openid" not in scope:
        raise OAuthError("insufficient_scope", "The token does not say who a person is.", status=403)
    found: dict[str, Any] = {"sub": user.name}
    if "profile" in scope:
        found |= {"name": user.display, "roles": list(user.roles), "scope": claims["scope"]}
    if "fhirUser" in scope and user.fhir_user:
        found["fhirUser"] = f"{authority.fhir_base}/{user.fhir_user}"
    return found


def revoke(authority: Authority, token: str, *, client: Client) -> None:
    """End the grant of an access or refresh token (RFC 7009); nothing happens for a foreign or dead one."""
    held = authority.grants.of_refresh(token)
    if held is not None:
        name = held[0].id
    else:
        try:
            name = str(authority.tokens.claims(token)["grant"])
        except TokenRefusedError:
            return
    authority.grants.revoke(name, client=client.id)
    authority.tokens.forget()


def configuration(authority: Authority) -> dict[str, Any]:
    """Return OpenID Connect discovery and SMART configuration in one document (SMART 2.2.0 conformance)."""
    base = authority.base_url
    return {
        "issuer": base,
        "jwks_uri": f"{base}/auth/jwks",
        "authorization_endpoint": f"{base}/auth/authorize",
        "token_endpoint": f"{base}/auth/token",
        "userinfo_endpoint": f"{base}/auth/userinfo",
        "introspection_endpoint": f"{base}/auth/introspect",
        "revocation_endpoint": f"{base}/auth/revoke",
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": [
            *("none", "client_secret_basic", "client_secret_post", "private_key_jwt"),
        ],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
        "scopes_supported": [
            *OPEN_SCOPES,
            *(
                "patient/*.cruds",
                "user/*.cruds",
                "system/*.cruds",
                "patient/*.rs",
                "user/*.rs",
                "system/*.rs",
            ),
            *known_actions(),
        ],
        "capabilities": [
            *("launch-ehr", "launch-standalone", "client-public", "client-confidential-symmetric"),
            *("client-confidential-asymmetric", "sso-openid-connect", "context-ehr-patient"),
            *(
                "context-ehr-encounter",
                "context-standalone-patient",
                "permission-offline",
                "permission-online",
            ),
            *("permission-patient", "permission-user", "permission-v1", "permission-v2", "authorize-post"),
        ],
    }
