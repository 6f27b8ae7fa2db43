"""Audit events of FHIR interactions against IHE's Basic Audit Log Patterns (BALP 1.1.5, ITI, CC-BY-4.0).

The table below holds the constraints of the StructureDefinitions IHE.BasicAudit.Create, Read, Query, Update,
Delete and their Patient forms, in our own words, as read in the FSH sources of the guide (github.com
IHE/ITI.BasicAudit, commit 09fe7293, 2025-11-03).
"""

from __future__ import annotations

import copy
import json

import pytest

from digital_twins.audit import AuditEvent, AuditTrail, export_messages, fhir_audit_event, pseudonym
from digital_twins.fhir.validation import ResourceValidation

URL = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
TERMS = "http://terminology.hl7.org/CodeSystem/"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
PARTICIPATION = f"{TERMS}v3-ParticipationType"
AUTHORS = [(PARTICIPATION, code) for code in ("AUT", "INF", "CST")]
RECIPIENT = [(PARTICIPATION, "IRCP")]
SOURCE, DESTINATION = (DCM, "110153"), (DCM, "110152")
# interaction: action, codes of the subtype, client, server, user
PROFILES = {
    "Create": ("C", {"create"}, SOURCE, DESTINATION, AUTHORS),
    "Read": ("R", {"read", "vread"}, DESTINATION, SOURCE, RECIPIENT),
    "Update": ("U", {"update", "patch"}, SOURCE, DESTINATION, AUTHORS),
    "Delete": (
        "D",
        {"delete"},
        (DCM, "110150"),
        (f"{TERMS}provenance-participant-type", "custodian"),
        AUTHORS,
    ),
    "Query": ("E", {"search", "search-type", "search-system"}, SOURCE, DESTINATION, RECIPIENT),
}
PATIENT = pseudonym("MRN-1", bytes(32))
KINDS = {
    "fhir.create": "C",
    "fhir.read": "R",
    "fhir.vread": "R",
    "fhir.update": "U",
    "fhir.delete": "D",
    "fhir.search": "E",
}


def code_of(coding: dict) -> tuple[str, str]:
    return coding["system"], coding["code"]


def types(part: dict) -> set[tuple[str, str]]:
    return {code_of(each) for each in part.get("type", {}).get("coding", [])}


def violations(resource: dict) -> list[str]:
    """Return the names of the constraints of the claimed profile that a resource breaks."""
    (profile,) = resource["meta"]["profile"]
    name = profile.removeprefix(URL)
    action, subtypes, client, server, user = PROFILES[name.removeprefix("Patient")]
    restful = [code_of(each) for each in resource["subtype"]]
    holds = {
        "type": code_of(resource["type"]) == (f"{TERMS}audit-event-type", "rest"),
        "subtype": sum(("http://hl7.org/fhir/restful-interaction", code) in restful for code in subtypes)
        == 1,
        "action": resource["action"] == action,
        "recorded": bool(resource.get("recorded")),
        "outcome": resource["outcome"] == "0",
        "source": bool(resource["source"]["observer"]),
        **agents(resource["agent"], client, server, user),
        **entities(resource["entity"], query=name.endswith("Query"), patient=name.startswith("Patient")),
    }
    return [constraint for constraint, kept in holds.items() if not kept]


def agents(found: list[dict], client: tuple, server: tuple, user: list) -> dict[str, bool]:
    machines = [[each for each in found if kind in types(each)] for kind in (client, server)]
    users = [each for each in found if types(each) & set(user)]
    known = sum(map(len, machines)) + len(users)
    return {
        "client and server": [len(each) for each in machines] == [1, 1],
        "who": all(each.get("who") for each in found),
        "network": all(each.get("network") and "media" not in each for group in machines for each in group),
        "user": len(users) <= 1
        and all(each["requestor"] and not {"network", "media"} & set(each) for each in users),
        "no agent without a part": known == len(found) >= 2,
        "one requestor": sum(each["requestor"] for each in found) == 1,
    }


def entities(found: list[dict], *, query: bool, patient: bool) -> dict[str, bool]:
    objects = [each for each in found if code_of(each["type"]) == (f"{TERMS}audit-entity-type", "2")]
    people = [each for each in found if code_of(each["type"]) == (f"{TERMS}audit-entity-type", "1")]
    holds = {"one object": len(objects) == 1, "patients": len(people) == int(patient)}
    roles = {code_of(each["role"]) for each in objects}
    if query:
        holds["query"] = roles == {(f"{TERMS}object-role", "24")} and all(
            {"query", "_query"} & set(each) and not {"what", "detail", "lifecycle"} & set(each)
            for each in objects
        )
    else:
        holds["data"] = roles <= {(f"{TERMS}object-role", code) for code in ("4", "3", "20")} and all(
            each.get("what") for each in objects
        )
    holds["patient"] = all(
        code_of(each["role"]) == (f"{TERMS}object-role", "1") and each["what"]["type"] == "Patient"
        for each in people
    )
    return holds


