"""The HL7 v2 port of a node: each message one transaction with one audit event, then its acknowledgement."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from digital_twins._errors import InputError
from digital_twins.audit import AuditEvent
from digital_twins.fhir import FhirError, FhirStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw

    from digital_twins.config import Settings
    from digital_twins.dicom import WorklistItem
    from digital_twins.hl7v2 import HL7Error, Message, MllpServer, SiteMapping
    from digital_twins.server._services import Services

_ORDERS = {("ORM", "O01"), ("OMI", "O23")}
_MERGES = 3
"""Tries to merge an ADT message into a record that others change at the same time."""


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

    async def refused(message: Message | None, error: HL7Error) -> None:
        await asyncio.to_thread(audit_refusal, services, message, error)

    return await start_mllp(
        handle,
        host=settings.host,
        port=settings.hl7_port or 0,
        tls=None if tls is None else tls.server(),
        on_refused=refused,
    )


def audit_refusal(services: Services, message: Message | None, error: HL7Error) -> None:
    """Put a refused message into the audit trail: its sender, kind and code, nothing that it says."""
    detail: dict[str, str | int] = {"code": error.code}
    if message is not None:
        detail["message"] = "_".join(re.sub(r"[^A-Z0-9]", "", part)[:8] for part in message.kind)
    event = AuditEvent("E", "hl7.message", "refused", agent_of(message), detail=detail)
    services.audit(event)


def agent_of(message: Message | None) -> str:
    """Return the sending application (MSH-3) as the trail names it."""
    sender = re.sub(r"[^A-Za-z0-9_.-]", "_", message["MSH-3"])[:32] if message is not None else ""
    return f"hl7:{sender}"


def site_mapping(settings: Settings) -> SiteMapping:
    """Return how the site's messages become FHIR; raises InputError for an unknown time zone."""
    from digital_twins.hl7v2 import SiteMapping

    return SiteMapping(systems=settings.hl7_systems, zone=hl7_zone(settings))


def hl7_zone(settings: Settings) -> ZoneInfo:
    """Return the zone of HL7 v2 times that carry none; raises InputError for an unknown one."""
    try:
        return ZoneInfo(settings.hl7_timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            "The time zone of HL7 v2 messages cannot be used.",
            "hl7_timezone names no zone that this machine knows.",
            "Give a name of the IANA database such as Europe/Zurich.",
        ) from None


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
    from digital_twins.hl7v2 import bundle_of, worklist_items

    bundle = bundle_of(message, mapping)
    items = worklist_items(message, mapping) if message.kind in _ORDERS else []
    for attempt in range(_MERGES):
        try:
            _store_once(services, message, mapping, bundle, items)
        except FhirError as error:
            if error.http_status != 412 or attempt == _MERGES - 1 or message.kind[0] != "ADT":
                raise
        else:
            return


def _store_once(
    services: Services,
    message: Message,
    mapping: SiteMapping,
    bundle: dict[str, Any],
    items: Sequence[WorklistItem],
) -> None:
    from digital_twins.dicom import schedule_item
    from digital_twins.hl7v2 import merged_bundle, merged_patients, move_beds
    from digital_twins.server._operations_api import merge_images

    agent = agent_of(message)
    if message.kind[0] == "ADT":
        bundle = merged_bundle(bundle, message, lambda kind, query: _stored(services, kind, query))
    write_record = services.fhir.prepare_transaction(bundle, agent=agent)
    pairs = merged_patients(message) if message.kind == ("ADT", "A40") else []

    def work(cursor: apsw.Cursor) -> None:
        for item in items:
            schedule_item(cursor, item)
        write_record(cursor)
        for prior, surviving in pairs:
            merge_images(cursor, services, prior=prior, surviving=surviving, agent=agent)
        move_beds(cursor, services.beds, message, mapping=mapping)

    services.database.write(work)


def _stored(services: Services, kind: str, query: str) -> dict[str, Any] | None:
    """Return the only resource that a condition finds; None for several too: the store refuses those."""
    # The message's own event tells of its sender; looking up what it changes is no read of anybody.
    hits = (
        FhirStore(services.database, audited=False, parameters=services.parameters)
        .search(kind, parse_qsl(query))
        .matches
    )
    return orjson.loads(hits[0].body) if len(hits) == 1 else None
