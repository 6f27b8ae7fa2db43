"""Refusals: nobody is signed in, somebody is not allowed to, or an OAuth request is wrong."""

from __future__ import annotations

from digital_twins._errors import DigitalTwinError


class NotSignedInError(DigitalTwinError):
    """The caller showed no valid session or token (HTTP 401)."""

    http_status = 401


class AccessDeniedError(DigitalTwinError):
    """The caller is known and lacks the right (HTTP 403)."""

    http_status = 403


class OAuthError(DigitalTwinError):
    """A request to the authorization server is refused (RFC 6749 section 5.2).

    Parameters
    ----------
    code
        Error code of the standard, e.g. ``"invalid_grant"``.
    why
        One sentence for the developer of the client; says nothing secret.
    status
        HTTP status of the answer.
    """

    def __init__(self, code: str, why: str, *, status: int = 400) -> None:
        super().__init__("The authorization server refused the request.", why, "Correct the request.")
        self.code = code
        self.http_status = status
