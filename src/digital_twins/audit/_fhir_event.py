"""Audit events as FHIR R4 AuditEvent, after the Basic Audit Log Patterns (BALP 1.1) of IHE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.audit._event_codes import DCM, OUTCOMES, codes_of

if TYPE_CHECKING:
    from digital_twins.audit._event import AuditEvent

_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_TERMS = "http://terminology.hl7.org/CodeSystem/"
_DCM_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM"
_KIND_SYSTEM = "urn:digital-twins:audit-kind"
_PSEUDONYM_SYSTEM = "urn:digital-twins:pseudonym"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_INTERACTIONS = {
    "create": "Create",
    "read": "Read",
    "vread": "Read",
    "update": "Update",
    "delete": "Delete",
    "search": "Query",
}
_APPLICATION, _DESTINATION, _SOURCE = "110150", "110152", "110153"


def fhir_audit_event(event: AuditEvent) -> dict[str, Any]:
    """Return an event as a FHIR R4 AuditEvent.

    Successful RESTful interactions that name their resource, and searches, claim the BALP profile of their
    interaction (``IHE.BasicAudit.PatientRead`` and the like, with a patient; ``IHE.BasicAudit.Read``
    without); every other event is a plain AuditEvent whose subtype is our kind. Patients are named by the
    pseudonym, as an identifier of the system ``urn:digital-twins:pseudonym``.

    What BALP demands and the trail does not keep is marked with the extension ``data-absent-reason``: the
    text of a search (``masked``, as it may name a patient) and network addresses (``unknown``).
    """
    interaction = event.kind.removeprefix("fhir.") if event.kind.startswith("fhir.") else ""
    profile = _INTERACTIONS.get(interaction)
    query = profile == "Query"
    rest = profile is not None and event.outcome == "success" and (query or event.entity is not None)
    resource: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": event.event_id,
        "type": _coding(f"{_TERMS}audit-event-type", "rest", "RESTful Operation")
        if rest
        else _dcm(codes_of(event.kind).event_id),
        "subtype": _subtypes(event, _restful(event, interaction) if rest else None),
        "action": event.action,
        "recorded": event.at_utc,
        "outcome": OUTCOMES[event.outcome],
        "agent": _agents(event, rest=rest),
        "source": {
            "observer": {"display": event.node or "node"},
            "type": [_coding(f"{_TERMS}security-source-type", "4", "Application Server")],
        },
        "entity": [*_patient(event), *(_search(event) if rest and query else _data(event))],
    }
    if rest:
        resource["meta"] = {"profile": [f"{_BALP}{'Patient' if event.patient else ''}{profile}"]}
    if event.outcome != "success":
        resource["outcomeDesc"] = str(event.detail.get("why", event.outcome))
    if not resource["entity"]:
        del resource["entity"]
    return resource


def _restful(event: AuditEvent, interaction: str) -> str:
    """Return the code of ``restful-interaction``."""
    if interaction != "search":
        return interaction
    return "search-system" if event.entity is None else "search-type"


def _subtypes(event: AuditEvent, interaction: str | None) -> list[dict[str, str]]:
    found = [_coding(_KIND_SYSTEM, event.kind, event.kind)]
    if interaction is not None:
        found.insert(0, _coding("http://hl7.org/fhir/restful-interaction", interaction, interaction))
    else:
        event_type = codes_of(event.kind).event_type
        if event_type is not None:
            found.insert(0, _dcm(event_type))
    return found


def _agents(event: AuditEvent, *, rest: bool) -> list[dict[str, Any]]:
    node = {"who": {"display": event.node or "node"}, "requestor": False}
    who = {"who": {"display": event.agent}}
    if not rest:
        return [
            {"type": {"coding": [_dcm(_SOURCE)]}, **who, "requestor": True},
            {"type": {"coding": [_dcm("110150")]}, **node},
        ]
    # Of a read the client is the destination of the data, of everything else the source (BALP 1.1).
    client, server = _dcm(_SOURCE), _dcm(_DESTINATION)
    if event.action == "R":
        client, server = server, client
    elif event.action == "D":
        client = _dcm(_APPLICATION)
        server = _coding(f"{_TERMS}provenance-participant-type", "custodian", "Custodian")
    network = {"network": {"_address": _absent("unknown")}}
    user = event.agent.startswith("user:")
    found = [
        {"type": {"coding": [client]}, **who, "requestor": not user, **network},
        {"type": {"coding": [server]}, **node, **network},
    ]
    if user:
        code, display = ("IRCP", "information recipient")
        if event.action in "CUD":
            code, display = ("AUT", "author (originator)")
        part = _coding(f"{_TERMS}v3-ParticipationType", code, display)
        found.append({"type": {"coding": [part]}, **who, "requestor": True})
    return found


def _patient(event: AuditEvent) -> list[dict[str, Any]]:
    if event.patient is None:
        return []
    identifier = {"system": _PSEUDONYM_SYSTEM, "value": event.patient}
    return [
        {
            "what": {"type": "Patient", "identifier": identifier},
            "type": _coding(f"{_TERMS}audit-entity-type", "1", "Person"),
            "role": _coding(f"{_TERMS}object-role", "1", "Patient"),
        }
    ]


def _search(event: AuditEvent) -> list[dict[str, Any]]:
    return [
        {
            "type": _coding(f"{_TERMS}audit-entity-type", "2", "System Object"),
            "role": _coding(f"{_TERMS}object-role", "24", "Query"),
            "description": f"search of {event.entity or 'all types'}",
            "_query": _absent("masked"),
        }
    ]


def _data(event: AuditEvent) -> list[dict[str, Any]]:
    if event.entity is None and not event.detail:
        return []
    data: dict[str, Any] = {
        "type": _coding(f"{_TERMS}audit-entity-type", "2", "System Object"),
        "role": _coding(f"{_TERMS}object-role", "4", "Domain Resource"),
    }
    if event.entity is not None:
        data["what"] = _reference(event.entity)
    if event.detail:
        data["detail"] = [
            {"type": name, "valueString": str(value) or "-"} for name, value in sorted(event.detail.items())
        ]
    return [data]


def _absent(reason: str) -> dict[str, Any]:
    """Return what stands in the place of a value that is not kept (code of ``data-absent-reason``)."""
    return {"extension": [{"url": _ABSENT, "valueCode": reason}]}


def _reference(entity: str) -> dict[str, Any]:
    kind, slash, name = entity.partition("/")
    if slash and kind.isalpha() and kind[0].isupper() and name:
        return {"reference": entity}
    return {"identifier": {"value": entity}}


def _dcm(code: str) -> dict[str, str]:
    return _coding(_DCM_SYSTEM, code, DCM[code])


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}
