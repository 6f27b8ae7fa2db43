"""Settings of a node: flag over environment over ``twin.toml`` over default."""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import tomllib
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from digital_twins._errors import InputError, NotFoundError
from digital_twins._logging import get_logger
from digital_twins._setting_tables import (  # noqa: TC001  (pydantic reads the annotations)
    AuthIssuerSettings as AuthIssuerSettings,  # noqa: PLC0414  (public here)
    DicomCoercionSettings as DicomCoercionSettings,  # noqa: PLC0414
    DicomPeerSettings as DicomPeerSettings,  # noqa: PLC0414
    DicomPrefetchSettings as DicomPrefetchSettings,  # noqa: PLC0414
    DicomRetentionSettings as DicomRetentionSettings,  # noqa: PLC0414
    DicomRouteSettings as DicomRouteSettings,  # noqa: PLC0414
    OidcSettings as OidcSettings,  # noqa: PLC0414
)

_PREFIX = "TWIN_"
_FILE = "twin.toml"
_LOG = get_logger(__name__)


class Settings(BaseSettings):
    """What an operator may set; every field is a key of ``twin.toml`` and a variable ``TWIN_<NAME>``.

    Read them with `load_settings`, which also reads the file and tells mistakes in words.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    data_dir: Path = Path("node-data")
    """Folder that holds everything the node keeps: databases, blobs, keys and the audit trail."""

    database: str = ""
    """`postgresql://user@host/name` of a PostgreSQL server (13 or newer) that keeps index, resources, jobs,
    twins and the rows of the audit trail; empty: SQLite files in `data_dir`. Needs the extra `postgres`. A
    password stands in `~/.pgpass`, or in a file that `TWIN_DATABASE_PASSWORD_FILE` names, never here."""

    encryption_at_rest: bool = False
    """Encrypt what the node keeps: every blob under a key of its patient, and the SQLite database with its
    log. Needs `encryption_keys`. An existing data folder is encrypted once by `twin keys encrypt`. For
    `twin monitor serve` it encrypts the monitor's folder."""

    encryption_keys: str = ""
    """Who keeps the key that wraps all keys: `local:FILE` (mode 0600, outside of `data_dir`, for this node
    alone), `keyring:ACCOUNT`, `aws_kms:KEY` or `vault:ADDRESS/KEY`."""

    encryption_vault_token_file: Path | None = None
    """File of mode 0600 with the token for `vault:`."""

    record_retention_years: float = Field(default=10.0, ge=0, le=200)
    """Years for which a patient's records must be kept after the last of them; `twin keys erase` refuses
    before. 0: no such duty."""

    host: str = "127.0.0.1"
    """Address on which the DICOM and HTTP ports listen. Another one than this machine's own (127.0.0.1, ::1,
    localhost) needs `authentication` and TLS."""

    dicom_port: int = Field(default=11112, ge=0, le=65535)
    """TCP port of the DICOM listener; 0 takes a free one."""

    http_port: int = Field(default=8042, ge=0, le=65535)
    """TCP port of web pages, FHIR, DICOMweb and API; 0 takes a free one."""

    ae_title: str = "TWIN"
    """DICOM application entity title of the node: 1 to 16 characters (PS3.5 section 6.2, VR AE)."""

    study_stable_seconds: float = Field(default=2.0, gt=0, le=3600)
    """Seconds without a new instance after which a study counts as complete and work on it begins."""

    workers: int = Field(default=1, ge=1, le=64)
    """Worker processes that build twins and reports."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level of the log lines on standard error."""

    max_associations: int = Field(default=64, ge=1, le=4096)
    """DICOM associations open at once; a further one is rejected as transient."""

    max_pdu_bytes: int = Field(default=131072, ge=4096, le=4194304)
    """Longest DICOM protocol data unit that the listener accepts (PS3.8 annex D.1)."""

    dicom_peers: dict[str, DicomPeerSettings] = {}
    """Peers by AE title: who may call, what for, and where C-MOVE and reports go; see below."""

    dicom_peers_only: bool = False
    """Refuse every DICOM peer that is not in `dicom_peers`, and every call under another AE title than
    ours."""

    dicom_routes: tuple[DicomRouteSettings, ...] = ()
    """Routing rules: what is forwarded to which peer; see below."""

    dicom_route_attempts: int = Field(default=10, ge=1, le=1000)
    """Refusals after which a forwarded object becomes a dead letter."""

    dicom_duplicates: Literal["ignore", "refuse", "replace"] = "ignore"
    """Other bytes under a stored SOP Instance UID: keep the first and answer success, refuse, or take the new
    object."""

    dicom_patient_conflicts: Literal["refuse", "accept"] = "refuse"
    """An object whose study is stored under another patient: refuse it, or keep it under the study's
    patient."""

    dicom_coercions: tuple[DicomCoercionSettings, ...] = ()
    """Attributes that are changed in what arrives or is sent on; see below."""

    dicom_prefetch: tuple[DicomPrefetchSettings, ...] = ()
    """Archives from which priors are fetched when something is ordered; see below."""

    dicom_retention: tuple[DicomRetentionSettings, ...] = ()
    """Which studies are removed; see below."""

    dicom_retention_hours: float = Field(default=24.0, ge=0)
    """Hours between two runs of the retention rules; 0: only when `twin dicom retention` is called."""

    dicom_quota_bytes: int = Field(default=0, ge=0)
    """All DICOM files together; further objects are refused with A700. 0: no quota."""

    dicom_min_free_bytes: int = Field(default=0, ge=0)
    """Free disk space that DICOM objects leave; others are refused with A700. 0: all may be used."""

    dicom_rejected_for_quality: Literal["hide", "show"] = "hide"
    """What a rejection note with 113001 Rejected for Quality Reasons does to the objects that it names."""

    dicom_tls_port: int | None = Field(default=None, ge=0, le=65535)
    """Second DICOM port that speaks TLS 1.3 and asks for certificates (2762 is registered for it); none: no
    such port."""

    dicom_tls_certificate: Path | None = None
    """PEM file of our certificate for DICOM over TLS, with its chain."""

    dicom_tls_key: Path | None = None
    """PEM file of its private key."""

    dicom_tls_authority: Path | None = None
    """PEM file of the authorities whose certificates DICOM peers may show."""

    dicom_plain_port: bool = True
    """Open `dicom_port` without TLS; false leaves only `dicom_tls_port`."""

    dicom_users_file: Path | None = None
    """File of DICOM users, `name:hash` a line as `twin dicom user` prints it; none: user identities are not
    checked."""

    max_associations_per_minute: int = Field(default=6000, ge=1)
    """New DICOM associations of one network address a minute; further ones are rejected as transient."""

    max_object_bytes: int = Field(default=2**30, ge=1024)
    """Largest request body that is accepted over HTTP, but for the DICOM files of STOW-RS."""

    max_dicom_object_bytes: int = Field(default=2**32, ge=1024)
    """Largest object that is accepted at the DICOM port or by STOW-RS; it goes to disk while it arrives."""

    hl7_port: int | None = Field(default=None, ge=0, le=65535)
    """TCP port of the HL7 v2 listener (MLLP; 2575 is registered for it), 0 takes a free one; none: no such
    port."""

    hl7_tls: bool = False
    """Speak TLS at `hl7_port`, with the certificates of `dicom_tls_certificate`, `dicom_tls_key` and
    `dicom_tls_authority`; clients must show one too."""

    hl7_timezone: str = "UTC"
    """Zone of HL7 v2 times that carry none, such as `Europe/Zurich`."""

    hl7_results_to: str = Field(default="", pattern=r"^(\S+:\d{1,5})?$")
    """`HOST:PORT` of the receiver that gets each report of a twin as ORU R01 over MLLP; empty: nobody."""

    hl7_systems: dict[str, str] = {}
    """URI of each assigning authority and local coding system of HL7 v2 messages, by its namespace."""

    subscription_endpoints: tuple[str, ...] = ()
    """Addresses under which FHIR Subscriptions may be delivered, e.g. `["https://ehr.example.org/hooks"]`;
    none by default: a node calls nobody that its operator has not named."""

    dicomweb_cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may read and write DICOMweb, e.g. `["https://viewer.example.org"]`; none by
    default, `["*"]` all."""

    audit_commands: bool = False
    """Each command of `twin` that works on files or peers, such as `twin build` or `twin dicom find`, writes
    one event into the trail of the data folder; without it only commands on the node's own folder do."""

    audit_anchor_file: Path | None = None
    """File outside of the data folder, on another disk or machine, that gets every signed checkpoint of the
    audit trail: with it `twin audit verify` finds a trail that was cut off or rewritten as a whole."""

    audit_syslog: str = Field(default="", pattern=r"^(\S+:\d{1,5})?$")
    """`HOST:PORT` of a syslog receiver over TLS 1.3 that gets each audit event as DICOM audit message (IHE
    ATNA) and each signed checkpoint; empty: nobody."""

    audit_syslog_authority: Path | None = None
    """PEM file of the authority whose certificate that receiver shows; needed with `audit_syslog`."""

    audit_syslog_certificate: Path | None = None
    """PEM file of the certificate that the node shows to it."""

    audit_syslog_key: Path | None = None
    """PEM file of its private key."""

    document_certificate: Path | None = None
    """PEM file of the certificate that seals signed PDF reports: `twin certs issue NAME --purpose document`.
    Needs the extra `signing`; without it reports are signed, but not as PDF files."""

    document_key: Path | None = None
    """PEM file of its private key."""

    authentication: bool = False
    """People and programs must sign in at the HTTP port. Without it everything is open, to this machine
    only."""

    public_url: str = ""
    """Address at which people and clients reach the HTTP port, e.g. `https://twin.hospital.example`; empty:
    that of `host` and `http_port`. It names the issuer and the audience of tokens."""

    http_tls_certificate: Path | None = None
    """PEM file of the certificate of the HTTP port, with its chain; the port then speaks TLS 1.3 only. A
    changed file is taken up within seconds, without a restart."""

    http_tls_key: Path | None = None
    """PEM file of its private key."""

    auth_issuers: tuple[AuthIssuerSettings, ...] = ()
    """OpenID providers whose access tokens are taken too; see below."""

    oidc: OidcSettings | None = None
    """OpenID provider through which people may sign in to the pages; see below."""

    allow_unauthenticated_network: bool = False
    """Listen on an address that other machines reach although nobody has to sign in. Only for a network
    that is closed by other means; the node logs a warning at each start."""

    @property
    def audit_file(self) -> Path:
        """File of the audit trail."""
        return self.data_dir / "audit.sqlite"

    @property
    def pseudonym_key_file(self) -> Path:
        """File of the key for patient pseudonyms."""
        return self.data_dir / "pseudonym.key"

    @field_validator("ae_title")
    @classmethod
    def _check_ae_title(cls, value: str) -> str:
        title = value.strip(" ")
        if not 1 <= len(title) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
            raise ValueError("must be 1 to 16 printable ASCII characters without a backslash")
        return title

    @field_validator(
        *(
            "dicom_peers",
            "dicom_routes",
            "dicom_coercions",
            "dicom_prefetch",
            "dicom_retention",
            "auth_issuers",
            "oidc",
        ),
        mode="before",
    )
    @classmethod
    def _tables_from_json(cls, value: object) -> object:
        """An environment variable holds the tables as JSON."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("must be JSON: an object by AE title, or a list of rules") from None

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_dicom_tls(self) -> Settings:
        files = (self.dicom_tls_certificate, self.dicom_tls_key, self.dicom_tls_authority)
        needed = self.dicom_tls_port is not None or any(peer.tls for peer in self.dicom_peers.values())
        if (needed or any(files)) and not all(files):
            raise InputError(
                "DICOM over TLS cannot be used.",
                "It needs dicom_tls_certificate, dicom_tls_key and dicom_tls_authority.",
                "Set all three, or none of them and no TLS port and no peer with tls = true.",
            )
        if self.dicom_tls_port is None and not self.dicom_plain_port:
            raise InputError(
                "The node would have no DICOM port.",
                "dicom_plain_port is false and dicom_tls_port is not set.",
                "Set dicom_tls_port.",
            )
        return self

    @model_validator(mode="after")
    def _check_encryption(self) -> Settings:
        if not self.encryption_at_rest:
            return self
        kind, _, place = self.encryption_keys.partition(":")
        if not place:
            raise InputError(
                "The data folder cannot be encrypted.",
                "encryption_at_rest is on, and encryption_keys names no keeper of the key.",
                "Set e.g. encryption_keys = 'local:/etc/digital-twins/keys.json'.",
            )
        if kind == "local" and Path(place).resolve().is_relative_to(self.data_dir.resolve()):
            raise InputError(
                "The data folder cannot be encrypted like that.",
                "The key file would lie in data_dir: whoever takes the folder would have its key.",
                "Name a file elsewhere, on another disk and in another backup.",
            )
        return self

    @model_validator(mode="after")
    def _check_network(self) -> Settings:
        if bool(self.document_certificate) != bool(self.document_key):
            raise InputError(
                "Documents cannot be signed like that.",
                "It needs document_certificate and document_key.",
                "Set both, or neither.",
            )
        if self.audit_syslog and self.audit_syslog_authority is None:
            raise InputError(
                "Audit events cannot be sent like that.",
                "audit_syslog needs audit_syslog_authority.",
                "Name the PEM file of the authority whose certificate the receiver shows.",
            )
        if bool(self.http_tls_certificate) != bool(self.http_tls_key):
            raise InputError(
                "The HTTP port cannot speak TLS.",
                "It needs http_tls_certificate and http_tls_key.",
                "Set both, or none of them.",
            )
        if is_loopback(self.host):
            return self
        encrypted = self.http_tls_certificate is not None or self.public_url.startswith("https://")
        if self.authentication and encrypted:
            return self
        if not self.allow_unauthenticated_network:
            raise InputError(
                f"The node does not listen on '{self.host}'.",
                "Other machines reach that address, and "
                + (
                    "passwords would cross the network in clear."
                    if self.authentication
                    else "nobody has to sign in to this node."
                ),
                "Set authentication = true with http_tls_certificate and http_tls_key (or a public_url of a"
                " proxy that speaks https), or, on a network that is closed by other means, set"
                " allow_unauthenticated_network = true.",
            )
        _LOG.warning(
            "config.network.unauthenticated", host=self.host, setting="allow_unauthenticated_network"
        )
        return self


class Origin(NamedTuple):
    """A setting's value and where it comes from: ``"flag"``, ``"default"``, a variable or a file."""

    value: Any
    origin: str


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(*, config_file: str | os.PathLike[str] | None = None, **flags: Any) -> Settings:
    """Return the settings in force; flags that are None count as not given.

    Parameters
    ----------
    config_file
        The file to read instead of ``twin.toml`` in the working folder (which may be missing); the variable
        ``TWIN_CONFIG`` does the same.
    **flags
        Fields of `Settings` from the command line.

    Raises
    ------
    InputError
        An unknown key, an impossible value, a file that is not TOML, or an address open to the network.
    NotFoundError
        The named file does not exist.
    """
    return load_with_origins(config_file=config_file, **flags)[0]


