"""Where an extension may be used (FHIR R4, StructureDefinition.context)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._types import ancestors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.fhir.fhirpath import Node

_INDEX = re.compile(r"\[\d+\]")


def allowed_at(structure: Mapping[str, Any], node: Node, path: str) -> bool:
    """Whether an extension's definition allows the element that carries it.

    Parameters
    ----------
    structure
        The reduced StructureDefinition of the extension.
    node
        The extension.
    path
        Where it stands, e.g. ``Patient.name[0].family.extension[0]``.
    """
    contexts = structure.get("context", ())
    if not contexts or node.parent is None:
        return True
    names = _names(node.parent, _INDEX.sub("", path).split(".")[:-1])
    return any(_fits(context, names) for context in contexts)


def _fits(context: Mapping[str, Any], names: set[str]) -> bool:
    if context.get("type") != "element":
        return True  # a path or another extension's URL: not decided here
    return str(context.get("expression", "")).removesuffix("[x]") in names


def _names(parent: Node, steps: list[str]) -> set[str]:
    """Return every name by which a context can mean the element: its types, and paths that end in it."""
    names = {"Element", *ancestors(parent.type)}
    at = parent
    for length in range(1, len(steps)):
        at = at.parent if at.parent is not None else at
        tail = ".".join(steps[-length:])
        names |= {f"{name}.{tail}" for name in ancestors(at.type)}
    names.add(".".join(steps))
    return names
