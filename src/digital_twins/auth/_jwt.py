"""Signed tokens read with a list of algorithms, a key by its id, and every claim that must be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joserfc.jwk import KeySet

_LONGEST = 8192
_CLOCK_ERROR_S = 30
_FOREIGN_KEYS = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})


class TokenRefusedError(Exception):
    """A token cannot be trusted; the text is one word for the audit trail."""


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a compact JWS, not yet verified.

    Raises
    ------
    TokenRefusedError
        It is no such token, has no key id, or brings its own key.
    """
    from joserfc.errors import JoseError
    from joserfc.jws import extract_compact

    if token.count(".") != 2 or len(token) > _LONGEST:
        raise TokenRefusedError("form")
    try:
        header: dict[str, Any] = dict(extract_compact(token.encode()).headers())
    except (JoseError, ValueError, TypeError, AttributeError) as error:
        raise TokenRefusedError("form") from error
    if not isinstance(header.get("kid"), str) or _FOREIGN_KEYS & header.keys():
        raise TokenRefusedError("key")
    return header


def read_token(
    token: str,
    keys: KeySet,
    *,
    algorithms: Sequence[str],
    issuer: str,
    audiences: Sequence[str],
    now: float,
    clock_error_s: float = 0,
) -> dict[str, Any]:
    """Return the claims of a token with a right signature, issuer, audience and time.

    Raises
    ------
    TokenRefusedError
        Any of them is wrong or missing.
    """
    from joserfc import jwt
    from joserfc.errors import JoseError

    header = header_of(token)
    if header.get("alg") not in algorithms:
        raise TokenRefusedError("algorithm")
    if all(key.kid != header["kid"] for key in keys.keys):
        raise TokenRefusedError("key")
    try:
        claims: dict[str, Any] = dict(jwt.decode(token, keys, algorithms=list(algorithms)).claims)
    except (JoseError, ValueError, TypeError) as error:
        raise TokenRefusedError("signature") from error
    if claims.get("iss") != issuer:
        raise TokenRefusedError("issuer")
    aimed = claims.get("aud")
    if not set(aimed if isinstance(aimed, list) else [aimed]) & set(audiences):
        raise TokenRefusedError("audience")
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(expires, int | float) or isinstance(expires, bool) or expires + clock_error_s <= now:
        raise TokenRefusedError("expired")
    if not isinstance(begins, int | float) or isinstance(begins, bool) or begins > now + _CLOCK_ERROR_S:
        raise TokenRefusedError("early")
    return claims
