"""The Python blocks of README and docs run, a page in one namespace and one empty folder.

Where a page speaks to a node, these strings of its blocks are replaced by the ports of an embedded one that
holds the lung sample: ``127.0.0.1:8042`` (HTTP) and ``11112`` (DICOM).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from digital_twins.cli import main
from digital_twins.config import Settings
from digital_twins.dicom import Remote, send
from digital_twins.fhir import FHIRClient
from digital_twins.samples import sample_patient
from digital_twins.server import Node
from doc_pages import PAGES, ROOT, blocks, name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTP, DICOM = "127.0.0.1:8042", "11112"
WITH_CODE = [page for page in PAGES if blocks(page, "python")]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that holds the sample; it builds no twin of its own while the pages run."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("node"), dicom_port=0, http_port=0, study_stable_seconds=3600
    )
    patient = sample_patient("lung")
    with Node(settings) as running:
        with FHIRClient(base_url=f"{running.base_url}/fhir") as client:
            client.transaction(patient.fhir_bundle())
        send(Remote("127.0.0.1", running.dicom_port, called_ae="TWIN"), patient.datasets())
        yield running


@pytest.mark.timeout(280)
@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_python_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    sources = blocks(page, "python")
    if any(HTTP in source or DICOM in source for source in sources):
        running = request.getfixturevalue("node")
        ports = {HTTP: f"127.0.0.1:{running.http_port}", DICOM: str(running.dicom_port)}
        for old, new in ports.items():
            sources = [source.replace(old, new) for source in sources]
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for number, source in enumerate(sources, start=1):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, f"{name(page)} block {number}", "exec"), namespace)


def commands(page: Path) -> list[list[str]]:
    """Words of every ``$ twin ...`` line of the page's console blocks."""
    text = "\n".join(blocks(page, "console")).replace("\\\n", " ")
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ twin ")]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name)
def test_commands_and_their_options_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _, *words in commands(page):
        sub = words[:2] if words[0] in {"audit", "certs", "dicom", "fhir", "hl7", "report"} else words[:1]
        assert main([*sub, "--help"]) == 0, words
        known = set(re.findall(r"--?[a-z][a-z-]*", capsys.readouterr().out))
        used = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert used <= known, f"{words}: {used - known}"


def test_make_goals_exist() -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for block in blocks(page, "console"):
            assert set(re.findall(r"^\$ make ([a-z-]+)", block, re.MULTILINE)) <= goals, name(page)


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[0].read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_json_blocks_are_json() -> None:
    for page in PAGES:
        for block in blocks(page, "json"):
            json.loads(block)
