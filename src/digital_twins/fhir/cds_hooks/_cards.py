"""Cards that offer what a twin found: from the resources that the node wrote back, and nothing else."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._facts import all_text, text_of
from digital_twins.fhir._twin_report import TWIN_CODE_SYSTEM, TWIN_CODING
from digital_twins.records import canonical_drug

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Json = dict[str, Any]
_SUMMARY_LENGTH = 140
_SOURCE = {"label": "Digital Twins (research software)", "topic": TWIN_CODING}
_NAMESPACE = uuid.UUID("2b0d5f3e-54b0-4b0d-9a37-61d1c3f6f3a5")
CAUTION = (
    "Computed by a simulation and not confirmed by a clinician. Research use only: it supports a decision and"
    " makes none."
)


@dataclass(frozen=True, slots=True)
class CdsService:
    """One entry of discovery (CDS Hooks 2.0, "Discovery")."""

    id: str
    hook: str
    title: str
    description: str
    prefetch: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as discovery shows it."""
        return {
            "hook": self.hook,
            "title": self.title,
            "description": self.description,
            "id": self.id,
            "prefetch": dict(self.prefetch),
        }


_PATIENT = {"patient": "Patient/{{context.patientId}}"}
TWIN_SERVICES = (
    CdsService(
        "twin-findings",
        "patient-view",
        "Findings of the digital twin",
        "Shows what the patient's digital twin predicts for the treatments that were simulated.",
        _PATIENT,
    ),
    CdsService(
        "twin-order-prediction",
        "order-select",
        "Prediction for the selected treatment",
        "Shows what the patient's digital twin predicts for the drug or radiotherapy that is being ordered.",
        _PATIENT,
    ),
)
"""What a node offers."""


def twin_cards(
    report: Mapping[str, Any], risks: Sequence[Mapping[str, Any]], *, base_url: str
) -> list[dict[str, Any]]:
    """Return the card of a twin's report with its predictions.

    Parameters
    ----------
    report
        The DiagnosticReport that the twin wrote.
    risks
        The RiskAssessments of the same analysis, one for each treatment.
    base_url
        Address of the FHIR base, for the link.
    """
    lines = [line for risk in risks for line in _lines(risk)]
    count = len(risks)
    summary = f"Digital twin: predictions for {count} treatment{'' if count == 1 else 's'} are available"
    return [_card(report, summary, lines, (base_url, "findings"))]


def order_cards(
    report: Mapping[str, Any],
    risks: Sequence[Mapping[str, Any]],
    selected: Iterable[Mapping[str, Any]],
    *,
    base_url: str,
) -> list[dict[str, Any]]:
    """Return a card for each simulated treatment that holds what is being ordered; none for other orders.

    Parameters
    ----------
    report, risks, base_url
        As for `twin_cards`.
    selected
        The draft orders that are selected, e.g. MedicationRequests.
    """
    wanted = {name for order in selected for name in _ordered(order)}
    cards = []
    for risk in risks:
        label = _option(risk)
        if wanted & _drugs(label):
            head = next(iter(_lines(risk)), label)
            cards.append(_card(report, head, _lines(risk), (base_url, label)))
    return cards


def _drugs(words: str) -> set[str]:
    """Return the generic names of the drugs that a text names, and "radiotherapy" where it says so."""
    found = set()
    for word in re.split(r"[\s+,/;()]+", words):
        if word.lower() in {"radiotherapy", "radiation"}:
            found.add("radiotherapy")
        try:
            found.add(canonical_drug(word))
        except InputError:
            continue
    return found


def _ordered(order: Mapping[str, Any]) -> set[str]:
    concept = order.get("medicationCodeableConcept") or order.get("code")
    return _drugs(f"{text_of(concept)} {all_text(concept)}")


def _option(risk: Mapping[str, Any]) -> str:
    return str(risk.get("mitigation", "")).removeprefix("Treatment option: ")


def _lines(risk: Mapping[str, Any]) -> list[str]:
    """Return the prediction of a treatment in one line: categories with their probabilities, the change."""
    predictions = [p for p in risk.get("prediction", ()) if isinstance(p, dict)]
    shares = [
        f"{text_of(p.get('outcome'))} {100 * p['probabilityDecimal']:.0f} %"
        for p in sorted(predictions, key=lambda p: -p.get("probabilityDecimal", 0.0))
        if "probabilityDecimal" in p
    ] or [text_of(p.get("outcome")) for p in predictions]
    rationale = next((str(p["rationale"]) for p in predictions if p.get("rationale")), "")
    return (
        [f"{_option(risk)}: {', '.join(shares)}" + (f" ({rationale})" if rationale else "")] if shares else []
    )


def _card(
    report: Mapping[str, Any], summary: str, lines: Sequence[str], place: tuple[str, str]
) -> dict[str, Any]:
    base_url, key = place
    name = f"{report['resourceType']}/{report['id']}"
    version = report.get("meta", {}).get("versionId", "")
    short = summary if len(summary) < _SUMMARY_LENGTH else summary[: _SUMMARY_LENGTH - 2] + "…"
    detail = "\n".join([*(f"- {line}" for line in lines), "", CAUTION])
    subject = report.get("subject", {})
    return {
        "uuid": str(uuid.uuid5(_NAMESPACE, f"{name}/{version}/{key}")),
        "summary": short,
        "detail": detail,
        "indicator": "info",
        "source": {**_SOURCE, "url": base_url},
        "suggestions": [_board(subject, name)],
        "selectionBehavior": "at-most-one",
        "links": [{"label": "The twin's report", "url": f"{base_url}/{name}", "type": "absolute"}],
    }


def _board(subject: Mapping[str, Any], report: str) -> dict[str, Any]:
    """Return the suggestion to discuss the report: a draft request, which a person has to complete."""
    request = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "proposal",
        "code": {"text": "Discuss the digital twin's predictions at the tumour board"},
        "subject": dict(subject),
        "supportingInfo": [{"reference": report}],
    }
    action = {
        "type": "create",
        "description": "Create a draft request for the tumour board",
        "resource": request,
    }
    return {
        "label": "Discuss at the tumour board",
        "uuid": str(uuid.uuid5(_NAMESPACE, report)),
        "actions": [action],
    }


def is_twin_analysis(resource: Mapping[str, Any]) -> bool:
    """Whether a DiagnosticReport or RiskAssessment is the work of a twin, by the project's own code."""
    concept = resource.get("code" if resource.get("resourceType") == "DiagnosticReport" else "method")
    codings = concept.get("coding", ()) if isinstance(concept, dict) else ()
    return any(c.get("system") == TWIN_CODE_SYSTEM for c in codings if isinstance(c, dict))
