"""Connections, group commit, blobs, the job queue and migrations."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.storage._blob_file import BlobFile as BlobFile, BlobReader as BlobReader
    from digital_twins.storage._blobs import BlobStore as BlobStore
    from digital_twins.storage._database import Database as Database, WriteCounts as WriteCounts
    from digital_twins.storage._derived_keys import DerivedKeys as DerivedKeys
    from digital_twins.storage._inserted import insert_row as insert_row
    from digital_twins.storage._jobs import (
        MIGRATIONS as MIGRATIONS,
        Job as Job,
        JobQueue as JobQueue,
        JobState as JobState,
    )
    from digital_twins.storage._key_register import (
        COMMON as COMMON,
        ErasedError as ErasedError,
        KeyRegister as KeyRegister,
        KeyStatus as KeyStatus,
        Rotation as Rotation,
    )
    from digital_twins.storage._key_rows import DataKey as DataKey
    from digital_twins.storage._landing import Landing as Landing
    from digital_twins.storage._migrations import Migration as Migration
    from digital_twins.storage._reading import (
        ServerState as ServerState,
        read_schema as read_schema,
        rows_sealed as rows_sealed,
        server_state as server_state,
        stream as stream,
    )
    from digital_twins.storage._row_keys import (
        SEALED as SEALED,
        RowKeys as RowKeys,
        seal_for as seal_for,
    )
    from digital_twins.storage._seal_store import (
        encrypt_blobs as encrypt_blobs,
        encrypt_database as encrypt_database,
    )
    from digital_twins.storage._sealed_files import SealedFiles as SealedFiles
    from digital_twins.storage._spool import Spool as Spool
    from digital_twins.storage._stage import STAGE_BYTES as STAGE_BYTES

_WHERE = {
    **dict.fromkeys(("BlobFile", "BlobReader"), "digital_twins.storage._blob_file"),
    **dict.fromkeys(
        ("COMMON", "ErasedError", "KeyRegister", "KeyStatus", "Rotation"),
        "digital_twins.storage._key_register",
    ),
    "BlobStore": "digital_twins.storage._blobs",
    **dict.fromkeys(("Database", "WriteCounts"), "digital_twins.storage._database"),
    "DerivedKeys": "digital_twins.storage._derived_keys",
    "insert_row": "digital_twins.storage._inserted",
    **dict.fromkeys(("MIGRATIONS", "Job", "JobQueue", "JobState"), "digital_twins.storage._jobs"),
    "DataKey": "digital_twins.storage._key_rows",
    "Landing": "digital_twins.storage._landing",
    "Migration": "digital_twins.storage._migrations",
    **dict.fromkeys(
        ("ServerState", "read_schema", "rows_sealed", "server_state", "stream"),
        "digital_twins.storage._reading",
    ),
    **dict.fromkeys(("SEALED", "RowKeys", "seal_for"), "digital_twins.storage._row_keys"),
    **dict.fromkeys(("encrypt_blobs", "encrypt_database"), "digital_twins.storage._seal_store"),
    "SealedFiles": "digital_twins.storage._sealed_files",
    "Spool": "digital_twins.storage._spool",
    "STAGE_BYTES": "digital_twins.storage._stage",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
