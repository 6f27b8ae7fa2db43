"""Tables of ``twin.toml``: DICOM peers and rules, OpenID providers."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads the annotations)
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DicomService = Literal[
    "echo", "store", "find", "move", "get", "worklist", "mpps", "commitment", "availability"
]


class DicomPeerSettings(BaseModel):
    """One table ``[dicom_peers.AE_TITLE]``, read as `digital_twins.dicom.DicomPeer`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: str = ""
    """Host name or address at which the peer listens."""

    port: int = Field(default=0, ge=0, le=65535)
    """Its DICOM port; 0: it is never called."""

    addresses: tuple[str, ...] = ()
    """Networks that it may call from, such as `10.1.2.0/24`; empty: any."""

    services: tuple[DicomService, ...] = (
        "echo",
        "store",
        "find",
        "move",
        "get",
        "worklist",
        "mpps",
        "commitment",
        "availability",
    )
    """What it may ask for."""

    tls: bool = False
    """It is called over TLS and must call over TLS."""

    tls_1_2: bool = False
    """TLS 1.2 with the cipher suites of BCP 195 will do; each such association is audited."""

    certificate_sha256: str = ""
    """SHA-256 of the only certificate that it may show."""

    require_user: bool = False
    """It must name a user of `dicom_users_file` with the right passcode."""

    max_associations: int = Field(default=16, ge=1, le=4096)
    """Its associations at a time."""

    max_requests_per_s: float = Field(default=0.0, ge=0)
    """Its requests are answered no faster; 0: no limit."""

    fuzzy_names: bool = False
    """Its name queries match by sound without being negotiated."""

    profile: str = "generic"
    """Vendor profile: `generic`, `ge`, `philips`, `siemens`, `fujifilm` or `sectra`."""

    web_url: str = ""
    """Its DICOMweb root; routes then send to it by STOW-RS instead of C-STORE."""

    api_key_variable: str = ""
    """Environment variable with its API key; the profile names the header."""


class DicomRouteSettings(BaseModel):
    """One table ``[[dicom_routes]]``, read as `digital_twins.dicom.Route`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    destination: str
    """AE title of a row of `dicom_peers`."""

    calling: tuple[str, ...] = ()
    """AE titles that the object came from; `node` for what this node makes; empty: all."""

    modalities: tuple[str, ...] = ()
    """Modality codes; empty: all."""

    sop_classes: tuple[str, ...] = ()
    """SOP Class UIDs; empty: all."""

    when: Literal["instance", "study_stable"] = "instance"
    """Send each object at once, or once its study has been quiet for `study_stable_seconds`."""

    deidentify: str = ""
    """Name of a function that the program handed to the node; refused when there is none."""


class AuthIssuerSettings(BaseModel):
    """One table ``[[auth_issuers]]``, read as `digital_twins.auth.TrustedIssuer`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    issuer: str
    """Address of the provider, equal to `iss` of its tokens."""

    audience: str
    """What `aud` of its tokens must name: this node, as the provider knows it."""

    roles_claim: str = "roles"
    """Claim of its tokens that lists roles of the role table."""


class OidcSettings(BaseModel):
    """The table ``[oidc]``, read as `digital_twins.auth.SignInProvider`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    issuer: str
    """Address of the OpenID provider, equal to `iss` of its ID tokens."""

    client_id: str
    """Name of this node there, registered with `<public_url>/auth/provider/callback`."""

    client_secret_file: Path | None = None
    """File of mode 0600 with the secret of this node there; none for a public client."""

    account_claim: str = "sub"
    """Claim of the ID token that equals the name of an account of this node."""


class DicomCoercionSettings(BaseModel):
    """One table ``[[dicom_coercions]]``, read as `digital_twins.dicom.Coercion`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    when: Literal["receive", "forward"] = "receive"
    """Change objects before they are stored, or before they are sent on."""

    calling: tuple[str, ...] = ()
    """AE titles that the object came from; empty: all."""

    destinations: tuple[str, ...] = ()
    """AE titles that it is sent to, with `forward`; empty: all."""

    modalities: tuple[str, ...] = ()
    """Modality codes; empty: all."""

    set: dict[str, str] = Field(default={})
    """Keyword to the value that the attribute gets."""

    remove: tuple[str, ...] = ()
    """Keywords of attributes that go."""

    prefix: dict[str, str] = Field(default={})
    """Keyword to the text that is put before a value that does not begin with it."""


class DicomRetentionSettings(BaseModel):
    """One table ``[[dicom_retention]]``, read as `digital_twins.dicom.RetentionRule`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    modalities: tuple[str, ...] = ()
    """The rule is for studies that hold nothing but these; empty: all."""

    calling: tuple[str, ...] = ()
    """The rule is for studies of which every object came from these AE titles; empty: all."""

    older_than_days: float = Field(default=0.0, ge=0)
    """Days since the last object of the study came; 0: no limit."""

    keep_bytes: int = Field(default=0, ge=0)
    """The latest studies stay up to this many bytes in all, older ones go; 0: age alone decides."""

    committed_by: str = ""
    """AE title of a peer that must have committed to every object; the node asks it."""

    including_twins: bool = False
    """Also remove what twins and their documents depend on."""


class DicomPrefetchSettings(BaseModel):
    """One table ``[[dicom_prefetch]]``, read as `digital_twins.dicom.PrefetchRule`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """AE title of a row of `dicom_peers` with port or `web_url`."""

    modalities: tuple[str, ...] = ()
    """A prior holds at least one of them; empty: any."""

    body_parts: tuple[str, ...] = ()
    """A prior has a series of one of these BodyPartExamined, or of none; empty: any."""

    max_studies: int = Field(default=3, ge=1)
    """The latest so many."""

    max_age_days: float = Field(default=0.0, ge=0)
    """Days since StudyDate; 0: any age."""
