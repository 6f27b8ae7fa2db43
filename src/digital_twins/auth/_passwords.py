"""Passwords by argon2id (RFC 9106) and one-time codes by TOTP (RFC 6238)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_PASSWORD = 12
"""Shortest password, in characters (NIST SP 800-63B-4: 15 without, 8 with a second factor [verify])."""

_STEP_S, _DIGITS = 30, 6


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher, profiles

    return PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)


@cache
def _nobody() -> str:
    return _hasher().hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    """Return the argon2id hash of a new password, with RFC 9106's second recommended parameters (64 MiB).

    Raises
    ------
    InputError
        It is shorter than `MIN_PASSWORD` characters or longer than 1,024.
    """
    if not MIN_PASSWORD <= len(password) <= 1024:
        raise InputError(
            "The password cannot be used.",
            f"It must have {MIN_PASSWORD} to 1024 characters.",
            "Choose a longer phrase.",
        )
    return _hasher().hash(password)


def check_password(stored: str | None, password: str) -> bool:
    """Whether a password is the stored one; costs the same time for an account that does not exist."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(stored or _nobody(), password[:1024])
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def new_totp_secret() -> str:
    """Return a new secret of 160 bits in base32, as authenticator apps take it."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def totp_uri(name: str, secret: str) -> str:
    """Return the ``otpauth://`` address of a secret, for a QR code."""
    return f"otpauth://totp/Digital%20Twins:{quote(name, safe='')}?secret={secret}&issuer=Digital%20Twins"


def totp_code(secret: str, step: int) -> str:
    """Return the code of a time step (RFC 6238 section 4; RFC 4226 section 5.3), SHA-1, 6 digits."""
    mac = hmac.new(
        base64.b32decode(secret), struct.pack(">Q", step), hashlib.sha1
    ).digest()  # RFC 6238 and every app
    place = mac[-1] & 15
    number = int.from_bytes(mac[place : place + 4], "big") & 0x7FFFFFFF
    return str(number % 10**_DIGITS).zfill(_DIGITS)


def totp_step(secret: str, code: str, *, now: float, last: int) -> int | None:
    """Return the time step that a code belongs to, None for a wrong, old or already used code.

    One step of clock error is borne on each side (RFC 6238 section 5.2); ``last`` is the step of the last
    code that was accepted, which makes a code good once.
    """
    current = int(now) // _STEP_S
    for step in (current - 1, current, current + 1):
        if step > last and hmac.compare_digest(totp_code(secret, step).encode(), code.strip().encode()):
            return step
    return None
