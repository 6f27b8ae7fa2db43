"""Tables of the DICOM index."""

from __future__ import annotations

from digital_twins.dicom._schema_operations import OPERATIONS
from digital_twins.storage import Migration

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "dicom-1-index",
        """
CREATE TABLE dicom_patient (
    id INTEGER PRIMARY KEY,
    patient_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    namespace TEXT NOT NULL, -- the issuer; for an object without PatientID its study, so that none are mixed
    name TEXT NOT NULL,
    name_alphabetic TEXT NOT NULL,
    name_ideographic TEXT NOT NULL,
    name_phonetic TEXT NOT NULL,
    birth_date TEXT NOT NULL,
    sex TEXT NOT NULL,
    UNIQUE (patient_id, namespace)
);
CREATE INDEX dicom_patient_alphabetic ON dicom_patient (name_alphabetic);
CREATE INDEX dicom_patient_ideographic ON dicom_patient (name_ideographic);
CREATE INDEX dicom_patient_phonetic ON dicom_patient (name_phonetic);
CREATE TABLE dicom_study (
    id INTEGER PRIMARY KEY,
    patient INTEGER NOT NULL REFERENCES dicom_patient (id),
    study_uid TEXT NOT NULL UNIQUE,
    study_date TEXT NOT NULL,
    study_time TEXT NOT NULL,
    accession_number TEXT NOT NULL,
    study_id TEXT NOT NULL,
    description TEXT NOT NULL,
    referring TEXT NOT NULL,
    referring_alphabetic TEXT NOT NULL,
    referring_ideographic TEXT NOT NULL,
    referring_phonetic TEXT NOT NULL,
    received_utc TEXT NOT NULL
);
CREATE INDEX dicom_study_patient ON dicom_study (patient);
CREATE INDEX dicom_study_date ON dicom_study (study_date);
CREATE INDEX dicom_study_accession ON dicom_study (accession_number);
CREATE TABLE dicom_series (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES dicom_study (id),
    series_uid TEXT NOT NULL UNIQUE,
    modality TEXT NOT NULL,
    series_number INTEGER,
    description TEXT NOT NULL,
    series_date TEXT NOT NULL,
    series_time TEXT NOT NULL,
    body_part TEXT NOT NULL,
    laterality TEXT NOT NULL,
    protocol TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    institution TEXT NOT NULL,
    station TEXT NOT NULL,
    frame_of_reference_uid TEXT NOT NULL,
    performed_date TEXT NOT NULL,
    performed_time TEXT NOT NULL,
    instances INTEGER NOT NULL
);
CREATE INDEX dicom_series_study ON dicom_series (study, modality);
CREATE TABLE dicom_instance (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES dicom_series (id),
    sop_uid TEXT NOT NULL UNIQUE,
    sop_class_uid TEXT NOT NULL,
    instance_number INTEGER,
    content_date TEXT NOT NULL,
    content_time TEXT NOT NULL,
    acquisition_date TEXT NOT NULL,
    acquisition_time TEXT NOT NULL,
    acquisition_number INTEGER,
    rows INTEGER,
    columns INTEGER,
    bits_allocated INTEGER,
    frames INTEGER,
    transfer_syntax TEXT NOT NULL,
    blob TEXT NOT NULL,         -- SHA-256 of the Part 10 file
    dataset_offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    pixel_offset INTEGER,       -- of the pixel data value in the file; NULL: none, or deflated
    pixel_length INTEGER,       -- NULL with an offset: encapsulated
    source TEXT NOT NULL,
    received_utc TEXT NOT NULL
);
CREATE INDEX dicom_instance_series ON dicom_instance (series, instance_number);
CREATE TABLE dicom_json (
    instance INTEGER PRIMARY KEY REFERENCES dicom_instance (id),
    json BLOB NOT NULL          -- DICOM JSON model (PS3.18 annex F), zlib
);
""",
        protected=(
            *("dicom_patient.patient_id", "dicom_patient.name", "dicom_patient.name_alphabetic"),
            *("dicom_patient.name_ideographic", "dicom_patient.name_phonetic", "dicom_patient.birth_date"),
            *("dicom_study.accession_number", "dicom_study.study_id", "dicom_study.description"),
            *("dicom_study.referring", "dicom_study.referring_alphabetic"),
            *("dicom_study.referring_ideographic", "dicom_study.referring_phonetic"),
            "dicom_series.description",
        ),
    ),
    Migration(
        "dicom-2-services",
        """
CREATE TABLE dicom_worklist (
    study_uid TEXT NOT NULL,
    step_id TEXT NOT NULL,
    start_date TEXT NOT NULL,
    modality TEXT NOT NULL,
    station TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    status TEXT NOT NULL,
    item TEXT NOT NULL,         -- JSON of the whole item
    updated_utc TEXT NOT NULL,
    PRIMARY KEY (study_uid, step_id)
);
CREATE INDEX dicom_worklist_start ON dicom_worklist (status, start_date);
CREATE TABLE dicom_performed_step (
    sop_uid TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    attributes TEXT NOT NULL,   -- DICOM JSON
    updated_utc TEXT NOT NULL
);
CREATE TABLE dicom_commitment ( -- requests of this node to its peers
    transaction_uid TEXT PRIMARY KEY,
    peer TEXT NOT NULL,
    state TEXT NOT NULL,
    failed TEXT NOT NULL,       -- JSON: SOP Instance UID to failure reason
    requested_utc TEXT NOT NULL
);
CREATE TABLE dicom_availability ( -- notices of peers
    sop_uid TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    peer TEXT NOT NULL,
    notice TEXT NOT NULL,       -- DICOM JSON
    received_utc TEXT NOT NULL
);
CREATE INDEX dicom_availability_study ON dicom_availability (study_uid);
""",
        protected=(
            *("dicom_worklist.patient_id", "dicom_worklist.item", "dicom_performed_step.attributes"),
            "dicom_availability.notice",
        ),
    ),
    Migration(
        "dicom-ups-1",
        """
CREATE TABLE dicom_workitem (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    transaction_uid TEXT NOT NULL,  -- of who claimed it, '' before; never shown
    model BLOB NOT NULL             -- DICOM JSON model
);
CREATE TABLE dicom_workitem_global (
    subscriber TEXT PRIMARY KEY,    -- AE title
    deletion_lock INTEGER NOT NULL,
    conditions TEXT NOT NULL        -- JSON list of [path, value]
) WITHOUT ROWID;
CREATE TABLE dicom_workitem_subscriber (
    workitem TEXT NOT NULL,
    subscriber TEXT NOT NULL,
    deletion_lock INTEGER NOT NULL,
    PRIMARY KEY (workitem, subscriber)
) WITHOUT ROWID;
CREATE TABLE dicom_workitem_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subscriber TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX dicom_workitem_event_subscriber ON dicom_workitem_event (subscriber, id);
""",
        protected=("dicom_workitem.model", "dicom_workitem_global.conditions", "dicom_workitem_event.body"),
    ),
    Migration(
        "dicom-routing-1",
        """
CREATE TABLE dicom_queue (
    destination TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,    -- in a row, to reach the destination
    not_before REAL NOT NULL DEFAULT 0,     -- seconds since 1970-01-01 UTC, as all times here
    error TEXT NOT NULL DEFAULT '',
    sent INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE dicom_queue_entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL,
    transfer_syntax TEXT NOT NULL,
    blob TEXT NOT NULL,         -- SHA-256 of the Part 10 file that is sent, whatever replaces it in the index
    dataset_offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    patient TEXT,               -- pseudonym, for the audit trail
    hold INTEGER NOT NULL,      -- 1: not before its study is stable
    deidentify TEXT NOT NULL,   -- what must be applied before it is sent; '' nothing, or done
    state TEXT NOT NULL,        -- waiting, dead
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    queued REAL NOT NULL
);
CREATE INDEX dicom_queue_entry_next ON dicom_queue_entry (destination, state, id);
CREATE TABLE dicom_queue_study ( -- when a study that objects are held for counts as stable
    destination TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    due REAL NOT NULL,
    PRIMARY KEY (destination, study_uid)
) WITHOUT ROWID;
""",
    ),
    OPERATIONS,
    Migration(
        "dicom-arrivals-1",
        """
CREATE TABLE dicom_arrival (    -- objects whose files may not yet be on disk, and some that just came to be
    blob TEXT PRIMARY KEY
) WITHOUT ROWID;
""",
    ),
)
