"""JSON Patch (RFC 6902) with JSON Pointer (RFC 6901), and JSON Merge Patch (RFC 7396)."""

from __future__ import annotations

import copy
from typing import Any

from digital_twins.fhir._outcome import FhirError, Issue, bad_request

MAX_OPERATIONS = 1000
_NEEDS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}


def _refused(text: str, number: int) -> FhirError:
    issue = Issue("processing", f"Operation {number} of the patch: {text}")
    return FhirError(422, [issue], fix="Read the resource again and correct the patch.")


def _steps(pointer: Any, number: int) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise bad_request(f"Operation {number} of the patch has no JSON Pointer.", code="value")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _place(length: int, step: str, number: int, *, end: bool) -> int:
    """Return the place in an array; ``-`` and the place behind the last only when ``end``."""
    if end and step == "-":
        return length
    if not step.isascii() or not step.isdigit() or (step[0] == "0" and step != "0") or len(step) > 9:
        raise _refused("it names no place of an array.", number)
    if int(step) > length - (0 if end else 1):
        raise _refused("it names a place beyond the end of an array.", number)
    return int(step)


def _at(document: Any, steps: list[str], number: int) -> Any:
    for step in steps:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_place(len(document), step, number, end=False)]
        else:
            raise _refused("it names an element that is not there.", number)
    return document


def _add(document: Any, steps: list[str], value: Any, number: int) -> Any:
    if not steps:
        return value
    holder = _at(document, steps[:-1], number)
    if isinstance(holder, dict):
        holder[steps[-1]] = value
    elif isinstance(holder, list):
        holder.insert(_place(len(holder), steps[-1], number, end=True), value)
    else:
        raise _refused("it adds to something that is neither object nor array.", number)
    return document


def _remove(document: Any, steps: list[str], number: int) -> tuple[Any, Any]:
    """Return the document without the element, and the element."""
    if not steps:
        return None, document
    holder = _at(document, steps[:-1], number)
    found = _at(holder, steps[-1:], number)
    if isinstance(holder, dict):
        del holder[steps[-1]]
    else:
        del holder[int(steps[-1])]
    return document, found


def _same(first: Any, second: Any) -> bool:
    """Equality of JSON (RFC 6902 section 4.6): true is not 1."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _apply(document: Any, operation: dict[str, Any], number: int) -> Any:
    name, steps = operation["op"], _steps(operation["path"], number)
    if name == "add":
        return _add(document, steps, copy.deepcopy(operation["value"]), number)
    if name == "remove":
        return _remove(document, steps, number)[0]
    if name == "replace":
        _at(document, steps, number)
        if not steps:
            return copy.deepcopy(operation["value"])
        holder = _at(document, steps[:-1], number)
        holder[int(steps[-1]) if isinstance(holder, list) else steps[-1]] = copy.deepcopy(operation["value"])
        return document
    if name == "test":
        if not _same(_at(document, steps, number), operation["value"]):
            raise _refused("its test does not hold.", number)
        return document
    source = _steps(operation["from"], number)
    if name == "copy":
        return _add(document, steps, copy.deepcopy(_at(document, source, number)), number)
    if steps[: len(source)] == source and steps != source:
        raise _refused("it moves an element into itself.", number)
    document, moved = _remove(document, source, number)
    return _add(document, steps, moved, number)


def json_patch(document: Any, operations: Any) -> Any:
    """Return a copy of a JSON document with a JSON Patch applied: all of it or nothing.

    Parameters
    ----------
    document
        The document, which stays as it is.
    operations
        The parsed patch, an array of at most 1,000 operations.

    Raises
    ------
    FhirError
        400 for what is no patch; 422 where an operation cannot be done or a test does not hold.
    """
    if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
        raise bad_request(
            f"A JSON Patch is an array of at most {MAX_OPERATIONS} operations.", code="structure"
        )
    result = copy.deepcopy(document)
    for number, operation in enumerate(operations):
        name = operation.get("op") if isinstance(operation, dict) else None
        if not isinstance(name, str) or name not in _NEEDS or not operation.keys() >= set(_NEEDS[name]):
            raise bad_request(
                f"Operation {number} of the patch is not add, remove, replace, move, copy or test "
                "with its members.",
                code="structure",
            )
        result = _apply(result, operation, number)
    return result


def merge_patch(document: Any, patch: Any) -> Any:
    """Return a copy of a JSON document with a JSON Merge Patch applied: null takes a member away.

    Parameters
    ----------
    document
        The document, which stays as it is.
    patch
        The parsed patch.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result
