"""EHR profiles: how a vendor's FHIR server is addressed and asked, as data. None was tried on a product."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

    from digital_twins.fhir._client import AsyncFHIRClient, FHIRClient

_LETTERS = {"read": "rs", "write": "cud"}


@dataclass(frozen=True, slots=True)
class EhrProfile:
    """How a vendor's server is talked to.

    Attributes
    ----------
    name, vendor
        The word for settings, and whose product it is.
    status
        What is known of it: ``"untested against the product"``.
    base_url_pattern
        Form of the FHIR base, with ``{host}`` and what else a site has to fill in.
    scope_dialect
        ``"v1"`` (``system/Patient.read``) or ``"v2"`` (``system/Patient.rs``) of SMART scopes.
    auth_algorithms
        Algorithms of the client's JWT, the preferred one first.
    writes
        Resource types that a client may expect to write.
    worklist
        Resource type and search parameters of the imaging worklist.
    quirks
        What else an engineer should know; ``[verify]`` marks what was not read in a document of the vendor.
    """

    name: str
    vendor: str
    status: str
    base_url_pattern: str
    scope_dialect: str
    auth_algorithms: tuple[str, ...]
    writes: tuple[str, ...]
    worklist: tuple[str, Mapping[str, str]]
    quirks: tuple[str, ...]

    def base_url(self, **parts: str) -> str:
        """Return the FHIR base of a site, e.g. ``profile.base_url(host="fhir.example.org", tenant="t1")``.

        Raises
        ------
        InputError
            A part of the pattern is missing.
        """
        try:
            return self.base_url_pattern.format(**parts)
        except KeyError as missing:
            raise InputError(
                "The address of the EHR cannot be made.",
                f"The pattern {self.base_url_pattern} needs {missing}.",
                "Give every part of it.",
            ) from None

    def scope(self, kind: str, right: str, *, level: str = "system") -> str:
        """Return a SMART scope in the product's dialect.

        Parameters
        ----------
        kind
            Resource type, or ``"*"``.
        right
            ``"read"`` or ``"write"``.
        level
            ``"system"``, ``"user"`` or ``"patient"``.

        Raises
        ------
        InputError
            The right is another word.
        """
        if right not in {"read", "write"}:
            what = "The scope cannot be made."
            raise InputError(what, "The right is not read or write.", "Use one of them.")
        shown = _LETTERS[right] if self.scope_dialect == "v2" else right
        return f"{level}/{kind}.{shown}"


def _folder() -> Traversable:
    return files("digital_twins.fhir") / "_data" / "ehr"


@cache
def ehr_profile_names() -> tuple[str, ...]:
    """Return the names of all EHR profiles."""
    return tuple(sorted(each.name.removesuffix(".json") for each in _folder().iterdir()))


@cache
def ehr_profile(name: str) -> EhrProfile:
    """Return an EHR profile; raises NotFoundError for a name that `ehr_profile_names` does not have."""
    if name not in ehr_profile_names():
        raise NotFoundError(
            f"There is no EHR profile '{name}'.",
            f"The profiles are {', '.join(ehr_profile_names())}.",
            "Use 'generic' for another product.",
        )
    found = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))
    worklist = found["worklist"]
    return EhrProfile(
        name,
        found["vendor"],
        found["status"],
        base_url_pattern=found["base_url_pattern"],
        scope_dialect=found["scope_dialect"],
        auth_algorithms=tuple(found["auth_algorithms"]),
        writes=tuple(found["writes"]),
        worklist=(worklist["resource"], worklist["parameters"]),
        quirks=tuple(found["quirks"]),
    )


@dataclass(frozen=True, slots=True)
class ImagingWork:
    """One study of an EHR's imaging worklist.

    Attributes
    ----------
    study_uid
        Study Instance UID; empty when the server names none.
    patient
        Reference to the Patient.
    started
        FHIR dateTime, empty when it is not known.
    modalities
        DICOM modality codes of the study and its series.
    description
        What the server says of it.
    source
        ``ImagingStudy/id``.
    """

    study_uid: str
    patient: str
    started: str
    modalities: tuple[str, ...]
    description: str
    source: str


def imaging_worklist(
    client: FHIRClient, profile: EhrProfile | None = None, *, limit: int | None = None
) -> list[ImagingWork]:
    """Return the imaging worklist of an EHR, in the server's order, over all pages.

    Parameters
    ----------
    client
        Of the EHR's FHIR base.
    profile
        Says what to ask for; ``generic`` by default.
    limit
        Stop after this many studies.

    Raises
    ------
    InputError, FHIRRequestError
        The server refused or could not be reached.
    """
    kind, parameters = (profile or ehr_profile("generic")).worklist
    return [_work(each) for each in client.search(kind, parameters, limit=limit)]


async def imaging_worklist_async(
    client: AsyncFHIRClient, profile: EhrProfile | None = None, *, limit: int | None = None
) -> list[ImagingWork]:
    """Return the imaging worklist of an EHR; see `imaging_worklist`."""
    kind, parameters = (profile or ehr_profile("generic")).worklist
    return [_work(each) for each in await client.search(kind, parameters, limit=limit)]


def _work(study: Mapping[str, Any]) -> ImagingWork:
    identifiers: Sequence[Any] = study.get("identifier", ())
    uid = next((i.get("value", "") for i in identifiers if i.get("system") == "urn:dicom:uid"), "")
    codes = [m.get("code") for m in study.get("modality", ())]
    codes += [s.get("modality", {}).get("code") for s in study.get("series", ())]
    return ImagingWork(
        study_uid=str(uid).removeprefix("urn:oid:"),
        patient=str(study.get("subject", {}).get("reference", "")),
        started=str(study.get("started", "")),
        modalities=tuple(dict.fromkeys(str(code) for code in codes if code)),
        description=str(study.get("description", "")),
        source=f"{study.get('resourceType')}/{study.get('id')}",
    )
