"""Rules of a DICOM node as tables of ``twin.toml``: coercion, retention, prefetching."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
