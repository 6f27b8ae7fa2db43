"""Write-back to a FHIR server: every step of an alert, and charted readings."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from digital_twins.monitoring.alerts._nurse_call import request, safe_url
from digital_twins.monitoring.alerts._thresholds import Priority
from digital_twins.monitoring.alerts._to_fhir import (
    alert_communication,
    alert_flag,
    identifier,
    instant,
    vital_observations,
)

if TYPE_CHECKING:
    from digital_twins.monitoring.alerts._delivery import Delivery
    from digital_twins.monitoring.alerts._thresholds import Thresholds

_STEPS = (
    "raised", "repeated", "told", "escalated", "acknowledged", "told-again", "ended", "closed", "charted",
)  # fmt: skip


class FhirWriteBack:
    """Keeps Flag, Communication and Observations of a FHIR R4 server up to date.

    It needs search by identifier, create and update, which every server has: each resource has an identifier
    of its own, is looked up by it and then updated, so a repetition makes no second one. The patient is
    looked up, too; where the server has none, or several, the reference is the identifier alone.

    Parameters
    ----------
    url
        Base of the server; https, or http on this machine.
    thresholds
        Rules and escalation.
    token
        Sent as bearer token; empty: none.
    system
        Of the patients' identifiers; empty: any.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    name = "fhir"
    steps = frozenset(_STEPS)

    def __init__(self, url: str, thresholds: Thresholds, *, token: str = "", system: str = "") -> None:
        self._base = safe_url(url, "The FHIR server cannot be used.").rstrip("/")
        self._signals = {each.id: each.signal for each in thresholds.rules}
        self._escalation, self._system = thresholds.escalation, system
        self._headers = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._found: dict[str, str] = {}

    def send(self, delivery: Delivery) -> None:
        """Write what the step changes; raises NotDeliveredError."""
        alert, subject = delivery.alert, self._subject(str(delivery.alert["patient"]))
        if delivery.step == "charted":
            self._chart(alert["vitals"], delivery.at_s, subject)
            return
        self._put(alert_flag(alert, delivery.name, subject))
        steps = self._escalation.get(Priority[str(alert["priority"]).upper()], ())[: alert["level"]]
        self._put(alert_communication(alert, delivery.name, subject, [each.to for each in steps]))
        signal = self._signals.get(str(alert["key"]), "")
        if delivery.step in {"raised", "repeated"} and alert["value"] is not None:
            self._chart({signal: alert["value"]}, delivery.at_s, subject)

    def _chart(self, values: dict[str, float | None], at_s: float, subject: dict[str, Any]) -> None:
        whose = subject["identifier"]
        for code, resource in vital_observations(values, at_s, subject).items():
            of = f"{whose.get('system', '')}|{whose['value']}/{code}/{instant(at_s)}"
            name = uuid.uuid5(uuid.NAMESPACE_URL, of).urn
            self._put({**resource, "identifier": [identifier(name)]})

    def _put(self, resource: dict[str, Any]) -> None:
        kind, own = resource["resourceType"], resource["identifier"][0]
        found = self._ids(kind, f"{own['system']}|{own['value']}")
        if found:
            body = {**resource, "id": found[0]}
            request("PUT", f"{self._base}/{kind}/{found[0]}", body, headers=self._headers)
        else:
            request("POST", f"{self._base}/{kind}", resource, headers=self._headers)

    def _ids(self, kind: str, token: str) -> list[str]:
        """Return the ids of the resources with an identifier, two at most."""
        url = f"{self._base}/{kind}?identifier={quote(token, safe='')}&_count=2"
        bundle = request("GET", url, None, headers=self._headers) or {}
        resources = [each.get("resource", {}) for each in bundle.get("entry", ())]
        return [str(each["id"]) for each in resources if each.get("resourceType") == kind]

    def _subject(self, patient: str) -> dict[str, Any]:
        whose = {"system": self._system, "value": patient} if self._system else {"value": patient}
        if patient not in self._found:
            found = self._ids("Patient", f"{self._system}|{patient}" if self._system else patient)
            if len(found) == 1:
                self._found[patient] = f"Patient/{found[0]}"
        if patient in self._found:
            return {"reference": self._found[patient], "identifier": whose}
        return {"type": "Patient", "identifier": whose}
