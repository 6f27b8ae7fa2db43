"""CDS Hooks 2.0 over a resource store: ``/cds-services``, a call of each service, and its feedback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from digital_twins._errors import DigitalTwinError
from digital_twins.audit import AuditEvent, stage
from digital_twins.fhir._edge import base_of
from digital_twins.fhir._http import bounded_body
from digital_twins.fhir._json import loads
from digital_twins.fhir._outcome import FhirError, Issue, bad_request
from digital_twins.fhir.cds_hooks._cards import TWIN_SERVICES, is_twin_analysis, order_cards, twin_cards
from digital_twins.fhir.cds_hooks._shapes import request_issues

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from digital_twins.fhir._store import FhirStore

_MAX_BODY = 4 * 2**20
_OUTCOMES = {"accepted", "overridden"}


class CdsHooks:
    """Answers calls from what the node's twins wrote into a store.

    Parameters
    ----------
    store
        Holds the Patients and the twins' reports.
    verify
        Gets the bearer token of a call (None without one) and returns who calls, for the audit trail; it
        raises DigitalTwinError for a token that is missing, not valid or not meant for this service, which
        is answered 401. Without it anybody is ``"anonymous"``.
    """

    def __init__(self, store: FhirStore, *, verify: Callable[[str | None], str] | None = None) -> None:
        self._store = store
        self._verify = verify

    def caller(self, token: str | None) -> str:
        """Return who calls.

        Raises
        ------
        FhirError
            401 when the token is refused.
        """
        if self._verify is None:
            return "anonymous"
        try:
            return self._verify(token)
        except DigitalTwinError as error:
            issue = Issue("login", "The token of the call was refused.")
            raise FhirError(401, [issue], fix="Send a JWT as CDS Hooks says.") from error

    def cards(
        self, service: str, body: Mapping[str, Any], *, base_url: str, agent: str
    ) -> list[dict[str, Any]]:
        """Return the cards of a call.

        Raises
        ------
        FhirError
            404 for an unknown service, 400 for a malformed request or another hook, 412 when neither the
            store nor the prefetch tells who the patient is.
        """
        offered = next((each for each in TWIN_SERVICES if each.id == service), None)
        if offered is None:
            raise FhirError(404, [Issue("not-found", "There is no such service.")], fix="Ask discovery.")
        if issues := request_issues(body):
            raise FhirError(400, issues)
        if body["hook"] != offered.hook:
            raise bad_request(f"This service is for the hook {offered.hook}.", location="request.hook")
        patient = self._patient(body)
        found = self._analysis(patient) if patient else None
        self._store.note_read("cds.call", agent=agent, entity=f"cds-services/{service}", patient=patient)
        if found is None:
            return []
        report, risks = found
        if offered.hook == "patient-view":
            return twin_cards(report, risks, base_url=base_url)
        return order_cards(report, risks, _selected(body["context"]), base_url=base_url)

    def feedback(self, service: str, body: Any, *, agent: str) -> None:
        """Keep what became of cards in the audit trail: card, outcome and reason code, no text of a person.

        Raises
        ------
        FhirError
            404 for an unknown service, 400 for a malformed body.
        """
        if all(each.id != service for each in TWIN_SERVICES):
            raise FhirError(404, [Issue("not-found", "There is no such service.")], fix="Ask discovery.")
        items = body.get("feedback") if isinstance(body, dict) else None
        if not isinstance(items, list) or not 0 < len(items) <= 1000:
            raise bad_request("Feedback is an object with the array feedback.", location="feedback")
        for number, item in enumerate(items):
            card, outcome = (item.get(n) if isinstance(item, dict) else None for n in ("card", "outcome"))
            if not isinstance(card, str) or len(card) > 64 or outcome not in _OUTCOMES:
                raise bad_request(
                    "Each feedback names a card and an outcome.", location=f"feedback[{number}]"
                )
            reason = ((item.get("overrideReason") or {}).get("reason") or {}).get("code", "")
            kept = {"service": service, "card": card, "outcome": str(outcome), "reason": str(reason)[:64]}
            self._tell("cds.feedback", agent, kept)

    def _tell(self, kind: str, agent: str, detail: Mapping[str, str | int]) -> None:
        event = AuditEvent("E", kind, "success", agent, detail=detail)
        self._store.database.write(lambda cursor: stage(cursor, event))

    def _patient(self, body: Mapping[str, Any]) -> str | None:
        """Return the id of our Patient: by an identifier of the prefetched one, else by the context's id."""
        given = (body.get("prefetch") or {}).get("patient")
        if isinstance(given, dict):
            for identifier in given.get("identifier", ()):
                text = f"{identifier.get('system', '')}|{identifier.get('value', '')}"
                hits = self._store.look("Patient", {"identifier": text.lstrip("|")}).matches
                if len(hits) == 1:
                    return hits[0].id
        name = str(body["context"]["patientId"])
        if self._store.look("Patient", {"_id": name}).matches:
            return name
        if not isinstance(given, dict):
            issue = Issue("not-found", "The patient is not known here and was not prefetched.")
            raise FhirError(412, [issue], fix="Send the prefetch that discovery asks for.")
        return None

    def _analysis(self, patient: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Return the latest report of the patient's twin, with the predictions that were written with it."""
        reports = self._own("DiagnosticReport", patient)
        if not reports:
            return None
        report = max(reports, key=lambda each: str(each.get("issued", "")))
        moment = report.get("issued")
        every = self._own("RiskAssessment", patient)
        risks = [r for r in every if r.get("occurrenceDateTime") == moment]
        return report, risks

    def _own(self, kind: str, patient: str) -> list[dict[str, Any]]:
        query = {"subject": f"Patient/{patient}", "_count": "1000"}
        hits = self._store.look(kind, query).matches
        return [r for r in (orjson.loads(hit.body) for hit in hits) if is_twin_analysis(r)]


def _selected(context: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = context["draftOrders"].get("entry", [])
    found = [e["resource"] for e in entries if isinstance(e, dict) and isinstance(e.get("resource"), dict)]
    wanted = set(context["selections"])
    return [r for r in found if f"{r.get('resourceType')}/{r.get('id')}" in wanted]


def cds_routes(hooks: CdsHooks, *, fhir_base: str = "/fhir", public_url: str | None = None) -> list[Route]:
    """Return the routes of a CDS service.

    Parameters
    ----------
    hooks
        What answers.
    fhir_base
        Path of the FHIR base on this server, for links in cards.
    public_url
        Address of the FHIR base, when a proxy stands in front.
    """

    async def discovery(_: Request) -> Response:
        return JSONResponse({"services": [service.to_dict() for service in TWIN_SERVICES]})

    async def call(request: Request) -> Response:
        agent = hooks.caller(_token(request))
        body = loads(await bounded_body(request, limit=_MAX_BODY))
        here = base_of(request, fhir_base, public_url)
        service = request.path_params["service"]
        cards = await asyncio.to_thread(hooks.cards, service, body, base_url=here, agent=agent)
        return JSONResponse({"cards": cards})

    async def feedback(request: Request) -> Response:
        agent = hooks.caller(_token(request))
        body = loads(await bounded_body(request, limit=_MAX_BODY))
        await asyncio.to_thread(hooks.feedback, request.path_params["service"], body, agent=agent)
        return Response(status_code=200)

    return [
        Route("/cds-services", _told(discovery), methods=["GET"]),
        Route("/cds-services/{service}", _told(call), methods=["POST"]),
        Route("/cds-services/{service}/feedback", _told(feedback), methods=["POST"]),
    ]


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _told(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler with its errors as JSON of what, why and fix."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except DigitalTwinError as error:
            return JSONResponse(error.to_dict(), error.http_status)

    return answer
