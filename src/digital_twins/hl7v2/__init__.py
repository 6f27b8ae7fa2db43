"""HL7 v2: fast parser and builder, MLLP server and client, and the mapping between messages and FHIR R4."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.hl7v2._batch import Batch as Batch, parse_batch as parse_batch
    from digital_twins.hl7v2._bed_moves import (
        bed_of as bed_of,
        event_time as event_time,
        move_beds as move_beds,
    )
    from digital_twins.hl7v2._build import (
        Header as Header,
        acknowledge as acknowledge,
        build_message as build_message,
    )
    from digital_twins.hl7v2._delimiters import Delimiters as Delimiters
    from digital_twins.hl7v2._errors import HL7Error as HL7Error
    from digital_twins.hl7v2._from_fhir import oru_of as oru_of
    from digital_twins.hl7v2._map_alert import alert_message as alert_message
    from digital_twins.hl7v2._map_patient import merged_patients as merged_patients
    from digital_twins.hl7v2._merge import merged_bundle as merged_bundle
    from digital_twins.hl7v2._message import Message as Message, Segment as Segment, parse as parse
    from digital_twins.hl7v2._mllp import (
        MllpClient as MllpClient,
        MllpLimits as MllpLimits,
        MllpServer as MllpServer,
        send_message as send_message,
        start_mllp as start_mllp,
    )
    from digital_twins.hl7v2._to_fhir import bundle_of as bundle_of
    from digital_twins.hl7v2._values import SiteMapping as SiteMapping, instant as instant
    from digital_twins.hl7v2._worklist import worklist_items as worklist_items

_WHERE = {
    "alert_message": "digital_twins.hl7v2._map_alert",
    **dict.fromkeys(("bed_of", "event_time", "move_beds"), "digital_twins.hl7v2._bed_moves"),
    "merged_bundle": "digital_twins.hl7v2._merge",
    **dict.fromkeys(("Batch", "parse_batch"), "digital_twins.hl7v2._batch"),
    **dict.fromkeys(("Header", "acknowledge", "build_message"), "digital_twins.hl7v2._build"),
    "Delimiters": "digital_twins.hl7v2._delimiters",
    "HL7Error": "digital_twins.hl7v2._errors",
    **dict.fromkeys(("Message", "Segment", "parse"), "digital_twins.hl7v2._message"),
    **dict.fromkeys(
        ("MllpClient", "MllpLimits", "MllpServer", "send_message", "start_mllp"), "digital_twins.hl7v2._mllp"
    ),
    "merged_patients": "digital_twins.hl7v2._map_patient",
    "oru_of": "digital_twins.hl7v2._from_fhir",
    "bundle_of": "digital_twins.hl7v2._to_fhir",
    **dict.fromkeys(("SiteMapping", "instant"), "digital_twins.hl7v2._values"),
    "worklist_items": "digital_twins.hl7v2._worklist",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
