"""A resource as the client returns it: a dictionary whose elements are attributes too."""

from __future__ import annotations

from typing import Any


def _wrap(value: Any) -> Any:
    if isinstance(value, dict) and not isinstance(value, FHIRResource):
        return FHIRResource(value)
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return value


class FHIRResource(dict[str, Any]):
    """A FHIR resource or element: ``patient.id``, ``patient.name[0].family``, ``patient["id"]``.

    It is a plain dictionary (``isinstance(x, dict)``; JSON goes in and out unchanged); elements whose name is
    a method of dict (``items``, ``get``, ...) are reached by ``[]`` only. A missing element raises
    AttributeError, so ``getattr(patient, "gender", None)`` works.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return _wrap(self[name])
        except KeyError:
            raise AttributeError(
                f"{self.get('resourceType', 'element')} has no element '{name}' here"
            ) from None

    @property
    def reference(self) -> str:
        """``Type/id`` of a resource, for use as ``Reference.reference``; of a Reference, its own element."""
        if "reference" in self:
            return str(self["reference"])
        return f"{self['resourceType']}/{self['id']}"
