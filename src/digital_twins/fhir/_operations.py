"""What a call of ``$validate`` asks for (FHIR R4, resource-operation-validate)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue, bad_request

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL_OK = Issue("informational", "The resource is valid.", severity="information")
_MODES = frozenset({"create", "update", "delete", "profile"})


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """The resource to judge, and the profiles that it must conform to."""

    resource: Any
    profiles: tuple[str, ...]


def validation_request(
    body: Any, stored: Any, query: Sequence[tuple[str, str]], *, kind: str
) -> ValidationRequest:
    """Read a call: a resource or Parameters in the body, else what is stored; ``profile`` here or there.

    Raises
    ------
    FhirError
        400 without a resource, with one of another type than the address names, or with an unknown mode.
    """
    given = [(name, value) for name, value in query if name in {"profile", "mode"}]
    resource = body
    if isinstance(body, dict) and body.get("resourceType") == "Parameters" and kind != "Parameters":
        parts = [p for p in body.get("parameter", ()) if isinstance(p, dict)]
        resource = next((p.get("resource") for p in parts if p.get("name") == "resource"), None)
        for part in parts:
            value = next((v for k, v in part.items() if k.startswith("value")), None)
            given.append((str(part.get("name")), str(value)))
    resource = stored if resource is None else resource
    if not isinstance(resource, dict):
        raise bad_request("$validate needs a resource, or Parameters with one.", code="required")
    if resource.get("resourceType") != kind:
        raise bad_request(f"The resource is not a {kind}, as the address says.")
    if any(name == "mode" and value not in _MODES for name, value in given):
        raise bad_request("The mode is not create, update, delete or profile.", code="value")
    return ValidationRequest(resource, tuple(value for name, value in given if name == "profile"))
