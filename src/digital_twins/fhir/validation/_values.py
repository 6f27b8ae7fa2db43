"""Comparing JSON values with what a profile fixes, and checking primitive values."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from digital_twins.fhir._validate import primitive_ok

_LARGEST_STRING = 1024 * 1024
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)[A-Za-z0-9]+;")
_TAG = re.compile(r"</?([A-Za-z][\w:]*)")
_ATTRIBUTE = re.compile(r"\s([A-Za-z_:][\w:.-]*)\s*=")
_HTML_TAGS = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "address",
        "b",
        "big",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "li",
        "ol",
        "p",
        "pre",
        "q",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)
_HTML_ATTRIBUTES = frozenset(
    [
        "abbr",
        "accesskey",
        "align",
        "alt",
        "axis",
        "bgcolor",
        "border",
        "cellhalign",
        "cellpadding",
        "cellspacing",
        "cellvalign",
        "char",
        "charoff",
        "charset",
        "cite",
        "class",
        "color",
        "colspan",
        "compact",
        "coords",
        "dir",
        "face",
        "frame",
        "headers",
        "height",
        "href",
        "hreflang",
        "hspace",
        "id",
        "lang",
        "longdesc",
        "name",
        "nowrap",
        "rel",
        "rev",
        "rowspan",
        "rules",
        "scope",
        "shape",
        "size",
        "span",
        "src",
        "start",
        "style",
        "summary",
        "tabindex",
        "title",
        "type",
        "valign",
        "value",
        "vspace",
        "width",
        "xml:lang",
        "xmlns",
    ]
)


def equal_json(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal_json, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def matches_pattern(value: Any, pattern: Any) -> bool:
    """Whether a value has at least what the pattern has (ElementDefinition.pattern[x])."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            k in value and matches_pattern(value[k], v) for k, v in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches_pattern(x, p) for x in value) for p in pattern)
    return equal_json(value, pattern)


def primitive_problem(kind: str, value: Any) -> str | None:
    """Say what is wrong with a primitive value, or None."""
    if isinstance(value, dict | list):
        return f"A {kind} is a single value."
    if not primitive_ok(kind, value):
        return f"The value is not a valid {kind}."
    if kind == "xhtml":
        return _xhtml_problem(value)
    if kind == "base64Binary":
        try:
            base64.b64decode(re.sub(r"\s", "", value), validate=True)
        except (ValueError, binascii.Error):
            return "The value is not valid base64."
    if isinstance(value, str):
        if len(value) > _LARGEST_STRING and kind in {"string", "markdown"}:
            return "The string is longer than 1 MB."
        if kind not in {"string", "markdown", "xhtml"} and value != value.strip():
            return "The value begins or ends with white space."
    return None


def _xhtml_problem(text: str) -> str | None:
    tags = {tag for tag in _TAG.findall(text) if tag not in _HTML_TAGS}
    if tags:
        return "The narrative has an element that is not basic HTML."
    inside = " ".join(re.findall(r"<[A-Za-z][^>]*>", text))
    if any(
        name not in _HTML_ATTRIBUTES
        for name in _ATTRIBUTE.findall(re.sub(r"(\"[^\"]*\"|'[^']*')", '""', inside))
    ):
        return "The narrative has an attribute that is not allowed."
    if _ENTITY.search(text):
        return "The narrative has an entity that XML does not know."
    if (
        not text.lstrip().startswith("<div")
        or "http://www.w3.org/1999/xhtml" not in text[: text.find(">") + 1]
    ):
        return "The narrative is not a div in the XHTML namespace."
    return None if re.sub(r"<(?!img)[^>]*>|\s|&nbsp;|&#160;", "", text) else "The narrative is empty."
