"""TLS of the DICOM port and of our calls: TLS 1.3 with certificates on both sides; TLS 1.2 where it must be.

PS3.15 annex B.12 and B.13: the BCP 195 profiles. TLS 1.2 keeps only forward-secret AEAD suites.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins._logging import get_logger
from digital_twins.crypto import BCP_195_SUITES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """Our certificate, and whom we trust.

    Attributes
    ----------
    certificate, key
        PEM files of our certificate (with its chain) and its private key.
    authority
        PEM file of the certificates that sign those of the peers.
    allow_1_2
        Whether TLS 1.2 may be negotiated at all.
    """

    certificate: Path
    key: Path
    authority: Path
    allow_1_2: bool = False

    def server(self) -> ssl.SSLContext:
        """Return the context of a port: every client must show a certificate of the authority.

        Changed files are taken up at the next connection; open ones keep what they have. Files that do not
        fit together (one is written, the other not yet) are tried again at the one after.

        Raises
        ------
        InputError
            A file cannot be read, or the key does not belong to the certificate.
        """
        seen = self._stamps()
        context = self._made(_server_context)
        context.sni_callback = _Renewal(self, context, seen)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the context of a call; the peer's certificate must be of the authority and name its host.

        Raises as `server` does.
        """
        return self._made(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def for_peer(self, *, allow_1_2: bool) -> Tls:
        """Return the same certificates with another lowest version."""
        return replace(self, allow_1_2=allow_1_2)

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.authority))

    def _made(self, new: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = new()
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if self.allow_1_2 else ssl.TLSVersion.TLSv1_3
        context.set_ciphers(BCP_195_SUITES)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                "The certificates for DICOM over TLS cannot be used.",
                f"Loading them raised {type(error).__name__}.",
                "Check that the PEM files of certificate, key and authority exist, are readable, and belong"
                " together.",
            ) from error
        return context


class _Renewal:
    """Gives each connection the newest context whose files fit; called with or without a server name."""

    def __init__(
        self, tls: Tls, context: ssl.SSLContext, seen: tuple[tuple[int, int, int] | None, ...]
    ) -> None:
        self._tls, self._newest, self._seen = tls, context, seen

    def __call__(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> None:
        now = self._tls._stamps()
        if now != self._seen:
            try:
                self._newest = self._tls._made(_server_context)
            except InputError as error:
                _log.warning("tls.certificate.unusable", why=error.why)
            else:
                self._seen = now
                _log.info("tls.certificate.renewed")
        connection.context = self._newest


def _server_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
