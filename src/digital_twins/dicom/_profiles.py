"""Vendor profiles: what a product is offered and asked, as data files. None was tried on its product."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from digital_twins._errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._scu import Transfer
    from digital_twins.dicom._store import DicomStore


@dataclass(frozen=True, slots=True)
class VendorProfile:
    """How a product is talked to.

    Attributes
    ----------
    name, vendor
        The word for the peers table, and whose product it is.
    status
        What is known of it: ``"untested against the product"``.
    compressed_transfer_syntaxes
        The compressed transfer syntaxes in which objects are offered to it; others go uncompressed. Empty:
        every object is offered as it is.
    retrieve
        ``"get"`` or ``"move"``: the service by which it is asked for objects.
    api_key_header
        HTTP header for the API key of its DICOMweb server.
    quirks
        What else an engineer should know, one sentence each; ``[verify]`` marks what was not read in a
        document of the vendor.
    """

    name: str
    vendor: str
    status: str
    compressed_transfer_syntaxes: frozenset[str]
    retrieve: str
    api_key_header: str
    quirks: tuple[str, ...]

    def headers(self, api_key: str) -> dict[str, str]:
        """Return the HTTP headers for a `DicomWebClient` of this product; none without a key."""
        return {self.api_key_header: api_key} if api_key else {}


def _folder() -> Traversable:
    return files("digital_twins.dicom") / "_data" / "profiles"


@cache
def profile_names() -> tuple[str, ...]:
    """Return the names of all vendor profiles."""
    return tuple(sorted(each.name.removesuffix(".json") for each in _folder().iterdir()))


@cache
def vendor_profile(name: str) -> VendorProfile:
    """Return a vendor profile; raises NotFoundError for a name that `profile_names` does not have."""
    if name not in profile_names():
        raise NotFoundError(
            f"There is no vendor profile '{name}'.",
            f"The profiles are {', '.join(profile_names())}.",
            "Use 'generic' for another product.",
        )
    found = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))
    return VendorProfile(
        name,
        found["vendor"],
        found["status"],
        frozenset(found["compressed_transfer_syntaxes"]),
        found["retrieve"],
        found["api_key_header"],
        tuple(found["quirks"]),
    )


def retrieve(
    remote: Remote,
    keys: Mapping[str, str],
    *,
    profile: VendorProfile,
    store: DicomStore,
    destination: str,
    level: str = "STUDY",
) -> Transfer:
    """Fetch objects from a product by the service that its profile names.

    Parameters
    ----------
    keys
        The unique keys of the level, as `digital_twins.dicom.get` takes them.
    store
        Where objects go that come by C-GET.
    destination
        Our AE title in the product's tables, for C-MOVE: they come to the DICOM port of that title.

    Raises
    ------
    DimseFailedError
        As `digital_twins.dicom.get` and `move` do.
    """
    from digital_twins.dicom._scu import get, move

    if profile.retrieve == "move":
        return move(remote, destination, keys, level=level)
    return get(remote, keys, into=lambda file: store.ingest(file, source=remote.called_ae), level=level)
