"""Following a search over its pages, and noticing when a server leaves some of it out.

FHIR R4 lets a server answer with a part of the matches (http, section 3.1.0.7). One that does says where the
next page is; ``Bundle.total`` is the number of all matches. A server that announces more matches than it sent
and names no next page is asked once more, with a ``_count`` that holds them all; when it still sends fewer,
the search is refused: a record with silent gaps is worse than none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from digital_twins.fhir._exchange import FHIRRequestError, search_pairs
from digital_twins.fhir._resource import FHIRResource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

Pairs = list[tuple[str, str]]

MAX_PAGES = 10_000
_INEXACT = {("_total", "estimate"), ("_summary", "count"), ("_count", "0")}
_POSITIONS = ("_offset", "_page", "_cursor", "_skip", "_getpages")
"""Parameters of servers, none of FHIR's, with which a caller starts in the middle of the matches."""


class SearchPages:
    """The state of one search over its pages.

    Parameters
    ----------
    base
        The FHIR base address.
    kind
        Resource type.
    params
        Search parameters as the caller gave them.
    limit
        Stop after this many resources.
    partial
        Take what the server sends even when it announces more.
    """

    def __init__(
        self, base: str, kind: str, params: Mapping[str, Any] | None, *, limit: int | None, partial: bool
    ) -> None:
        self.pairs: Pairs = search_pairs(params)
        self._base, self._kind, self._limit = base, kind, limit
        self._exact = not partial and not any(
            pair in _INEXACT or pair[0].startswith(_POSITIONS) for pair in self.pairs
        )
        self._found: list[FHIRResource] = []
        self._matches = self._pages = 0
        self._enlarged = False

    @property
    def resources(self) -> list[FHIRResource]:
        """What was found so far, cut to the limit."""
        return self._found if self._limit is None else self._found[: self._limit]

    def take(self, bundle: FHIRResource) -> str | Pairs | None:
        """Take a page; return the address of the next one, the search to send instead, or None at the end.

        Raises
        ------
        FHIRRequestError
            The next page lies on another host, or the server leaves out matches that it announces.
        """
        entries = [e for e in bundle.get("entry", ()) if isinstance(e.get("resource"), dict)]
        modes = [entry.get("search", {}).get("mode", "match") for entry in entries]
        self._found += [
            FHIRResource(entry["resource"])
            for entry, mode in zip(entries, modes, strict=True)
            if mode != "outcome"
        ]
        self._matches += modes.count("match")
        self._pages += 1
        if self._limit is not None and len(self._found) >= self._limit:
            return None
        link = next((x.get("url") for x in bundle.get("link", ()) if x.get("relation") == "next"), None)
        if link is not None and self._pages < MAX_PAGES:
            return self._same_host(str(link))
        total = bundle.get("total")
        if self._exact and isinstance(total, int) and self._matches < total:
            return self._larger_page(total)
        return None

    def _same_host(self, link: str) -> str:
        here, there = urlsplit(self._base), urlsplit(link)
        if there.netloc and (there.scheme, there.netloc) != (here.scheme, here.netloc):
            raise FHIRRequestError(
                "The search could not be continued.",
                "The next page lies on another host than base_url, where credentials must not go.",
                "Use the server's public address as base_url.",
            )
        if there.netloc:
            return link
        return f"{here.scheme}://{here.netloc}{link}" if link.startswith("/") else f"{self._base}/{link}"

    def _larger_page(self, total: int) -> Pairs:
        """Return the search for all matches at once, after one that stopped without a next page."""
        if self._enlarged or self._pages > 1:
            raise FHIRRequestError(
                f"The search for {self._kind} is not complete.",
                f"The server announces {total} matches, sent {self._matches} and names no further page.",
                "Narrow the search, export in bulk, or take what there is with partial=True.",
            )
        self._enlarged = True
        self._found, self._matches, self._pages = [], 0, 0
        return [*(pair for pair in self.pairs if pair[0] != "_count"), ("_count", str(total))]
