"""The compliance report of a period: 21 CFR Part 11 answered from the trail and the signatures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import digital_twins
from digital_twins.audit import VerifyReport, period_bounds, verify_trail
from digital_twins.governance._period_facts import PeriodFacts, period_facts
from digital_twins.reports import ReportSection, render_compliance_pdf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from digital_twins.governance.signatures._manifest import ElectronicSignature
    from digital_twins.governance.signatures._signing import Signatures

_OPERATOR = (
    "Procedures, training, accountability and the control of documents (11.10(a), (i), (j), (k)), the check "
    "of identity before an account is made (11.100(b)) and the letter of certification (11.100(c)) are "
    "duties of the operator: the software holds no evidence of them and this report says nothing about them."
)


def compliance_pdf(
    trail: Path, period: str, *, regulation: str, anchor: Path | None, signatures: Signatures | None
) -> bytes:
    """Verify a trail and return the PDF about one period of it.

    Raises
    ------
    NotFoundError, StorageError, InputError
        As for `digital_twins.audit.verify_trail` and `period_bounds`.
    """
    start, end = period_bounds(period)
    verified = verify_trail(trail, anchor=anchor)
    facts = period_facts(trail, period)
    signed = () if signatures is None else signatures.between(start, end)
    wrong = sum(bool(signatures.problems(each, None)) for each in signed) if signatures else 0
    return render_compliance_pdf(
        title=f"Compliance report, {regulation}",
        subtitle=f"Period {period}: {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC (end not included)",
        verdict=_verdict(verified),
        sections=[*_trail(verified, facts), *_signatures(facts, signed, wrong), *_access(facts)],
        software=f"digital-twins {digital_twins.__version__}",
        made=datetime.now(tz=UTC).replace(microsecond=0),
    )


def _verdict(verified: VerifyReport) -> tuple[bool, str, str]:
    anchored = verified.anchored_events
    where = "no anchor outside of the folder was given" if anchored is None else f"{anchored} rows anchored"
    detail = (
        f"All {verified.events} rows of the trail were verified, {verified.signed_events or 0} of them "
        f"signed; {where}. Merkle root {verified.root[:16]}..., chain {verified.chain[:16]}..."
    )
    said = "The audit trail is whole." if verified.ok else "THE AUDIT TRAIL WAS CHANGED."
    return verified.ok, said, detail


def _trail(verified: VerifyReport, facts: PeriodFacts) -> list[ReportSection]:
    rows = f", rows {facts.first_row} to {facts.last_row}" if facts.events else ""
    text = [
        f"{facts.events} events in this period{rows}, about {facts.patients} patients (pseudonyms).",
        "Events cannot be changed or removed through the software; a change of the files is found by the "
        "check above within the limits that docs/reference/audit.md states.",
    ]
    found = [
        ReportSection(
            "Events (11.10(e))",
            text,
            ("Kind", "Outcome", "Events"),
            [(kind, outcome, str(count)) for (kind, outcome), count in sorted(facts.by_kind.items())],
            (4, 2, 1),
        )
    ]
    if verified.problems:
        problems = [(str(each.seq or "-"), each.what) for each in verified.problems]
        found.insert(0, ReportSection("What is wrong", (), ("Row", "What"), problems, (1, 8)))
    return found


def _signatures(facts: PeriodFacts, signed: Sequence[ElectronicSignature], wrong: int) -> list[ReportSection]:
    written = facts.by_kind["governance.signature", "success"]
    text = [
        f"{written} signatures in the trail, {len(signed)} in the table of signatures, {wrong} of these "
        "with a wrong seal. Each states printed name, time and meaning (11.50), and the digest of its record "
        "(11.70)."
    ]
    rows = [
        (
            each.manifest.signed_utc.replace("T", " ").removesuffix("Z"),
            f"{each.manifest.printed_name} ({each.manifest.signer})",
            each.manifest.meaning,
            each.manifest.record,
            ", ".join(each.manifest.components),
        )
        for each in signed
    ]
    head = ("Time (UTC)", "Signer", "Meaning", "Record", "Components (11.200)")
    return [ReportSection("Electronic signatures (11.50, 11.70, 11.200)", text, head, rows, (3, 4, 2, 5, 3))]


def _access(facts: PeriodFacts) -> list[ReportSection]:
    head = ("Time (UTC)", "Kind", "Agent", "Object")
    refused = sum(count for (_, outcome), count in facts.by_kind.items() if outcome == "refused")
    return [
        ReportSection(
            "Who acted (11.10(d), (g))",
            ("User and program names as the trail holds them.",),
            ("Agent", "Events"),
            [(agent, str(count)) for agent, count in sorted(facts.by_agent.items())],
            (5, 1),
        ),
        ReportSection(
            "Changes of accounts (11.100, 11.300)",
            (f"{len(facts.accounts)} shown.",),
            head,
            facts.accounts,
            (3, 3, 3, 3),
        ),
        ReportSection(
            "Locked accounts and emergency accesses (11.300(d))",
            (f"{len(facts.alerts)} shown.",),
            head,
            facts.alerts,
            (3, 3, 3, 3),
        ),
        ReportSection(
            "Refused (11.10(g), 11.300(d))",
            (f"{refused} refused, {len(facts.refused)} shown.",),
            ("Time (UTC)", "Kind", "Agent", "Reason"),
            facts.refused,
            (3, 3, 3, 3),
        ),
        ReportSection("What this report does not say", (_OPERATOR,)),
    ]
