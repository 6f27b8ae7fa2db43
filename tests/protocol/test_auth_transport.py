"""TLS of the HTTP port with certificates of `twin certs`, and our FHIR client signing in."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from auth_support import Site, records, site
from digital_twins.cli import main
from digital_twins.config import Settings
from digital_twins.fhir import AsyncFHIRClient, FHIRClient, FHIRRequestError, OAuth2Auth
from digital_twins.server import Node
from foreign import program


def test_https_is_tls_1_3_alone_and_takes_a_renewed_certificate(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    issue = ["certs", "issue", "node", "--host", "127.0.0.1", "--folder", str(certs), "--json"]
    assert main(["certs", "init", "--folder", str(certs)]) == 0
    assert main(issue) == 0
    assert main(issue) == 1
    assert (certs / "node.key").stat().st_mode & 0o077 == 0
    done = subprocess.run(
        [program("openssl"), "verify", "-x509_strict", "-CAfile", certs / "ca.pem", certs / "node.pem"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip().endswith(": OK"), done.stderr
    settings = Settings(
        data_dir=tmp_path / "node", http_port=0, dicom_port=0, authentication=True,
        http_tls_certificate=certs / "node.pem", http_tls_key=certs / "node.key",
    )  # fmt: skip
    trust = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    with Node(settings) as node:
        assert node.base_url.startswith("https://")
        with httpx.Client(base_url=node.base_url, verify=trust) as client:
            assert client.get("/health").status_code == 200
            assert client.get("/api/jobs").status_code == 401
        assert _offered(node.http_port, "-tls1_3") == "TLSv1.3"
        for old in ("-tls1_2", "-tls1_1"):
            assert _offered(node.http_port, old) is None
        before = _serial(node.http_port)
        assert main([*issue, "--replace"]) == 0
        end = time.monotonic() + 60
        while _serial(node.http_port) == before and time.monotonic() < end:
            time.sleep(0.2)
        assert _serial(node.http_port) != before


def _offered(port: int, flag: str) -> str | None:
    done = subprocess.run(
        [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", flag, "-brief"],
        input="", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("Protocol version")), None)


def _serial(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=30)


def _credentials(place: Site, folder: Path, content: dict[str, object]) -> Path:
    path = folder / "credentials.json"
    path.write_text(json.dumps({"token_url": f"{place.base}/auth/token"} | content))
    path.chmod(0o600)
    return path


def test_our_client_signs_in_as_a_service_and_by_refresh(tmp_path: Path) -> None:
    with site(tmp_path / "node") as place:
        records(place.node)
        base = f"{place.base}/fhir"
        for key in (place.ec, place.rsa):
            file = _credentials(place, tmp_path, {
                "client_id": "service", "scope": "system/*.rs", "private_key": key.as_dict(private=True)
            })  # fmt: skip
            with FHIRClient(base, auth=OAuth2Auth(file)) as client:
                assert {p.id for p in client.search("Patient")} == {"p1", "p2"}
                with pytest.raises(FHIRRequestError) as refused:
                    client.create("Patient", {"resourceType": "Patient"})
                assert refused.value.status == 403
        tokens = place.app_tokens("offline_access user/*.rs")
        given = {"client_id": "app", "refresh_token": tokens["refresh_token"]}
        file = _credentials(place, tmp_path, given)

        async def search() -> int:
            async with AsyncFHIRClient(base, auth=OAuth2Auth(file)) as client:
                return len(await client.search("Observation"))

        assert asyncio.run(search()) == 4
        assert json.loads(file.read_text())["refresh_token"] != tokens["refresh_token"]
        assert file.stat().st_mode & 0o077 == 0
        assert asyncio.run(search()) == 4
        file.chmod(0o644)
        with pytest.raises(Exception, match="Others than its owner"):
            OAuth2Auth(file)
