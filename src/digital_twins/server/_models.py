"""Typed shapes of the ``/api`` answers: what the web pages and other programs read."""

from __future__ import annotations

from datetime import date, datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RESEARCH_USE = (
    "Research software that supports decisions. Not a medical device. "
    "Predictions are model output and were not acquired."
)
"""The sentence that every page, report and answer carries."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Model):
    """A number with its interval; ``level`` is the probability inside, e.g. 0.95."""

    value: float
    low: float
    high: float
    unit: str
    level: float = 0.95


class SignatureRequest(_Model):
    """What a signer shows and means; the first signature of a session needs name, password and code."""

    meaning: Literal["authorship", "review", "approval", "responsibility"]
    name: str | None = None
    password: str | None = Field(default=None, repr=False)
    code: str | None = Field(default=None, repr=False)


class SignatureBegin(_Model):
    """What a signer shows before an authenticator is asked; name and password for the first of a session."""

    meaning: Literal["authorship", "review", "approval", "responsibility"]
    name: str | None = None
    password: str | None = Field(default=None, repr=False)


class SignatureChallenge(_Model):
    """A signature that waits: what will be signed, and the options for ``navigator.credentials.get``."""

    signature_id: str
    manifest: str
    options: dict[str, Any]


class SignatureAnswer(_Model):
    """The answer of an authenticator: the ``PublicKeyCredential`` of the browser as JSON."""

    signature_id: str
    credential: dict[str, Any] = Field(repr=False)


class AuthenticatorBegin(_Model):
    """What somebody shows again before an authenticator is registered."""

    password: str = Field(repr=False)
    code: str = Field(repr=False)


class AuthenticatorNew(_Model):
    """A new credential of the browser as JSON, and what its owner calls the authenticator."""

    label: str
    credential: dict[str, Any] = Field(repr=False)


class AuthenticatorView(_Model):
    """A registered authenticator."""

    credential: str
    label: str
    created_utc: datetime


class SignatureView(_Model):
    """An electronic signature, what a check of it finds, and the document that anybody can verify."""

    signature_id: str
    meaning: str
    signer: str
    printed_name: str
    signed_utc: datetime
    record: str
    record_sha256: str
    in_pdf: bool
    problems: list[str]
    document: str
    authenticator: str | None = None
    """Evidence of the authenticator's answer, where one was the second component."""


class JobView(_Model):
    """State of one job of the queue."""

    job_id: str
    kind: str
    state: str
    fraction: float = 0.0
    text: str = ""
    error: dict[str, str] | None = None
    result: dict[str, object] | None = None
    patient: str | None = None
    created_utc: datetime | None = None
    updated_utc: datetime | None = None


class PatientSummary(_Model):
    """One line of the patient list; ``key`` is opaque and stands in addresses instead of the PatientID."""

    key: str
    patient_id: str
    name: str | None = None
    sex: str | None = None
    birth_date: date | None = None
    diagnosis: str | None = None
    stage: str | None = None
    labels: list[str] = Field(default_factory=list)
    twin_count: int = 0
    twin_id: str | None = None
    updated_utc: datetime | None = None
    latest_job: JobView | None = None
    waiting_for: str | None = None


class Document(_Model):
    """A hospital document that the node wrote."""

    kind: str
    title: str
    id: str
    href: str
    media_type: str
    inline: bool = False


class StaleMark(_Model):
    """Why a twin version and its documents must not be relied on any more."""

    kind: Literal["withdrawn", "merged"]
    reason: str
    reference: str
    """SOP Instance UID of the rejection note, or number of the merge."""
    since_utc: datetime


class TwinSummary(_Model):
    """A twin of a patient, at its latest version."""

    twin_id: str
    version: int
    created_utc: datetime
    volume_cm3: float
    simulated: bool
    stale: bool = False
    """It was made from objects that were withdrawn, or its patient was merged into another."""


class PatientDetail(PatientSummary):
    """A patient with twins and jobs."""

    biomarkers: dict[str, str] = Field(default_factory=dict)
    twins: list[TwinSummary] = Field(default_factory=list)
    jobs: list[JobView] = Field(default_factory=list)
    may_sign: bool = False
    """Whether who asks may sign this patient's reports."""
    research_use: str = RESEARCH_USE


class Parameter(_Model):
    """A model parameter; ``fixed`` ones were not estimated and say where they come from."""

    name: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    standard_deviation: float | None = None
    unit: str
    fixed: bool
    source: str


class ObservedPoint(_Model):
    """A measured tumour volume on a day since the baseline."""

    day: float
    acquired_utc: datetime | None = None
    volume_cm3: float
    simulated: bool = False
    source: str = ""


