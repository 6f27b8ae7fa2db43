"""Which resources belong to a patient (FHIR R4 CompartmentDefinition/patient)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import orjson

from digital_twins.fhir._definitions import definitions

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def patient_compartment() -> Mapping[str, tuple[str, ...]]:
    """Return the search parameters by which a resource type names its patient, by type.

    Types that are never in the compartment of a patient are not among the keys; Patient itself names other
    patients by ``link``.
    """
    found = orjson.loads((files("digital_twins.fhir") / "_data" / "compartments.json").read_bytes())
    return {kind: tuple(codes) for kind, codes in found["patient"].items()}


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
