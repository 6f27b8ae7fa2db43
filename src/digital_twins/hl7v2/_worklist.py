"""Orders as items of the Modality Worklist (IHE RAD Scheduled Workflow, transaction RAD-4)."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from digital_twins.dicom import WorklistItem
from digital_twins.hl7v2._map_orders import CANCELLED, Order, numbers, orders
from digital_twins.hl7v2._values import SiteMapping, moment, text_of

if TYPE_CHECKING:
    from digital_twins.hl7v2._message import Message, Segment

_MODALITY = re.compile(r"[A-Z]{2,4}")
_UID = re.compile(r"(?=.{1,64}$)[0-2](\.(0|[1-9]\d*))+", re.ASCII)
_PRIORITY = {"S": "STAT", "A": "HIGH", "P": "HIGH", "U": "HIGH"}


def worklist_items(
    message: Message, mapping: SiteMapping | None = None, *, station_ae_title: str = "ANY"
) -> list[WorklistItem]:
    """Return the scheduled steps of an ORM O01 or OMI O23.

    A step is scheduled when the order says its modality (IPC-5, else OBR-24) and its start (TQ1-7, OBR-27.4
    or OBR-36); other orders, such as of a laboratory, give none. A cancelled order gives its step with status
    DISCONTINUED. Study UID: IPC-3, ZDS-1, else one that follows from the order number.

    Parameters
    ----------
    message
        As `parse` returns it.
    mapping
        Names of this site; its zone is that of the worklist's dates.
    station_ae_title
        Station of steps whose order (IPC-9) names none.

    Raises
    ------
    HL7Error
        As for `bundle_of`.
    """
    how = mapping or SiteMapping()
    pid: Segment | None = None
    group: list[Segment] = []
    found: list[WorklistItem] = []
    for segment in [*message.lines[1:], None]:
        if segment is None or segment.name == "PID":
            if pid is not None:
                found += [
                    item
                    for order in orders(group)
                    if (item := _item(message, pid, order, how, station_ae_title)) is not None
                ]
            pid, group = segment, []
        group += [segment] if segment is not None else []
    return found


def _item(
    message: Message, pid: Segment, order: Order, how: SiteMapping, station: str
) -> WorklistItem | None:
    modality = (order.value("IPC", 5) or order.value("OBR", 24)).upper()
    start = moment(order.start, how, place=("TQ1", 7))
    if not _MODALITY.fullmatch(modality) or len(start) < 10 or not text_of(pid.value(3)):
        return None
    placer, filler = numbers(message, order, how)
    number = placer or filler
    study = order.value("IPC", 3) or order.value("ZDS", 1)
    if not _UID.fullmatch(study):
        study = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, number['system'] + '|' + number['value']).int}"
    when = datetime.fromisoformat(start)
    if when.tzinfo is not None:
        when = when.astimezone(how.zone)
    code, meaning, scheme = (order.value("OBR", 4, n) for n in range(1, 4))
    family, given, more, suffix, prefix = (text_of(pid.value(5, n)) for n in range(1, 6))
    return WorklistItem(
        study_uid=study,
        step_id=(order.value("IPC", 4) or order.value("OBR", 20) or number["value"])[:16],
        patient_id=text_of(pid.value(3)),
        patient_name="^".join((family, given, more, prefix, suffix)).rstrip("^") or "UNKNOWN",
        modality=modality,
        station_ae_title=order.value("IPC", 9) or station,
        start_date=f"{when:%Y%m%d}",
        start_time=f"{when:%H%M%S}",
        accession_number=(order.value("IPC", 1) or order.value("OBR", 18))[:16],
        requested_procedure_id=(order.value("IPC", 2) or order.value("OBR", 19))[:16],
        requested_procedure_description=meaning[:64],
        step_description=meaning[:64],
        requesting_physician=_physician(order),
        birth_date=re.sub(r"\D", "", text_of(pid.value(7)))[:8],
        sex={"F": "F", "M": "M"}.get(text_of(pid.value(8)).upper(), "O" if text_of(pid.value(8)) else ""),
        station_name=order.value("IPC", 7)[:16],
        location=order.value("IPC", 8)[:16],
        priority=_PRIORITY.get(order.priority, "ROUTINE"),
        procedure_code=(code, scheme[:16], meaning[:64]) if code and scheme and meaning else (),
        status="DISCONTINUED" if order.orc.value(1) in CANCELLED else "SCHEDULED",
    )


def _physician(order: Order) -> str:
    parts = [text_of(order.orc.value(12, n)) for n in (2, 3, 4)]
    return "^".join(parts).rstrip("^")
