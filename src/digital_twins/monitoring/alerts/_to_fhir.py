"""Alerts and readings as FHIR R4: Flag, Communication and Observation.

HL7 FHIR R4 has no DeviceAlert: an alert is a Flag (what is wrong, from when to when) and a Communication
(who was told, who knows). Readings follow the vital signs profiles (R4, observation-vitalsigns).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins.monitoring.signals import COLUMN, VITALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Resource = dict[str, Any]

_TERMS = "http://terminology.hl7.org/CodeSystem/"
_UCUM, _LOINC = "http://unitsofmeasure.org", "http://loinc.org"
_PRIORITY = {"high": "stat", "medium": "urgent", "low": "routine"}
_PANEL = {"NIBP_SYS": "8480-6", "NIBP_DIA": "8462-4"}
SOURCE = "Digital Twins monitor, research use only"


def alert_flag(alert: Mapping[str, Any], name: str, subject: Resource) -> Resource:
    """Return the Flag of an alert, active until it closed.

    Parameters
    ----------
    alert
        As in `Alert.to_dict`.
    name
        Its ``urn:uuid:``.
    subject
        Reference to the patient.
    """
    period = {"start": instant(alert["raised_s"])}
    if alert["closed_s"] is not None:
        period["end"] = instant(alert["closed_s"])
    category = "safety" if alert["kind"] == "technical" else "clinical"
    return {
        "resourceType": "Flag",
        "identifier": [identifier(name)],
        "status": "active" if alert["closed_s"] is None else "inactive",
        "category": [{"coding": [{"system": f"{_TERMS}flag-category", "code": category}]}],
        "code": {"text": f"{alert['marks']} {alert['text']} ({alert['priority']})"},
        "subject": subject,
        "period": period,
        "author": {"display": SOURCE},
    }


def alert_communication(
    alert: Mapping[str, Any], name: str, subject: Resource, roles: Sequence[str]
) -> Resource:
    """Return the Communication of an alert: completed once somebody knows, or it closed; as `alert_flag`.

    Parameters
    ----------
    alert, name, subject
        As for `alert_flag`.
    roles
        Who was told.
    """
    known = alert["acknowledged_s"] is not None
    resource: Resource = {
        "resourceType": "Communication",
        "identifier": [identifier(name)],
        "status": "completed" if known or alert["closed_s"] is not None else "in-progress",
        "category": [{"coding": [{"system": f"{_TERMS}communication-category", "code": "alert"}]}],
        "priority": _PRIORITY.get(str(alert["priority"]), "routine"),
        "subject": subject,
        "about": [{"type": "Flag", "identifier": identifier(name)}],
        "sent": instant(alert["raised_s"]),
        "recipient": [{"display": each} for each in roles],
        "sender": {"display": SOURCE},
        "payload": [{"contentString": f"{alert['marks']} {alert['text']}"}],
    }
    if known:
        resource["received"] = instant(alert["acknowledged_s"])
        resource["note"] = [{"text": f"Acknowledged by {alert['acknowledged_by']}."}]
    return resource if roles else {key: value for key, value in resource.items() if key != "recipient"}


def vital_observations(
    values: Mapping[str, float | None], at_s: float, subject: Resource
) -> dict[str, Resource]:
    """Return an Observation of each vital sign with a LOINC code; the two cuff pressures make one panel.

    Parameters
    ----------
    values
        By code, in the units of `VITALS`; None: not known.
    at_s
        When, seconds since 1970 UTC.
    subject
        Reference to the patient.
    """
    known = {code: value for code, value in values.items() if value is not None and code in COLUMN}
    made: dict[str, Resource] = {}
    for code, value in known.items():
        sign = VITALS[COLUMN[code]]
        if sign.loinc and code not in _PANEL:
            made[code] = {
                **_observation(sign.loinc, sign.name, at_s, subject),
                "valueQuantity": _quantity(code, value),
            }
    if set(_PANEL) & set(known):
        made["NIBP"] = {
            **_observation("85354-9", "Blood pressure panel", at_s, subject),
            "component": [
                {"code": _coded(loinc, VITALS[COLUMN[code]].name), **_component(code, known.get(code))}
                for code, loinc in _PANEL.items()
            ],
        }
    return made


def instant(seconds: float) -> str:
    """Return seconds since 1970 UTC as a FHIR instant with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def identifier(name: str) -> dict[str, str]:
    """Return a ``urn:uuid:`` as an identifier (system of URIs)."""
    return {"system": "urn:ietf:rfc:3986", "value": name}


def _observation(loinc: str, text: str, at_s: float, subject: Resource) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": f"{_TERMS}observation-category", "code": "vital-signs"}]}],
        "code": _coded(loinc, text),
        "subject": subject,
        "effectiveDateTime": instant(at_s),
        "performer": [{"display": SOURCE}],
    }


def _coded(loinc: str, text: str) -> Resource:
    return {"coding": [{"system": _LOINC, "code": loinc}], "text": text}


def _component(code: str, value: float | None) -> Resource:
    if value is None:
        absent = {"system": f"{_TERMS}data-absent-reason", "code": "unknown"}
        return {"dataAbsentReason": {"coding": [absent]}}
    return {"valueQuantity": _quantity(code, value)}


def _quantity(code: str, value: float) -> Resource:
    unit = VITALS[COLUMN[code]].unit
    return {"value": round(value, 2), "unit": unit, "system": _UCUM, "code": unit}
