"""The CapabilityStatement, generated from the tables that the server runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins import __version__
from digital_twins.fhir._definitions import FHIR_VERSION, definitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.fhir._definitions import SearchParameter

INTERACTIONS = ("read", "vread", "update", "delete", "history-instance", "create", "search-type")
SYSTEM_INTERACTIONS = ("transaction", "batch")


def _resource(
    kind: str, parameters: Mapping[str, SearchParameter], profiles: Sequence[str] | None
) -> dict[str, Any]:
    references = sorted(code for code, p in parameters.items() if p.kind == "reference")
    special = [{"name": "_id", "type": "token"}, {"name": "_lastUpdated", "type": "date"}]
    found: dict[str, Any] = {
        "type": kind,
        "interaction": [{"code": code} for code in INTERACTIONS],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "not-match",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchParam": [*special, *({"name": c, "type": p.kind} for c, p in sorted(parameters.items()))],
    }
    if profiles is not None:
        definition = "http://hl7.org/fhir/OperationDefinition/Resource-validate"
        found["operation"] = [{"name": "validate", "definition": definition}]
    if profiles:
        found["supportedProfile"] = list(profiles)
    if references:
        found["searchInclude"] = [f"{kind}:{code}" for code in references]
    return found


def capability_statement(
    base_url: str, *, date: str, profiles: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return the CapabilityStatement of this server (FHIR R4).

    Parameters
    ----------
    base_url
        Address of the FHIR base.
    date
        FHIR date since which the server runs in this form.
    profiles
        Profiles that are validated, by resource type; None when the server has no ``$validate``.
    """
    every = definitions().parameters
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "digital-twins", "version": __version__},
        "implementation": {"description": "Digital Twins FHIR R4 server", "url": base_url},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "resource": [
                    _resource(kind, every[kind], None if profiles is None else profiles.get(kind, ()))
                    for kind in sorted(every)
                ],
                "interaction": [{"code": code} for code in SYSTEM_INTERACTIONS],
            }
        ],
    }
