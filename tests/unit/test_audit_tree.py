"""The Merkle tree of the trail: published vectors, sigstore's verifier, checkpoints, anchors and proofs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore.errors import VerificationError

from digital_twins import InputError, NotFoundError, StorageError
from digital_twins.audit import (
    AuditEvent,
    AuditTrail,
    any_recorded,
    export_trail,
    period_bounds,
    prove_consistency,
    prove_event,
    tail_trail,
    verify_consistency,
    verify_inclusion,
    verify_trail,
)
from digital_twins.audit._checkpoint import CheckpointFile
from digital_twins.audit._head import START, Head, HeadFile
from digital_twins.audit._merkle import Growing, consistency, inclusion, leaf_hash, root
from digital_twins.audit._tiles import _WHILE_STARTING, Helpers
from digital_twins.audit._trail import _MIGRATIONS, _STATEMENTS, _chained
from digital_twins.cli import main
from digital_twins.crypto import SigningKey, VerifierKey, open_note, sign_note
from digital_twins.storage import Database

SRC = Path(__file__).parents[2] / "src"
# Test vectors of Certificate Transparency (RFC 6962): transparency-dev/merkle, testonly
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
CONSISTENCY_2_5 = [
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
]


class Plain:
    """A tree that keeps every leaf and computes stored nodes by the definition."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        width = 256**level
        return [by_definition(self.leaves[n * width : (n + 1) * width]) for n in range(first, first + count)]


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1 over leaf hashes, word by word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


def event(number: int = 0, at: str = "2026-03-05T12:00:00.000000Z") -> AuditEvent:
    return AuditEvent("C", "dicom.store", "success", "SCU", entity=f"1.2.{number}", at_utc=at)


@pytest.fixture(scope="module")
def long_trail(tmp_path_factory):
    """A trail of 70,000 rows: three stored levels; with a checkpoint at 300, 1,000 and the end."""
    folder = tmp_path_factory.mktemp("long")
    for start, end in ((0, 300), (300, 1000), (1000, 70_000)):
        with AuditTrail(folder / "audit.db", anchor=folder / "anchor") as trail:
            trail.append([event(number) for number in range(start, end)])
    return folder / "audit.db"


def copied(trail: Path, folder: Path) -> Path:
    shutil.copytree(trail.parent, folder)
    return folder / trail.name


def edit(trail: Path, *statements: str) -> None:
    """Change the file as somebody would who drops the triggers and puts them back."""
    connection = sqlite3.connect(trail)
    triggers = connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall()
    for name, _, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for _, table, sql in triggers:
        if table in tables:
            connection.execute(sql)
    connection.commit()
    connection.close()


def test_roots_and_paths_are_the_published_ones():
    tree = Growing()
    assert tree.root().hex() == ROOTS[0]
    for number, entry in enumerate(ENTRIES, start=1):
        tree.append(leaf_hash(entry))
        assert tree.root().hex() == ROOTS[number]
    for (index, size), path in PATHS.items():
        assert [each.hex() for each in inclusion(tree, index, size)] == path
    assert [each.hex() for each in consistency(tree, 2, 5)] == CONSISTENCY_2_5


