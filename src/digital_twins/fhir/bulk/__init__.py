"""FHIR Bulk Data Access 2.0: ``$export`` as persisted jobs, and its HTTP routes."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir.bulk._exports import EXPORT as EXPORT, BulkExports as BulkExports
    from digital_twins.fhir.bulk._request import ExportRequest as ExportRequest
    from digital_twins.fhir.bulk._routes import BULK_OPERATIONS as BULK_OPERATIONS, bulk_routes as bulk_routes

_WHERE = {
    **dict.fromkeys(("EXPORT", "BulkExports"), "digital_twins.fhir.bulk._exports"),
    "ExportRequest": "digital_twins.fhir.bulk._request",
    **dict.fromkeys(("BULK_OPERATIONS", "bulk_routes"), "digital_twins.fhir.bulk._routes"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
