"""TLS of the HTTP port: 1.3 alone, with certificates that may change while the node runs."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from digital_twins.config import Settings

_LOOK_S = 2.0
_log = get_logger(__name__)


def server_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of the HTTP port.

    Raises
    ------
    InputError
        The certificate or key cannot be read, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _load(context, settings)
    return context


def _load(context: ssl.SSLContext, settings: Settings) -> None:
    if settings.http_tls_certificate is None:
        return
    try:
        context.load_cert_chain(settings.http_tls_certificate, settings.http_tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "The certificate of the HTTP port cannot be used.",
            f"Loading it raised {type(error).__name__}.",
            "Check that http_tls_certificate and http_tls_key are readable PEM files that belong together.",
        ) from error


async def keep_fresh(context: ssl.SSLContext, settings: Settings, *, every_s: float = _LOOK_S) -> None:
    """Take up changed certificate files; new connections get them, open ones keep theirs.

    A pair that does not fit (one file is written, the other not yet) is tried again at the next look.
    """
    seen = _stamps(settings)
    while True:
        await asyncio.sleep(every_s)
        now = _stamps(settings)
        if now == seen:
            continue
        # Tried on a context of its own first: the one in use must never hold half a pair.
        try:
            server_context(settings)
            _load(context, settings)
        except InputError as error:
            _log.warning("http.certificate.unusable", why=error.why)
            continue
        seen = now
        _log.info("http.certificate.renewed")


def _stamps(settings: Settings) -> tuple[int, ...]:
    files = (settings.http_tls_certificate, settings.http_tls_key)
    try:
        return tuple(each.stat().st_mtime_ns for each in files if each is not None)
    except OSError:
        return ()
