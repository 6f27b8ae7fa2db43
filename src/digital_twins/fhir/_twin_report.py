"""Reports of a digital twin keep their promises: right code, preliminary until a person has signed.

LOINC 59776-5 is 'Procedure findings Narrative'; a caller who writes it for a digital twin analysis, as older
examples do, is understood, and the code of this software's own system is sent instead. A status of ``final``
or the like becomes ``preliminary``: no machine signs a report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TWIN_CODE_SYSTEM = "urn:digital-twins:CodeSystem:digital-twin-result"
TWIN_CODING = {
    "system": TWIN_CODE_SYSTEM,
    "code": "digital-twin-analysis",
    "display": "Digital Twin Analysis",
}
CORRECTION = "urn:digital-twins:StructureDefinition:corrected-by-client"
AI_LABEL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
_UNSIGNED = {"registered", "partial", "preliminary", "cancelled", "entered-in-error"}
_DISPLAY = "digital twin analysis"


def is_twin_report(resource: Mapping[str, Any]) -> bool:
    """Whether this is a DiagnosticReport that calls itself a digital twin analysis."""
    if resource.get("resourceType") != "DiagnosticReport":
        return False
    code = resource.get("code")
    if not isinstance(code, dict):
        return False
    words = [code.get("text"), *(c.get("display") for c in code.get("coding", ()) if isinstance(c, dict))]
    return any(str(w).strip().lower() == _DISPLAY for w in words if w)


def corrected_report(resource: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the report to send, and what was changed in it in words (empty when nothing was).

    The changes are recorded in the report itself, in the extension ``corrected-by-client``; the security
    label AIAST says that software asserts it. Anything but a digital twin report passes unchanged.
    """
    report = dict(resource)
    if not is_twin_report(report):
        return report, []
    changes: list[str] = []
    code = report["code"]
    wrong = [
        c for c in code.get("coding", ()) if c.get("code") == "59776-5" and "loinc" in str(c.get("system"))
    ]
    if wrong:
        kept = [c for c in code["coding"] if c not in wrong]
        report["code"] = {
            **code,
            "coding": [TWIN_CODING, *kept],
            "text": code.get("text", "Digital Twin Analysis"),
        }
        changes.append("code: LOINC 59776-5 is 'Procedure findings Narrative'; sent as digital-twin-analysis")
    status = report.get("status")
    if status not in _UNSIGNED:
        report["status"] = "preliminary"
        changes.append("status: preliminary until a person has signed")
    if changes:
        meta = report.get("meta", {})
        labels = [s for s in meta.get("security", ()) if s.get("code") != AI_LABEL["code"]]
        report["meta"] = {**meta, "security": [*labels, AI_LABEL]}
        notes = [{"url": CORRECTION, "valueString": change} for change in changes]
        report["extension"] = [*report.get("extension", ()), *notes]
    return report, changes
