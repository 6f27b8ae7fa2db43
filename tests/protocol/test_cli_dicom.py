"""`twin dicom` against our own node, and a node that is set up by twin.toml."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.cli import main
from digital_twins.config import load_settings
from digital_twins.server import Node


def _json(capsys: Any, *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    text = capsys.readouterr()
    return json.loads(text.out if code == 0 or text.out else text.err)


def test_every_verb(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2):
        (files / f"{number}.dcm").write_bytes(file_bytes(ct_slice(number, size=8)))
    (files / "notes.txt").write_text("not DICOM")
    stores = contextlib.ExitStack()
    with stores:
        there, third = (stores.enter_context(open_store(tmp_path / name)) for name in ("there", "third"))
        with listening(third, ae_title="THIRD") as dest:
            row = dicom.DicomPeer("THIRD", "127.0.0.1", dest.port)
            with listening(there, access=dicom.Access(peers=dicom.PeerTable.of([row]))) as node:
                peer = f"TWIN@127.0.0.1:{node.port}"
                study = "StudyInstanceUID=1.2.3.1"
                assert _json(capsys, "dicom", "echo", peer)["peer"] == "TWIN"
                assert _json(capsys, "dicom", "store", peer, str(files)) == {"sent": 2}
                (found,) = _json(
                    capsys, "dicom", "find", peer, "-k", "PatientID=P1", "-k", "StudyInstanceUID"
                )
                assert found["0020000D"]["Value"] == ["1.2.3.1"]
                assert _json(capsys, "dicom", "move", peer, "THIRD", "-k", study)["completed"] == 2
                assert len(third.instances("1.2.3.1")) == 2
                out = tmp_path / "out"
                assert _json(capsys, "dicom", "get", peer, str(out), "-k", study)["completed"] == 2
                assert sorted(p.name for p in out.iterdir()) == ["1.2.3.1.1.1.dcm", "1.2.3.1.1.2.dcm"]
                dicom.Worklist(there).put(
                    dicom.WorklistItem("1.2.3.9", "S1", "P9", "Doe^Jane", "CT", "CT1", "20260301", "090000")
                )
                (step,) = _json(capsys, "dicom", "worklist", peer, "--modality", "CT", "--date", "20260301")
                assert step["00400009"]["Value"] == ["S1"]
                assert main(["dicom", "find", peer]) == 0
                assert "Doe^Jane" in capsys.readouterr().out
                assert main(["dicom", "worklist", peer]) == 0
                assert "P9" in capsys.readouterr().out
                wrong = _json(capsys, "dicom", "move", peer, "NOWHERE", "-k", study, code=1)
                assert "A801" in wrong["why"]
                assert _json(capsys, "dicom", "find", peer, "-k", "Nonsense", code=1)["error"] == "InputError"
    assert _json(capsys, "dicom", "echo", "nobody", code=1)["error"] == "InputError"


def test_user_lines(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert main(["dicom", "user", "alice"]) == 0
    (tmp_path / "users").write_text(capsys.readouterr().out)
    assert dicom.UserTable.read(tmp_path / "users").knows("alice", b"s3cret")


def test_a_node_as_twin_toml_wants_it(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("node")
    (tmp_path / "users").write_text(f"alice:{dicom.hash_passcode('pw')}\n", encoding="utf-8")
    toml = tmp_path / "twin.toml"
    tls = f'''
dicom_tls_port = 0
dicom_tls_certificate = "{certificate}"
dicom_tls_key = "{key}"
dicom_tls_authority = "{authority.file}"
'''
    toml.write_text(
        f'''data_dir = "{tmp_path / "data"}"
dicom_port = 0
http_port = 0
dicom_peers_only = true
dicom_users_file = "{tmp_path / "users"}"
{tls}
[dicom_peers.CT1]
services = ["echo", "store"]
[dicom_peers.SAFE]
tls = true
require_user = true
''',
        encoding="utf-8",
    )
    with Node(load_settings(config_file=toml)) as node:
        dicom.echo(dicom.Remote("127.0.0.1", node.dicom_port, called_ae="TWIN", calling_ae="CT1"))
        for remote in (
            dicom.Remote("127.0.0.1", node.dicom_port, called_ae="TWIN", calling_ae="ELSE"),
            dicom.Remote("127.0.0.1", node.dicom_port, called_ae="TWIN", calling_ae="SAFE"),
        ):
            with pytest.raises(dicom.DimseFailedError, match="rejected"):
                dicom.echo(remote)
        (tmp_path / "client.toml").write_text(
            f'ae_title = "SAFE"\n{tls}[dicom_peers.TWIN]\nhost = "127.0.0.1"\n'
            f"port = {node.dicom_tls_port}\ntls = true\n"
        )
        monkeypatch.setenv("TWIN_DICOM_PASSCODE", "pw")
        words = ("dicom", "echo", "TWIN", "--user", "alice", "--config", str(tmp_path / "client.toml"))
        assert _json(capsys, *words)["peer"] == "TWIN"
        monkeypatch.setenv("TWIN_DICOM_PASSCODE", "guess")
        assert _json(capsys, *words, code=1)["error"] == "DimseFailedError"
    assert main(["config", "--config", str(toml)]) == 0
    assert "CT1" in capsys.readouterr().out
    monkeypatch.setenv("TWIN_DICOM_PEERS", '{"MR1": {"port": 104}}')
    shown = _json(capsys, "config", "--config", str(toml))
    assert "MR1" in json.dumps(shown)


def test_settings_that_contradict_each_other(tmp_path: Path, capsys: Any) -> None:
    for text, word in (
        ("dicom_tls_port = 2762", "TLS"),
        ("dicom_plain_port = false", "no DICOM port"),
        ('[dicom_peers.A]\nservices = ["dance"]', "dicom_peers"),
    ):
        (tmp_path / "twin.toml").write_text(text)
        assert main(["config", "--config", str(tmp_path / "twin.toml")]) == 1
        assert word in capsys.readouterr().err
