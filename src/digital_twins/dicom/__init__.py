"""DICOM: the node's port, the image store, DICOMweb, and clients of both protocols."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.dicom._association import Limits as Limits
    from digital_twins.dicom._attributes import Level as Level
    from digital_twins.dicom._header import ObjectRefusedError as ObjectRefusedError
    from digital_twins.dicom._json import build_pending as build_pending
    from digital_twins.dicom._listener import Listener as Listener
    from digital_twins.dicom._listener import start_listener as start_listener
    from digital_twins.dicom._query import Query as Query
    from digital_twins.dicom._schema import MIGRATIONS as MIGRATIONS
    from digital_twins.dicom._scu import DimseFailedError as DimseFailedError
    from digital_twins.dicom._scu import Remote as Remote
    from digital_twins.dicom._scu import echo as echo
    from digital_twins.dicom._scu import find as find
    from digital_twins.dicom._scu import send as send
    from digital_twins.dicom._store import DicomStore as DicomStore
    from digital_twins.dicom._store import Instance as Instance
    from digital_twins.dicom._store import Stored as Stored
    from digital_twins.dicom._web import dicomweb_routes as dicomweb_routes
    from digital_twins.dicom._web_client import AsyncDicomWebClient as AsyncDicomWebClient
    from digital_twins.dicom._web_client import DicomWebClient as DicomWebClient
    from digital_twins.dicom._web_client import DicomWebError as DicomWebError

_WHERE = {
    "AsyncDicomWebClient": "digital_twins.dicom._web_client",
    "DicomStore": "digital_twins.dicom._store",
    "DicomWebClient": "digital_twins.dicom._web_client",
    "DicomWebError": "digital_twins.dicom._web_client",
    "DimseFailedError": "digital_twins.dicom._scu",
    "Instance": "digital_twins.dicom._store",
    "Level": "digital_twins.dicom._attributes",
    "Limits": "digital_twins.dicom._association",
    "Listener": "digital_twins.dicom._listener",
    "MIGRATIONS": "digital_twins.dicom._schema",
    "ObjectRefusedError": "digital_twins.dicom._header",
    "Query": "digital_twins.dicom._query",
    "Remote": "digital_twins.dicom._scu",
    "Stored": "digital_twins.dicom._store",
    "build_pending": "digital_twins.dicom._json",
    "dicomweb_routes": "digital_twins.dicom._web",
    "echo": "digital_twins.dicom._scu",
    "find": "digital_twins.dicom._scu",
    "send": "digital_twins.dicom._scu",
    "start_listener": "digital_twins.dicom._listener",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
