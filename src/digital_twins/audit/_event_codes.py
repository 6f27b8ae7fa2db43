"""Codes of events in the terms of DICOM PS3.16 CID 400 and of FHIR, from the kind of an event."""

from __future__ import annotations

from dataclasses import dataclass

DCM = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110103": "DICOM Instances Accessed",
    "110104": "DICOM Instances Transferred",
    "110105": "DICOM Study Deleted",
    "110106": "Export",
    "110107": "Import",
    "110108": "Network Entry",
    "110109": "Order Record",
    "110110": "Patient Record",
    "110111": "Procedure Record",
    "110112": "Query",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110122": "Login",
    "110123": "Logout",
    "110126": "Node Authentication",
    "110127": "Emergency Override Started",
    "110137": "User Security Attributes Changed",
    "110150": "Application",
    "110152": "Destination Role ID",
    "110153": "Source Role ID",
}
"""Codes of the DICOM Controlled Terminology (PS3.16 Annex D) that are used here, with their meanings."""

_KINDS = {
    "auth.sign-in": ("110114", "110122"),
    "auth.sign-out": ("110114", "110123"),
    "auth.emergency": ("110113", "110127"),
    "auth.user": ("110113", "110137"),
    "auth.client": ("110113", "110137"),
    "auth": ("110113", None),
    "governance.signature": ("110113", None),
    "audit": ("110101", None),
    "cds": ("110112", None),
    "dicom.associate": ("110113", "110126"),
    "dicom.login": ("110114", "110122"),
    "dicom.tls": ("110113", "110126"),
    "dicom.store": ("110104", None),
    "dicom.stored": ("110104", None),
    "dicom.forward": ("110104", None),
    "dicom.move": ("110104", None),
    "dicom.retrieve": ("110104", None),
    "dicom.prefetch": ("110107", None),
    "dicom.find": ("110112", None),
    "dicom.worklist": ("110109", None),
    "dicom.workitem": ("110111", None),
    "dicom.mpps": ("110111", None),
    "dicom.reject": ("110105", None),
    "dicom.retention": ("110105", None),
    "dicom.patient": ("110110", None),
    "dicom": ("110103", None),
    "fhir.search": ("110112", None),
    "fhir.export": ("110106", None),
    "fhir": ("110110", None),
    "hl7.result": ("110106", None),
    "hl7": ("110107", None),
    "api": ("110110", None),
    "monitor.sign-in": ("110114", "110122"),
    "monitor.sign-out": ("110114", "110123"),
    "monitor.tls": ("110113", "110126"),
    "monitor": ("110110", None),
}
OUTCOMES = {"success": "0", "refused": "4", "failure": "8"}
"""Outcome codes, the same in DICOM audit messages and FHIR AuditEvent."""


@dataclass(frozen=True, slots=True)
class EventCodes:
    """Event id of CID 400 and, where there is one, event type of CID 401."""

    event_id: str
    event_type: str | None


def codes_of(kind: str) -> EventCodes:
    """Return the codes of the longest known prefix of a kind; an unknown one is application activity."""
    parts = kind.split(".")
    for count in range(len(parts), 0, -1):
        found = _KINDS.get(".".join(parts[:count]))
        if found is not None:
            return EventCodes(*found)
    return EventCodes("110100", None)
