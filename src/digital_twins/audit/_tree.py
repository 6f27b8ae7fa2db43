"""The Merkle tree over the trail's rows, stored beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins.audit._merkle import TILE, TILE_LEVELS, complete
from digital_twins.storage import Migration

if TYPE_CHECKING:
    import apsw

TREE_MIGRATION = Migration(
    "audit.0003.tree",
    """
    CREATE TABLE audit_tree(
        level INTEGER NOT NULL,
        position INTEGER NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (level, position)
    ) WITHOUT ROWID;
    CREATE TRIGGER audit_tree_no_update BEFORE UPDATE ON audit_tree
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_tree_no_delete BEFORE DELETE ON audit_tree
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
    """,
)
"""Level 1 stands above 256 leaves, level 2 above 256 nodes of level 1, and so on; only complete nodes."""


class StoredTree:
    """Hashes of the tree as they lie in the file; one snapshot of it when the connection holds one."""

    def __init__(self, connection: apsw.Connection | apsw.Cursor) -> None:
        self._connection = connection

    def size(self) -> int:
        """Return the number of rows."""
        row = self._connection.execute("SELECT max(seq) FROM audit_event").fetchone()
        return 0 if row is None or row[0] is None else int(str(row[0]))

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return stored hashes of one level.

        Raises
        ------
        StorageError
            Some of them are missing.
        """
        if level == 0:
            rows = self._connection.execute(
                "SELECT leaf FROM audit_event WHERE seq > ? AND seq <= ? ORDER BY seq", (first, first + count)
            )
        else:
            rows = self._connection.execute(
                "SELECT hash FROM audit_tree WHERE level = ? AND position >= ? AND position < ? "
                "ORDER BY position",
                (level, first, first + count),
            )
        found = [bytes(row[0]) for row in rows if isinstance(row[0], bytes)]
        if len(found) != count:
            raise StorageError(
                "The Merkle tree of the audit trail is incomplete.",
                f"Of {count} hashes at level {level} from position {first}, {len(found)} are there.",
                "Run twin audit verify; it names the first row that is wrong.",
            )
        return found


def grow(cursor: apsw.Cursor, size: int) -> None:
    """Store every node that `size` rows complete and that is not stored yet, also of an older trail."""
    stored = StoredTree(cursor)
    level, below = 1, size
    while below >= TILE:
        row = cursor.execute("SELECT max(position) FROM audit_tree WHERE level = ?", (level,)).fetchone()
        known = -1 if row is None or row[0] is None else int(str(row[0]))
        below >>= TILE_LEVELS
        for position in range(known + 1, below):
            node = complete(stored.hashes(level - 1, position * TILE, TILE))
            cursor.execute("INSERT INTO audit_tree VALUES (?, ?, ?)", (level, position, node))
        level += 1
