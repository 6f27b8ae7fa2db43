"""What the security answers of a node say of its DICOM ports, at a running node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from certificates import Authority
from digital_twins import dicom
from digital_twins.config import DicomPeerSettings, Settings
from digital_twins.server import Node

if TYPE_CHECKING:
    from pathlib import Path


def remote(port: int, title: str, tls: dicom.Tls | None = None) -> dicom.Remote:
    return dicom.Remote("127.0.0.1", port, called_ae="TWIN", calling_ae=title, tls=tls)


def test_a_stranger_is_refused(tmp_path: Path) -> None:
    peers = {"CT1": DicomPeerSettings(services=("echo",))}
    settings = Settings(
        data_dir=tmp_path / "node", http_port=0, dicom_port=0, dicom_peers=peers, dicom_peers_only=True
    )
    with Node(settings) as node:
        dicom.echo(remote(node.dicom_port, "CT1"))
        with pytest.raises(dicom.DimseFailedError, match="calling AE title not recognised"):
            dicom.echo(remote(node.dicom_port, "STRANGER"))


def test_no_plain_dicom_port_is_open(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("node")
    settings = Settings(
        data_dir=tmp_path / "node", http_port=0, dicom_port=0, dicom_plain_port=False, dicom_tls_port=0,
        dicom_tls_certificate=certificate, dicom_tls_key=key, dicom_tls_authority=authority.file,
    )  # fmt: skip
    with Node(settings) as node:
        assert node.dicom_port == node.dicom_tls_port > 0  # the only one
        dicom.echo(remote(node.dicom_tls_port, "CT1", authority.tls("client")))
        with pytest.raises(dicom.DimseFailedError):
            dicom.echo(remote(node.dicom_tls_port, "CT1"))
