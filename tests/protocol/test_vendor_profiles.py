"""Vendor profiles against our own node: the contract that each promises, not the products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_forwarding import forwarding, wait_for
from dicom_support import ct_slice, file_bytes, http_serving, listening, open_store
from digital_twins import InputError, NotFoundError, dicom
from digital_twins.dicom._sending import proposals
from pacs_recorder import pacs

NAMES = ("fujifilm", "ge", "generic", "philips", "sectra", "siemens")


def test_the_profiles_are_there_and_say_that_they_are_untested() -> None:
    assert dicom.profile_names() == NAMES
    for name in NAMES:
        profile = dicom.vendor_profile(name)
        assert profile.status == "untested against the product"
        assert profile.retrieve in {"get", "move"}
        for uid in profile.compressed_transfer_syntaxes:
            assert UID(uid).is_compressed
            assert UID(uid).is_transfer_syntax
    assert dicom.vendor_profile("ge").api_key_header == "X-Api-Key"


def test_unknown_profiles_are_refused() -> None:
    with pytest.raises(NotFoundError):
        dicom.vendor_profile("acme")
    with pytest.raises(InputError, match="acme"):
        dicom.PeerTable.of([dicom.DicomPeer("A", profile="acme")])


@pytest.mark.parametrize("name", NAMES)
def test_only_syntaxes_of_the_profile_are_offered(name: str) -> None:
    taken = dicom.vendor_profile(name).compressed_transfer_syntaxes
    stored = [
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.5",
        str(ExplicitVRLittleEndian),
    ]
    offered = {
        uid
        for _, syntaxes in proposals([(CTImageStorage, uid) for uid in stored], taken=taken)
        for uid in syntaxes
    }
    native = {str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)}
    assert offered == native | (set(stored) & taken if taken else set(stored))


def test_a_compressed_object_goes_uncompressed_to_a_product_that_does_not_take_it(tmp_path: Path) -> None:
    """RLE is not among the syntaxes of the ge profile, though the archive would take it."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file
    from pydicom.uid import RLELossless

    path = str(get_testdata_file("MR_small_RLE.dcm"))
    original = dcmread(path)
    syntaxes = [RLELossless, ExplicitVRLittleEndian]
    for name, compressed in (("generic", True), ("ge", False)):
        folder = tmp_path / name
        with (
            pacs([(original.SOPClassUID, syntaxes)]) as archive,
            forwarding(folder, [dicom.Route("PACS")]) as (store, queues, start),
        ):
            store.ingest(Path(path).read_bytes(), source="MR1")
            taken = dicom.vendor_profile(name).compressed_transfer_syntaxes
            remote = dicom.Remote("127.0.0.1", archive.port, called_ae="PACS")
            start(PACS=dicom.Destination(remote, transfer_syntaxes=taken))
            wait_for(lambda queues=queues: queues.state("PACS").sent == 1)
            (data,) = archive.received[original.SOPInstanceUID]
            assert (original.pixel_array.tobytes() in data) is not compressed


@pytest.mark.parametrize("name", NAMES)
def test_retrieval_by_the_service_of_the_profile(tmp_path: Path, name: str) -> None:
    profile = dicom.vendor_profile(name)
    with open_store(tmp_path / "archive") as archive, open_store(tmp_path / "ours") as ours:
        with listening(ours, ae_title="OURS") as receiver:
            row = dicom.DicomPeer("OURS", host="127.0.0.1", port=receiver.port)
            access = dicom.Access(peers=dicom.PeerTable.of([row]))
            with listening(archive, ae_title="ARCHIVE", access=access) as served:
                raw = file_bytes(ct_slice(1))
                archive.ingest(raw)
                remote = dicom.Remote("127.0.0.1", served.port, called_ae="ARCHIVE", calling_ae="OURS")
                keys = {"StudyInstanceUID": "1.2.3.1"}
                done = dicom.retrieve(remote, keys, profile=profile, store=ours, destination="OURS")
        assert (done.completed, done.failed) == (1, 0)
        (found,) = ours.instances("1.2.3.1")
        original = archive.instance(found.sop_uid)
        assert (
            ours.read(found.sop_uid)[found.dataset_offset :]
            == archive.read(found.sop_uid)[original.dataset_offset :]
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_api_key_goes_in_the_header_of_the_profile(tmp_path: Path, name: str) -> None:
    from starlette.routing import Mount, Router

    profile = dicom.vendor_profile(name)
    seen: list[dict[str, str]] = []
    with open_store(tmp_path) as store:
        inner = Router(dicom.dicomweb_routes(store))

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            seen.append({key.decode(): value.decode() for key, value in scope["headers"]})
            await inner(scope, receive, send)

        with (
            http_serving([Mount("", watched)]) as url,
            dicom.DicomWebClient(url, headers=profile.headers("secret")) as client,
        ):
            client.store([ct_slice(1)])
            assert len(client.search_studies()) == 1
    assert [headers[profile.api_key_header.lower()] for headers in seen] == ["secret", "secret"]
    assert profile.headers("") == {}
