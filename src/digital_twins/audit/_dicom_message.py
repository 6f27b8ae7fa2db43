"""Audit events as DICOM audit messages (PS3.15 A.5), the form of IHE ATNA."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from digital_twins.audit._event_codes import DCM, OUTCOMES, codes_of

if TYPE_CHECKING:
    from digital_twins.audit._event import AuditEvent

_APPLICATION_SERVER = "4"
_SYSTEM = "digital-twins"


def dicom_message(event: AuditEvent) -> str:
    """Return an event as the XML of an audit message (PS3.15 A.5.1.1), without an XML declaration.

    The patient is named by the pseudonym, as everywhere in the trail. What DICOM has no code for is coded
    by our own kind in the code system ``digital-twins``.
    """
    root = ET.Element("AuditMessage")
    codes = codes_of(event.kind)
    head = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=event.at_utc,
        EventOutcomeIndicator=OUTCOMES[event.outcome],
    )
    _dcm(head, "EventID", codes.event_id)
    if codes.event_type is not None:
        _dcm(head, "EventTypeCode", codes.event_type)
    _own(head, "EventTypeCode", event.kind)
    if event.outcome != "success":
        ET.SubElement(head, "EventOutcomeDescription").text = str(event.detail.get("why", event.outcome))
    node = event.node or "node"
    agent = ET.SubElement(root, "ActiveParticipant", UserID=event.agent, UserIsRequestor="true")
    _dcm(agent, "RoleIDCode", "110153")
    ours = ET.SubElement(root, "ActiveParticipant", UserID=node, UserIsRequestor="false")
    _dcm(ours, "RoleIDCode", "110150")
    source = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=node)
    ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    _objects(root, event)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _objects(root: ET.Element, event: AuditEvent) -> None:
    if event.patient is not None:
        patient = _object(root, event.patient, kind="1", role="1")
        _type(patient, "2", "RFC-3881", "Patient Number")
        ET.SubElement(patient, "ParticipantObjectName").text = "pseudonym"
    entity = _object(root, event.entity or event.event_id, kind="2", role="4" if event.entity else "20")
    _own(entity, "ParticipantObjectIDTypeCode", "entity" if event.entity else "event")
    ET.SubElement(entity, "ParticipantObjectName").text = event.kind
    for name, value in sorted({**event.detail, "event_id": event.event_id}.items()):
        content = base64.b64encode(str(value).encode()).decode("ascii")
        ET.SubElement(entity, "ParticipantObjectDetail", type=name, value=content)


def _object(root: ET.Element, name: str, *, kind: str, role: str) -> ET.Element:
    attributes = {
        "ParticipantObjectID": name,
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
    }
    return ET.SubElement(root, "ParticipantObjectIdentification", attributes)


def _dcm(parent: ET.Element, tag: str, code: str) -> None:
    _code(parent, tag, code, "DCM", DCM[code])


def _own(parent: ET.Element, tag: str, code: str) -> None:
    _code(parent, tag, code, _SYSTEM, code)


def _type(parent: ET.Element, code: str, system: str, meaning: str) -> None:
    _code(parent, "ParticipantObjectIDTypeCode", code, system, meaning)


def _code(parent: ET.Element, tag: str, code: str, system: str, meaning: str) -> None:
    ET.SubElement(parent, tag, {"csd-code": code, "codeSystemName": system, "originalText": meaning})
