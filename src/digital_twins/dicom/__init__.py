"""DICOM: the node's port, the image store, DICOMweb, and clients of both protocols."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.dicom._attributes import Level as Level
    from digital_twins.dicom._availability import (
        availability_notice as availability_notice,
        notify_availability as notify_availability,
    )
    from digital_twins.dicom._coercion import (
        Coercion as Coercion,
        check_coercions as check_coercions,
        coerce_received as coerce_received,
    )
    from digital_twins.dicom._commitment import (
        CommitmentResult as CommitmentResult,
        commitment_result as commitment_result,
        request_commitment as request_commitment,
    )
    from digital_twins.dicom._conformance import (
        conformance as conformance,
        conformance_markdown as conformance_markdown,
    )
    from digital_twins.dicom._documents import DocumentIdentity as DocumentIdentity, Software as Software
    from digital_twins.dicom._encapsulated import encapsulate_pdf as encapsulate_pdf
    from digital_twins.dicom._erasure import (
        DicomFootprint as DicomFootprint,
        dicom_footprint as dicom_footprint,
        erase_dicom_in as erase_dicom_in,
    )
    from digital_twins.dicom._forwarding import Destination as Destination, Forwarder as Forwarder
    from digital_twins.dicom._handler import DICOMHandler as DICOMHandler
    from digital_twins.dicom._header import ObjectRefusedError as ObjectRefusedError
    from digital_twins.dicom._json import build_pending as build_pending, drop_clear_json as drop_clear_json
    from digital_twins.dicom._key_objects import (
        KeyObjects as KeyObjects,
        key_object_selection as key_object_selection,
        read_key_objects as read_key_objects,
    )
    from digital_twins.dicom._limits import Limits as Limits
    from digital_twins.dicom._listener import (
        Access as Access,
        Events as Events,
        Listener as Listener,
        start_listener as start_listener,
    )
    from digital_twins.dicom._measurement_report import (
        MeasurementGroup as MeasurementGroup,
        SegmentReference as SegmentReference,
        measurement_report as measurement_report,
    )
    from digital_twins.dicom._merges import (
        Merge as Merge,
        merge_in as merge_in,
        merge_patients as merge_patients,
        merges as merges,
        unmerge_patients as unmerge_patients,
    )
    from digital_twins.dicom._mpps import (
        create_performed_step as create_performed_step,
        performed_step as performed_step,
        set_performed_step as set_performed_step,
    )
    from digital_twins.dicom._peers import (
        DicomPeer as DicomPeer,
        PeerTable as PeerTable,
        Service as Service,
    )
    from digital_twins.dicom._prefetch import (
        Prefetch as Prefetch,
        PrefetchQueue as PrefetchQueue,
        PrefetchRule as PrefetchRule,
        Prior as Prior,
        PriorSource as PriorSource,
        check_prefetch as check_prefetch,
        choose_priors as choose_priors,
    )
    from digital_twins.dicom._prior_sources import (
        dimse_source as dimse_source,
        web_source as web_source,
    )
    from digital_twins.dicom._profiles import (
        VendorProfile as VendorProfile,
        profile_names as profile_names,
        retrieve as retrieve,
        vendor_profile as vendor_profile,
    )
    from digital_twins.dicom._query import Query as Query
    from digital_twins.dicom._queues import (
        Backoff as Backoff,
        QueueEntry as QueueEntry,
        QueueState as QueueState,
        SendQueues as SendQueues,
    )
    from digital_twins.dicom._rejections import (
        REJECTION_REASONS as REJECTION_REASONS,
        Rejection as Rejection,
        Rejections as Rejections,
        Withdrawn as Withdrawn,
    )
    from digital_twins.dicom._requestor import DimseFailedError as DimseFailedError, Remote as Remote
    from digital_twins.dicom._retention import (
        Retention as Retention,
        RetentionItem as RetentionItem,
        RetentionReport as RetentionReport,
        RetentionRule as RetentionRule,
        Room as Room,
        check_retention as check_retention,
        file_is_there as file_is_there,
        hold_study as hold_study,
        holds as holds,
        release_study as release_study,
        unlink_unnamed as unlink_unnamed,
        used_bytes as used_bytes,
    )
    from digital_twins.dicom._routes import (
        Route as Route,
        check_routes as check_routes,
        route_new as route_new,
    )
    from digital_twins.dicom._schema import MIGRATIONS as MIGRATIONS
    from digital_twins.dicom._scu import (
        Transfer as Transfer,
        echo as echo,
        find as find,
        get as get,
        move as move,
        send as send,
        worklist as worklist,
    )
    from digital_twins.dicom._secondary_capture import secondary_capture as secondary_capture
    from digital_twins.dicom._store import DicomStore as DicomStore
    from digital_twins.dicom._stored import (
        Instance as Instance,
        Policy as Policy,
        Prepared as Prepared,
        Stored as Stored,
    )
    from digital_twins.dicom._study_download import download_study as download_study
    from digital_twins.dicom._tls import Tls as Tls
    from digital_twins.dicom._twin_codes import (
        DATA_STATUS as DATA_STATUS,
        GROWTH_RATE as GROWTH_RATE,
        LONGEST_DIAMETER as LONGEST_DIAMETER,
        MODEL_ESTIMATE as MODEL_ESTIMATE,
        MODELLED_DAY as MODELLED_DAY,
        MODELLED_VOLUME as MODELLED_VOLUME,
        NOT_ACQUIRED as NOT_ACQUIRED,
        PREDICTED_CHANGE as PREDICTED_CHANGE,
        PREDICTED_RESPONSE as PREDICTED_RESPONSE,
        PREDICTED_VOLUME as PREDICTED_VOLUME,
        PREDICTION_DAY as PREDICTION_DAY,
        TWIN_ANALYSIS as TWIN_ANALYSIS,
        VOLUME as VOLUME,
        response_code as response_code,
    )
    from digital_twins.dicom._users import UserTable as UserTable, hash_passcode as hash_passcode
    from digital_twins.dicom._web import dicomweb_routes as dicomweb_routes
    from digital_twins.dicom._web_base import SignInRequiredError as SignInRequiredError
    from digital_twins.dicom._web_client import DicomWebClient as DicomWebClient
    from digital_twins.dicom._web_client_async import AsyncDicomWebClient as AsyncDicomWebClient
    from digital_twins.dicom._web_download import DownloadedStudy as DownloadedStudy, Progress as Progress
    from digital_twins.dicom._web_requests import DicomWebError as DicomWebError
    from digital_twins.dicom._worklist import (
        Worklist as Worklist,
        WorklistItem as WorklistItem,
        schedule_item as schedule_item,
    )

_WHERE = {
    "AsyncDicomWebClient": "digital_twins.dicom._web_client_async",
    **dict.fromkeys(("DicomFootprint", "dicom_footprint", "erase_dicom_in"), "digital_twins.dicom._erasure"),
    "drop_clear_json": "digital_twins.dicom._json",
    "DicomStore": "digital_twins.dicom._store",
    "DicomWebClient": "digital_twins.dicom._web_client",
    "DicomWebError": "digital_twins.dicom._web_requests",
    "Instance": "digital_twins.dicom._stored",
    "Level": "digital_twins.dicom._attributes",
    "Limits": "digital_twins.dicom._limits",
    "MIGRATIONS": "digital_twins.dicom._schema",
    "ObjectRefusedError": "digital_twins.dicom._header",
    "Query": "digital_twins.dicom._query",
    "SignInRequiredError": "digital_twins.dicom._web_base",
    **dict.fromkeys(("DownloadedStudy", "Progress"), "digital_twins.dicom._web_download"),
    **dict.fromkeys(("Policy", "Prepared", "Stored"), "digital_twins.dicom._stored"),
    "build_pending": "digital_twins.dicom._json",
    "dicomweb_routes": "digital_twins.dicom._web",
    **dict.fromkeys(("Access", "Events", "Listener", "start_listener"), "digital_twins.dicom._listener"),
    **dict.fromkeys(("DicomPeer", "PeerTable", "Service"), "digital_twins.dicom._peers"),
    **dict.fromkeys(("DimseFailedError", "Remote"), "digital_twins.dicom._requestor"),
    **dict.fromkeys(
        ("Transfer", "echo", "find", "get", "move", "send", "worklist"), "digital_twins.dicom._scu"
    ),
    **dict.fromkeys(("availability_notice", "notify_availability"), "digital_twins.dicom._availability"),
    **dict.fromkeys(
        ("CommitmentResult", "commitment_result", "request_commitment"), "digital_twins.dicom._commitment"
    ),
    **dict.fromkeys(
        ("create_performed_step", "performed_step", "set_performed_step"), "digital_twins.dicom._mpps"
    ),
    **dict.fromkeys(
        ("VendorProfile", "profile_names", "retrieve", "vendor_profile"), "digital_twins.dicom._profiles"
    ),
    **dict.fromkeys(("conformance", "conformance_markdown"), "digital_twins.dicom._conformance"),
    **dict.fromkeys(("Destination", "Forwarder"), "digital_twins.dicom._forwarding"),
    **dict.fromkeys(("Backoff", "QueueEntry", "QueueState", "SendQueues"), "digital_twins.dicom._queues"),
    **dict.fromkeys(("Route", "check_routes", "route_new"), "digital_twins.dicom._routes"),
    **dict.fromkeys(("Coercion", "check_coercions", "coerce_received"), "digital_twins.dicom._coercion"),
    **dict.fromkeys(
        ("Merge", "merge_in", "merge_patients", "merges", "unmerge_patients"), "digital_twins.dicom._merges"
    ),
    **dict.fromkeys(
        (
            "Prefetch",
            "PrefetchQueue",
            "PrefetchRule",
            "Prior",
            "PriorSource",
            "check_prefetch",
            "choose_priors",
        ),
        "digital_twins.dicom._prefetch",
    ),
    **dict.fromkeys(("dimse_source", "web_source"), "digital_twins.dicom._prior_sources"),
    **dict.fromkeys(
        ("REJECTION_REASONS", "Rejection", "Rejections", "Withdrawn"), "digital_twins.dicom._rejections"
    ),
    **dict.fromkeys(
        (
            "Retention",
            "RetentionItem",
            "RetentionReport",
            "RetentionRule",
            "Room",
            "check_retention",
            "file_is_there",
            "hold_study",
            "holds",
            "release_study",
            "unlink_unnamed",
            "used_bytes",
        ),
        "digital_twins.dicom._retention",
    ),
    **dict.fromkeys(("Worklist", "WorklistItem", "schedule_item"), "digital_twins.dicom._worklist"),
    "download_study": "digital_twins.dicom._study_download",
    "Tls": "digital_twins.dicom._tls",
    **dict.fromkeys(("UserTable", "hash_passcode"), "digital_twins.dicom._users"),
    **dict.fromkeys(("DocumentIdentity", "Software"), "digital_twins.dicom._documents"),
    **dict.fromkeys(("encapsulate_pdf",), "digital_twins.dicom._encapsulated"),
    **dict.fromkeys(
        ("KeyObjects", "key_object_selection", "read_key_objects"), "digital_twins.dicom._key_objects"
    ),
    "secondary_capture": "digital_twins.dicom._secondary_capture",
    **dict.fromkeys(("DICOMHandler",), "digital_twins.dicom._handler"),
    **dict.fromkeys(
        ("MeasurementGroup", "SegmentReference", "measurement_report"),
        "digital_twins.dicom._measurement_report",
    ),
    **dict.fromkeys(
        (
            "DATA_STATUS",
            "GROWTH_RATE",
            "LONGEST_DIAMETER",
            "MODEL_ESTIMATE",
            "MODELLED_DAY",
            "MODELLED_VOLUME",
            "NOT_ACQUIRED",
            "PREDICTED_CHANGE",
            "PREDICTED_RESPONSE",
            "PREDICTED_VOLUME",
            "PREDICTION_DAY",
            "TWIN_ANALYSIS",
            "VOLUME",
            "response_code",
        ),
        "digital_twins.dicom._twin_codes",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
