"""Messages as FHIR transaction bundles (HL7 v2-to-FHIR guide, http://hl7.org/fhir/uv/v2mappings)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._errors import HL7Error
from digital_twins.hl7v2._map_orders import service_requests
from digital_twins.hl7v2._map_patient import encounter, merged, patient
from digital_twins.hl7v2._map_results import results
from digital_twins.hl7v2._values import SiteMapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.hl7v2._message import Message, Segment

ADT_EVENTS = frozenset({"A01", "A02", "A03", "A04", "A08", "A11", "A12", "A13", "A31"})


def bundle_of(message: Message, mapping: SiteMapping | None = None) -> dict[str, Any]:
    """Return the FHIR R4 transaction that a message asks for.

    ADT A01 to A04, A08, A11 to A13 and A31 give Patient and Encounter, A40 both patients with ``replaces``
    and ``replaced-by`` links, ORU R01 Observations and DiagnosticReports, ORM O01 and OMI O23
    ServiceRequests.
    Entries are conditional on identifiers, so that a message that comes twice changes nothing anew: ADT,
    results and orders update (``PUT Type?identifier=``), the patient and visit of results and orders are
    only created when they are unknown (``If-None-Exist``).

    Parameters
    ----------
    message
        As `parse` returns it.
    mapping
        Names of this site.

    Raises
    ------
    HL7Error
        Another message type (code 200) or event (201), a missing field (101), or an unusable value (102).
    """
    how = mapping or SiteMapping()
    kind, event = message.kind
    if kind == "ADT" and event == "A40":
        entries = list(merged(message, how))
    elif kind == "ADT" and event in ADT_EVENTS:
        entries = list(_admission(message, event, how))
    elif (kind, event) == ("ORU", "R01"):
        entries = [entry for group in _by_patient(message) for entry in results(message, group, how)]
    elif (kind, event) in {("ORM", "O01"), ("OMI", "O23")}:
        entries = [entry for group in _by_patient(message) for entry in service_requests(message, group, how)]
    else:
        known = kind in {"ADT", "ORU", "ORM", "OMI"}
        raise HL7Error(
            "The HL7 v2 message is not served.",
            "Its trigger event (MSH-9.2) is not mapped." if known else "Its type (MSH-9.1) is not mapped.",
            "Send ADT A01-A04, A08, A11-A13, A31, A40, ORU R01, ORM O01 or OMI O23.",
            code="201" if known else "200",
            location="MSH^1^9",
        )
    return {"resourceType": "Bundle", "type": "transaction", "entry": _unique(entries)}


def _admission(message: Message, event: str, how: SiteMapping) -> Iterator[dict[str, Any]]:
    person = patient(message, message.segment("PID"), how)
    yield person
    visit = encounter(message, message.segment("PV1"), how, patient_url=person["fullUrl"], event=event)
    if visit is not None:
        yield visit


def _by_patient(message: Message) -> list[list[Segment]]:
    """Return the segments from each PID to the next."""
    groups: list[list[Segment]] = []
    for segment in message.lines[1:]:
        if segment.name == "PID" or not groups:
            groups.append([])
        groups[-1].append(segment)
    return groups


def _unique(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries with the last of each address: a transaction changes a resource once."""
    return list({entry["fullUrl"]: entry for entry in entries}.values())
