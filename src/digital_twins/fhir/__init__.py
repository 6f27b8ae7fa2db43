"""FHIR R4: resource store with search, REST routes, client, and the mapping from FHIR to a patient record."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir._access import request_allowed as request_allowed
    from digital_twins.fhir._bulk_client import BulkExport as BulkExport, BulkFile as BulkFile
    from digital_twins.fhir._client import AsyncFHIRClient as AsyncFHIRClient, FHIRClient as FHIRClient
    from digital_twins.fhir._client_auth import OAuth2Auth as OAuth2Auth
    from digital_twins.fhir._ehr import (
        EhrProfile as EhrProfile,
        ImagingWork as ImagingWork,
        ehr_profile as ehr_profile,
        ehr_profile_names as ehr_profile_names,
        imaging_worklist as imaging_worklist,
        imaging_worklist_async as imaging_worklist_async,
    )
    from digital_twins.fhir._erasure import (
        FhirFootprint as FhirFootprint,
        erase_fhir_in as erase_fhir_in,
        fhir_footprint as fhir_footprint,
    )
    from digital_twins.fhir._exchange import (
        FHIRRequestError as FHIRRequestError,
        read_credentials as read_credentials,
    )
    from digital_twins.fhir._fhirpath_patch import fhirpath_patch as fhirpath_patch
    from digital_twins.fhir._hits import Hit as Hit
    from digital_twins.fhir._json_patch import (
        json_patch as json_patch,
        merge_patch as merge_patch,
    )
    from digital_twins.fhir._load import (
        LoadStep as LoadStep,
        fhir_files as fhir_files,
        load_steps as load_steps,
    )
    from digital_twins.fhir._operations import FhirOperation as FhirOperation
    from digital_twins.fhir._outcome import FhirError as FhirError, Issue as Issue
    from digital_twins.fhir._package_index import PackageParameters as PackageParameters
    from digital_twins.fhir._record import patient_record as patient_record
    from digital_twins.fhir._resource import FHIRResource as FHIRResource
    from digital_twins.fhir._routes import FhirFirst as FhirFirst, fhir_routes as fhir_routes
    from digital_twins.fhir._schema import MIGRATIONS as MIGRATIONS
    from digital_twins.fhir._sealing import seal_resources as seal_resources
    from digital_twins.fhir._search import SearchPage as SearchPage
    from digital_twins.fhir._server import FhirFeatures as FhirFeatures
    from digital_twins.fhir._sign_in import SmartSession as SmartSession, sign_in as sign_in
    from digital_twins.fhir._store import FhirStore as FhirStore
    from digital_twins.fhir._validate import structural_issues as structural_issues
    from digital_twins.fhir._views import Column as Column, View as View
    from digital_twins.fhir._write import Saved as Saved
    from digital_twins.fhir._xml import resource_from_xml as resource_from_xml
    from digital_twins.fhir._xml_write import resource_to_xml as resource_to_xml

_WHERE = {
    "request_allowed": "digital_twins.fhir._access",
    **dict.fromkeys(("BulkExport", "BulkFile"), "digital_twins.fhir._bulk_client"),
    **dict.fromkeys(("AsyncFHIRClient", "FHIRClient"), "digital_twins.fhir._client"),
    **dict.fromkeys(("FhirFootprint", "erase_fhir_in", "fhir_footprint"), "digital_twins.fhir._erasure"),
    "seal_resources": "digital_twins.fhir._sealing",
    "OAuth2Auth": "digital_twins.fhir._client_auth",
    **dict.fromkeys(("LoadStep", "fhir_files", "load_steps"), "digital_twins.fhir._load"),
    **dict.fromkeys(
        (
            "EhrProfile",
            "ImagingWork",
            "ehr_profile",
            "ehr_profile_names",
            "imaging_worklist",
            "imaging_worklist_async",
        ),
        "digital_twins.fhir._ehr",
    ),
    "FHIRResource": "digital_twins.fhir._resource",
    **dict.fromkeys(("FHIRRequestError", "read_credentials"), "digital_twins.fhir._exchange"),
    **dict.fromkeys(("FhirError", "Issue"), "digital_twins.fhir._outcome"),
    "fhirpath_patch": "digital_twins.fhir._fhirpath_patch",
    **dict.fromkeys(("json_patch", "merge_patch"), "digital_twins.fhir._json_patch"),
    "FhirOperation": "digital_twins.fhir._operations",
    "PackageParameters": "digital_twins.fhir._package_index",
    "patient_record": "digital_twins.fhir._record",
    **dict.fromkeys(("FhirFirst", "fhir_routes"), "digital_twins.fhir._routes"),
    "MIGRATIONS": "digital_twins.fhir._schema",
    "Hit": "digital_twins.fhir._hits",
    "SearchPage": "digital_twins.fhir._search",
    "FhirFeatures": "digital_twins.fhir._server",
    **dict.fromkeys(("SmartSession", "sign_in"), "digital_twins.fhir._sign_in"),
    "FhirStore": "digital_twins.fhir._store",
    "structural_issues": "digital_twins.fhir._validate",
    "Saved": "digital_twins.fhir._write",
    **dict.fromkeys(("Column", "View"), "digital_twins.fhir._views"),
    "resource_from_xml": "digital_twins.fhir._xml",
    "resource_to_xml": "digital_twins.fhir._xml_write",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
