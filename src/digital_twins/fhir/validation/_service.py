"""Validation as a server needs it: packages from a folder, refusal of what is wrong, answers to $validate."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import FhirError, Issue
from digital_twins.fhir._validate import MAX_ISSUES, check, primitive_ok, structural_issues
from digital_twins.fhir.validation._definitions import DefinitionSet
from digital_twins.fhir.validation._validator import Validator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_BARE: Mapping[str, Any] = {"resourceType": "Patient"}


def _is_plain(entry: Any) -> bool:
    """Whether an entry has a resource, a request of method and url, perhaps a fullUrl, and nothing else."""
    if type(entry) is not dict or "resource" not in entry or len(entry) != 2 + ("fullUrl" in entry):
        return False
    request = entry.get("request")
    return (
        type(request) is dict
        and len(request) == 2
        and primitive_ok("code", request.get("method"))
        and primitive_ok("uri", request.get("url"))
        and ("fullUrl" not in entry or primitive_ok("uri", entry["fullUrl"]))
    )


class ResourceValidation:
    """The validator of a server, over R4 and the packages in a folder.

    It is built when it is first needed, and again when a package was added to the folder or removed.

    Parameters
    ----------
    packages
        Folder of FHIR package files (``.tgz``); none when missing.
    """

    def __init__(self, packages: Path | None = None) -> None:
        self._folder = packages
        self._lock = threading.Lock()
        self._built: tuple[int, Validator] | None = None

    @property
    def validator(self) -> Validator:
        """The validator over what the folder holds now.

        Raises
        ------
        InputError
            When a package in the folder cannot be read.
        """
        stamp, built = self._stamp(), self._built
        if built is None or built[0] != stamp:
            with self._lock:
                if self._built is None or self._built[0] != stamp:
                    files = sorted(self._folder.glob("*.tgz")) if self._folder and stamp else []
                    self._built = stamp, Validator(DefinitionSet.from_packages(files))
                built = self._built
        return built[1]

    def _stamp(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns if self._folder is not None else 0  # noqa: PTH116  (hot)
        except OSError:
            return 0

    def check(self, resource: Mapping[str, Any]) -> None:
        """Refuse a resource with errors; a bundle is judged by its entries.

        Raises
        ------
        FhirError
            400 when it is no resource; 422 with every location otherwise.
        """
        if self.validator.accepts(resource):
            return
        if resource.get("resourceType") == "Bundle":
            if self._plainly_sound(resource):
                return
            rest = self._without_accepted(resource)
            check(rest)
            found = self._entry_issues(rest)
        else:
            check(resource)
            found = self.validator.validate(dict(resource))
        errors = [issue for issue in found if issue.severity == "error"][:MAX_ISSUES]
        if errors:
            raise FhirError(422, errors, fix="Correct the elements named, then send it again.")

    def _plainly_sound(self, bundle: Mapping[str, Any]) -> bool:
        """Whether a bundle of the most common requests, with resources that have no error, is sound itself.

        False may mean only: look closer. Of such entries there is nothing to check but three texts.
        """
        entries = bundle.get("entry")
        if type(entries) is not list or not entries:
            return False
        accepts = self.validator.accepts
        if not all(_is_plain(entry) and accepts(entry["resource"]) for entry in entries):
            return False
        return not structural_issues({name: value for name, value in bundle.items() if name != "entry"})

    def _without_accepted(self, bundle: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the bundle with a bare Patient in the place of each resource that has no error."""
        entries = bundle.get("entry")
        if not isinstance(entries, list):
            return bundle
        accepts = self.validator.accepts
        rest = [
            {**entry, "resource": _BARE}
            if isinstance(entry, dict) and accepts(entry.get("resource"))
            else entry
            for entry in entries
        ]
        return {**bundle, "entry": rest}

    def _entry_issues(self, bundle: Mapping[str, Any]) -> list[Issue]:
        validator, found = self.validator, []
        for index, entry in enumerate(bundle.get("entry", ())):
            if "resource" in entry and entry["resource"] is not _BARE:
                at = f"Bundle.entry[{index}].resource"
                for issue in validator.validate(entry["resource"]):
                    _, _, rest = (issue.location or "").partition(".")
                    where = f"{at}.{rest}" if rest else at
                    found.append(Issue(issue.code, issue.text, where, issue.severity))
        return found

    def issues(self, resource: Any, profiles: Sequence[str] = ()) -> list[Issue]:
        """Return everything there is to say of a resource, as ``$validate`` answers it."""
        if not isinstance(resource, dict):
            return structural_issues(resource)
        validator = self.validator
        unknown = [url for url in profiles if validator.profile(url) is None]
        said = [Issue("not-found", "A profile that is asked for is not known here.", None) for _ in unknown]
        known = [url for url in profiles if url not in unknown]
        return [*said, *validator.validate(resource, profiles=known)]

    def profiles(self) -> dict[str, list[str]]:
        """Return the profiles of the packages, by resource type."""
        definitions, found = self.validator.definitions, dict[str, list[str]]()
        for url in definitions.own_profiles:
            structure = definitions.structure(url) or {}
            if structure.get("kind") == "resource" and structure.get("derivation") == "constraint":
                found.setdefault(structure["type"], []).append(url)
        return {kind: sorted(urls) for kind, urls in found.items()}
