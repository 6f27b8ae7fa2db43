"""The page of a PDF file with the places of its signatures, and what is printed there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.reports import STAMP_MM, render_stamp

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.governance.signatures._manifest import ElectronicSignature

PLACES = 6
_PREFIX = "TwinSignature"
_POINTS_PER_MM = 72.0 / 25.4
_PAGE = (595.276, 841.89)
_MARGIN_MM = 15.0
_GAP_MM = 12.0


def any_in(writer: Any) -> bool:
    """Whether the file has the page already."""
    return bool(_fields(writer))


def free(writer: Any) -> str | None:
    """Return the first place that nobody has signed, None when there is none."""
    return next((name for name, value in _fields(writer) if value is None), None)


def add_page(writer: Any) -> None:
    """Append an A4 page with six empty signature fields, each tagged as a form (ISO 14289-1, 7.18.4)."""
    from pyhanko.pdf_utils import generic
    from pyhanko.pdf_utils.writer import PageObject
    from pyhanko.sign import fields

    box = generic.ArrayObject([generic.FloatObject(each) for each in (0, 0, *_PAGE)])
    empty = writer.add_object(generic.StreamObject(stream_data=b""))
    page = PageObject(contents=empty, media_box=box, resources=generic.DictionaryObject())
    page[generic.pdf_name("/Tabs")] = generic.pdf_name("/S")
    writer.insert_page(page)
    for place in range(PLACES):
        name = f"{_PREFIX}{place + 1}"
        spec = fields.SigFieldSpec(
            name, on_page=-1, box=_box(place), readable_field_name=f"Electronic signature {place + 1}"
        )
        fields.append_signature_field(writer, spec)
    _tag(writer)


def stamp_style(signature: ElectronicSignature, file: Path) -> Any:
    """Return the appearance of a signature; its drawing goes through `file`."""
    from pyhanko.pdf_utils.content import ImportedPdfPage
    from pyhanko.stamp import StaticStampStyle

    manifest = signature.manifest
    file.write_bytes(
        render_stamp(
            title=f"Electronic signature: {manifest.meaning}",
            name=f"{manifest.printed_name} ({manifest.signer})",
            time=f"{manifest.signed_utc.replace('T', ' ').removesuffix('Z')} UTC",
            lines=(
                f"Record {manifest.record}",
                f"SHA-256 of the record {manifest.record_sha256}",
                f"Signature {manifest.signature_id}, key {signature.verifier.name}",
            ),
        )
    )
    return StaticStampStyle(background=ImportedPdfPage(str(file)), background_opacity=1.0, border_width=0)


def _fields(writer: Any) -> list[tuple[str, Any]]:
    from pyhanko.sign.fields import enumerate_sig_fields

    found = enumerate_sig_fields(writer)
    return [(name, value) for name, value, _ in found if name.startswith(_PREFIX)]


def _box(place: int) -> tuple[float, float, float, float]:
    width, height = STAMP_MM
    top = _PAGE[1] / _POINTS_PER_MM - _MARGIN_MM - place * (height + _GAP_MM)
    edges = (_MARGIN_MM, top - height, _MARGIN_MM + width, top)
    left, low, right, high = (each * _POINTS_PER_MM for each in edges)
    return left, low, right, high


def _tag(writer: Any) -> None:
    """Name every field in the structure tree (ISO 32000-1 section 14.7.4.3); without a tree there is none."""
    from pyhanko.pdf_utils import generic

    name = generic.pdf_name
    if "/StructTreeRoot" not in writer.root:
        return
    tree = writer.root["/StructTreeRoot"]
    document = tree.raw_get("/K")
    document = document[0] if isinstance(document, generic.ArrayObject) else document
    element = document.get_object()
    page = writer.find_page_for_modification(-1)[0]
    key = int(tree["/ParentTreeNextKey"])
    for reference in page.get_object()["/Annots"]:
        widget = reference.get_object()
        target = {name("/Type"): name("/OBJR"), name("/Obj"): reference, name("/Pg"): page}
        fields = {
            name("/Type"): name("/StructElem"),
            name("/S"): name("/Form"),
            name("/P"): document,
            name("/Alt"): generic.pdf_string(str(widget["/TU"])),
            name("/K"): generic.DictionaryObject(target),
        }
        made = writer.add_object(generic.DictionaryObject(fields))
        element["/K"].append(made)
        tree["/ParentTree"]["/Nums"].extend((generic.NumberObject(key), made))
        widget[name("/StructParent")] = generic.NumberObject(key)
        key += 1
    tree[name("/ParentTreeNextKey")] = generic.NumberObject(key)
    writer.update_container(tree)
    writer.update_container(element)
    writer.update_container(element["/K"])
