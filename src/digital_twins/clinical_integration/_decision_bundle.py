"""The comparison of treatment options as FHIR: the twin's report, the options in order, a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.reports import StudyReference, render_fhir, summarise

if TYPE_CHECKING:
    from digital_twins.clinical_integration._decisions import Recommendations
    from digital_twins.clinical_integration._twin import ClinicalTwin


def decision_bundle(twin: ClinicalTwin, found: Recommendations, destination: str) -> dict[str, Any]:
    """Return the transaction; every entry is a PUT under an id that follows from its content.

    Parameters
    ----------
    twin
        The clinical twin, made with imaging.
    found
        What its options gave.
    destination
        Whom the task is for.

    Raises
    ------
    NotFoundError
        The twin was made without imaging.
    """
    report = summarise(
        twin.twin,
        [each.response for each in found],
        twin.record,
        study=StudyReference.of(twin.images[0]),
    )
    bundle = render_fhir(report)
    made = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
    diagnostic, device, provenance = (made[kind] for kind in ("DiagnosticReport", "Device", "Provenance"))
    common = {"meta": diagnostic["meta"], "intent": "proposal", "note": [{"text": found.notice}]}
    group = {
        "resourceType": "RequestGroup",
        "id": report.id_of("recommendations"),
        **common,
        "status": "draft",
        "code": {"text": f"Treatment options by {found.target}"},
        "subject": diagnostic["subject"],
        "authoredOn": diagnostic["issued"],
        "author": {"reference": f"Device/{device['id']}"},
        "reasonReference": [{"reference": f"DiagnosticReport/{diagnostic['id']}"}],
        "action": [
            {
                "prefix": str(each.rank),
                "title": each.option,
                "description": each.response.label,
                "textEquivalent": each.rationale,
                "resource": {"reference": f"RiskAssessment/{report.id_of(f'risk/{index}')}"},
            }
            for index, each in enumerate(found)
        ],
    }
    task = {
        "resourceType": "Task",
        "id": report.id_of(f"task/{destination}"),
        **common,
        "status": "requested",
        "code": {"text": destination.replace("_", " ").capitalize()},
        "description": found.notice,
        "focus": {"reference": f"RequestGroup/{group['id']}"},
        "for": diagnostic["subject"],
        "authoredOn": diagnostic["issued"],
        "requester": {"reference": f"Device/{device['id']}"},
    }
    for resource in (group, task):
        place = f"{resource['resourceType']}/{resource['id']}"
        provenance["target"].append({"reference": place})
        entry = {
            "fullUrl": f"urn:uuid:{resource['id']}",
            "resource": resource,
            "request": {"method": "PUT", "url": place},
        }
        bundle["entry"].insert(-1, entry)
    return bundle
