"""A small certificate authority for tests of mutual TLS, made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from digital_twins import dicom
from foreign import program


class Authority:
    """Makes certificates for 127.0.0.1 in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.file = folder / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority",
        )  # fmt: skip

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of an entity."""
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.pem",
        )  # fmt: skip
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def tls(self, name: str, *, trust: Path | None = None, allow_1_2: bool = False) -> dicom.Tls:
        """The TLS settings of an entity with a certificate of this authority."""
        certificate, key = self.issue(name)
        return dicom.Tls(certificate, key, trust or self.file, allow_1_2)

    def _openssl(self, *words: str) -> None:
        subprocess.run([program("openssl"), *words], cwd=self._folder, check=True, capture_output=True)
