"""The DICOM ports of a node, as the settings want them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.config import Settings
    from digital_twins.dicom import Access, Listener, Stored, Tls
    from digital_twins.server._services import Services


async def open_dicom_ports(
    settings: Settings, services: Services, *, on_stored: Callable[[Stored], None]
) -> dict[str, Listener]:
    """Open the plain and the TLS port and return them by ``"plain"`` and ``"tls"``.

    Raises
    ------
    InputError
        A peer, certificate or user file cannot be used.
    StorageError
        A port is occupied.
    """
    from digital_twins.dicom import Events, Limits, start_listener

    limits = Limits(
        max_associations=settings.max_associations,
        max_pdu_bytes=settings.max_pdu_bytes,
        max_object_bytes=settings.max_dicom_object_bytes,
        max_associations_per_minute=settings.max_associations_per_minute,
    )
    ports = {"plain": settings.dicom_port} if settings.dicom_plain_port else {}
    if settings.dicom_tls_port is not None:
        ports["tls"] = settings.dicom_tls_port
    opened: dict[str, Listener] = {}
    for name, port in ports.items():
        # One of the ports delivers the queued reports of both.
        events = Events(jobs=services.jobs, reports=not opened)
        opened[name] = await start_listener(
            services.dicom,
            host=settings.host,
            port=port,
            ae_title=settings.ae_title,
            on_stored=on_stored,
            limits=limits,
            access=replace(
                dicom_access(settings, tls_port=name == "tls"), on_association=services.peers.called
            ),
            events=events,
        )
    return opened


def dicom_access(settings: Settings, *, tls_port: bool) -> Access:
    """Return who may call, and our certificate; raises InputError for a row or file that cannot be used."""
    from digital_twins.dicom import Access, DicomPeer, PeerTable, Service, UserTable

    peers = (
        DicomPeer(
            title, **{**row.model_dump(), "services": frozenset(Service(each) for each in row.services)}
        )
        for title, row in settings.dicom_peers.items()
    )
    users = None if settings.dicom_users_file is None else UserTable.read(settings.dicom_users_file)
    table = PeerTable.of(peers, strict=settings.dicom_peers_only)
    return Access(peers=table, tls=dicom_tls(settings), users=users, tls_port=tls_port)


def dicom_tls(settings: Settings) -> Tls | None:
    """Return our certificate for DICOM, None without one; TLS 1.2 is possible when some peer may use it."""
    from digital_twins.dicom import Tls

    certificate, key, authority = (
        settings.dicom_tls_certificate,
        settings.dicom_tls_key,
        settings.dicom_tls_authority,
    )
    if certificate is None or key is None or authority is None:
        return None
    old = any(peer.tls_1_2 for peer in settings.dicom_peers.values())
    return Tls(certificate, key, authority, allow_1_2=old)
