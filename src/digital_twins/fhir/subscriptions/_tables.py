"""The tables of the subscriptions."""

from __future__ import annotations

from digital_twins.storage import Migration

MIGRATIONS = (
    Migration(
        "fhir.subscription.0001",
        """
        CREATE INDEX IF NOT EXISTS fhir_resource_updated ON fhir_resource(updated);
        CREATE TABLE fhir_feed(name TEXT PRIMARY KEY, until_us INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE fhir_subscription(
            id TEXT PRIMARY KEY, events INTEGER NOT NULL DEFAULT 0, told_us INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID;
        """,
    ),
)
"""How far the changes have been followed, and the event numbers of each subscription."""
