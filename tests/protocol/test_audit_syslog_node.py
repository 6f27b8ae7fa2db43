"""A node sends its audit events to the syslog receiver that the settings name."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading

import httpx
import pytest

from digital_twins._errors import InputError
from digital_twins.config import load_settings
from digital_twins.crypto import create_authority, issue_certificate
from digital_twins.server import Node


def test_a_node_sends_each_event_before_it_ends(tmp_path):
    authority = create_authority(tmp_path)
    own = issue_certificate(tmp_path, "receiver", hosts=["127.0.0.1"], purpose="server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(own, own.with_suffix(".key"))
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)

        def receive() -> None:
            plain, _ = listening.accept()
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                while part := connection.recv(65536):
                    received.extend(part)

        thread = threading.Thread(target=receive)
        thread.start()
        settings = load_settings(
            data_dir=tmp_path / "data",
            http_port=0,
            dicom_port=0,
            audit_syslog=f"127.0.0.1:{listening.getsockname()[1]}",
            audit_syslog_authority=authority,
        )
        with Node(settings) as node:
            body = {"resourceType": "Patient", "id": "p1"}
            headers = {"content-type": "application/fhir+json", "origin": node.base_url}
            answer = httpx.put(f"{node.base_url}/fhir/Patient/p1", json=body, headers=headers, timeout=60)
            assert answer.status_code == 201
        thread.join(60)
    text, messages = bytes(received), []
    while text:  # RFC 5425 section 4.3: length, space, message
        length, _, text = text.partition(b" ")
        messages.append(text[: int(length)].decode())
        text = text[int(length) :]
    rows = [re.search(r'sequenceId="(\d+)".*csd-code="fhir.update"', each) for each in messages]
    assert [row[1] for row in rows if row] == ["1"]
    assert any("TWIN-CHECKPOINT" in each for each in messages)


def test_a_receiver_without_an_authority_is_refused(tmp_path):
    with pytest.raises(InputError, match="audit_syslog_authority"):
        load_settings(data_dir=tmp_path, audit_syslog="127.0.0.1:6514")
