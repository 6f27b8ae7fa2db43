"""DICOM: the node's port, the image store, DICOMweb, and clients of both protocols."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.dicom._association import Limits as Limits
    from digital_twins.dicom._attributes import Level as Level
    from digital_twins.dicom._header import ObjectRefusedError as ObjectRefusedError
    from digital_twins.dicom._listener import Listener as Listener
    from digital_twins.dicom._listener import start_listener as start_listener
    from digital_twins.dicom._query import Query as Query
    from digital_twins.dicom._schema import MIGRATIONS as MIGRATIONS
    from digital_twins.dicom._store import DicomStore as DicomStore
    from digital_twins.dicom._store import Instance as Instance
    from digital_twins.dicom._store import Stored as Stored

_WHERE = {
    "DicomStore": "digital_twins.dicom._store",
    "Instance": "digital_twins.dicom._store",
    "Level": "digital_twins.dicom._attributes",
    "Limits": "digital_twins.dicom._association",
    "Listener": "digital_twins.dicom._listener",
    "MIGRATIONS": "digital_twins.dicom._schema",
    "ObjectRefusedError": "digital_twins.dicom._header",
    "Query": "digital_twins.dicom._query",
    "Stored": "digital_twins.dicom._store",
    "start_listener": "digital_twins.dicom._listener",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
