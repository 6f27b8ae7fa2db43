"""The audit trail: append-only events in a hash chain, fed through an outbox."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.audit._anchors import checkpoints_of_syslog as checkpoints_of_syslog
    from digital_twins.audit._auditor import Auditor as Auditor
    from digital_twins.audit._dicom_message import dicom_message as dicom_message
    from digital_twins.audit._event import AuditEvent as AuditEvent, plain_row as plain_row
    from digital_twins.audit._exchange import export_messages as export_messages
    from digital_twins.audit._fhir_event import fhir_audit_event as fhir_audit_event
    from digital_twins.audit._forwarder import SyslogForwarder as SyslogForwarder
    from digital_twins.audit._late import LateEvents as LateEvents
    from digital_twins.audit._merkle import (
        verify_consistency as verify_consistency,
        verify_inclusion as verify_inclusion,
    )
    from digital_twins.audit._outbox import (
        OUTBOX_MIGRATIONS as OUTBOX_MIGRATIONS,
        any_waits as any_waits,
        noted_events as noted_events,
        stage as stage,
        stage_all as stage_all,
        stage_rows as stage_rows,
    )
    from digital_twins.audit._period import period_bounds as period_bounds
    from digital_twins.audit._problem import Problem as Problem
    from digital_twins.audit._prove import (
        InclusionProof as InclusionProof,
        prove_consistency as prove_consistency,
        prove_event as prove_event,
    )
    from digital_twins.audit._pseudonym import (
        load_pseudonym_key as load_pseudonym_key,
        pseudonym as pseudonym,
    )
    from digital_twins.audit._reading import (
        AuditRow as AuditRow,
        any_recorded as any_recorded,
        export_trail as export_trail,
        tail_trail as tail_trail,
    )
    from digital_twins.audit._syslog import (
        SyslogConnection as SyslogConnection,
        SyslogTarget as SyslogTarget,
        event_message as event_message,
    )
    from digital_twins.audit._timestamp import (
        Timestamp as Timestamp,
        check_timestamps as check_timestamps,
        timestamp_trail as timestamp_trail,
    )
    from digital_twins.audit._trail import AuditTrail as AuditTrail
    from digital_twins.audit._verify import (
        VerifyReport as VerifyReport,
        verify_trail as verify_trail,
    )

_WHERE = {
    "checkpoints_of_syslog": "digital_twins.audit._anchors",
    "dicom_message": "digital_twins.audit._dicom_message",
    "export_messages": "digital_twins.audit._exchange",
    "fhir_audit_event": "digital_twins.audit._fhir_event",
    "LateEvents": "digital_twins.audit._late",
    "SyslogForwarder": "digital_twins.audit._forwarder",
    **dict.fromkeys(("SyslogConnection", "SyslogTarget", "event_message"), "digital_twins.audit._syslog"),
    **dict.fromkeys(("Timestamp", "check_timestamps", "timestamp_trail"), "digital_twins.audit._timestamp"),
    "Auditor": "digital_twins.audit._auditor",
    **dict.fromkeys(("AuditEvent", "plain_row"), "digital_twins.audit._event"),
    **dict.fromkeys(("verify_consistency", "verify_inclusion"), "digital_twins.audit._merkle"),
    **dict.fromkeys(
        ("OUTBOX_MIGRATIONS", "any_waits", "noted_events", "stage", "stage_all", "stage_rows"),
        "digital_twins.audit._outbox",
    ),
    "Problem": "digital_twins.audit._problem",
    "period_bounds": "digital_twins.audit._period",
    **dict.fromkeys(("InclusionProof", "prove_consistency", "prove_event"), "digital_twins.audit._prove"),
    **dict.fromkeys(("load_pseudonym_key", "pseudonym"), "digital_twins.audit._pseudonym"),
    **dict.fromkeys(
        ("AuditRow", "any_recorded", "export_trail", "tail_trail"), "digital_twins.audit._reading"
    ),
    "AuditTrail": "digital_twins.audit._trail",
    **dict.fromkeys(("VerifyReport", "verify_trail"), "digital_twins.audit._verify"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
