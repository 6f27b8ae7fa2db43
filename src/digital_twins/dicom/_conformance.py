"""The DICOM conformance statement (PS3.2), made from the tables that the code itself works by."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from digital_twins.dicom._attributes import ATTRIBUTES
from digital_twins.dicom._contexts import SERVICES, UNCOMPRESSED, storage_classes, transfer_syntaxes
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._limits import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, Limits
from digital_twins.dicom._peers import Service
from digital_twins.dicom._profiles import profile_names, vendor_profile
from digital_twins.dicom._transcode import can_transcode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLIENTS = {
    Service.ECHO: "echo",
    Service.STORE: "send",
    Service.FIND: "find",
    Service.MOVE: "move",
    Service.GET: "get",
    Service.WORKLIST: "worklist",
    Service.MPPS: "create_performed_step",
    Service.COMMITMENT: "request_commitment",
    Service.AVAILABILITY: "notify_availability",
}
"""The public function by which this software is an SCU of each service."""

_EXPLICIT_LE = "1.2.840.10008.1.2.1"


def conformance() -> dict[str, Any]:
    """Return the conformance statement as plain data for JSON.

    Returns
    -------
    dict
        ``implementation``, ``services`` (SOP classes with both roles), ``storage_classes``,
        ``transfer_syntaxes`` (with whether an object in it can be sent uncompressed), ``query_attributes``
        by level, ``limits``, ``statuses`` and ``vendor_profiles``.
    """
    return {
        "implementation": {"class_uid": IMPLEMENTATION_CLASS_UID, "version_name": IMPLEMENTATION_VERSION},
        "services": [
            {
                "uid": uid,
                "name": _name(uid),
                "service": str(service),
                "scp": True,
                "scu": CLIENTS[service],
                "transfer_syntaxes": sorted(UNCOMPRESSED),
            }
            for uid, service in sorted(SERVICES.items(), key=lambda item: _name(item[0]))
        ],
        "storage_classes": [{"uid": uid, "name": _name(uid)} for uid in _named(storage_classes())],
        "transfer_syntaxes": [
            {"uid": uid, "name": _name(uid), "sent_uncompressed": can_transcode(uid, _EXPLICIT_LE)}
            for uid in _named(transfer_syntaxes())
        ],
        "query_attributes": [
            {
                "keyword": each.keyword,
                "tag": f"{each.tag:08X}",
                "vr": each.vr,
                "level": each.level.name,
                "computed": each.computed,
            }
            for each in ATTRIBUTES
        ],
        "limits": {each.name: getattr(Limits(), each.name) for each in fields(Limits)},
        "statuses": {f"{status.value:04X}": status.name for status in sorted(Status)},
        "vendor_profiles": [
            {
                "name": profile.name,
                "vendor": profile.vendor,
                "status": profile.status,
                "retrieve": profile.retrieve,
                "compressed_transfer_syntaxes": sorted(profile.compressed_transfer_syntaxes),
                "api_key_header": profile.api_key_header,
                "quirks": list(profile.quirks),
            }
            for profile in map(vendor_profile, profile_names())
        ],
    }


def conformance_markdown() -> str:
    """Return the conformance statement as a Markdown page."""
    found = conformance()
    parts = [
        "# DICOM conformance statement",
        "",
        "Made by `twin dicom conformance` from the tables of the code; a test keeps this page the same. What"
        " the services do is told in [DICOM](dicom.md). `[verify]` marks what was not read in its source.",
        "",
        f"Implementation class UID `{found['implementation']['class_uid']}`, version name"
        f" `{found['implementation']['version_name']}`.",
        *_section(
            "Services",
            ("SOP class", "UID", "SCP", "SCU, by"),
            ((row["name"], f"`{row['uid']}`", "yes", f"`{row['scu']}`") for row in found["services"]),
        ),
        "",
        "They are negotiated in Implicit and Explicit VR Little Endian.",
        *_section(
            "Storage",
            ("SOP class", "UID"),
            ((row["name"], f"`{row['uid']}`") for row in found["storage_classes"]),
        ),
        "",
        "SCP and SCU (`send`, routes) of all of them, in every transfer syntax below; a class of the storage"
        " arc that is newer than this table is accepted too.",
        *_section(
            "Transfer syntaxes",
            ("transfer syntax", "UID", "sent uncompressed to a peer that does not take it"),
            (
                (row["name"], f"`{row['uid']}`", "yes" if row["sent_uncompressed"] else "no")
                for row in found["transfer_syntaxes"]
            ),
        ),
        *_section(
            "Query keys that match",
            ("attribute", "tag", "VR", "level"),
            (
                (f"`{row['keyword']}`", row["tag"], row["vr"], row["level"])
                for row in found["query_attributes"]
            ),
        ),
        *_section("Limits", ("limit", "default"), ((f"`{k}`", v) for k, v in found["limits"].items())),
        *_section("Statuses", ("status", "meaning"), ((k, f"`{v}`") for k, v in found["statuses"].items())),
        *_section(
            "Vendor profiles",
            ("profile", "vendor", "state", "asked by", "API key in"),
            (
                (
                    f"`{row['name']}`",
                    row["vendor"],
                    row["status"],
                    f"C-{row['retrieve'].upper()}",
                    f"`{row['api_key_header']}`",
                )
                for row in found["vendor_profiles"]
            ),
        ),
        "",
        *(f"- `{row['name']}`: {quirk}" for row in found["vendor_profiles"] for quirk in row["quirks"]),
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    table = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *table]


def _named(uids: Iterable[str]) -> list[str]:
    return sorted(uids, key=lambda uid: (_name(uid), uid))


def _name(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name)
