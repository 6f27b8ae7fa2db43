"""JSON to FHIR XML (FHIR R4, section 2.1.2): elements in the order of the definitions."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from digital_twins._errors import InputError
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._json import ExactDecimal
from digital_twins.fhir._xml import NAMESPACE, XHTML
from digital_twins.fhir.fhirpath._types import PRIMITIVES

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})
_ENTITY = re.compile(r"&(\w+);")
_OPENING = re.compile(r"<div(?=[\s/>])")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)


def resource_to_xml(resource: Mapping[str, Any]) -> bytes:
    """Return a resource as FHIR XML that says what its JSON says.

    Parameters
    ----------
    resource
        A resource as JSON. Decimals that `loads` read keep their digits. A narrative that is no well-formed
        XHTML becomes its own text; characters that XML cannot hold become U+FFFD.

    Returns
    -------
    bytes
        UTF-8 with an XML declaration.

    Raises
    ------
    InputError
        The type or an element is not one of R4.
    """
    out = ['<?xml version="1.0" encoding="UTF-8"?>']
    _resource(out, resource, f' xmlns="{NAMESPACE}"')
    return "".join(out).encode()


def _refused(why: str) -> InputError:
    return InputError(
        "The resource cannot be written as XML.", why, "Validate it first, or ask for JSON (_format=json)."
    )


def _text(value: str) -> str:
    return _FORBIDDEN.sub("\ufffd", value).translate(_ESCAPES)


def _resource(out: list[str], resource: Any, space: str = "") -> None:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(kind, str) or kind not in definitions().types:
        raise _refused("It is, or holds, no R4 resource.")
    out.append(f"<{kind}{space}>")
    _children(out, resource, kind)
    out.append(f"</{kind}>")


def _children(out: list[str], node: Mapping[str, Any], kind: str) -> None:
    rows = definitions().structures.get(kind, {})
    unknown = {name.removeprefix("_") for name in node} - rows.keys() - {"resourceType"}
    if unknown:
        raise _refused(f"{kind} has no element of one of the names used.")
    for name, row in rows.items():
        if name not in node and f"_{name}" not in node:
            continue
        child = str(row[2])
        if name == "id" and child != "id":
            continue  # an attribute of whoever holds it
        if name == "url" and kind == "Extension":
            continue
        values, extras = _listed(node.get(name)), _listed(node.get(f"_{name}"))
        for place in range(max(len(values), len(extras))):
            value = values[place] if place < len(values) else None
            extra = extras[place] if place < len(extras) else None
            _element(out, name, child, value, extra)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _element(out: list[str], name: str, kind: str, value: Any, extra: Any) -> None:
    if kind == "xhtml":
        out.append(_narrative(str(value)))
    elif kind in PRIMITIVES:
        _primitive(out, name, value, extra if isinstance(extra, dict) else {})
    elif kind in {"Resource", "DomainResource"}:
        out.append(f"<{name}>")
        _resource(out, value)
        out.append(f"</{name}>")
    elif isinstance(value, dict):
        out.append(f"<{name}{_attributes(value, kind)}")
        _closed(out, name, value, kind)
    else:
        raise _refused(f"An element of type {kind} is no object.")


def _attributes(node: Mapping[str, Any], kind: str) -> str:
    names = ("id", "url") if kind == "Extension" else ("id",)
    return "".join(f' {n}="{_text(str(node[n]))}"' for n in names if n in node)


def _closed(out: list[str], name: str, node: Mapping[str, Any], kind: str) -> None:
    """Finish the element whose start tag is open, in the short form when nothing is inside."""
    inside: list[str] = []
    _children(inside, node, kind)
    if inside:
        out.append(">")
        out.extend(inside)
        out.append(f"</{name}>")
    else:
        out.append("/>")


def _primitive(out: list[str], name: str, value: Any, extra: Mapping[str, Any]) -> None:
    out.append(f"<{name}{_attributes(extra, 'Element')}")
    if value is not None:
        out.append(f' value="{_text(_shown(value))}"')
    _closed(out, name, extra, "Element")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ExactDecimal):
        return value.text
    if isinstance(value, str | int | float):
        return str(value)
    raise _refused("A primitive value is an object or a list.")


def _narrative(div: str) -> str:
    """Return the XHTML of a narrative with its namespace; what is not well formed as text."""
    text = _ENTITY.sub(lambda m: m[0] if m[1] in _OWN_ENTITIES else html.unescape(m[0]), div.strip())
    text = _FORBIDDEN.sub("\ufffd", text)
    start = text.partition(">")[0]
    if "xmlns=" not in start:
        text = _OPENING.sub(f'<div xmlns="{XHTML}"', text, count=1)
    if text.startswith("<div") and _well_formed(text):
        return text
    plain = re.sub(r"<[^>]*>", " ", text)
    return f'<div xmlns="{XHTML}">{_text(html.unescape(plain))}</div>'


def _well_formed(text: str) -> bool:
    found: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, _: found.append(name)
    parser.StartDoctypeDeclHandler = lambda *_: found.append("doctype")
    try:
        parser.Parse(text.encode(), True)  # noqa: FBT003 - expat's own signature
    except expat.ExpatError:
        return False
    return all(name.startswith(f"{XHTML} ") for name in found)
