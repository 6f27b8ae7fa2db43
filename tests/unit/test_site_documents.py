"""Security answers of a node: from its settings, and each Yes with a test that exists."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from digital_twins import InputError
from digital_twins.config import Settings
from digital_twins.governance import security_answers, write_security_documents

ROOT = Path(__file__).parents[2]
HARDENED = {
    "authentication": True,
    "encryption_at_rest": True,
    "encryption_keys": "local:/mnt/keys/node.json",
    "audit_anchor_file": "/mnt/anchor/notes",
    "audit_syslog": "syslog.example:6514",
    "audit_syslog_authority": "authority.pem",
    "document_certificate": "document.pem",
    "document_key": "document.key",
    "http_tls_certificate": "http.pem",
    "http_tls_key": "http.key",
    "dicom_tls_port": 2762,
    "dicom_tls_certificate": "dicom.pem",
    "dicom_tls_key": "dicom.key",
    "dicom_tls_authority": "authority.pem",
    "dicom_plain_port": False,
    "dicom_peers_only": True,
    "dicom_users_file": "users",
    "database": "postgresql://twin@db.example/twin",
    "oidc": {"issuer": "https://login.example", "client_id": "twin"},
}


def answers(**settings: object) -> dict[str, dict]:
    return {each["id"]: each for each in security_answers(Settings(**settings))}


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_yes_names_a_test_that_exists():
    hardened = answers(**HARDENED)
    claimed = [each for each in hardened.values() if each["answer"] == "Yes"]
    assert len(claimed) == sum(each["test"] is not None for each in hardened.values()) > 15
    for each in claimed:
        path, _, name = each["test"].partition("::")
        assert name in functions(ROOT / path), each


@pytest.mark.parametrize(("setting", "value"), HARDENED.items())
def test_answers_follow_the_settings(setting, value):
    fields = Settings.model_fields
    for each in answers().values():
        if each["settings"] is None:
            assert each["answer"] == "[operator to supply]"
            assert each["test"] is None
        elif each["settings"]:
            assert each["answer"] == "No", each
            assert all(name == "!" or name.lstrip("!") in fields for name in each["settings"])
        else:
            assert each["answer"] == "Yes"
    concerned = [
        name
        for name, each in answers().items()
        if setting in [part.lstrip("!") for part in each["settings"] or ()]
    ]
    without = {k: v for k, v in HARDENED.items() if k != setting}
    try:
        now = answers(**without)
    except (ValueError, InputError):  # one of a pair alone is refused
        return
    for key in concerned:
        assert now[key]["answer"] == "No", (key, value)


def test_every_group_of_the_form_is_answered():
    """23 groups, as the form of 2019 has [verify]; in each a question, and no question twice."""
    rows = answers(**HARDENED)
    groups = {name.split("-")[0] for name in rows}
    assert groups == {
        *("MPII", "ALOF", "AUDT", "AUTH", "CNFS", "CSUP", "DIDT", "DTBK", "EMRG", "IGAU", "MLDP", "NAUT"),
        *("CONN", "PAUT", "PLOK", "RDMP", "SBOM", "SAHD", "SGUD", "STCF", "TXCF", "TXIG", "RMOT"),
    }
    assert len({each["question"] for each in rows.values()}) == len(rows) >= 47


def test_no_test_of_a_yes_is_one_that_never_runs():
    """A Yes is worth what its test is: neither skipped nor expected to fail, and of a suite that is run."""
    for each in answers(**HARDENED).values():
        if each["test"] is None:
            continue
        path, _, name = each["test"].partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        (found,) = (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        )
        marks = " ".join(ast.unparse(mark) for mark in found.decorator_list)
        assert "skip" not in marks, each
        assert "xfail" not in marks, each
        assert any(isinstance(node, ast.Assert | ast.With) for node in ast.walk(found)), each


def test_the_documents_have_no_blank(tmp_path):
    written = write_security_documents(Settings(), tmp_path / "out")
    assert [path.name for path in written] == [
        "mds2.md",
        "mds2.json",
        "hipaa-technical-safeguards.md",
        "hipaa-technical-safeguards.json",
    ]
    for path in written[::2]:
        assert not re.search(r"\|[ ]*\|", path.read_text(encoding="utf-8")), path.name
    safeguards = json.loads(written[3].read_text(encoding="utf-8"))
    assert len(safeguards) == 12
    assert all(each["controls"] for each in safeguards)
    assert "| 164.312(e)(2)(ii) |" in written[2].read_text(encoding="utf-8")
