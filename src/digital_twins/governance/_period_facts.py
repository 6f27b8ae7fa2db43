"""What an audit trail says about a period: counted from its rows, for the compliance report."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from digital_twins.audit import AuditEvent, export_trail

if TYPE_CHECKING:
    from pathlib import Path

_MOST_ROWS = 200
_ALERTS = frozenset({"auth.user.locked", "auth.emergency"})


@dataclass(slots=True)
class PeriodFacts:
    """Counts and noteworthy events of a period.

    Attributes
    ----------
    events
        Number of events, and the numbers of the first and the last row (0 without events).
    by_kind
        Number of events of each kind and outcome.
    by_agent
        Number of events of each agent.
    patients
        Number of patients (pseudonyms) concerned.
    refused
        Refused events, oldest first, at most 200: time, kind, agent, reason.
    alerts
        Locked accounts and emergency accesses: time, kind, agent, object.
    accounts
        Changes of accounts: time, kind, agent, object.
    """

    events: int = 0
    first_row: int = 0
    last_row: int = 0
    patients: int = 0
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_agent: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str, str, str]] = field(default_factory=list)
    alerts: list[tuple[str, str, str, str]] = field(default_factory=list)
    accounts: list[tuple[str, str, str, str]] = field(default_factory=list)


def period_facts(trail: Path, period: str) -> PeriodFacts:
    """Read the rows of a period; raises as `digital_twins.audit.export_trail` does."""
    facts, patients = PeriodFacts(), set()
    for line in export_trail(trail, period=period):
        row = json.loads(line)
        event = AuditEvent(**row["event"])
        facts.events += 1
        facts.first_row, facts.last_row = facts.first_row or row["seq"], row["seq"]
        facts.by_kind[event.kind, event.outcome] += 1
        facts.by_agent[event.agent] += 1
        patients.add(event.patient)
        _note(facts, event)
    facts.patients = len(patients - {None})
    return facts


def _note(facts: PeriodFacts, event: AuditEvent) -> None:
    time, entity = event.at_utc[:19].replace("T", " "), event.entity or "-"
    if event.outcome == "refused" and len(facts.refused) < _MOST_ROWS:
        facts.refused.append((time, event.kind, event.agent, str(event.detail.get("why", "-"))))
    if event.kind in _ALERTS and len(facts.alerts) < _MOST_ROWS:
        facts.alerts.append((time, event.kind, event.agent, entity))
    if event.kind.startswith("auth.user.") and event.kind not in _ALERTS and len(facts.accounts) < _MOST_ROWS:
        facts.accounts.append((time, event.kind, event.agent, entity))
