"""The Native DICOM Model (PS3.19 annex A): DICOM JSON objects as XML, for clients that ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import orjson
from starlette.responses import Response

from digital_twins.dicom._json import BASE_MARK
from digital_twins.dicom._multipart import new_boundary
from digital_twins.dicom._wado import part_head
from digital_twins.dicom._web_base import accepted, base_url, require_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request

XML = "application/dicom+xml"
_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_JSON = frozenset({"*/*", "application/*", "application/json", "application/dicom+json"})
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NOT_IN_XML = {i: None for i in range(32) if i not in {9, 10, 13}}
"""Control characters that XML 1.0 cannot hold; DICOM text has no use for them."""


def wants_xml(request: Request, *, strict: bool = True) -> bool:
    """Whether the client prefers the Native DICOM Model to DICOM JSON.

    Parameters
    ----------
    strict
        Raise NotAcceptableError if it takes neither; else it gets JSON.
    """
    for item in accepted(request):
        if item.part_type == XML:
            return True
        if item.part_type in _JSON:
            return False
    if strict:
        require_json(request)
    return False


def native_model(model: Mapping[str, Any]) -> bytes:
    """Return one DICOM JSON object as an XML document.

    Parameters
    ----------
    model
        As PS3.18 annex F has it: tag of eight digits to ``{"vr", "Value" | "BulkDataURI" | "InlineBinary"}``.
    """
    root = ET.Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _fill(root, model)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def xml_answer(
    request: Request, models: Iterable[bytes | Mapping[str, Any]], *, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with one part an object in multipart/related (PS3.18 section 8.7.3)."""
    boundary, parts = new_boundary(), []
    base = base_url(request).encode()
    for model in models:
        found = orjson.loads(model) if isinstance(model, bytes) else model
        parts += [part_head(boundary, XML), native_model(found).replace(BASE_MARK, base), b"\r\n"]
    kind = f'multipart/related; type="{XML}"; boundary={boundary}'
    fields = {"Vary": "Accept", **(headers or {})}
    return Response(b"".join([*parts, f"--{boundary}--\r\n".encode()]), media_type=kind, headers=fields)


def xml_document(request: Request, model: Mapping[str, Any], *, status: int) -> Response:
    """Answer with one object, not in parts: the form of a store instances response (PS3.18 annex I)."""
    document = native_model(model).replace(BASE_MARK, base_url(request).encode())
    return Response(document, status_code=status, media_type=XML, headers={"Vary": "Accept"})


def _fill(parent: ET.Element, model: Mapping[str, Any]) -> None:
    for tag, element in sorted(model.items()):
        node = ET.SubElement(parent, "DicomAttribute", _names(tag, element["vr"], model))
        if "BulkDataURI" in element:
            ET.SubElement(node, "BulkData", {"uri": element["BulkDataURI"]})
        elif "InlineBinary" in element:
            ET.SubElement(node, "InlineBinary").text = element["InlineBinary"]
        for number, value in enumerate(element.get("Value") or [], 1):
            _value(node, element["vr"], value, str(number))


def _names(tag: str, vr: str, model: Mapping[str, Any]) -> dict[str, str]:
    from pydicom.datadict import keyword_for_tag

    group, number = int(tag[:4], 16), int(tag[4:], 16)
    if group % 2 and number > 0xFF:  # private: the block stands as 00, and its creator beside it
        creator = model.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value") or [""]
        return {"tag": f"{tag[:4]}00{tag[6:]}", "vr": vr, "privateCreator": _text(creator[0])}
    keyword = keyword_for_tag(int(tag, 16))
    return {"tag": tag, "vr": vr, **({"keyword": keyword} if keyword else {})}


def _value(node: ET.Element, vr: str, value: Any, number: str) -> None:
    if vr == "SQ":
        _fill(ET.SubElement(node, "Item", {"number": number}), value or {})
    elif value is None:
        return
    elif vr == "PN":
        name = ET.SubElement(node, "PersonName", {"number": number})
        for group in ("Alphabetic", "Ideographic", "Phonetic"):
            if group in value:
                parts = ET.SubElement(name, group)
                for part, text in zip(_NAME_PARTS, str(value[group]).split("^"), strict=False):
                    if text:
                        ET.SubElement(parts, part).text = _text(text)
    else:
        ET.SubElement(node, "Value", {"number": number}).text = _text(value)


def _text(value: object) -> str:
    return str(value).translate(_NOT_IN_XML)
