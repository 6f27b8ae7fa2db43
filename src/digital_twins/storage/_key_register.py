"""Data keys of an encrypted store: one for each patient, wrapped by a root key that a key provider wraps.

The register holds no patient data: owners are keyed hashes, keys are wrapped. Rotation wraps the data keys
anew and touches no data; destroying a data key makes everything that it encrypted unreadable, in backups
too (crypto-erase, NIST SP 800-88 Rev. 1 section 2.5, "cryptographic erase").
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import NotFoundError, StorageError
from digital_twins.crypto import DecryptionError, WrappedKey
from digital_twins.storage._database import Database
from digital_twins.storage._key_rows import (
    CURRENT,
    KEY_BYTES,
    MIGRATIONS,
    DataKey,
    insert_key,
    insert_root,
    new_root,
    set_state,
    timestamp,
    unwrap,
    wrap,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    import apsw

    from digital_twins.crypto import KeyProvider

COMMON = ""
"""Owner of what belongs to no patient."""

_BATCH = 500
_CACHED = 20_000
_INDEX = "index"


class ErasedError(NotFoundError):
    """The key of the data was destroyed on purpose: nobody can read them any more (HTTP 410)."""

    http_status = 410

    def __init__(self) -> None:
        super().__init__(
            "The data cannot be read any more.",
            "Their key was destroyed when the patient was erased.",
            "Nothing brings them back; the audit trail says who erased them, when and why.",
        )


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What a register says of itself.

    `provider` and `key_id` name who wraps the root key, `data_keys` counts the keys in use, `destroyed` those
    that were destroyed, `rotating` those that a rotation under way has still to wrap anew (0: none is).
    """

    provider: str
    key_id: str
    rotated_utc: str
    data_keys: int
    destroyed: int
    rotating: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """Outcome of a rotation: data keys wrapped anew; old provider keys destroyed, and those that are left."""

    rewrapped: int
    destroyed: tuple[str, ...]
    kept: tuple[str, ...]


