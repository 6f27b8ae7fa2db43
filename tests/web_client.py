"""A plain HTTP client of the DICOMweb routes of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from dicom_support import http_serving, open_store
from digital_twins import dicom


@contextmanager
def web_client(folder: Path, **options: Any) -> Iterator[tuple[dicom.DicomStore, httpx.Client]]:
    """Open a store in ``folder``; the client's base is the DICOMweb root."""
    with open_store(folder) as store:
        routes = dicom.dicomweb_routes(store, **options)
        with http_serving(routes) as base, httpx.Client(base_url=base, timeout=60) as client:
            yield store, client


def parts_of(response: Any) -> list[tuple[dict[str, str], bytes]]:
    """Cut a multipart answer with the standard library's parser: headers by lower-case name, and bodies."""
    from email import message_from_bytes

    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + response.content)
    assert message.is_multipart()
    found = []
    for part in message.get_payload():
        payload = part.get_payload(decode=True)
        found.append(({name.lower(): value for name, value in part.items()}, payload))
    return found
