"""`twin serve` as an operator meets it: it runs, is examined, ends in order, and refuses in words."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
PATIENCE_S = 60.0


def twin(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "digital_twins.cli", *map(str, words)],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("TWIN_")}, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(*words: object) -> str:
    process = twin("serve", "--dicom-port", 0, *words)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err
    lines = err.splitlines()[-3:]
    assert [line.split(":")[0].strip() for line in lines] == ["error", "why", "fix"]
    return "\n".join(lines)


@contextmanager
def node(folder: Path):
    process = twin("serve", "--data", folder, "--dicom-port", 0, "--http-port", 0, "--ae-title", "WARD")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "node.json").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, json.loads((folder / "node.json").read_text())
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_serve_is_examined_and_ends_in_order(tmp_path):
    with node(tmp_path / "data") as (process, place):
        doctor = twin(
            *("doctor", "--json", "--data", tmp_path / "data", "--http", place["base_url"]),
            *("--dicom", f"WARD@127.0.0.1:{place['dicom_port']}"),
        )
        out, err = doctor.communicate(timeout=PATIENCE_S)
        report = json.loads(out)
        assert (doctor.returncode, report["ok"]) == (0, True), (report, err)
        assert {"DICOM echo", "FHIR metadata", "health"} <= {check["name"] for check in report["checks"]}

        written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert written
        assert not [path for path in written if path.stat().st_mode & 0o007]

        again = refused("--data", tmp_path / "data", "--http-port", 0)
        assert "in use" in again

        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (0, "")
        assert {json.loads(line)["level"] for line in err.splitlines()} <= {"info", "warning"}
        verify = twin("audit", "verify", "--json", "--data", tmp_path / "data")
        out, _ = verify.communicate(timeout=PATIENCE_S)
        assert (verify.returncode, json.loads(out)["ok"]) == (0, True)


def test_an_occupied_port_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in refused("--data", tmp_path / "data", "--http-port", port)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("--data", tmp_path / "file" / "data", "--http-port", 0)
