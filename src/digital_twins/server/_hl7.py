"""The HL7 v2 port of a node: each message one transaction with one audit event, then its acknowledgement."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from digital_twins.config import Settings
    from digital_twins.hl7v2 import Message, MllpServer, SiteMapping
    from digital_twins.server._services import Services

_ORDERS = {("ORM", "O01"), ("OMI", "O23")}


async def open_hl7_port(
    settings: Settings, services: Services, *, on_record: Callable[[], None]
) -> MllpServer:
    """Open the port that `Settings.hl7_port` names.

    Raises
    ------
    InputError
        The time zone is not known, or the certificates cannot be used.
    StorageError
        The port is occupied.
    """
    from digital_twins.hl7v2 import start_mllp
    from digital_twins.server._dicom_ports import dicom_tls

    mapping = site_mapping(settings)
    tls = dicom_tls(settings) if settings.hl7_tls else None
    if settings.hl7_tls and tls is None:
        raise InputError(
            "The HL7 port cannot speak TLS.",
            "hl7_tls is true and there are no certificates.",
            "Set dicom_tls_certificate, dicom_tls_key and dicom_tls_authority.",
        )

    async def handle(message: Message) -> None:
        await asyncio.to_thread(store_message, services, message, mapping)
        on_record()

    return await start_mllp(
        handle, host=settings.host, port=settings.hl7_port or 0, tls=None if tls is None else tls.server()
    )


def site_mapping(settings: Settings) -> SiteMapping:
    """Return how the site's messages become FHIR; raises InputError for an unknown time zone."""
    from digital_twins.hl7v2 import SiteMapping

    try:
        zone = ZoneInfo(settings.hl7_timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            "The time zone of HL7 v2 messages cannot be used.",
            "hl7_timezone names no zone that this machine knows.",
            "Give a name of the IANA database such as Europe/Zurich.",
        ) from None
    return SiteMapping(systems=settings.hl7_systems, zone=zone)


def store_message(services: Services, message: Message, mapping: SiteMapping) -> None:
    """Store what a message says, and schedule what it orders, in one durable transaction.

    Raises
    ------
    HL7Error
        The message cannot be mapped.
    InputError
        The record refuses it, e.g. as several patients have its identifier.
    StorageError
        It could not be made durable.
    """
    from digital_twins.dicom import schedule_item
    from digital_twins.hl7v2 import bundle_of, merged_patients, worklist_items
    from digital_twins.server._operations_api import merge_images

    bundle = bundle_of(message, mapping)
    items = worklist_items(message, mapping) if message.kind in _ORDERS else []
    sender = re.sub(r"[^A-Za-z0-9_.-]", "_", message["MSH-3"])[:32]
    agent = f"hl7:{sender}"
    write_record = services.fhir.prepare_transaction(bundle, agent=agent)
    pairs = merged_patients(message) if message.kind == ("ADT", "A40") else []

    def work(cursor: apsw.Cursor) -> None:
        for item in items:
            schedule_item(cursor, item)
        write_record(cursor)
        for prior, surviving in pairs:
            merge_images(cursor, services, prior=prior, surviving=surviving, agent=agent)

    services.database.write(work)
