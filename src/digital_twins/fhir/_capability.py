"""The CapabilityStatement, generated from the tables that the server runs on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from digital_twins import __version__
from digital_twins.fhir._compartment import compartments
from digital_twins.fhir._definitions import FHIR_VERSION, definitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.fhir._definitions import SearchParameter
    from digital_twins.fhir._operations import FhirOperation
    from digital_twins.fhir._package_search import Extra

INTERACTIONS = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
SYSTEM_INTERACTIONS = ("transaction", "batch", "search-system", "history-system")
PATCH_FORMATS = ("application/json-patch+json", "application/fhir+json", "application/merge-patch+json")
FORMATS = ("application/fhir+json", "json", "application/fhir+xml", "xml")
_EVERYWHERE = (
    {"name": "_id", "type": "token"},
    {"name": "_lastUpdated", "type": "date"},
    {"name": "_text", "type": "string"},
    {"name": "_content", "type": "string"},
    {"name": "_list", "type": "string"},
    {"name": "_filter", "type": "special"},
)
"""Search parameters of every type that are not compiled from a SearchParameter."""
_COMPARTMENT = "http://hl7.org/fhir/CompartmentDefinition/"
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SECURITY_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all resource types of one statement have in common."""

    profiles: Mapping[str, Sequence[str]]
    operations: Sequence[FhirOperation]
    conditional_delete: str
    reverse: Mapping[str, Sequence[str]]
    extra: Extra


def _search_parameter(code: str, parameter: SearchParameter) -> dict[str, Any]:
    found = {"name": code, "type": parameter.kind}
    return {**found, "definition": parameter.definition} if parameter.definition else found


def _resource(kind: str, parameters: Mapping[str, SearchParameter], shared: _Shared) -> dict[str, Any]:
    parameters = {**parameters, **shared.extra.get(kind, {})}
    references = sorted(code for code, p in parameters.items() if p.kind == "reference")
    found: dict[str, Any] = {
        "type": kind,
        "interaction": [{"code": code} for code in INTERACTIONS],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": shared.conditional_delete,
        "searchParam": [*_EVERYWHERE, *(_search_parameter(c, p) for c, p in sorted(parameters.items()))],
    }
    operations = {
        o.name: o.definition
        for o in shared.operations
        if o.level != "system" and (not o.types or kind in o.types)
    }
    if operations:
        found["operation"] = [{"name": n, "definition": d} for n, d in operations.items()]
    if profiles := shared.profiles.get(kind):
        found["supportedProfile"] = list(profiles)
    if references:
        found["searchInclude"] = ["*", *(f"{kind}:{code}" for code in references)]
    if reverse := shared.reverse.get(kind):
        found["searchRevInclude"] = list(reverse)
    return found


@cache
def _system_parameters() -> list[dict[str, Any]]:
    """Return the parameters that all types have, for searches over several."""
    tables = list(definitions().parameters.values())
    shared = set(tables[0]).intersection(*tables)
    own = [_search_parameter(code, tables[0][code]) for code in sorted(shared)]
    return [{"name": "_type", "type": "special"}, *_EVERYWHERE, *own]


@cache
def _reverse_includes() -> dict[str, list[str]]:
    """Return resource type -> the parameters of other types that may name it."""
    found: dict[str, list[str]] = {}
    for kind, parameters in sorted(definitions().parameters.items()):
        for code, parameter in sorted(parameters.items()):
            for target in parameter.targets if parameter.kind == "reference" else ():
                found.setdefault(target, []).append(f"{kind}:{code}")
    return found


def _security(oauth: Mapping[str, str] | None) -> dict[str, Any]:
    """Say how a client signs in (SMART App Launch 2.2.0, section 7.2), or that nobody has to."""
    if oauth is None:
        return {"cors": False, "description": "No sign-in: open to everyone on this machine only."}
    extension = {"url": _OAUTH_URIS, "extension": [{"url": n, "valueUri": a} for n, a in oauth.items()]}
    service = {"system": _SECURITY_SERVICE, "code": "SMART-on-FHIR"}
    return {"extension": [extension], "cors": True, "service": [{"coding": [service]}]}


def capability_statement(
    base_url: str,
    *,
    date: str,
    profiles: Mapping[str, Sequence[str]],
    operations: Sequence[FhirOperation] = (),
    conditional_delete: str = "single",
    oauth: Mapping[str, str] | None = None,
    extra: Extra | None = None,
) -> dict[str, Any]:
    """Return the CapabilityStatement of this server (FHIR R4), from the tables that it runs on.

    Parameters
    ----------
    base_url
        Address of the FHIR base.
    date
        FHIR date since which the server runs in this form.
    profiles
        Profiles that are validated, by resource type.
    operations
        The ``$``-operations that run.
    conditional_delete
        ``"single"`` or ``"multiple"``.
    oauth
        Addresses of the authorization server by the names of SMART's ``oauth-uris`` extension
        (``authorize``, ``token``, ``introspect``, ``revoke``); None where no token is asked for.
    extra
        Search parameters of packages that are served.
    """
    every = definitions().parameters
    shared = _Shared(profiles, operations, conditional_delete, _reverse_includes(), extra or {})
    rest: dict[str, Any] = {
        "mode": "server",
        "resource": [_resource(kind, every[kind], shared) for kind in sorted(every)],
        "interaction": [{"code": code} for code in SYSTEM_INTERACTIONS],
    }
    rest["searchParam"] = _system_parameters()
    rest["compartment"] = [f"{_COMPARTMENT}{name.lower()}" for name in sorted(compartments())]
    at_system = [{"name": o.name, "definition": o.definition} for o in operations if o.level == "system"]
    if at_system:
        rest["operation"] = at_system
    rest["security"] = _security(oauth)
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "digital-twins", "version": __version__},
        "implementation": {"description": "Digital Twins FHIR R4 server", "url": base_url},
        "fhirVersion": FHIR_VERSION,
        "format": list(FORMATS),
        "patchFormat": list(PATCH_FORMATS),
        "rest": [rest],
    }