class KeyRegister:
    """The keys of one data folder, in a small SQLite file beside the data; processes may share it.

    Parameters
    ----------
    path
        The file; made at first use, with a new root key.
    provider
        Wraps the root key.

    Raises
    ------
    StorageError
        The provider does not hold the key that protects this register, or the file cannot be written.
    KeyServiceError
        The provider cannot be reached.
    """

    def __init__(self, path: str | os.PathLike[str], provider: KeyProvider) -> None:
        self.path = Path(path)
        self._provider = provider
        self._roots: dict[str, bytes] = {}
        self._by_id: dict[str, bytes] = {}
        self._by_owner: dict[str, DataKey] = {}
        self._database = Database(self.path, migrations=MIGRATIONS)
        try:
            with self._database.read() as connection:
                known = connection.execute("SELECT 1 FROM root_key LIMIT 1").fetchall()
            if not known:
                self._begin()
            self._current_root()
            self._index_key = self._of_tag(_INDEX).key
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file and forget the keys."""
        self._roots.clear()
        self._by_id.clear()
        self._by_owner.clear()
        self._database.close()

    def for_owner(self, owner: str) -> DataKey:
        """Return the key of an owner, durable before it is used; made at first use.

        Parameters
        ----------
        owner
            Whose data they are, e.g. a medical record number; only its keyed hash is kept. `COMMON` for what
            belongs to nobody.
        """
        held = self._by_owner.get(owner)
        if held is None:
            held = self._of_tag(self.tag(owner))
            if len(self._by_owner) >= _CACHED:
                self._by_owner.clear()
            self._by_owner[owner] = held
        return held

    def tag(self, owner: str) -> str:
        """Return the keyed hash under which the register knows an owner (HMAC-SHA-256, 32 hex digits)."""
        return hmac.new(self._index_key, owner.encode(), hashlib.sha256).hexdigest()[:32]

    def by_id(self, key_id: str) -> bytes:
        """Return a key by its id.

        Raises
        ------
        ErasedError
            It was destroyed.
        DecryptionError
            The register does not have it, or its row was changed.
        """
        held = self._by_id.get(key_id)
        if held is not None:
            return held
        with self._database.read() as connection:
            row: Any = connection.execute(
                "SELECT owner, root, wrapped, destroyed_utc FROM data_key WHERE id = ?", (key_id,)
            ).fetchone()
        if row is None:
            raise DecryptionError("The register of keys does not have its key: restore keys.sqlite.")
        owner, root, wrapped, destroyed = row
        if destroyed:
            raise ErasedError
        return self._remember(key_id, unwrap(self._root(str(root)), bytes(wrapped), key_id, str(owner)))

    def database_key(self, name: str) -> bytes:
        """Return the key that encrypts the pages of a database file."""
        return self.for_owner(f"database:{name}").key

    @property
    def migrating(self) -> bool:
        """Whether a store that was not encrypted is being encrypted and is not ready yet."""
        return self._state("migrating") is not None

    def set_migrating(self, *, on: bool) -> None:
        """Note that an existing store is being encrypted, or that it is done."""
        self._database.write(lambda cursor: set_state(cursor, "migrating", "1" if on else None))

    def destroy(self, tags: Iterable[str]) -> int:
        """Destroy the keys of owners, named by `tag`, and return how many there were; see also `rotate`.

        Old backups of the register still hold them, wrapped; a rotation with ``destroy_old`` takes the key
        that opens those backups.
        """
        rows = [(timestamp(), tag) for tag in tags]

        def work(cursor: apsw.Cursor) -> int:
            count = 0
            for row in rows:
                count += len(
                    cursor.execute(
                        "UPDATE data_key SET wrapped = x'', destroyed_utc = ?"
                        " WHERE owner = ? AND destroyed_utc = '' RETURNING id",
                        row,
                    ).fetchall()
                )
            return count

        count = self._database.write(work)
        self._by_id.clear()
        self._by_owner.clear()
        return count

    def rotate(
        self,
        *,
        to: KeyProvider | None = None,
        destroy_old: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Rotation:
        """Wrap every data key under a new root key, and that under the provider's newest key.

        A rotation that was interrupted, however hard, goes on where it stopped.

        Parameters
        ----------
        to
            Another provider that keeps the root key from now on.
        destroy_old
            Destroy the provider's old keys: older copies of the register can then never be opened again.
        progress
            Called with data keys done and in all, after each batch.

        Raises
        ------
        KeyServiceError
            The provider cannot be reached; call again.
        """
        plan = json.loads(self._state("rotation") or "null") or self._begin_rotation(to)
        if destroy_old:
            plan["destroy"] = True
            self._database.write(lambda cursor: set_state(cursor, "rotation", json.dumps(plan)))
        count = self._rewrap(str(plan["root"]), progress)
        destroyed, kept = self._destroy_old(str(plan["root"])) if plan["destroy"] else ([], [])

        def end(cursor: apsw.Cursor) -> None:
            cursor.execute("DELETE FROM root_key WHERE id <> ?", (plan["root"],))
            set_state(cursor, "rotation", None)

        self._database.write(end)
        return Rotation(count, tuple(destroyed), tuple(kept))

    def status(self) -> KeyStatus:
        """Return counts and who keeps the root key."""
        with self._database.read() as connection:
            root: Any = connection.execute(
                "SELECT id, provider, key_id, created_utc FROM root_key ORDER BY rowid DESC LIMIT 1"
            ).fetchone()
            rows: Any = connection.execute(
                "SELECT count(*) FILTER (WHERE destroyed_utc = ''),"
                " count(*) FILTER (WHERE destroyed_utc <> ''),"
                " count(*) FILTER (WHERE destroyed_utc = '' AND root <> ?) FROM data_key",
                (root[0],),
            ).fetchall()
        return KeyStatus(str(root[1]), str(root[2]), str(root[3]), *(int(count) for count in rows[0]))

    def _begin(self) -> None:
        root_id, root, wrapped = new_root(self._provider)

        def work(cursor: apsw.Cursor) -> None:
            if not cursor.execute(
                "SELECT 1 FROM root_key LIMIT 1"
            ).fetchall():  # another process may be first
                insert_root(cursor, root_id, wrapped)
                insert_key(
                    cursor,
                    DataKey(secrets.token_hex(16), secrets.token_bytes(KEY_BYTES)),
                    _INDEX,
                    root_id,
                    root,
                )

        self._database.write(work)

    def _of_tag(self, tag: str) -> DataKey:
        found = self._find(tag)
        while found is None:
            fresh = DataKey(secrets.token_hex(16), secrets.token_bytes(KEY_BYTES))
            root_id, root = self._current_root()

            def work(
                cursor: apsw.Cursor, fresh: DataKey = fresh, root_id: str = root_id, root: bytes = root
            ) -> None:
                now: Any = cursor.execute(CURRENT).fetchall()
                taken = cursor.execute(
                    "SELECT 1 FROM data_key WHERE owner = ? AND destroyed_utc = ''", (tag,)
                ).fetchall()
                if (
                    not taken and now[0][0] == root_id
                ):  # a rotation that has just begun: try again under its root
                    insert_key(cursor, fresh, tag, root_id, root)

            self._database.write(work)
            found = self._find(tag)
        return found

    def _find(self, tag: str) -> DataKey | None:
        with self._database.read() as connection:
            row: Any = connection.execute(
                "SELECT id, root, wrapped FROM data_key WHERE owner = ? AND destroyed_utc = ''", (tag,)
            ).fetchone()
        if row is None:
            return None
        key_id = str(row[0])
        key = unwrap(self._root(str(row[1])), bytes(row[2]), key_id, tag)
        return DataKey(key_id, self._remember(key_id, key))

    def _remember(self, key_id: str, key: bytes) -> bytes:
        if len(self._by_id) >= _CACHED:
            self._by_id.clear()
        self._by_id[key_id] = key
        return key

    def _current_root(self) -> tuple[str, bytes]:
        with self._database.read() as connection:
            row: Any = connection.execute(CURRENT).fetchone()
        return str(row[0]), self._root(str(row[0]))

    def _root(self, root_id: str) -> bytes:
        held = self._roots.get(root_id)
        if held is not None:
            return held
        with self._database.read() as connection:
            row: Any = connection.execute(
                "SELECT provider, key_id, wrapped FROM root_key WHERE id = ?", (root_id,)
            ).fetchone()
        if row is None:
            raise DecryptionError("The root key of its key is not in the register: restore keys.sqlite.")
        wrapped = WrappedKey(str(row[0]), str(row[1]), bytes(row[2]))
        if wrapped.provider != self._provider.name:
            raise _not_opened(
                f"Its keys are kept by the provider '{wrapped.provider}', but encryption_keys names"
                f" '{self._provider.name}'.",
                "Name the old provider again; 'twin keys rotate --to' moves the keys to another one.",
            )
        try:
            self._roots[root_id] = self._provider.unwrap(wrapped, {"object": f"root {root_id}"})
        except DecryptionError:
            raise _not_opened(
                f"The provider '{wrapped.provider}' does not hold its key '{wrapped.key_id}'.",
                "Point encryption_keys at the keys of this data folder, or restore them from their backup;"
                " nothing was changed.",
            ) from None
        return self._roots[root_id]

    def _state(self, name: str) -> str | None:
        with self._database.read() as connection:
            row: Any = connection.execute(
                "SELECT value FROM register_state WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else str(row[0])

    def _begin_rotation(self, to: KeyProvider | None) -> dict[str, Any]:
        self._current_root()  # while the old provider is still the one
        with self._database.read() as connection:
            roots = [str(row[0]) for row in connection.execute("SELECT id FROM root_key").fetchall()]
        for root in roots:
            self._root(root)
        provider = to or self._provider
        provider.rotate()
        root_id, root_key, wrapped = new_root(provider)
        plan = {"root": root_id, "destroy": False}

        def work(cursor: apsw.Cursor) -> None:
            insert_root(cursor, root_id, wrapped)
            set_state(cursor, "rotation", json.dumps(plan))

        self._database.write(work)
        self._roots[root_id] = root_key
        return plan

    def _rewrap(self, root_id: str, progress: Callable[[int, int], None] | None) -> int:
        root = self._root(root_id)
        total = self.status().data_keys
        done = total - self.status().rotating
        rewrapped = 0
        while True:
            with self._database.read() as connection:
                rows: Any = connection.execute(
                    "SELECT id, owner, root, wrapped FROM data_key"
                    " WHERE destroyed_utc = '' AND root <> ? LIMIT ?",
                    (root_id, _BATCH),
                ).fetchall()
            if not rows:
                return rewrapped
            fresh = [
                (
                    root_id,
                    wrap(root, unwrap(self._root(old), bytes(wrapped), key_id, owner), key_id, owner),
                    key_id,
                )
                for key_id, owner, old, wrapped in rows
            ]
            self._database.write(
                lambda cursor, fresh=fresh: (  # type: ignore[misc]
                    cursor.executemany(
                        "UPDATE data_key SET root = ?, wrapped = ? WHERE id = ? AND destroyed_utc = ''", fresh
                    )
                    and None
                )
            )
            rewrapped += len(fresh)
            if progress is not None:
                progress(done + rewrapped, max(total, done + rewrapped))

    def _destroy_old(self, root_id: str) -> tuple[list[str], list[str]]:
        with self._database.read() as connection:
            rows: Any = connection.execute("SELECT id, provider, key_id FROM root_key").fetchall()
        newest = {(provider, key) for row, provider, key in rows if row == root_id}
        old = {(provider, key) for row, provider, key in rows if row != root_id} - newest
        same = {(provider, key) for row, provider, key in rows if row != root_id} & newest
        destroyed: list[str] = []
        kept = [key for _, key in sorted(same)]
        for provider, key in sorted(old):
            own = provider == self._provider.name and self._provider.destroy(key)
            (destroyed if own else kept).append(key)
        return destroyed, kept


def _not_opened(why: str, fix: str) -> StorageError:
    return StorageError("The encrypted data folder is not opened.", why, fix)
