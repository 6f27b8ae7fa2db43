"""Tables of what an operator does to stored objects: withdrawals, merges, holds, retention, prefetching."""

from __future__ import annotations

from digital_twins.storage import Migration

OPERATIONS = Migration(
    "dicom-operations-1",
    """
CREATE TABLE dicom_withdrawn (  -- objects that a rejection note keeps out of the index
    sop_uid TEXT PRIMARY KEY,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    reason TEXT NOT NULL,       -- code value of the title of the note
    note TEXT NOT NULL,         -- SOP Instance UID of the note
    blob TEXT NOT NULL,         -- SHA-256 of the file; '' when the object never came
    size_bytes INTEGER NOT NULL,
    entry TEXT NOT NULL,        -- JSON of its index rows; '' when it never came
    withdrawn_utc TEXT NOT NULL
);
CREATE INDEX dicom_withdrawn_note ON dicom_withdrawn (note);
CREATE INDEX dicom_withdrawn_blob ON dicom_withdrawn (blob);
CREATE TABLE dicom_merge (
    id INTEGER PRIMARY KEY,
    prior_id TEXT NOT NULL,
    prior_namespace TEXT NOT NULL,
    surviving_id TEXT NOT NULL,
    surviving_namespace TEXT NOT NULL,
    studies TEXT NOT NULL,      -- JSON: study UIDs that were moved
    prior TEXT NOT NULL,        -- JSON of the patient row that went
    merged_utc TEXT NOT NULL,
    undone_utc TEXT NOT NULL    -- '' while it holds
);
CREATE INDEX dicom_merge_prior ON dicom_merge (prior_id, prior_namespace);
CREATE TABLE dicom_hold (       -- studies that retention must not touch
    study_uid TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    agent TEXT NOT NULL,
    since_utc TEXT NOT NULL
);
CREATE TABLE dicom_commitment_object ( -- what our commitment requests spoke of
    transaction_uid TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    PRIMARY KEY (sop_uid, transaction_uid)
);
CREATE TABLE dicom_unlink (     -- files that go once no row names them
    blob TEXT PRIMARY KEY
);
CREATE INDEX dicom_instance_blob ON dicom_instance (blob);
CREATE INDEX dicom_queue_entry_blob ON dicom_queue_entry (blob);
CREATE TABLE dicom_prefetch (
    id INTEGER PRIMARY KEY,
    order_key TEXT NOT NULL,    -- what was ordered: study and step, or workitem, or request
    source TEXT NOT NULL,       -- AE title of the archive
    patient_id TEXT NOT NULL,
    study_uid TEXT NOT NULL,    -- of the order; no prior
    state TEXT NOT NULL,        -- waiting, done, dead
    attempts INTEGER NOT NULL,
    not_before REAL NOT NULL,   -- seconds since 1970-01-01 UTC
    error TEXT NOT NULL,
    found INTEGER NOT NULL,     -- priors that the archive has and the rule wants
    fetched INTEGER NOT NULL,   -- objects that came
    queued REAL NOT NULL,
    UNIQUE (order_key, source)
);
CREATE INDEX dicom_prefetch_due ON dicom_prefetch (state, not_before);
CREATE TABLE dicom_series_request ( -- Request Attributes Sequence of the first object of a series
    series_uid TEXT NOT NULL,
    number INTEGER NOT NULL,    -- item of the sequence; 0: read
    step_id TEXT NOT NULL,
    procedure_id TEXT NOT NULL,
    PRIMARY KEY (series_uid, number)
);
CREATE INDEX dicom_series_request_step ON dicom_series_request (step_id);
CREATE INDEX dicom_series_request_procedure ON dicom_series_request (procedure_id);
""",
    protected=(
        *("dicom_withdrawn.entry", "dicom_merge.prior_id", "dicom_merge.surviving_id", "dicom_merge.prior"),
        *("dicom_prefetch.patient_id", "dicom_series_request.step_id", "dicom_series_request.procedure_id"),
    ),
)
