"""What sslscan finds at the TLS doors of a node: TLS 1.3 alone, and new certificates without a restart."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from certificates import Authority
from dicom_support import listening, open_store
from digital_twins import dicom
from digital_twins.config import Settings
from digital_twins.server import Node
from foreign import program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers


def scan(port: int, certificate: Path, key: Path) -> ElementTree.Element:
    """What sslscan reports of a port."""
    done = subprocess.run(
        [program("sslscan"), "--xml=-", f"--certs={certificate}", f"--pk={key}", f"127.0.0.1:{port}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found = ElementTree.fromstring(done.stdout).find("ssltest")
    assert found is not None
    return found


def protocols(report: ElementTree.Element) -> set[str]:
    """Names of the enabled protocols, e.g. ``tls1.3``."""
    rows = report.findall("protocol")
    assert {f"{row.get('type')}{row.get('version')}" for row in rows} >= {
        "ssl2",
        "ssl3",
        "tls1.0",
        "tls1.2",
        "tls1.3",
    }
    return {f"{row.get('type')}{row.get('version')}" for row in rows if row.get("enabled") == "1"}


def serial(port: int, context: ssl.SSLContext) -> str:
    """Serial number of the certificate that a port shows to a client with a certificate."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        assert secure.version() == "TLSv1.3"
        shown = secure.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


def test_every_tls_door_offers_tls_1_3_alone_and_takes_renewed_certificates(tmp_path: Path) -> None:
    program("sslscan")
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("node")
    settings = Settings(
        data_dir=tmp_path / "node", http_port=0, dicom_port=0, dicom_tls_port=0, hl7_port=0, hl7_tls=True,
        http_tls_certificate=certificate, http_tls_key=key, dicom_tls_certificate=certificate,
        dicom_tls_key=key, dicom_tls_authority=authority.file,
    )  # fmt: skip
    client = authority.tls("client")
    context = client.client()
    with Node(settings) as node:
        doors = {"https": node.http_port, "dicom-tls": node.dicom_tls_port, "mllps": node.hl7_port}
        for door, port in doors.items():
            report = scan(port, client.certificate, client.key)
            assert protocols(report) == {"tls1.3"}, door
            ciphers = report.findall("cipher")
            assert {row.get("sslversion") for row in ciphers} == {"TLSv1.3"}, door
            assert all(int(row.get("bits", "0")) >= 128 for row in ciphers), door
        mutual = [doors["dicom-tls"], doors["mllps"]]
        before = [serial(port, context) for port in mutual]
        shutil.copy(authority.issue("other")[0], certificate)  # half a pair: the old one stays in use
        assert [serial(port, context) for port in mutual] == before
        shutil.copy(tmp_path / "ca" / "other.key", key)
        after = [serial(port, context) for port in mutual]
        assert len({*before, *after}) == 2
        assert before[0] not in after


def test_sslscan_sees_tls_1_2_where_one_peer_needs_it(tmp_path: Path) -> None:
    program("sslscan")
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("client")
    table = dicom.PeerTable.of([dicom.DicomPeer("OLD", tls=True, tls_1_2=True)], strict=True)
    access = dicom.Access(peers=table, tls=authority.tls("node", allow_1_2=True))
    with open_store(tmp_path) as store, listening(store, access=access) as node:
        report = scan(node.port, certificate, key)
    assert protocols(report) == {"tls1.2", "tls1.3"}
    weak = {row.get("cipher", "") for row in report.findall("cipher") if row.get("sslversion") == "TLSv1.2"}
    assert weak
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in weak)
