"""The command line: data on stdout, words on stderr, exit codes, errors in three lines or as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digital_twins.audit import AuditEvent, AuditTrail
from digital_twins.cli import main

SRC = Path(__file__).parents[2] / "src"
COMMANDS = ("serve", "demo", "doctor", "config", "sample", "build", "simulate", "audit")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TWIN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def trail(tmp_path):
    with AuditTrail(tmp_path / "node-data" / "audit.sqlite") as opened:
        opened.append([AuditEvent("C", "dicom.store", "success", "SCU", entity=f"1.2.{n}") for n in range(3)])
    return tmp_path / "node-data"


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_names_every_command(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "not a medical device" in " ".join(out.split())
    for command in COMMANDS:
        assert f"  {command}" in out
        code, text, _ = run(capsys, command, "--help")
        assert code == 0
        assert "Usage: twin " in text


def test_every_command_speaks_json_but_the_one_that_runs_for_ever(capsys):
    for command in COMMANDS[1:-1]:
        assert "--json" in run(capsys, command, "--help")[1]
    for command in ("verify", "tail"):
        assert "--json" in run(capsys, "audit", command, "--help")[1]


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert (code, out.split()[0]) == (0, "digital-twins")


def test_config_with_origins(capsys, tmp_path, monkeypatch):
    (tmp_path / "twin.toml").write_text("http_port = 9000\n")
    monkeypatch.setenv("TWIN_AE_TITLE", "WARD")
    code, out, _ = run(capsys, "config", "--show-origin", "--json", "--data", "elsewhere")
    assert code == 0
    shown = json.loads(out)
    assert shown["http_port"] == {"value": 9000, "origin": "twin.toml"}
    assert shown["ae_title"] == {"value": "WARD", "origin": "environment TWIN_AE_TITLE"}
    assert shown["data_dir"] == {"value": "elsewhere", "origin": "flag"}
    assert json.loads(run(capsys, "config", "--json")[1])["http_port"] == 9000
    assert "http_port = 9000" in run(capsys, "config")[1]
    assert "environment TWIN_AE_TITLE" in run(capsys, "config", "--show-origin")[1]


def test_an_error_is_three_lines_or_one_json_object(capsys, tmp_path):
    (tmp_path / "twin.toml").write_text("htp_port = 9000\n")
    code, out, err = run(capsys, "config")
    assert (code, out) == (1, "")
    assert [line.split(":")[0].strip() for line in err.splitlines()] == ["error", "why", "fix"]
    assert "Did you mean 'http_port'" in err
    code, out, err = run(capsys, "config", "--json")
    assert (code, out) == (1, "")
    assert set(json.loads(err)) == {"error", "what", "why", "fix"}


@pytest.mark.parametrize("words", [["zzz"], ["config", "--zzz"], ["audit", "tail", "-n", "x"], ["build"]])
def test_wrong_use_is_code_2(capsys, words):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "--help" in err
    code, _, err = run(capsys, *words, "--json")
    assert code == 2
    assert json.loads(err)["error"] == "UsageError"


def test_audit_verify_and_tail(capsys, trail):
    code, out, _ = run(capsys, "audit", "verify", "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["events"], report["problems"]) == (0, True, 3, [])
    code, out, _ = run(capsys, "audit", "tail", "-n", "2", "--json")
    assert (code, [row["entity"] for row in json.loads(out)]) == (0, ["1.2.1", "1.2.2"])
    assert "3 events, nothing was changed" in run(capsys, "audit", "verify")[1]
    assert "dicom.store" in run(capsys, "audit", "tail")[1]


def test_audit_verify_fails_on_a_changed_trail(capsys, trail):
    (trail / "audit.head").unlink()
    code, out, _ = run(capsys, "audit", "verify", "--json", "--data", str(trail))
    assert (code, json.loads(out)["ok"]) == (1, False)
    code, out, _ = run(capsys, "audit", "verify")
    assert code == 1
    assert "CHANGED" in out


def test_audit_without_a_trail(capsys, tmp_path):
    code, _, err = run(capsys, "audit", "verify", "--data", str(tmp_path / "none"), "--json")
    assert (code, json.loads(err)["error"]) == (1, "NotFoundError")
    assert not (tmp_path / "none").exists()


def test_a_scan_or_treatment_of_the_wrong_form_is_wrong_use(capsys, tmp_path):
    files = ["--image", "i.nii", "--mask", "m.nii", "--patient-id", "p"]
    code, _, err = run(capsys, "build", *files, "--scan", "week6.nii.gz")
    assert code == 2
    assert "DAY:PATH" in err
    (tmp_path / "list.json").write_text("[1]")
    for treatment, says in (
        ("{bad", "not JSON"),
        ("none.json", "readable file"),
        ("list.json", "a JSON object or a list of them"),
    ):
        code, _, err = run(capsys, "simulate", "f.twin", "--treatment", treatment)
        assert code == 2
        assert says in err


def test_an_unforeseen_exception_shows_its_place_but_not_its_words(capsys, monkeypatch):
    def broken(**_):
        raise RuntimeError("Jane Doe")

    monkeypatch.setattr("digital_twins.config.load_with_origins", broken)
    code, _, err = run(capsys, "config")
    assert code == 1
    assert "Doe" not in err
    assert "RuntimeError at broken" in err


def test_serve_refuses_an_open_address(capsys):
    code, _, err = run(capsys, "serve", "--host", "0.0.0.0")
    assert code == 1
    assert "allow_unauthenticated_network" in err


def python(*words: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "digital_twins.cli", *words],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        text=True,
        **options,
    )


def test_a_reader_that_goes_away_is_no_error(trail):
    process = python("audit", "tail", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) in (0, 1)


def test_ctrl_c_ends_cleanly_with_130():
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a job that runs behind
        "import digital_twins.config as c\n"
        "def wait(**_):\n    print('waiting', flush=True)\n    time.sleep(60)\n"
        "c.load_with_origins = wait\nfrom digital_twins.cli import main\nsys.exit(main(['config']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
