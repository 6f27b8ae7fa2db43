"""The reference pages name every route and every error, and no other."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import digital_twins
from digital_twins import DigitalTwinError

DOCS = Path(__file__).parents[2] / "docs"
ROOMS = [path.parent.name for path in (DOCS.parent / "src" / "digital_twins").glob("*/__init__.py")]


def served() -> set[str]:
    """Paths of every route of a node."""
    from types import SimpleNamespace

    from digital_twins.auth import auth_routes
    from digital_twins.dicom import dicomweb_routes
    from digital_twins.fhir import fhir_routes
    from digital_twins.fhir.bulk import bulk_routes
    from digital_twins.fhir.cds_hooks import cds_routes
    from digital_twins.fhir.subscriptions import subscription_routes
    from digital_twins.server._api import ApiParts, create_api

    nothing: Any = SimpleNamespace()
    with_provider: Any = SimpleNamespace(provider=SimpleNamespace(start=None))
    api = create_api(ApiParts(nothing, nothing, lambda *_: None))
    paths = {"/api/openapi.json", "/api/docs", *(f"/api{path}" for path in api.openapi()["paths"])}
    paths |= {
        re.sub(r"/$", "", route.path) for route in fhir_routes(nothing, base="/fhir", validation=nothing)
    }
    more = [*bulk_routes(nothing), *cds_routes(nothing), *subscription_routes(nothing)]
    paths |= {route.path for route in more}
    paths |= {route.path for route in auth_routes(with_provider, patients=list)}
    paths |= {f"/dicom-web{route.path}" for route in dicomweb_routes(nothing)}
    return (paths | {"/", "/patients/{key}", "/queues", "/health", "/metrics"}) - {"/fhir/{rest:path}"}


def test_every_http_route_is_documented_and_no_other() -> None:
    page = (DOCS / "reference" / "http.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(/[^`?]*)`", page)) - {"/api", "/auth", "/fhir", "/dicom-web"}
    assert named == served() - {"/fhir"}
    assert "| POST | `/fhir` |" in page


def errors() -> list[type[DigitalTwinError]]:
    public = (getattr(digital_twins, name) for name in digital_twins.__all__)
    return [each for each in public if isinstance(each, type) and issubclass(each, DigitalTwinError)]


@pytest.mark.parametrize("error", errors(), ids=lambda error: error.__name__)
def test_every_error_is_documented_with_its_status(error: type[DigitalTwinError]) -> None:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    assert f"| `{error.__name__}` | {error.http_status} |" in page


@pytest.mark.parametrize("room", ROOMS)
def test_errors_of_rooms_are_documented(room: str) -> None:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    module = importlib.import_module(f"digital_twins.{room}")
    for name in getattr(module, "_WHERE", {}):
        value = getattr(module, name)
        if isinstance(value, type) and issubclass(value, DigitalTwinError):
            assert f"`{room}.{name}`" in page


@pytest.mark.parametrize("room", sorted({*ROOMS, "config", "units"} - {"cli"}))
def test_every_room_has_a_page(room: str) -> None:
    assert f"::: digital_twins.{room}\n" in (DOCS / "reference" / "python" / f"{room}.md").read_text()
    assert f"reference/python/{room}.md" in (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_room_stands_in_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"`{room}`" not in page] == []
