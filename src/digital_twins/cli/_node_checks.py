"""The checks of `twin doctor` that talk to a node over the network, as a hospital's systems would."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.cli._checks import Check, run

if TYPE_CHECKING:
    from collections.abc import Iterator

_HTTP_PATIENCE_S = 10.0


@dataclass(slots=True)
class _Target:
    """Where a node answers; None for a part that is not to be asked."""

    dicom: str | None
    http: str | None


def run_all(dicom: str | None, http: str | None) -> Iterator[Check]:
    """Yield the outcome of each check against a running node, or against one started for the purpose.

    Parameters
    ----------
    dicom
        ``HOST:PORT`` or ``AE@HOST:PORT`` of a running node.
    http
        Base URL of a running node.
    """
    target = _Target(dicom, http)
    with ExitStack() as stack:
        if dicom is None and http is None:
            started = run("node start", lambda: _start(stack, target))
            yield started
            if not started.ok:
                return
        if target.dicom is not None:
            yield run("DICOM echo", lambda: _echo(target.dicom or ""))
        if target.http is not None:
            yield run("health", lambda: _health(target.http or ""))
            yield run("FHIR metadata", lambda: _metadata(target.http or ""))
            yield run("DICOMweb", lambda: _studies(target.http or ""))


def _start(stack: ExitStack, target: _Target) -> str:
    from digital_twins.config import Settings
    from digital_twins.server import Node

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="twin-doctor-"))
    start = time.perf_counter()
    node = stack.enter_context(
        Node(Settings(data_dir=Path(folder), host="127.0.0.1", dicom_port=0, http_port=0, ae_title="DOCTOR"))
    )
    target.dicom, target.http = f"DOCTOR@127.0.0.1:{node.dicom_port}", node.base_url
    return f"a node started in {time.perf_counter() - start:.1f} s on free ports"


def _echo(address: str) -> str:
    from digital_twins.dicom import Remote, echo

    called, _, place = address.rpartition("@")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(
            f"'{address}' is not an address.",
            "A DICOM node is named by its host and port.",
            "Write --dicom HOST:PORT or AE@HOST:PORT, e.g. TWIN@127.0.0.1:11112.",
        )
    start = time.perf_counter()
    echo(Remote(host, int(port), called_ae=called or "TWIN", calling_ae="DOCTOR", timeout_s=10.0))
    return f"{address} answered C-ECHO in {(time.perf_counter() - start) * 1000:.0f} ms"


def _health(base_url: str) -> str:
    return f"{base_url}/health says {_get(base_url, '/health').get('status', 'ok')}"


def _metadata(base_url: str) -> str:
    statement = _get(base_url, "/fhir/metadata")
    if statement.get("resourceType") != "CapabilityStatement" or "4.0" not in str(
        statement.get("fhirVersion")
    ):
        raise DigitalTwinError(
            f"{base_url}/fhir/metadata is no FHIR R4 CapabilityStatement.",
            f"It is a '{statement.get('resourceType')}' of version {statement.get('fhirVersion')}.",
            "Give the base URL of the node itself, not that of another server.",
        )
    kinds = [kind for rest in statement.get("rest", ()) for kind in rest.get("resource", ())]
    return f"CapabilityStatement of FHIR {statement['fhirVersion']} with {len(kinds)} resource types"


def _studies(base_url: str) -> str:
    studies = _get(base_url, "/dicom-web/studies?limit=1")
    return f"study search answered with {len(studies)} of at most 1 study"


def _get(base_url: str, path: str) -> Any:
    import httpx

    from digital_twins.cli._sign_ins import SignedIn, SignIns, tls

    store = SignIns()
    held = store.covering(base_url)
    auth = SignedIn(held, store) if held is not None else None
    trusted = tls(held.authority) if held is not None else True
    try:
        answer = httpx.get(base_url.rstrip("/") + path, timeout=_HTTP_PATIENCE_S, auth=auth, verify=trusted)
        answer.raise_for_status()
        if answer.status_code == httpx.codes.NO_CONTENT:
            return {}
        return answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DigitalTwinError(
            f"{base_url}{path} does not answer as it should.",
            f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__,
            "Check the URL and that the node runs there (twin serve).",
        ) from None