def event(kind: str, *, agent: str, patient: str | None, entity: str | None = None) -> AuditEvent:
    named = entity or ("Observation" if kind == "fhir.search" else "Observation/7")
    detail = {"version": 2} if KINDS[kind] in "CUD" else {}
    return AuditEvent(
        KINDS[kind], kind, "success", agent, entity=named, patient=patient, detail=detail, node="TWIN"
    )


@pytest.fixture(scope="module")
def validation(tmp_path_factory) -> ResourceValidation:
    return ResourceValidation(tmp_path_factory.mktemp("packages"))


@pytest.mark.parametrize("patient", [None, PATIENT], ids=["", "patient"])
@pytest.mark.parametrize("agent", ["user:anna", "client:app"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_interaction_conforms_to_its_profile(kind, agent, patient, validation):
    resource = fhir_audit_event(event(kind, agent=agent, patient=patient))
    interaction = {"vread": "Read", "search": "Query"}.get(kind[5:], kind[5:].capitalize())
    assert resource["meta"]["profile"] == [f"{URL}{'Patient' if patient else ''}{interaction}"]
    assert violations(resource) == []
    validation.check(resource)  # and is valid R4


def test_a_search_over_all_types_is_a_query_too(validation):
    resource = fhir_audit_event(AuditEvent("E", "fhir.search", "success", "client:app", node="TWIN"))
    assert violations(resource) == []
    assert resource["subtype"][0]["code"] == "search-system"
    validation.check(resource)


CHANGES = {
    "type": lambda each: each["type"].update(code="object"),
    "subtype": lambda each: each["subtype"].pop(0),
    "action": lambda each: each.update(action="E" if each["action"] != "E" else "R"),
    "outcome": lambda each: each.update(outcome="4"),
    "client and server": lambda each: each["agent"].pop(0),
    "who": lambda each: each["agent"][1].pop("who"),
    "network": lambda each: each["agent"][0].pop("network"),
    "user": lambda each: each["agent"][2].update(requestor=False),
    "no agent without a part": lambda each: each["agent"][2].pop("type"),
    "one object": lambda each: each["entity"].pop(),
    "patients": lambda each: each["entity"].pop(0),
    "patient": lambda each: each["entity"][0]["role"].update(code="2"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("constraint", CHANGES)
def test_the_check_finds_what_breaks_a_constraint(constraint, kind):
    resource = copy.deepcopy(fhir_audit_event(event(kind, agent="user:anna", patient=PATIENT)))
    CHANGES[constraint](resource)
    assert constraint in violations(resource)


def test_the_text_of_a_search_and_addresses_are_said_to_be_absent():
    resource = fhir_audit_event(event("fhir.search", agent="client:app", patient=None))
    reason = resource["entity"][0]["_query"]["extension"][0]
    assert reason["url"].endswith("/data-absent-reason")
    assert reason["valueCode"] == "masked"
    assert "query" not in resource["entity"][0]


def test_what_is_no_success_or_no_interaction_of_balp_claims_no_profile():
    others = [
        AuditEvent("R", "fhir.read", "refused", "user:anna", entity="Patient/1"),
        AuditEvent("R", "fhir.history", "success", "user:anna", entity="Patient/1"),
        AuditEvent("E", "fhir.transaction", "success", "user:anna", entity="Bundle"),
    ]
    assert all("meta" not in fhir_audit_event(each) for each in others)


def test_what_the_server_itself_records_conforms(tmp_path):
    """Not events that a test made: those of a store, as `twin audit export --format fhir` gives them."""
    from digital_twins.audit import OUTBOX_MIGRATIONS
    from digital_twins.fhir import MIGRATIONS, FhirStore
    from digital_twins.storage import Database

    with (
        Database(tmp_path / "f.sqlite", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database,
        AuditTrail(tmp_path / "a.db") as trail,
    ):
        store = FhirStore(database, pseudonym=lambda patient: pseudonym(patient, bytes(32)))
        saved = store.create({"resourceType": "Patient"}, agent="user:anna")
        store.search("Patient", (), agent="user:anna")
        store.update({**saved.resource, "active": True}, agent="user:anna")
        store.read("Patient", saved.id, agent="user:anna")
        store.vread("Patient", saved.id, 1, agent="user:anna")
        store.delete("Patient", saved.id, agent="user:anna")
        store.close()
        trail.drain(database)
    found = [json.loads(line) for line in export_messages(tmp_path / "a.db", "fhir")]
    profiles = sorted(each["meta"]["profile"][0].removeprefix(URL) for each in found)
    patient = ["PatientCreate", "PatientDelete", "PatientRead", "PatientRead", "PatientUpdate"]
    assert profiles in ([*patient, "Query"], sorted([*patient, "PatientQuery"]))
    assert [violations(each) for each in found] == [[]] * 6
