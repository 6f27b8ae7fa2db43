"""Which resources belong to a patient, an encounter, a device, ... (FHIR R4 CompartmentDefinition)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import orjson

from digital_twins.fhir._conditions import Predicate, Test
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._predicates import predicate

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def patient_compartment() -> Mapping[str, tuple[str, ...]]:
    """Return the search parameters by which a resource type names its patient, by type.

    Types that are never in the compartment of a patient are not among the keys; Patient itself names other
    patients by ``link``.
    """
    return compartments()["Patient"]


@cache
def compartments() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return owner's type -> member type -> the search parameters that name the owner.

    The parameter ``{def}`` stands for the owner itself.
    """
    found = orjson.loads((files("digital_twins.fhir") / "_data" / "compartments.json").read_bytes())
    owners = {name.lower(): name for name in definitions().types}
    return {
        owners[name]: {kind: tuple(codes) for kind, codes in members.items()}
        for name, members in found.items()
        if name in owners
    }


def compartment_predicate(owner: str, name: str, kind: str) -> Predicate:
    """Return the predicate for the resources of a type in the compartment of ``owner/name``.

    Raises
    ------
    FhirError
        404 when resources of this type are in no such compartment.
    """
    codes = compartments().get(owner, {}).get(kind)
    if codes is None:
        text = f"{kind} is not in the compartment of a {owner}."
        raise bad_request(text, code="not-supported", status=404)
    known = definitions().parameters[kind]
    parts = [
        Predicate((Test("", "r.id=?", (name,)),))
        if code == "{def}"
        else predicate(known[code], "", f"{owner}/{name}", types=definitions().types)
        for code in codes
        if code == "{def}" or code in known
    ]
    return parts[0] if len(parts) == 1 else Predicate((), either=tuple(parts), rank=2)


@cache
def compartment_numbers() -> tuple[int, ...]:
    """Return the numbers of those parameters in the index tables; ``Patient.link`` is left out.

    A patient that another one replaced is linked to it, yet is another patient.
    """
    every = definitions().parameters
    return tuple(
        number
        for kind, codes in patient_compartment().items()
        if kind != "Patient"
        for code in codes
        if code in every[kind]
        for number in every[kind][code].numbers
    )
