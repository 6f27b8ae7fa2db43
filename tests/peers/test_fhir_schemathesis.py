"""schemathesis drives the REST interface by its OpenAPI document: no server error, whatever it sends."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from fhir_support import open_store, serve
from foreign import PEERS, missing_peer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers


@pytest.mark.timeout(7200)  # at full counts, on a busy machine
def test_no_server_error(tmp_path: Path, full: bool) -> None:
    from digital_twins.fhir.validation import ResourceValidation

    python = PEERS / "fhir" / "bin" / "python"  # its scripts name the folder that they were installed in
    if not python.is_file():
        missing_peer("schemathesis")
    examples = "200" if full else "8"
    failures: list[BaseException] = []
    with (
        open_store(tmp_path) as store,
        serve(store, validation=ResourceValidation(), on_error=failures.append) as base,
    ):
        command = [
            str(python),
            "-m",
            "schemathesis.cli",
            "run",
            f"{base}/openapi.json",
            "--checks",
            "not_a_server_error",
        ]
        command += [
            "--max-examples",
            examples,
            "--seed",
            "1",
            "--phases",
            "coverage,fuzzing" if full else "fuzzing",
        ]
        answer = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=7000, check=False
        )
    assert failures == []
    assert answer.returncode == 0, answer.stdout[-3000:]
    assert " passed" in answer.stdout
