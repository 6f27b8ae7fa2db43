"""Messages as FHIR transaction bundles (HL7 v2-to-FHIR guide, http://hl7.org/fhir/uv/v2mappings)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._errors import HL7Error, missing
from digital_twins.hl7v2._map_alert import alerts
from digital_twins.hl7v2._map_lab import lab_orders
from digital_twins.hl7v2._map_orders import service_requests
from digital_twins.hl7v2._map_patient import encounter, merged, patient
from digital_twins.hl7v2._map_pharmacy import dispenses, prescriptions
from digital_twins.hl7v2._map_results import results
from digital_twins.hl7v2._values import SiteMapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.hl7v2._message import Message, Segment

ADT_EVENTS = frozenset({"A01", "A02", "A03", "A04", "A08", "A11", "A12", "A13", "A17", "A31"})
_GROUPED = {
    ("ORU", "R01"): results,
    ("ORU", "R40"): alerts,
    ("ORM", "O01"): service_requests,
    ("OMI", "O23"): service_requests,
    ("OML", "O21"): lab_orders,
    ("RDE", "O11"): prescriptions,
    ("RDS", "O13"): dispenses,
}
"""What maps the segments of one patient, by message type and event."""


def bundle_of(message: Message, mapping: SiteMapping | None = None) -> dict[str, Any]:
    """Return the FHIR R4 transaction that a message asks for.

    ADT A01 to A04, A08, A11 to A13, A17 (both patients) and A31 give Patient and Encounter, A40 both patients
    with ``replaces`` and ``replaced-by`` links, ORU R01 Observations and DiagnosticReports, ORU R40
    Communications (alarms, nurse calls), ORM O01, OMI O23 and OML O21 ServiceRequests, RDE O11
    MedicationRequests, RDS O13 MedicationDispenses.
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
    elif (mapper := _GROUPED.get((kind, event))) is not None:
        entries = [entry for group in _by_patient(message) for entry in mapper(message, group, how)]
    else:
        known = kind in {"ADT", *(name for name, _ in _GROUPED)}
        raise HL7Error(
            "The HL7 v2 message is not served.",
            "Its trigger event (MSH-9.2) is not mapped." if known else "Its type (MSH-9.1) is not mapped.",
            "Send ADT A01-A04, A08, A11-A13, A17, A31, A40, ORU R01 or R40, ORM O01, OMI O23, OML O21,"
            " RDE O11 or RDS O13.",
            code="201" if known else "200",
            location="MSH^1^9",
        )
    return {"resourceType": "Bundle", "type": "transaction", "entry": _unique(entries)}


def _admission(message: Message, event: str, how: SiteMapping) -> Iterator[dict[str, Any]]:
    groups = [group for group in _by_patient(message) if group[0].name == "PID"]
    if len(groups) != (2 if event == "A17" else 1):
        raise missing("PID", 3, "patient identifiers", number=len(groups) + 1)
    for group in groups:
        pv1 = next((each for each in group if each.name == "PV1"), None)
        person = patient(message, group[0], how)
        yield person
        visit = encounter(message, pv1, how, patient_url=person["fullUrl"], event=event, pid=group[0])
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