def load_with_origins(
    *, config_file: str | os.PathLike[str] | None = None, **flags: Any
) -> tuple[Settings, dict[str, Origin]]:
    """Return the settings and, for each, its value and origin; see `load_settings`."""
    file, from_file = _read_file(config_file)
    given: dict[str, Origin] = {name: Origin(value, str(file)) for name, value in from_file.items()}
    for name in Settings.model_fields:
        variable = f"{_PREFIX}{name.upper()}"
        if variable in os.environ:
            given[name] = Origin(os.environ[variable], f"environment {variable}")
    given |= {name: Origin(value, "flag") for name, value in flags.items() if value is not None}
    for name, origin in given.items():
        if name not in Settings.model_fields:
            raise _unknown(name, origin.origin)
    try:
        settings = Settings(**{name: origin.value for name, origin in given.items()})
    except ValidationError as error:
        raise _impossible(error, given) from None
    return settings, {
        name: Origin(getattr(settings, name), given[name].origin if name in given else "default")
        for name in Settings.model_fields
    }


def _read_file(config_file: str | os.PathLike[str] | None) -> tuple[Path, dict[str, Any]]:
    named = config_file or os.environ.get(f"{_PREFIX}CONFIG")
    path = Path(named or _FILE)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is None:
            return path, {}
        raise NotFoundError(
            f"The settings file '{path}' does not exist.",
            "It was named by --config or TWIN_CONFIG.",
            "Correct the name, or leave it out to use twin.toml in the working folder.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The settings file '{path}' cannot be read.",
            f"The system answered {type(error).__name__}.",
            "Make it a readable text file in UTF-8.",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"The settings file '{path}' cannot be read.",
            f"It is not TOML: {error}.",
            'Write one setting a line, e.g. http_port = 8042 or host = "127.0.0.1".',
        ) from error


def _unknown(name: str, origin: str) -> InputError:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else "Remove it."
    return InputError(
        f"The setting '{name}' ({origin}) is unknown.",
        "A setting that is misspelt would silently have no effect.",
        f"{hint} 'twin config' lists every setting.",
    )


def _impossible(error: ValidationError, given: dict[str, Origin]) -> InputError:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    origin = given[name].origin if name in given else "default"
    field = Settings.model_fields[name]
    return InputError(
        f"The setting '{name}' ({origin}) cannot be used.",
        f"{first['msg'].removeprefix('Value error, ')}.",
        f"{' '.join((field.description or '').split())} Default: {field.default}.",
    )
