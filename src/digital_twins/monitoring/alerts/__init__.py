"""Alerts: rules as data, priorities, escalation, their record, and how they leave the monitor."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.alerts._alert import (
        Alert as Alert,
        AlertStep as AlertStep,
        Notice as Notice,
    )
    from digital_twins.monitoring.alerts._book import AlertBook as AlertBook
    from digital_twins.monitoring.alerts._conditions import Conditions as Conditions
    from digital_twins.monitoring.alerts._delivery import (
        Channel as Channel,
        Courier as Courier,
        Delivery as Delivery,
        NotDeliveredError as NotDeliveredError,
    )
    from digital_twins.monitoring.alerts._fhir_channel import FhirWriteBack as FhirWriteBack
    from digital_twins.monitoring.alerts._nurse_call import (
        AppriseCall as AppriseCall,
        Hl7Call as Hl7Call,
        WebhookCall as WebhookCall,
    )
    from digital_twins.monitoring.alerts._store import MIGRATIONS as MIGRATIONS, AlertStore as AlertStore
    from digital_twins.monitoring.alerts._thresholds import (
        DERIVED as DERIVED,
        SIGNALS as SIGNALS,
        EscalationStep as EscalationStep,
        Priority as Priority,
        Rule as Rule,
        Thresholds as Thresholds,
        load_thresholds as load_thresholds,
        parse_thresholds as parse_thresholds,
        thresholds_text as thresholds_text,
    )

_ROOM = "digital_twins.monitoring.alerts"
_WHERE = {
    **dict.fromkeys(("Alert", "AlertStep", "Notice"), f"{_ROOM}._alert"),
    "AlertBook": f"{_ROOM}._book",
    "Conditions": f"{_ROOM}._conditions",
    **dict.fromkeys(("Channel", "Courier", "Delivery", "NotDeliveredError"), f"{_ROOM}._delivery"),
    "FhirWriteBack": f"{_ROOM}._fhir_channel",
    **dict.fromkeys(("AppriseCall", "Hl7Call", "WebhookCall"), f"{_ROOM}._nurse_call"),
    **dict.fromkeys(("AlertStore", "MIGRATIONS"), f"{_ROOM}._store"),
    **dict.fromkeys(
        (
            "DERIVED",
            "EscalationStep",
            "Priority",
            "Rule",
            "SIGNALS",
            "Thresholds",
            "load_thresholds",
            "parse_thresholds",
            "thresholds_text",
        ),
        f"{_ROOM}._thresholds",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
