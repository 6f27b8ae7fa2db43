"""The running node: HTTP and DICOM doors, workers, and the web pages."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.server._app import create_app as create_app
    from digital_twins.server._datadir import DataFolder as DataFolder
    from digital_twins.server._encrypt_folder import Encrypted as Encrypted, encrypt_folder as encrypt_folder
    from digital_twins.server._encryption import (
        DATABASE_FILE as DATABASE_FILE,
        database_key as database_key,
        monitor_key as monitor_key,
        open_keys as open_keys,
        opened_keys as opened_keys,
    )
    from digital_twins.server._erase import (
        Erasure as Erasure,
        erase_patient as erase_patient,
        finish_erasures as finish_erasures,
    )
    from digital_twins.server._hl7 import hl7_zone as hl7_zone
    from digital_twins.server._node import Node as Node, run_node as run_node
    from digital_twins.server._operations import retention_rules as retention_rules
    from digital_twins.server._operations_api import merge_patient as merge_patient, undo_merge as undo_merge
    from digital_twins.server._routing import follow_settings as follow_settings
    from digital_twins.server._services import Services as Services, open_services as open_services

_WHERE = {
    "create_app": "digital_twins.server._app",
    "follow_settings": "digital_twins.server._routing",
    "retention_rules": "digital_twins.server._operations",
    "DataFolder": "digital_twins.server._datadir",
    **dict.fromkeys(("Encrypted", "encrypt_folder"), "digital_twins.server._encrypt_folder"),
    **dict.fromkeys(("Erasure", "erase_patient", "finish_erasures"), "digital_twins.server._erase"),
    **dict.fromkeys(
        ("DATABASE_FILE", "database_key", "monitor_key", "open_keys", "opened_keys"),
        "digital_twins.server._encryption",
    ),
    "hl7_zone": "digital_twins.server._hl7",
    **dict.fromkeys(("merge_patient", "undo_merge"), "digital_twins.server._operations_api"),
    **dict.fromkeys(("Services", "open_services"), "digital_twins.server._services"),
    **dict.fromkeys(("Node", "run_node"), "digital_twins.server._node"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
