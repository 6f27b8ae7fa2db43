"""Tables of the resource store: current resources, their history and the search index.

Index tables are WITHOUT ROWID with the key (parameter, value, resource), so that a probe of one resource is
one b-tree descent. ``system`` is a stable 63-bit hash of the system URI. ``fhir_coding`` holds
each coding of a parameter once, with its words. ``fhir_search_parameter`` holds the search parameters of
packages: the last resource that was indexed for each, and whether all are. ``fhir_word`` holds the words of
resources as far as ``fhir_text``, which has them in their order, goes (`_words`).
"""

from __future__ import annotations

from digital_twins.storage import Migration

FHIR_TABLES = """
CREATE TABLE fhir_resource (
  rid INTEGER PRIMARY KEY, type TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
  updated INTEGER NOT NULL, deleted INTEGER NOT NULL, method TEXT NOT NULL, index_version INTEGER NOT NULL,
  body BLOB NOT NULL,
  UNIQUE (type, id)
);
CREATE INDEX fhir_resource_live ON fhir_resource (type, rid) WHERE deleted = 0;
CREATE TABLE fhir_version (
  rid INTEGER NOT NULL, version INTEGER NOT NULL, updated INTEGER NOT NULL, deleted INTEGER NOT NULL,
  method TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (rid, version)
) WITHOUT ROWID;
CREATE TABLE fhir_token (
  param INTEGER NOT NULL, code TEXT NOT NULL, rid INTEGER NOT NULL, system INTEGER NOT NULL,
  PRIMARY KEY (param, code, rid, system)
) WITHOUT ROWID;
CREATE TABLE fhir_reference (
  param INTEGER NOT NULL, target TEXT NOT NULL, rid INTEGER NOT NULL, PRIMARY KEY (param, target, rid)
) WITHOUT ROWID;
CREATE TABLE fhir_date (
  param INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, rid INTEGER NOT NULL,
  PRIMARY KEY (param, low, high, rid)
) WITHOUT ROWID;
CREATE INDEX fhir_date_high ON fhir_date (param, high, rid);
CREATE INDEX fhir_date_resource ON fhir_date (rid, param);
CREATE TABLE fhir_string (
  param INTEGER NOT NULL, norm TEXT NOT NULL, rid INTEGER NOT NULL, exact TEXT NOT NULL,
  PRIMARY KEY (param, norm, rid, exact)
) WITHOUT ROWID;
CREATE TABLE fhir_quantity (
  param INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, rid INTEGER NOT NULL,
  system INTEGER NOT NULL, code TEXT NOT NULL, unit TEXT NOT NULL,
  PRIMARY KEY (param, low, high, rid, system, code, unit)
) WITHOUT ROWID;
CREATE TABLE fhir_uri (
  param INTEGER NOT NULL, value TEXT NOT NULL, rid INTEGER NOT NULL, PRIMARY KEY (param, value, rid)
) WITHOUT ROWID;
"""

INDEX_TABLES = {
    "fhir_token": ("param", "code", "rid", "system"),
    "fhir_reference": ("param", "target", "rid"),
    "fhir_date": ("param", "low", "high", "rid"),
    "fhir_string": ("param", "norm", "rid", "exact"),
    "fhir_quantity": ("param", "low", "high", "rid", "system", "code", "unit"),
    "fhir_uri": ("param", "value", "rid"),
}

CODING_TABLE = """
CREATE TABLE fhir_coding (
  param INTEGER NOT NULL, code TEXT NOT NULL, system INTEGER NOT NULL, words TEXT NOT NULL, uri TEXT NOT NULL,
  PRIMARY KEY (param, code, system, words)
) WITHOUT ROWID;
"""

HISTORY_INDEXES = """
CREATE INDEX fhir_resource_updated ON fhir_resource (updated);
CREATE INDEX fhir_version_updated ON fhir_version (updated, rid, version);
"""

PACKAGE_PARAMETERS = """
CREATE TABLE fhir_search_parameter (
  number INTEGER PRIMARY KEY, identifier_number INTEGER NOT NULL, resource TEXT NOT NULL, code TEXT NOT NULL,
  done INTEGER NOT NULL, ready INTEGER NOT NULL
);
"""

TEXT_TABLES = """
CREATE TABLE fhir_word (
  param INTEGER NOT NULL, word TEXT NOT NULL, rid INTEGER NOT NULL, PRIMARY KEY (param, word, rid)
) WITHOUT ROWID;
CREATE TABLE fhir_text (rid INTEGER PRIMARY KEY, narrative TEXT NOT NULL, content TEXT NOT NULL);
CREATE TABLE fhir_text_stale (rid INTEGER PRIMARY KEY);
"""

MIGRATIONS = (
    Migration(
        "fhir.0001.resource",
        FHIR_TABLES,
        protected=("fhir_token.code", "fhir_string.norm", "fhir_string.exact"),
    ),
    Migration("fhir.0002.coding", CODING_TABLE, protected=("fhir_coding.code", "fhir_coding.words")),
    Migration("fhir.0003.history", HISTORY_INDEXES),
    Migration("fhir.0004.package_parameters", PACKAGE_PARAMETERS),
    Migration(
        "fhir.0005.text",
        TEXT_TABLES,
        protected=("fhir_word.word", "fhir_text.narrative", "fhir_text.content"),
    ),
)
