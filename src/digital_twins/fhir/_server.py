"""What every handler of the REST interface shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.responses import Response

from digital_twins.fhir._http import header
from digital_twins.fhir._operations import EVERYTHING, VALIDATE, VALIDATE_STORED, FhirOperation

if TYPE_CHECKING:
    from digital_twins.fhir._store import FhirStore
    from digital_twins.fhir.validation import ResourceValidation


@dataclass(frozen=True, slots=True)
class Call:
    """What an address names: a type, the id of a resource, one of its versions.

    ``owner`` is whose compartment is searched, type and id; ``type`` is then that of the members.
    """

    type: str = ""
    id: str = ""
    version: int = 0
    owner: tuple[str, str] | None = None


Handler = Callable[[Request, Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class FhirFeatures:
    """What a FHIR server has beside the REST interface, for its CapabilityStatement.

    Parameters
    ----------
    operations
        Further ``$``-operations; they stand there like those that are built in.
    oauth
        Addresses of the authorization server by the names of SMART's ``oauth-uris`` (``authorize``,
        ``token``, ...); None where no token is asked for.
    """

    operations: tuple[FhirOperation, ...] = ()
    oauth: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class FhirServer:
    """The parts of one FHIR server; see `fhir_routes`."""

    store: FhirStore
    base: str
    public_url: str | None
    agent: Callable[[Request], str]
    validation: ResourceValidation | None
    conditional_delete: Literal["single", "multiple"]
    features: FhirFeatures
    started: str

    @property
    def all_operations(self) -> tuple[FhirOperation, ...]:
        """The operations that run here."""
        built_in = (VALIDATE, VALIDATE_STORED, EVERYTHING) if self.validation else (EVERYTHING,)
        return (*built_in, *self.features.operations)

    def url(self, request: Request) -> str:
        """Return the address of the FHIR base as the client sees it."""
        if self.public_url:
            return self.public_url
        host = header(request, b"host", "localhost")
        return f"{request.scope.get('scheme', 'http')}://{host}{self.base}"
