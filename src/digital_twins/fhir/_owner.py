"""Whose key a stored resource lies under in an encrypted store."""

from __future__ import annotations

import re

from digital_twins.fhir._compartment import patient_compartment
from digital_twins.storage import COMMON

_REFERENCE = re.compile(rb'"reference"\s*:\s*"(?:[^"]*/)?(Patient/[A-Za-z0-9.\-]{1,64})(?:/_history/[^"]*)?"')


def patients_in(body: bytes) -> set[str]:
    """Return the patients that a resource refers to, as ``Patient/<id>``, wherever they are hosted."""
    return {each.decode() for each in _REFERENCE.findall(body)}


def of_patients(kind: str) -> bool:
    """Whether resources of a type are about the patients that they refer to."""
    return kind in patient_compartment() or kind == "Binary"


def patient_owner(reference: str) -> str:
    """Return the name under which the register of keys has the key of a ``Patient/<id>``."""
    return f"fhir:{reference}"


def owner_of(kind: str, name: str, body: bytes) -> str:
    """Return the owner of a resource for the register of keys.

    A Patient is its own; what refers to one patient is that patient's; what refers to several, or to none,
    is nobody's: it stays readable when one of them is erased.

    Parameters
    ----------
    kind, name
        Resource type and id.
    body
        Its JSON.
    """
    if kind == "Patient":
        return patient_owner(f"Patient/{name}")
    if not of_patients(kind):
        return COMMON
    named = patients_in(body)
    return patient_owner(named.pop()) if len(named) == 1 else COMMON