def test_roots_and_proofs_follow_the_definition_at_every_size():
    leaves = [leaf_hash(bytes([n % 256, n // 256])) for n in range(600)]
    plain, growing = Plain(leaves), Growing()
    for size in (*range(1, 40), 255, 256, 257, 511, 512, 513, 600):
        while growing.size < size:
            growing.append(leaves[growing.size])
        top = by_definition(leaves[:size])
        assert growing.root() == root(plain, size) == top
        for index in {0, 1, size // 3, size // 2, size - 1} & set(range(size)):
            path = inclusion(plain, index, size)
            assert verify_inclusion(leaves[index], index, size, proof=path, root=top)
            assert not verify_inclusion(leaves[index - 1], index, size, proof=path, root=top) or size == 1
            assert not verify_inclusion(leaves[index], index, size, proof=[*path, top], root=top)
            assert not verify_inclusion(leaves[index], index, size, proof=path, root=bytes(32))
        for old in {1, 2, size // 3, size // 2, size - 1, size} - {0} & set(range(1, size + 1)):
            proof = consistency(plain, old, size)
            start = by_definition(leaves[:old])
            assert verify_consistency(old, size, proof=proof, old_root=start, root=top)
            assert not verify_consistency(old, size, proof=proof, old_root=bytes(32), root=top)
            assert not verify_consistency(old, size, proof=proof, old_root=start, root=bytes(32))
            assert not verify_consistency(old, size, proof=[*proof, top], old_root=start, root=top)


def as_sigstore_sees_it(proof):
    """The part of a Rekor entry that sigstore's verifier reads."""
    inner = SimpleNamespace(
        inclusion_proof=SimpleNamespace(
            log_index=proof.index,
            tree_size=proof.size,
            hashes=[bytes.fromhex(each) for each in proof.hashes],
            root_hash=bytes.fromhex(proof.root),
        ),
        canonicalized_body=proof.body.encode(),
    )
    return SimpleNamespace(_inner=inner)


def test_sigstore_accepts_our_proofs_and_refuses_changed_ones(long_trail):
    for seq in (1, 2, 256, 257, 300, 1000, 65_536, 65_537, 69_999, 70_000):
        proof = prove_event(long_trail, seq)
        assert proof.size == 70_000
        verify_merkle_inclusion(as_sigstore_sees_it(proof))
        changed = as_sigstore_sees_it(proof)
        changed._inner.canonicalized_body = proof.body.replace("SCU", "SCX").encode()
        with pytest.raises(VerificationError):
            verify_merkle_inclusion(changed)


def test_a_proof_needs_few_hashes_and_is_tied_to_a_signed_checkpoint(long_trail):
    proof = prove_event(long_trail, 12_345)
    assert len(proof.hashes) <= 17
    text = open_note(proof.checkpoint, [VerifierKey.from_text(proof.verifier_key)])
    origin, size, top = text.splitlines()
    assert origin.startswith("digital-twins/audit-")
    assert (int(size), base64.b64decode(top).hex()) == (70_000, proof.root)
    assert json.loads(proof.body)["entity"] == "1.2.12344"
    lines = proof.to_text().splitlines()
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 12344"]
    assert [base64.b64decode(each).hex() for each in lines[2 : lines.index("")]] == list(proof.hashes)
    assert proof.to_text().endswith(proof.checkpoint)


def test_checkpoints_are_consistent_with_each_other(long_trail):
    notes = [note.splitlines() for note in CheckpointFile(long_trail.with_suffix(".checkpoints")).read()]
    roots = {int(note[1]): base64.b64decode(note[2]) for note in notes}
    assert list(roots) == [0, 300, 1000, 70_000]
    for old, size in ((300, 1000), (300, 70_000), (1000, 70_000)):
        proof = prove_consistency(long_trail, old, size=size)
        assert verify_consistency(old, size, proof=proof, old_root=roots[old], root=roots[size])
    for old, size in ((0, 5), (9, 5), (1, 70_001)):
        with pytest.raises(InputError):
            prove_consistency(long_trail, old, size=size)
    report = verify_trail(long_trail, anchor=long_trail.parent / "anchor")
    assert report.ok
    assert (report.signed_events, report.anchored_events) == (70_000, 70_000)
    assert report.root == roots[70_000].hex()


def test_a_trail_of_an_older_version_gets_its_tree(tmp_path, long_trail):
    old = copied(long_trail, tmp_path / "old")
    edit(old, "DROP TABLE audit_tree", "DELETE FROM migration WHERE name = 'audit.0003.tree'")
    connection = sqlite3.connect(old)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    connection.close()
    assert sorted(names) == ["audit_event_no_delete", "audit_event_no_update"]
    for suffix in (".checkpoints", ".key", ".vkey"):
        old.with_suffix(suffix).unlink()
    before = verify_trail(old)
    assert before.ok
    assert before.signed_events is None
    with AuditTrail(old) as trail:
        trail.append([event(70_000)])
    after = verify_trail(old)
    assert after.ok
    assert after.signed_events == 70_001
    verify_merkle_inclusion(as_sigstore_sees_it(prove_event(old, 70_001)))


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE audit_tree SET hash = zeroblob(32) WHERE level = 1 AND position = 3", 1024),
        ("DELETE FROM audit_tree WHERE level = 2", 65_536),
        ("UPDATE audit_event SET body = replace(body, 'SCU', 'SCX') WHERE seq = 500", 500),
        ("DELETE FROM audit_event WHERE seq = 69999", 69_999),
    ],
)
def test_a_changed_tree_is_found(tmp_path, long_trail, statement, row):
    changed = copied(long_trail, tmp_path / "changed")
    edit(changed, statement)
    assert verify_trail(changed).problems[0].seq == row


def test_an_older_trail_is_copied_without_the_index_of_its_ids(tmp_path):
    path = tmp_path / "audit.db"
    events = [event(number) for number in range(600)]
    values, head = _chained([(each.event_id, each.to_json()) for each in events], Head(0, START))
    with Database(path, migrations=_MIGRATIONS[:2]) as old:
        for place in range(0, len(values), 5):
            old.execute(_STATEMENTS[1], values[place : place + 5])
    HeadFile(path.with_suffix(".head")).advance(head)
    assert any_recorded(path, ["unknown", events[7].event_id])  # read as it is
    with AuditTrail(path) as trail:
        assert trail.append([events[0], events[300], events[599], event(600)]) == 1
        report = trail.verify()
        assert report.ok, report.problems
        assert report.events == 601
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT * FROM audit_event WHERE seq <= 600").fetchall()
        assert [value for row in rows for value in row] == values
        assert connection.execute("PRAGMA index_list(audit_event)").fetchall() == []
        assert connection.execute("SELECT count(*) FROM audit_id").fetchall() == [(512,)]
    connection.close()
    edit(path, "DELETE FROM audit_id WHERE event_id < (SELECT event_id FROM audit_event WHERE seq = 400)")
    with AuditTrail(path) as trail:
        assert trail.append(events[:300]) == 0


def test_a_known_event_is_found_wherever_it_lies_and_whoever_wrote_it(tmp_path):
    events = [event(number) for number in range(700)]
    path = tmp_path / "audit.db"
    with AuditTrail(path) as one, AuditTrail(path) as two:
        assert one.append(events[:255]) == 255
        assert two.append([events[3]]) == two.append([events[254]]) == 0
        assert two.append(events[250:258]) == 3  # completes a tile
        assert [one.append([each]) for each in (events[257], events[255], events[5])] == [0, 0, 0]
        early = AuditEvent("R", "test", "success", "SCU", event_id="0" * 32)  # its id is before all others
        assert [one.append([early]), two.append([early]), one.append([early])] == [1, 0, 0]
        twice = [events[258], events[259], events[258]]
        assert one.append(twice) == 2
        assert two.append(events) == 700 - 260
        assert one.append([*events, early]) == 0
        report = one.verify()
        assert (report.ok, report.events) == (True, 701)
    assert any_recorded(path, [events[0].event_id])
    assert any_recorded(path, [events[699].event_id])
    assert not any_recorded(path, ["f" * 32])


@pytest.fixture
def helped(monkeypatch):
    """Verification with two helpers; the list tells how many tiles each gave."""
    monkeypatch.setattr("digital_twins.audit._tiles._LEAST_TILES", 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    given: list[int] = []
    collect = Helpers._collect

    def counted(self, tile):
        before = len(self._tiles)
        collect(self, tile)
        if len(self._tiles) > before:
            given.append(len(self._tiles) - before)

    monkeypatch.setattr(Helpers, "_collect", counted)
    return given


def test_helpers_find_what_one_process_finds(tmp_path, long_trail, helped, monkeypatch):
    whole = verify_trail(long_trail)
    tiles = whole.events // 256
    assert whole.ok
    shared = tiles - _WHILE_STARTING
    first, second = tiles - shared * 2 // 3, tiles - shared // 3
    assert helped == [second - first, tiles - second]
    before, inside = first * 256, second * 256 + 300  # the last row before a helper's, one of the other's
    statements = [
        f"UPDATE audit_event SET chain = zeroblob(32) WHERE seq = {before}",
        f"DELETE FROM audit_event WHERE seq = {inside}",
    ]
    for statement in statements:
        changed = copied(long_trail, tmp_path / "helped")
        edit(changed, statement)
        report = verify_trail(changed)
        with monkeypatch.context() as alone:
            alone.setattr("sys.executable", "")
            assert verify_trail(changed) == report
            assert not report.ok
        shutil.rmtree(changed.parent)
    assert len(helped) > 2 + len(statements)


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/no/such/program"])
def test_rows_of_a_helper_that_fails_are_checked_here(long_trail, helped, monkeypatch, program):
    monkeypatch.setattr("sys.executable", program)
    report = verify_trail(long_trail)
    assert report.ok
    assert helped == []


def test_a_node_of_the_tree_that_belongs_to_no_row_is_found(tmp_path, long_trail):
    for number, place in enumerate(("1, -4", "0, 7", "1, 273")):
        changed = copied(long_trail, tmp_path / str(number))
        edit(changed, f"INSERT INTO audit_tree VALUES ({place}, zeroblob(32))")
        assert [problem.seq for problem in verify_trail(changed).problems] == [None], place


def test_no_proof_is_given_of_a_changed_row_or_tree(tmp_path, long_trail):
    changed = copied(long_trail, tmp_path / "changed")
    edit(
        changed,
        "UPDATE audit_event SET body = replace(body, 'SCU', 'SCX') WHERE seq = 500",
        "UPDATE audit_tree SET hash = zeroblob(32) WHERE level = 1 AND position = 3",
    )
    for seq in (500, 600):
        with pytest.raises(StorageError, match="not those of the signed tree"):
            prove_event(changed, seq)
    with pytest.raises(NotFoundError):
        prove_event(changed, 70_001)


def rewritten(trail: Path, rows: int) -> None:
    """Make everything in the folder anew, with another story and with the node's own key."""
    key = trail.with_suffix(".key").read_text()
    shutil.rmtree(trail.parent)
    trail.parent.mkdir()
    trail.with_suffix(".key").write_text(key)
    trail.with_suffix(".key").chmod(0o600)
    with AuditTrail(trail) as made:
        made.append([event(-number) for number in range(rows)])


def test_only_an_anchor_finds_a_trail_that_was_rewritten_as_a_whole(tmp_path):
    trail, anchor = tmp_path / "node" / "audit.db", tmp_path / "elsewhere"
    for start, end in ((0, 40), (40, 100)):
        with AuditTrail(trail, anchor=anchor) as opened:
            opened.append([event(number) for number in range(start, end)])
    assert verify_trail(trail, anchor=anchor).anchored_events == 100
    rewritten(trail, 100)
    assert verify_trail(trail).ok
    report = verify_trail(trail, anchor=anchor)
    assert report.problems[0].seq == 40
    assert "rows from 1 to here" in report.problems[0].what
    rewritten(trail, 30)
    assert verify_trail(trail).ok
    assert verify_trail(trail, anchor=anchor).problems[0].seq == 31


def test_one_saved_note_is_an_anchor_and_a_cut_beyond_it_cannot_be_found(tmp_path):
    trail = tmp_path / "node" / "audit.db"
    with AuditTrail(trail) as opened:
        opened.append([event(number) for number in range(10)])
    saved = tmp_path / "note"
    saved.write_text(prove_event(trail, 10).checkpoint)
    shutil.copytree(trail.parent, tmp_path / "backup")
    with AuditTrail(trail) as opened:
        opened.append([event(number) for number in range(10, 20)])
    assert verify_trail(trail, anchor=saved).anchored_events == 10
    shutil.rmtree(trail.parent)
    shutil.copytree(tmp_path / "backup", trail.parent)  # events 11 to 20 are gone
    assert verify_trail(trail, anchor=saved).ok  # stated in the docstring: they came after the anchor's last
    saved.write_text("")
    assert "no checkpoint" in verify_trail(trail, anchor=saved).problems[0].what
    with pytest.raises(NotFoundError):
        verify_trail(trail, anchor=tmp_path / "missing")


def test_checkpoints_that_are_missing_changed_or_signed_by_somebody_else_are_found(tmp_path, long_trail):
    stranger = SigningKey("digital-twins/audit-x", bytes(32))
    file = long_trail.with_suffix(".checkpoints")
    notes = CheckpointFile(file).read()
    forged = sign_note(notes[1].split("\n\n")[0] + "\n", stranger)
    cases = {
        "missing": None,
        "is not ours": "\n".join([notes[0], forged, *notes[2:], ""]),
        "no checkpoint": "\n".join([notes[0], "x\n\n— x y\n", *notes[2:], ""]),
        "": file.read_text().replace("300\n", "301\n"),
    }
    for number, (words, content) in enumerate(cases.items()):
        copy = copied(long_trail, tmp_path / str(number))
        copy.with_suffix(".checkpoints").unlink()
        if content is not None:
            copy.with_suffix(".checkpoints").write_text(content)
        assert any(words in problem.what for problem in verify_trail(copy).problems), words
    assert not verify_trail(long_trail, key=stranger.verifier.to_text()).ok
    assert verify_trail(long_trail, key=long_trail.with_suffix(".vkey").read_text()).ok
    with pytest.raises(InputError):
        verify_trail(long_trail, key="junk")


def test_the_node_does_not_sign_what_contradicts_its_last_checkpoint(tmp_path):
    trail = tmp_path / "node" / "audit.db"
    with AuditTrail(trail) as opened:
        opened.append([event(number) for number in range(20)])
    note = prove_event(trail, 20).checkpoint
    edit(trail, "DELETE FROM audit_event WHERE seq > 15")
    with pytest.raises(NotFoundError):
        prove_event(trail, 20)
    with AuditTrail(trail) as opened:
        opened.append([event(number) for number in range(100, 110)])
    (suspect,) = trail.parent.glob("audit.checkpoints.suspect-*")
    assert note in suspect.read_text()
    assert any(suspect.name in problem.what for problem in verify_trail(trail).problems)
    trail.with_suffix(".checkpoints").unlink()
    with AuditTrail(trail):
        pass
    assert len(list(trail.parent.glob("audit.checkpoints.suspect-*"))) == 2


def test_a_checkpoint_that_a_power_cut_left_half_written_is_replaced(tmp_path):
    trail = tmp_path / "audit.db"
    with AuditTrail(trail) as opened:
        opened.append([event(1)])
    file = trail.with_suffix(".checkpoints")
    whole = file.read_bytes()
    for cut in range(1, 60):
        file.write_bytes(whole + whole[whole.index(b"\n\n", 5) + 2 :][:cut] if cut % 2 else whole[:-cut])
        assert verify_trail(trail).ok, cut
        with AuditTrail(trail):
            pass
        assert len(CheckpointFile(file).read()) == 2
        assert verify_trail(trail).signed_events == 1
        file.write_bytes(whole)


def test_events_since_the_last_checkpoint_are_signed_for_a_proof(tmp_path):
    with AuditTrail(tmp_path / "audit.db") as trail:
        trail.append([event(1)])
        proof = prove_event(tmp_path / "audit.db", 1)
        assert proof.size == 1
        trail.append([event(2)])
    copy = copied(tmp_path / "audit.db", tmp_path / "copy")
    copy.with_suffix(".key").unlink()
    assert prove_event(copy, 2).size == 2
    copy.with_suffix(".checkpoints").unlink()
    with pytest.raises(InputError, match="not covered"):
        prove_event(copy, 2)


def test_an_anchor_out_of_reach_does_not_stop_the_trail(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with AuditTrail(tmp_path / "audit.db", anchor=tmp_path / "file" / "anchor") as trail:
        trail.append([event(1)])
    assert verify_trail(tmp_path / "audit.db").signed_events == 1


def test_an_export_can_be_verified_without_this_software(long_trail):
    chain, leaves = bytes(32), []
    for number, line in enumerate(export_trail(long_trail), start=1):
        row = json.loads(line)
        body = line[line.index('"event":') + 8 : -2]
        leaf = hashlib.sha256(b"\0" + body.encode()).digest()
        chain = hashlib.sha256(chain + leaf).digest()
        assert (row["seq"], row["leaf"], row["chain"]) == (number, leaf.hex(), chain.hex())
        leaves.append(leaf)
    report = verify_trail(long_trail)
    assert (len(leaves), chain.hex()) == (70_000, report.chain)
    assert by_definition(leaves).hex() == report.root


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-Q1", "2026-01-01", "2026-04-01"),
        ("2026-Q4", "2026-10-01", "2027-01-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        ("2026-01..2026-03-15", "2026-01-01", "2026-03-16"),
    ],
)
def test_periods(text, start, end):
    assert tuple(f"{each:%Y-%m-%d}" for each in period_bounds(text)) == (start, end)


@pytest.mark.parametrize("text", ["", "26", "2026-Q5", "2026-13", "2026-02-30", "2026..2025", "9999", "x"])
def test_what_is_no_period_is_refused(text):
    with pytest.raises(InputError):
        period_bounds(text)


def test_the_commands(tmp_path, capsys):
    trail = tmp_path / "audit.sqlite"
    times = ["2025-12-31T23:59:59.999999Z", "2026-01-01T00:00:00.000000Z", "2026-03-31T23:59:59.999999Z"]
    with AuditTrail(trail, anchor=tmp_path / "anchor") as opened:
        opened.append(
            [event(number, at) for number, at in enumerate([*times, "2026-04-01T00:00:00.000000Z"])]
        )
    data = ["--data", str(tmp_path)]
    assert main(["audit", "prove", "3", "--json", *data]) == 0
    proof = json.loads(capsys.readouterr().out)
    assert verify_inclusion(
        hashlib.sha256(b"\0" + proof["body"].encode()).digest(),
        2,
        4,
        proof=[bytes.fromhex(each) for each in proof["hashes"]],
        root=bytes.fromhex(proof["root"]),
    )
    assert main(["audit", "prove", "3", *data]) == 0
    assert capsys.readouterr().out == prove_event(trail, 3).to_text()
    assert main(["audit", "prove", "5", *data]) != 0
    capsys.readouterr()
    assert main(["audit", "export", "--period", "2026-Q1", *data]) == 0
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [2, 3]
    assert main(["audit", "export", str(tmp_path / "all.ndjson"), *data]) == 0
    assert (tmp_path / "all.ndjson").read_text() == "".join(export_trail(trail))
    assert main(["audit", "verify", "--anchor", str(tmp_path / "anchor"), "--json", *data]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["signed_events"], report["anchored_events"]) == (True, 4, 4)
    edit(trail, "DELETE FROM audit_event WHERE seq = 2")
    assert main(["audit", "verify", *data]) == 1
    assert "row 2: the rows from 2 to 2 are missing" in capsys.readouterr().out


def test_tail_follows_what_is_written(tmp_path):
    with AuditTrail(tmp_path / "audit.sqlite") as trail:
        trail.append([event(number) for number in range(3)])
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "digital_twins.cli",
                "audit",
                "tail",
                "-n",
                "1",
                "-f",
                "--data",
                str(tmp_path),
            ],
            env={**os.environ, "PYTHONPATH": str(SRC)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert json.loads(process.stdout.readline())["seq"] == 3
            trail.append([event(3)])
            assert json.loads(process.stdout.readline())["event"]["entity"] == "1.2.3"
        finally:
            process.kill()
            process.communicate()
    assert tail_trail(tmp_path / "audit.sqlite", 1)[0].seq == 4
