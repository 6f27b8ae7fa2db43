"""Each check of `twin doctor` says ok with what it found, or what, why and fix."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from digital_twins import StorageError
from digital_twins.audit import load_pseudonym_key
from digital_twins.cli import _checks, _node_checks, main
from digital_twins.config import Settings

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(SRC))  # the node's workers are processes of their own
    for name in [name for name in os.environ if name.startswith("TWIN_")]:
        monkeypatch.delenv(name)


def test_versions_name_the_libraries():
    found = _checks.versions()
    for name in ("digital-twins", "Python", "numpy", "pydicom"):
        assert name in found


def test_ports():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check = _checks.run("port", lambda: _checks.port_free("127.0.0.1", port, "http_port"))
        assert not check.ok
        assert str(port) in check.what
        assert "http_port" in check.fix
    assert "is free" in _checks.port_free("127.0.0.1", port, "http_port")
    assert "free one" in _checks.port_free("127.0.0.1", 0, "http_port")


def test_storage_measures_fsync_and_leaves_nothing(tmp_path):
    assert "fsync takes" in _checks.storage(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_storage_that_is_read_only_or_full(small_volume, monkeypatch):
    folder = small_volume("size=1m")
    small_volume.remount("ro")
    with pytest.raises(StorageError, match="cannot be written"):
        _checks.storage(folder)
    small_volume.remount("rw")
    with pytest.raises(StorageError, match="MiB left"):
        _checks.disk_space(folder)


def test_clock(monkeypatch):
    assert "UTC" in _checks.clock()
    monkeypatch.setattr(_checks.time, "monotonic", lambda: 0.0)
    check = _checks.run("clock", _checks.clock)
    assert not check.ok
    assert "NTP" in check.fix


def test_keys(tmp_path):
    settings = Settings(data_dir=tmp_path)
    assert "first start" in _checks.keys(settings)
    load_pseudonym_key(settings.pseudonym_key_file)
    assert "owner alone" in _checks.keys(settings)
    settings.pseudonym_key_file.chmod(0o644)
    assert "chmod 600" in _checks.run("keys", lambda: _checks.keys(settings)).fix


def test_solver():
    assert "Fisher wave" in _checks.solver()


def test_a_check_that_breaks_does_not_hide_the_others():
    check = _checks.run("x", lambda: 1 / 0)
    assert (check.ok, check.why) == (False, "ZeroDivisionError: division by zero")


# pynetdicom leaves the socket of a refused connection to the garbage collector.
refused_socket = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@refused_socket
def test_a_node_that_does_not_answer():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        checks = list(_node_checks.run_all(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}"))
    assert [check.name for check in checks] == ["DICOM echo", "health", "FHIR metadata", "DICOMweb"]
    for check in checks:
        assert not check.ok
        assert check.why
        assert check.fix
    (check,) = _node_checks.run_all("nonsense", None)
    assert "AE@HOST:PORT" in check.fix


def test_doctor_starts_a_node_and_finds_everything_in_order(capsys):
    code = main(["doctor", "--json", "--data", "data"])
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    failed = [check for check in report["checks"] if not check["ok"] and "port" not in check["name"]]
    assert failed == []
    assert code == (0 if report["ok"] else 1)
    names = {check["name"] for check in report["checks"]}
    assert {"versions", "storage", "clock", "keys", "solver", "DICOM echo", "FHIR metadata"} <= names


@refused_socket
def test_doctor_fails_in_words(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        os.environ["TWIN_HTTP_PORT"] = str(taken.getsockname()[1])
        try:
            code = main(["doctor", "--dicom", "127.0.0.1:1"])
        finally:
            del os.environ["TWIN_HTTP_PORT"]
    out = capsys.readouterr().out
    assert code == 1
    assert "FAIL  HTTP port" in out
    assert "fix: " in out
    assert "ok    versions" in out
