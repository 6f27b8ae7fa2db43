"""Typed JSON paths: what the search expressions of FHIR were compiled to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP = re.compile(r"(\w+)(\?)?(?:\[(\d)\])?(?:\{(\w+)=([^}]*)\})?")


@dataclass(frozen=True, slots=True)
class Step:
    """One element name, with an optional list index and an optional ``key == value`` filter."""

    name: str
    index: int | None = None
    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """Steps from the resource to a value of data type ``leaf``; ``target`` limits a reference's type."""

    steps: tuple[Step, ...]
    leaf: str
    target: str | None = None


def compile_path(text: str) -> Path:
    """Return the path written as ``telecom{system=email}:ContactPoint`` or ``subject:Reference(Patient)``."""
    body, _, leaf = text.rpartition(":")
    kind, _, target = leaf.partition("(")
    steps = []
    for match in _STEP.finditer(body):
        index = int(match[3]) if match[3] else None
        steps.append(Step(match[1], index, match[4], match[5]))
    return Path(tuple(steps), kind, target.rstrip(")") or None)


def values(node: Any, steps: tuple[Step, ...]) -> Iterator[Any]:
    """Yield every value at the end of the steps; lists are entered, missing elements yield nothing."""
    if not steps:
        if isinstance(node, list):
            yield from node
        else:
            yield node
        return
    if isinstance(node, list):
        for item in node:
            yield from values(item, steps)
        return
    if not isinstance(node, dict):
        return
    step = steps[0]
    child = node.get(step.name)
    if child is None:
        return
    if step.index is not None:
        child = child[step.index : step.index + 1] if isinstance(child, list) else child
    if step.key is not None:
        items = child if isinstance(child, list) else [child]
        child = [item for item in items if isinstance(item, dict) and item.get(step.key) == step.value]
    yield from values(child, steps[1:])
