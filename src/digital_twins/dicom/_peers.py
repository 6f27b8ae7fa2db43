"""The peers table: who may call this node, from where, for what, and where their own ports are."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._profiles import profile_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._tls import Tls


class Service(StrEnum):
    """What a peer may ask this node for; the words of ``services`` in the peers table."""

    ECHO = "echo"
    STORE = "store"
    FIND = "find"
    MOVE = "move"
    GET = "get"
    WORKLIST = "worklist"
    MPPS = "mpps"
    COMMITMENT = "commitment"
    AVAILABILITY = "availability"


ALL_SERVICES = frozenset(Service)


@dataclass(frozen=True, slots=True)
class DicomPeer:
    """One row of the peers table.

    Attributes
    ----------
    ae_title
        1 to 16 characters.
    host, port
        Where the peer listens, for C-MOVE to it, storage commitment reports and sending; port 0: it does not.
    addresses
        Networks that it may call from, e.g. ``("10.1.2.0/24",)``; empty: anywhere.
    services
        What it may ask for.
    tls
        The peer is called over TLS, and must call over TLS.
    tls_1_2
        TLS 1.2 with the cipher suites of BCP 195 will do, in both directions; otherwise only TLS 1.3.
    certificate_sha256
        SHA-256 in hex of the only certificate that this peer may show; '' accepts any that verifies.
    require_user
        It must name a user (PS3.7 section D.3.3.7) whom the user table or the token verifier knows.
    max_associations
        Its associations at a time.
    max_requests_per_s
        Its requests are answered no faster than this; 0: as fast as they come.
    fuzzy_names
        Its name queries match fuzzily without being negotiated.
    profile
        Name of its `digital_twins.dicom.VendorProfile`.
    web_url
        Its DICOMweb root; routes then send to it by STOW-RS.
    api_key_variable
        Environment variable with the value of the header that its profile names; '' sends none.
    """

    ae_title: str
    host: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()
    services: frozenset[Service] = ALL_SERVICES
    tls: bool = False
    tls_1_2: bool = False
    certificate_sha256: str = ""
    require_user: bool = False
    max_associations: int = 16
    max_requests_per_s: float = 0.0
    fuzzy_names: bool = False
    profile: str = "generic"
    web_url: str = ""
    api_key_variable: str = ""

    def remote(self, calling_ae: str, tls: Tls | None) -> Remote | None:
        """Return how to call it, or None when the row does not say where it listens.

        Parameters
        ----------
        calling_ae
            Our AE title.
        tls
            Our certificate; without it a peer that wants TLS cannot be called.
        """
        from digital_twins.dicom._requestor import Remote

        if not self.port or (self.tls and tls is None):
            return None
        secure = tls.for_peer(allow_1_2=self.tls_1_2) if self.tls and tls is not None else None
        return Remote(self.host, self.port, called_ae=self.ae_title, calling_ae=calling_ae, tls=secure)

    def may_call_from(self, address: str) -> bool:
        """Whether the peer may call from a network address."""
        if not self.addresses:
            return True
        caller = ipaddress.ip_address(address)
        return any(caller in ipaddress.ip_network(network, strict=False) for network in self.addresses)


@dataclass(frozen=True, slots=True)
class PeerTable:
    """The peers of a node.

    Attributes
    ----------
    peers
        By AE title.
    strict
        Only listed peers may call, and only under this node's own AE title.
    """

    peers: Mapping[str, DicomPeer]
    strict: bool = False

    @classmethod
    def of(cls, peers: Iterable[DicomPeer], *, strict: bool = False) -> PeerTable:
        """Make a table; raises InputError for two rows with one AE title, or a row that cannot be used."""
        table: dict[str, DicomPeer] = {}
        for peer in peers:
            _check(peer)
            if peer.ae_title in table:
                raise _unusable(peer.ae_title, "There are two rows with this AE title.")
            table[peer.ae_title] = peer
        return cls(table, strict)

    @classmethod
    def only(cls, *ae_titles: str) -> PeerTable:
        """Make a strict table of AE titles that may use every service."""
        return cls.of((DicomPeer(title) for title in ae_titles), strict=True)


def _check(peer: DicomPeer) -> None:
    if not 0 < len(peer.ae_title.strip()) <= 16 or not peer.ae_title.isascii() or "\\" in peer.ae_title:
        raise _unusable(peer.ae_title, "Its AE title must be 1 to 16 ASCII characters.")
    if peer.tls_1_2 and not peer.tls:
        raise _unusable(peer.ae_title, "tls_1_2 without tls has no meaning.")
    if peer.profile not in profile_names():
        raise _unusable(peer.ae_title, f"There is no vendor profile '{peer.profile}'.")
    for network in peer.addresses:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise _unusable(peer.ae_title, f"'{network}' is no network address.") from None


def _unusable(title: str, why: str) -> InputError:
    return InputError(f"The DICOM peer '{title}' cannot be used.", why, "Correct its row in the peers table.")
