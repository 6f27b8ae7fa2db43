"""Who may associate: TLS with certificates, users, the peers table, and rates."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification

from certificates import Authority
from dicom_support import RawPeer, audited, ct_slice, file_bytes, listening, open_store
from digital_twins import InputError, dicom
from digital_twins.dicom._dimse import Tag

REJECTED = "rejected the association"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def _table(*peers: dicom.DicomPeer, strict: bool = True) -> dicom.PeerTable:
    return dicom.PeerTable.of(peers, strict=strict)


def test_tls_1_3_with_certificates_on_both_sides(tmp_path: Path, authority: Authority) -> None:
    other = Authority(tmp_path / "other")
    access = dicom.Access(tls=authority.tls("node"))
    with open_store(tmp_path) as store, listening(store, access=access) as node:
        good = dicom.Remote("127.0.0.1", node.port, tls=authority.tls("ct1"))
        dicom.echo(good)
        assert dicom.send(good, [ct_slice(1)]) == 1
        foreign = other.tls("ct1", trust=authority.file)
        for remote in (
            dicom.Remote("127.0.0.1", node.port),  # no TLS
            dicom.Remote("127.0.0.1", node.port, tls=foreign),  # a certificate of somebody else
            dicom.Remote(
                "127.0.0.1", node.port, tls=authority.tls("ct2", trust=other.file)
            ),  # we are not trusted
        ):
            with pytest.raises(dicom.DimseFailedError, match="No association"):
                dicom.echo(remote)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.load_cert_chain(*authority.issue("old"))
        assert not _shakes_hands(node.port, old)
        dicom.echo(good)


def _shakes_hands(port: int, context: ssl.SSLContext) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as wrapped:
                return wrapped.version() is not None
        except (ssl.SSLError, ConnectionError):
            return False


def _pynetdicom(
    port: int, context: ssl.SSLContext | None, *, title: str = "PYNETDICOM", identity: Any = None
) -> bool:
    """Whether pynetdicom can associate and echo."""
    ae = AE(ae_title=title)
    ae.add_requested_context(Verification)
    association = ae.associate(
        "127.0.0.1",
        port,
        ae_title="TWIN",
        tls_args=None if context is None else (context, "127.0.0.1"),
        ext_neg=[identity] if identity is not None else [],
    )
    if not association.is_established:
        return False
    status = association.send_c_echo().Status
    association.release()
    return bool(status == 0)


def test_tls_1_2_only_for_the_peer_that_may(tmp_path: Path, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*authority.issue("legacy"))
    weak = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.check_hostname, weak.verify_mode = False, ssl.CERT_NONE
    weak.set_ciphers("ECDHE+AES+SHA1:AES128-SHA")  # CBC and RSA key exchange: not in BCP 195
    weak.load_cert_chain(*authority.issue("weak"))
    table = _table(
        dicom.DicomPeer("LEGACY", tls=True, tls_1_2=True), dicom.DicomPeer("MODERN", tls=True), strict=True
    )
    access = dicom.Access(peers=table, tls=authority.tls("node", allow_1_2=True))
    with open_store(tmp_path) as store, listening(store, access=access) as node:
        assert _pynetdicom(node.port, context, title="LEGACY")
        assert not _pynetdicom(node.port, context, title="MODERN")
        assert not _shakes_hands(node.port, weak)
        dicom.echo(
            dicom.Remote(
                "127.0.0.1", node.port, called_ae="TWIN", calling_ae="MODERN", tls=authority.tls("m")
            )
        )
        old = [e for e in audited(store) if e["kind"] == "dicom.tls"]
    assert [(e["agent"], e["detail"]["version"]) for e in old] == [("LEGACY", "TLSv1.2")]


def test_a_peer_may_be_bound_to_its_certificate(tmp_path: Path, authority: Authority) -> None:
    mine, others = authority.tls("bound"), authority.tls("unbound")
    der = ssl.PEM_cert_to_DER_cert(mine.certificate.read_text())
    peer = dicom.DicomPeer("CT1", tls=True, certificate_sha256=hashlib.sha256(der).hexdigest())
    access = dicom.Access(peers=_table(peer), tls=authority.tls("node"))
    with open_store(tmp_path) as store, listening(store, access=access) as node:
        dicom.echo(dicom.Remote("127.0.0.1", node.port, called_ae="TWIN", calling_ae="CT1", tls=mine))
        with pytest.raises(dicom.DimseFailedError, match=REJECTED):
            dicom.echo(dicom.Remote("127.0.0.1", node.port, called_ae="TWIN", calling_ae="CT1", tls=others))


def test_users_with_passcodes(tmp_path: Path) -> None:
    users = dicom.UserTable({"radiographer": dicom.hash_passcode("s3cret")})
    access = dicom.Access(peers=_table(dicom.DicomPeer("CT1", require_user=True)), users=users)

    def remote(port: int, user: str = "", passcode: str = "") -> dicom.Remote:
        return dicom.Remote(
            "127.0.0.1", port, called_ae="TWIN", calling_ae="CT1", user=user, passcode=passcode
        )

    with open_store(tmp_path) as store, listening(store, access=access) as node:
        assert dicom.send(remote(node.port, "radiographer", "s3cret"), [ct_slice(1)]) == 1
        for user, passcode in (
            ("radiographer", "wrong"),
            ("nobody", "s3cret"),
            ("radiographer", ""),
            ("", ""),
        ):
            with pytest.raises(dicom.DimseFailedError, match=REJECTED):
                dicom.echo(remote(node.port, user, passcode))
        events = audited(store)
    assert [(e["kind"], e["outcome"]) for e in events] == [
        ("dicom.login", "success"),
        ("dicom.store", "success"),
        *[("dicom.associate", "refused")] * 4,
    ]
    assert events[1]["agent"] == "radiographer@CT1"
    assert "s3cret" not in str(events)


def test_the_passcode_answer_is_sent_when_asked_for(tmp_path: Path) -> None:
    access = dicom.Access(users=dicom.UserTable({"u": dicom.hash_passcode("p")}))
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"u", b"p"
    identity.positive_response_requested = True
    with open_store(tmp_path) as store, listening(store, access=access) as node:
        ae = AE()
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", node.port, ext_neg=[identity])
        assert association.is_established
        assert association.acceptor.user_identity is not None
        association.release()


def test_web_tokens_only_with_a_verifier(tmp_path: Path) -> None:
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 5, b"header.payload.signature"
    needs = _table(dicom.DicomPeer("APP", require_user=True))
    for verifier, welcome in (
        (None, False),
        (lambda token: "alice" if token == b"header.payload.signature" else None, True),
        (lambda _token: None, False),
    ):
        access = dicom.Access(peers=needs, verify_token=verifier)
        with open_store(tmp_path / str(welcome)) as store, listening(store, access=access) as node:
            assert _pynetdicom(node.port, None, title="APP", identity=identity) is welcome


def test_passcode_hashes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# users\nalice:{dicom.hash_passcode('a')}\n\n", encoding="utf-8")
    table = dicom.UserTable.read(path)
    assert table.knows("alice", b"a")
    assert not table.knows("alice", b"b")
    assert not table.knows("bob", b"a")
    for text in ("alice", "alice:plain", "alice:scrypt$1:2:3$x$y"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError):
            dicom.UserTable.read(path)
    # RFC 7914 section 12, second vector, through the file format.
    vector = "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
    import base64

    key = base64.b64encode(bytes.fromhex(vector)).decode()
    salt = base64.b64encode(b"NaCl").decode()
    assert dicom.UserTable({"v": f"scrypt$1024:8:16${salt}${key}"}).knows("v", b"password")


def test_services_are_allowed_peer_by_peer(tmp_path: Path) -> None:
    table = _table(
        dicom.DicomPeer("MODALITY", services=frozenset({dicom.Service.ECHO, dicom.Service.STORE})),
        dicom.DicomPeer("VIEWER", services=frozenset({dicom.Service.FIND, dicom.Service.GET})),
    )
    with open_store(tmp_path) as store, listening(store, access=dicom.Access(peers=table)) as node:
        modality = dicom.Remote("127.0.0.1", node.port, called_ae="TWIN", calling_ae="MODALITY")
        viewer = dicom.Remote("127.0.0.1", node.port, called_ae="TWIN", calling_ae="VIEWER")
        assert dicom.send(modality, [ct_slice(1)]) == 1
        with pytest.raises(dicom.DimseFailedError, match="none of the presentation contexts"):
            dicom.find(modality, {"StudyInstanceUID": ""})
        assert len(dicom.find(viewer, {"StudyInstanceUID": ""})) == 1
        fetched: list[bytes] = []
        assert dicom.get(viewer, {"StudyInstanceUID": "1.2.3.1"}, into=fetched.append).completed == 1
        with pytest.raises(dicom.DimseFailedError):
            dicom.send(viewer, [ct_slice(2)])
        with pytest.raises(dicom.DimseFailedError):
            dicom.echo(viewer)
        assert len(store.instances("1.2.3.1")) == 1


def test_addresses_counts_and_rates(tmp_path: Path) -> None:
    table = _table(
        dicom.DicomPeer("FAR", addresses=("10.0.0.0/8",)),
        dicom.DicomPeer("NEAR", addresses=("127.0.0.0/8",), max_associations=1),
        dicom.DicomPeer("SLOW", max_requests_per_s=20),
    )
    limits = dicom.Limits(max_associations_per_minute=40)
    access = dicom.Access(peers=table)
    with open_store(tmp_path) as store, listening(store, access=access, limits=limits) as node:
        store.ingest(file_bytes(ct_slice(1)))

        def remote(title: str) -> dicom.Remote:
            return dicom.Remote("127.0.0.1", node.port, called_ae="TWIN", calling_ae=title)

        with pytest.raises(dicom.DimseFailedError, match="calling AE title not recognised"):
            dicom.echo(remote("FAR"))
        ae = AE(ae_title="NEAR")
        ae.add_requested_context(Verification)
        first = ae.associate("127.0.0.1", node.port, ae_title="TWIN")
        assert first.is_established
        with pytest.raises(dicom.DimseFailedError, match="local limit exceeded"):
            dicom.echo(remote("NEAR"))
        first.release()
        start = time.monotonic()
        dicom.send(remote("SLOW"), [ct_slice(n) for n in range(2, 8)])
        assert time.monotonic() - start >= 5 / 20

        def many() -> None:
            for _ in range(60):
                dicom.echo(remote("SLOW"))

        with pytest.raises(dicom.DimseFailedError, match="temporary congestion"):
            many()


def test_an_association_does_not_live_for_ever(tmp_path: Path) -> None:
    limits = dicom.Limits(idle_s=0.2, max_association_s=0.5)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        peer = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")
        data = file_bytes(ct_slice(1, size=8))
        from digital_twins.dicom._part10 import split_file

        dataset = data[split_file(data).dataset_offset :]
        end = time.monotonic() + 10

        def go_on() -> None:
            while time.monotonic() < end:
                assert peer.store(dataset, split_file(data).sop_instance_uid)[Tag.STATUS] == 0
                time.sleep(0.05)

        with pytest.raises((ConnectionError, AssertionError)):
            go_on()
        assert time.monotonic() < end
        peer.socket.close()


@pytest.mark.parametrize(
    "peer",
    [
        dicom.DicomPeer(""),
        dicom.DicomPeer("SEVENTEEN-LETTERS"),
        dicom.DicomPeer("A", tls_1_2=True),
        dicom.DicomPeer("A", addresses=("nowhere",)),
    ],
)
def test_rows_that_cannot_be_used(peer: dicom.DicomPeer) -> None:
    with pytest.raises(InputError, match="DICOM peer"):
        dicom.PeerTable.of([peer])
    with pytest.raises(InputError, match="two rows"):
        dicom.PeerTable.of([dicom.DicomPeer("A"), dicom.DicomPeer("A")])
