"""STOW-RS of metadata with bulk data apart (PS3.18 section 10.5.2): DICOM JSON and its parts into files."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins._errors import InputError
from digital_twins.dicom._contexts import EXPLICIT_LE
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._multipart import TooLongError, media_type
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.dicom._multipart import Part

_SYNTAXES = {
    "image/jpeg": "1.2.840.10008.1.2.4.50",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
}
"""Transfer syntax of a compressed part that states none (PS3.18 table 8.7.3-4 lists the pairs)."""
_PIXELS = "7FE00010"


class BulkParts:
    """The bulk data of one request by their Content-Location; several under one name are frames.

    Parameters
    ----------
    max_bytes
        Most that metadata and bulk data may take together: all of it is in memory until the body ends.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._parts: dict[str, list[Part]] = {}
        self._models: list[dict[str, Any]] = []

    def add(self, part: Part) -> None:
        """Take one part of the body; raises InputError for what is neither metadata nor bulk data."""
        self._left -= len(part.body)
        if self._left < 0:
            raise TooLongError(
                "The objects cannot be stored.",
                "Metadata and bulk data are longer than an object may be.",
                "Send fewer objects in a request.",
            )
        kind, _parameters = media_type(part.headers.get("content-type", ""))
        if kind in {"application/dicom+json", "application/json"}:
            try:
                found = orjson.loads(part.body)
            except orjson.JSONDecodeError:
                raise _bad("the metadata are no JSON") from None
            models = found if isinstance(found, list) else [found]
            if not all(isinstance(model, dict) for model in models):
                raise _bad("the metadata are no DICOM JSON objects")
            self._models += models
            return
        location = part.headers.get("content-location", "")
        if not location:
            raise _bad("a part of bulk data has no Content-Location")
        self._parts.setdefault(location, []).append(part)

    def files(self) -> list[tuple[str, str, bytes | ObjectRefusedError]]:
        """Return SOP class UID, instance UID and the DICOM file, or why there is none, of each object."""
        return [(*_identity(model), self._file(model)) for model in self._models]

    def _file(self, model: dict[str, Any]) -> bytes | ObjectRefusedError:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import UID

        try:
            syntax = self._syntax(model)
            kept = {
                tag: value for tag, value in model.items() if not tag.startswith("0002") and tag != "00083002"
            }
            with quiet_pydicom():
                dataset = Dataset.from_json(kept, self._value)
                dataset.file_meta = FileMetaDataset()
                dataset.file_meta.TransferSyntaxUID = UID(syntax)
                buffer = BytesIO()
                dataset.save_as(buffer, enforce_file_format=True)
        except _MissingBulkError:
            return ObjectRefusedError("bulk data that the metadata refer to are not in the body")
        except Exception as error:  # noqa: BLE001  (edge: foreign JSON breaks pydicom in many ways)
            return ObjectRefusedError(f"the metadata make no object: {type(error).__name__}")
        return buffer.getvalue()

    def _syntax(self, model: Mapping[str, Any]) -> str:
        uri = (model.get(_PIXELS) or {}).get("BulkDataURI")
        if uri in self._parts:
            kind, parameters = media_type(self._parts[uri][0].headers.get("content-type", ""))
            if kind in _SYNTAXES:
                return parameters.get("transfer-syntax") or _stated(model) or _SYNTAXES[kind]
        return EXPLICIT_LE

    def _value(self, tag: str, _vr: str, uri: str) -> bytes:
        parts = self._parts.get(uri)
        if parts is None:
            raise _MissingBulkError
        kind, _parameters = media_type(parts[0].headers.get("content-type", ""))
        if tag == _PIXELS and kind in _SYNTAXES:
            from pydicom.encaps import encapsulate

            return bytes(encapsulate([part.body for part in parts]))
        return b"".join(part.body for part in parts)


class _MissingBulkError(Exception):
    pass


def _identity(model: Mapping[str, Any]) -> tuple[str, str]:
    found = []
    for tag in ("00080016", "00080018"):
        element = model.get(tag)
        values = element.get("Value") if isinstance(element, dict) else None
        found.append(str(values[0])[:64] if isinstance(values, list) and values else "")
    return found[0], found[1]


def _stated(model: Mapping[str, Any]) -> str:
    for tag in ("00020010", "00083002"):
        values = (model.get(tag) or {}).get("Value")
        if values:
            return str(values[0])
    return ""


def _bad(why: str) -> InputError:
    return InputError(
        "The objects cannot be stored.",
        why[0].upper() + why[1:] + ".",
        "Send DICOM JSON first, then each BulkDataURI as a part with that Content-Location.",
    )
