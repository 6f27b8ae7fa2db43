"""Values of rows under the key of their patient: what is sealed, what goes with the key, what stays."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.crypto import DecryptionError, LocalKeyFile
from digital_twins.fhir import MIGRATIONS, FhirStore, seal_resources
from digital_twins.storage import SEALED, Database, ErasedError, KeyRegister, RowKeys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def register(folder: Path) -> KeyRegister:
    return KeyRegister(folder / "keys.sqlite", LocalKeyFile(folder / "wrapping.json"))


@contextmanager
def opened(folder: Path, *, encrypted: bool = True) -> Iterator[tuple[FhirStore, KeyRegister | None]]:
    """A FHIR store whose rows are sealed; its pages are in clear, so that the test can look at them."""
    with ExitStack() as stack:
        keys = stack.enter_context(closing(register(folder))) if encrypted else None
        tables = (*OUTBOX_MIGRATIONS, *MIGRATIONS)
        database = stack.enter_context(Database(folder / "node.db", migrations=tables, keys=keys))
        yield stack.enter_context(closing(FhirStore(database, pseudonym=lambda _: "ab" * 32))), keys


def person(name: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": name, "name": [{"family": f"Fam{name}"}]}


def finding(name: str, *patients: str, text: str) -> dict[str, Any]:
    people = [{"reference": f"Patient/{each}"} for each in patients]
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": text},
        "subject": people[0],
        **({"performer": people[1:]} if people[1:] else {}),
    }


def stored(store: FhirStore) -> list[bytes]:
    """What the file has of every version, past the store."""
    import apsw

    store.database.write(lambda _cursor: None)
    reader = apsw.Connection(str(store.database.path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        sql = "SELECT body FROM fhir_resource UNION ALL SELECT body FROM fhir_version"
        return [bytes(body) for (body,) in reader.execute(sql) if body]
    finally:
        reader.close()


def fill(store: FhirStore) -> None:
    for name in ("a", "b"):
        store.update(person(name))
        for number in (1, 2):
            text = f"{name} note {number}"
            store.update(finding(f"o{name}", name, text=text))
    store.update(finding("both", "a", "b", text="of two"))
    store.delete("Observation", "ob")


def test_a_resource_and_its_history_go_with_the_key_of_their_patient(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, keys):
        assert keys is not None
        fill(store)
        bodies = stored(store)
        assert len(bodies) == 7
        assert all(body.startswith(SEALED) for body in bodies)
        assert store.read("Observation", "oa").resource["code"]["text"] == "a note 2"
        assert store.vread("Observation", "oa", 1).resource["code"]["text"] == "a note 1"
        assert len(store.search("Patient", {"family": "Fam"}).hits) == 2

        assert keys.destroy([keys.tag("fhir:Patient/a")]) == 1
        for version in (1, 2):
            with pytest.raises(ErasedError):
                store.vread("Observation", "oa", version)
        with pytest.raises(ErasedError):
            store.read("Patient", "a")
        assert store.read("Patient", "b").resource["name"] == [{"family": "Famb"}]
        assert store.vread("Observation", "ob", 2).resource["code"]["text"] == "b note 2"
        assert store.read("Observation", "both").resource["code"]["text"] == "of two"  # nobody's alone


def test_a_store_in_clear_is_sealed_and_a_rotation_changes_no_row(tmp_path: Path) -> None:
    with opened(tmp_path, encrypted=False) as (store, _):
        fill(store)
        clear = sorted(stored(store))
        assert not any(body.startswith(SEALED) for body in clear)
    with opened(tmp_path) as (store, keys):
        assert keys is not None
        assert seal_resources(store.database) == len(clear)
        assert seal_resources(store.database) == 0
        sealed = stored(store)
        assert all(body.startswith(SEALED) for body in sealed)
        with closing(register(tmp_path)) as other:
            assert sorted(map(RowKeys(other).open, sealed)) == clear
        keys.rotate(destroy_old=True)
        assert stored(store) == sealed
    with opened(tmp_path) as (store, _):
        assert store.vread("Observation", "oa", 1).resource["code"]["text"] == "a note 1"


def test_every_changed_byte_is_refused_and_equal_texts_look_equal_in_one_column_only(tmp_path: Path) -> None:
    with closing(register(tmp_path)) as keys:
        rows = RowKeys(keys)
        sealed = rows.seal(b'{"a": 1}', "P1")
        assert rows.open(sealed) == b'{"a": 1}'
        assert rows.seal(b'{"a": 1}', "P1") != sealed
        for place in range(len(SEALED), len(sealed)):
            with pytest.raises(DecryptionError):
                rows.open(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        hidden = rows.hide("Müller", "name")
        assert hidden == rows.hide("Müller", "name") != rows.hide("Müller", "referring")
        assert (rows.show(hidden), rows.hide("", "name"), rows.show("Müller")) == ("Müller", "", "Müller")
        head = hidden.rindex("~") + 1
        for place in range(head, len(hidden) - 4):  # the last letters carry bits that base64 leaves out
            with pytest.raises(DecryptionError):
                rows.show(hidden[:place] + ("A" if hidden[place] != "A" else "B") + hidden[place + 1 :])
        with pytest.raises(DecryptionError):
            rows.show(hidden.replace("~name~", "~other~"))


def test_a_backup_of_the_register_does_not_bring_a_patient_back_once_its_root_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as (store, keys):
        assert keys is not None
        fill(store)
        kept = stored(store)
        shutil.copy(tmp_path / "keys.sqlite", tmp_path / "before.sqlite")
        keys.destroy([keys.tag("fhir:Patient/a")])
        keys.rotate(destroy_old=True)
        readable = 0
        for body in kept:
            try:
                readable += bool(RowKeys(keys).open(body))
            except ErasedError:
                continue
        assert readable == len(kept) - 3  # the patient and two versions of its observation
