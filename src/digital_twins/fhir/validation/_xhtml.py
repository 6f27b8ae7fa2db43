"""What a narrative may hold: basic HTML, no active content (FHIR R4, narrative.html, section 2.36.1)."""

from __future__ import annotations

import re

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


def xhtml_problem(text: str) -> str | None:
    """Say what is wrong with a narrative, or None."""
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
