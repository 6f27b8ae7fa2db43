"""A certificate authority of the hospital's own node: for HTTP, DICOM TLS and MLLP TLS.

X.509 after RFC 5280 with keys on P-256; the private keys lie in files of mode 0600.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from digital_twins._errors import ConflictError, InputError, StorageError
from digital_twins.crypto._secret_file import create_secret_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    Key = EllipticCurvePrivateKey | RSAPrivateKey

_DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
"""Extended key usage of certificates that sign documents (RFC 9336)."""

_CLOCK_ERROR = timedelta(minutes=5)


def create_authority(folder: Path, *, name: str = "Digital Twins local authority", days: int = 3650) -> Path:
    """Make a certificate authority and return its certificate's file ``ca.pem``; its key is ``ca.key``.

    Parameters
    ----------
    folder
        Where both files go; made when missing.
    name
        Common name.
    days
        How long it is valid.

    Raises
    ------
    ConflictError
        There is one in the folder: certificates that it issued would be worth nothing with another.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    if (folder / "ca.key").exists() or (folder / "ca.pem").exists():
        raise ConflictError(
            "The authority was not made.", "There is one in the folder.", "Use it, or choose another folder."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _begun(subject, subject, key, days).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = _usage(signs_certificates=True)
    made = _signed(builder.add_extension(usage, critical=True), key)
    return _written(folder, "ca", key, [made])


def issue_certificate(
    folder: Path,
    name: str,
    *,
    hosts: Sequence[str] = (),
    purpose: Literal["server", "client", "both", "document"] = "both",
    days: int = 397,
    replace: bool = False,
) -> Path:
    """Issue a certificate of the folder's authority; return its file ``<name>.pem`` beside ``<name>.key``.

    Parameters
    ----------
    folder
        Folder of `create_authority`.
    name
        Common name, and name of the files: letters, digits, ``.``, ``_`` and ``-``.
    hosts
        Host names and addresses that clients may reach it under (subjectAltName).
    purpose
        Whether it may answer as a server, call as a client, or both, as a DICOM node does; or sign documents:
        then its key is RSA of 3,072 bits, as PDF/A-2 knows no ECDSA signatures.
    days
        How long it is valid; 397 is what browsers bear [verify].
    replace
        Take the place of an earlier certificate, as a node under way will.

    Raises
    ------
    InputError
        The name cannot be used.
    ConflictError
        There is a certificate of that name.
    StorageError
        The authority cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID as Oid

    if (
        not name.replace(".", "").replace("_", "").replace("-", "").isalnum()
        or name == "ca"
        or name[0] == "."
    ):
        raise InputError("The certificate was not issued.", "Its name cannot be a file name.", "Use letters.")
    if (folder / f"{name}.pem").exists() and not replace:
        raise ConflictError("The certificate was not issued.", "There is one of that name.", "Add --replace.")
    try:
        authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        signing = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError) as error:
        raise StorageError(
            "The authority cannot be used.", "Its files cannot be read.", "Run: twin certs init"
        ) from error
    if not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise StorageError("The authority cannot be used.", "Its key is no EC key.", "Run: twin certs init")
    signs = purpose == "document"
    key = rsa.generate_private_key(65537, 3072) if signs else ec.generate_private_key(ec.SECP256R1())
    uses = {
        "server": [Oid.SERVER_AUTH],
        "client": [Oid.CLIENT_AUTH],
        "both": [Oid.SERVER_AUTH, Oid.CLIENT_AUTH],
        "document": [x509.ObjectIdentifier(_DOCUMENT_SIGNING)],
    }
    builder = (
        _begun(_name(name), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False, signs_documents=signs), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses[purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    if hosts:
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(alternatives, critical=False)
    return _written(folder, name, key, [_signed(builder, signing), authority])


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _begun(subject: x509.Name, issuer: x509.Name, key: Key, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(tz=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_ERROR)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool, signs_documents: bool = False) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=signs_documents,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _written(folder: Path, name: str, key: Key, chain: Sequence[x509.Certificate]) -> Path:
    """Write key and chain; each file changes at once, never half."""
    from cryptography.hazmat.primitives import serialization

    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    for suffix, content in ((".key", secret), (".pem", public)):
        fresh = folder / f".{name}{suffix}.new"
        fresh.unlink(missing_ok=True)
        create_secret_file(fresh, content)
        if suffix == ".pem":
            fresh.chmod(0o644)
        fresh.replace(folder / f"{name}{suffix}")
    return folder / f"{name}.pem"
