"""The edge of a request outside of the REST core: any error becomes an OperationOutcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir._http import json_response
from digital_twins.fhir._outcome import Issue, outcome, outcome_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request], Awaitable[Response]]


def guarded(handler: Handler, on_error: Callable[[BaseException], None] | None = None) -> Handler:
    """Return the handler with its errors answered as OperationOutcomes, without internals.

    Parameters
    ----------
    handler
        Answers a request.
    on_error
        Told of exceptions that nothing else explains.
    """

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except DigitalTwinError as error:
            response = json_response(outcome_of(error), error.http_status)
            if error.http_status == 429:
                response.headers["retry-after"] = "30"
            return response
        except Exception as error:  # noqa: BLE001  (edge of the request: the client gets an answer without internals)
            if on_error is not None:
                on_error(error)
            text = "The server failed on this request; its log holds the reason."
            return json_response(outcome([Issue("exception", text, severity="fatal")]), 500)

    return answer


def base_of(request: Request, path: str, public_url: str | None) -> str:
    """Return the address of the FHIR base as the client sees it."""
    if public_url:
        return public_url.rstrip("/")
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}{path}"
