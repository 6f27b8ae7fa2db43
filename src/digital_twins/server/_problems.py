"""Errors of the HTTP door as application/problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"


def problem(status: int, what: str, why: str, fix: str) -> JSONResponse:
    """Return a problem document; `detail` joins the three sentences for clients that know only RFC 9457."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{what} {why}",
        "what": what,
        "why": why,
        "fix": fix,
    }
    return JSONResponse(body, status, media_type=MEDIA_TYPE)


async def _own(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DigitalTwinError)
    return problem(error.http_status, error.what, error.why, error.fix)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    places = sorted({".".join(str(part) for part in item["loc"]) for item in error.errors()})
    return problem(
        422,
        "The request cannot be used.",
        f"These parts are not as described: {', '.join(places)}.",
        "Compare the request with /api/docs.",
    )


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(
        error.status_code,
        "The request was not served.",
        f"{HTTPStatus(error.status_code).phrase}.",
        "See /api/docs for what this node offers.",
    )


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as a problem document."""
    app.add_exception_handler(DigitalTwinError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