class Scenario(_Model):
    """The prediction under one treatment: median with interval, and the response it amounts to."""

    key: str
    label: str
    kind: str
    planned: bool
    interval: float
    days: list[float]
    volume_cm3: list[float]
    low_cm3: list[float]
    high_cm3: list[float]
    mask_days: list[float]
    volume_change_percent: Interval
    response_category: str
    criterion: str
    nadir_day: float
    nadir_volume_cm3: float
    assumptions: list[str] = Field(default_factory=list)


class Version(_Model):
    """One entry of the append-only history of a twin."""

    version: int
    created_utc: datetime
    reason: str
    scans: int


class ImageInfo(_Model):
    """What the viewer needs to show the baseline image."""

    modality: str
    window_low: float
    window_high: float
    lesion_centroid_mm: tuple[float, float, float]
    """RAS millimetres: the convention of the NIfTI files beside it."""


class Provenance(_Model):
    """What made this version."""

    software_version: str
    seed: int
    input_hash: str
    model: str


class TwinDetail(_Model):
    """Everything that the twin page shows."""

    twin_id: str
    patient_key: str
    version: int
    created_utc: datetime
    baseline_utc: datetime | None
    model: str
    simulated: bool
    labels: list[str]
    research_use: str = RESEARCH_USE
    current_volume: Interval
    current_day: float = 0.0
    """Day of the last observation: predictions start there, planned treatments begin there."""
    parameters: list[Parameter]
    observed: list[ObservedPoint]
    scenarios: list[Scenario]
    versions: list[Version]
    documents: list[Document]
    image: ImageInfo
    provenance: Provenance
    notes: list[str] = Field(default_factory=list)
    stale: list[StaleMark] = Field(default_factory=list)
    """Empty while the twin and its documents may be relied on."""


class QueueView(_Model):
    """A queue of outgoing DICOM objects."""

    destination: str
    paused: bool
    waiting: int
    dead: int
    oldest_s: float
    """Age of the oldest waiting object, in seconds."""
    sent: int
    failed: int
    next_attempt_s: float
    """Seconds until a destination that was not reached is tried again."""
    error: str


class DeadLetter(_Model):
    """An object that was given up."""

    study_uid: str
    sop_uid: str
    attempts: int
    error: str


class QueueDetail(QueueView):
    """A queue with its dead letters."""

    dead_letters: list[DeadLetter]


class PeerView(_Model):
    """A DICOM peer as the node has seen it since its start."""

    ae_title: str
    host: str
    port: int
    web_url: str
    profile: str
    tls: bool
    associations: int
    refused: int
    last_association_utc: datetime | None
    last_refused_utc: datetime | None
    echo_ok: bool | None
    echo_utc: datetime | None
    echo_ms: float | None
    echo_error: str


class PrefetchRequest(_Model):
    """Whose priors are to be fetched; ``order`` names what they are for."""

    patient_id: str
    order: str = ""


class PrefetchView(_Model):
    """An order's priors of one archive."""

    id: int
    source: str
    patient_key: str
    state: Literal["waiting", "done", "dead"]
    attempts: int
    error: str
    found: int
    fetched: int
    queued: float
    """Seconds since 1970-01-01 UTC."""


class RejectionRequest(_Model):
    """Objects of one study to be withdrawn: a list, a series, or the study."""

    reason: Literal["113001", "113037", "113038", "113039"]
    study_uid: str = ""
    series_uid: str | None = None
    sop_uids: list[str] = Field(default_factory=list)
    description: str = ""


class RejectionView(_Model):
    """A rejection note that was written: its SOP Instance UID and what it withdraws."""

    note: str
    reason: str
    sop_uids: list[str]


class WithdrawnView(_Model):
    """An object that a rejection note keeps hidden."""

    sop_uid: str
    study_uid: str
    series_uid: str
    reason: str
    note: str
    stored: bool
    withdrawn_utc: datetime


class MergeRequest(_Model):
    """Into whom a patient is merged: PatientID, and issuers where there are any."""

    into: str
    into_issuer: str = ""
    issuer: str = ""


class MergeView(_Model):
    """A patient merge; patients by their opaque keys."""

    id: int
    prior: str
    surviving: str
    studies: list[str]
    merged_utc: datetime
    undone_utc: datetime | None


class RetentionItemView(_Model):
    """A study that a retention rule wants to go, and why it stays."""

    study_uid: str
    instances: int
    size_bytes: int
    last_received_utc: datetime
    rule: int
    kept_because: str


class RetentionView(_Model):
    """What a retention run did, or would do."""

    dry_run: bool
    items: list[RetentionItemView]
    freed_bytes: int


class HoldRequest(_Model):
    """Why a study is held."""

    reason: str


class HoldView(_Model):
    """A study that retention must not touch."""

    study_uid: str
    reason: str
    agent: str
    since_utc: datetime


class Problem(_Model):
    """An error as application/problem+json (RFC 9457), with what/why/fix beside the standard members."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    what: str
    why: str
    fix: str


class Health(_Model):
    """Whether the parts of the node work."""

    status: Literal["ok", "degraded"]
    version: str
    parts: dict[str, str]
