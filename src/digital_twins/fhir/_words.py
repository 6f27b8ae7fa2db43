"""``_text`` and ``_content``: the words of the narrative, and of a whole resource (FHIR R4 search).

The words are not indexed when a resource is written. A search that asks for them first brings the tables
``fhir_word`` and ``fhir_text`` up to date: what is newer than their last resource, and what was changed since
it was read (``fhir_text_stale``). A store in which nobody searches for words pays nothing for them.
"""

from __future__ import annotations

import html
import re
import unicodedata
import zlib
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import orjson

from digital_twins.fhir._outcome import FhirError, Issue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import apsw

    from digital_twins.fhir._hits import Executes
    from digital_twins.storage import Database

TEXT_TABLES = ("fhir_word", "fhir_text", "fhir_text_stale")
WORD_PARAMETERS = frozenset({"_text", "_content"})
MAX_AT_ONCE = 20_000
"""Resources that one search reads at most; beyond them the client is told to ask again."""
_PAGE = 500
_WORD = re.compile(r"\w+")
_TAG = re.compile(r"<[^>]*>")
_LONGEST_WORD = 100
_UNSEARCHED = frozenset({"div", "data", "resourceType"})
_PENDING = (
    "SELECT EXISTS (SELECT 1 FROM fhir_text_stale), coalesce((SELECT max(rid) FROM fhir_resource), 0), "
    "coalesce((SELECT max(rid) FROM fhir_text), 0)"
)
_READ = "SELECT r.rid, r.type, r.deleted, r.body FROM fhir_resource r WHERE "


@lru_cache(maxsize=512)
def word_key(kind: str, parameter: str) -> int:
    """Return the number under which the words of a type's resources stand for ``_text`` or ``_content``."""
    return zlib.crc32(f"{kind}.{parameter}".encode())


def fold(text: str) -> str:
    """Return the words of a text without accents and in one case, with a space around each."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in decomposed if not unicodedata.combining(c))
    words = " ".join(word[:_LONGEST_WORD] for word in _WORD.findall(text.casefold()))
    return f" {words} " if words else ""


def _plain(div: str) -> str:
    return html.unescape(_TAG.sub(" ", div))


def _strings(node: Any) -> Iterator[str]:
    """Yield every text and number of a resource but its narrative and binary data."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name not in _UNSEARCHED:
                yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)
    elif isinstance(node, str):
        yield node
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield str(node)


def texts_of(resource: Mapping[str, Any]) -> tuple[str, str]:
    """Return the folded narrative and the folded content; texts of different elements stand in lines.

    The content has the narrative too, as words and not as markup; base64 data has no words.
    """
    div = resource.get("text", {}).get("div") if isinstance(resource.get("text"), dict) else None
    narrative = fold(_plain(div)) if isinstance(div, str) else ""
    content = [folded for text in _strings(resource) if (folded := fold(text))]
    return narrative, "\n".join([*content, narrative] if narrative else content)


def _forget(cursor: Executes, kind: str, rid: int) -> None:
    row = cursor.execute("SELECT narrative, content FROM fhir_text WHERE rid=?", (rid,)).fetchone()
    if row is None:
        return
    rows = _rows(kind, rid, (str(row[0]), str(row[1])))
    cursor.executemany("DELETE FROM fhir_word WHERE param=? AND word=? AND rid=?", rows)
    cursor.execute("DELETE FROM fhir_text WHERE rid=?", (rid,))


def _rows(kind: str, rid: int, texts: tuple[str, str]) -> list[tuple[int, str, int]]:
    found: list[tuple[int, str, int]] = []
    for parameter, text in zip(("_text", "_content"), texts, strict=True):
        number = word_key(kind, parameter)
        found.extend((number, word, rid) for word in sorted(set(text.split())))
    return found


def _index(cursor: apsw.Cursor, stale: bool) -> int:
    """Index the next resources; return how many."""
    if stale:
        chosen = "r.rid IN (SELECT rid FROM fhir_text_stale ORDER BY rid LIMIT ?) ORDER BY r.rid"
        found = cursor.execute(_READ + chosen, (_PAGE,)).fetchall()
    else:
        chosen = "r.rid > coalesce((SELECT max(rid) FROM fhir_text), 0) ORDER BY r.rid LIMIT ?"
        found = cursor.execute(_READ + chosen, (_PAGE,)).fetchall()
    if stale and not found:
        cursor.execute("DELETE FROM fhir_text_stale")  # of resources that are no more
    for row in found:
        rid, kind, deleted, body = cast("tuple[int, str, int, bytes]", row)
        if stale:
            _forget(cursor, kind, rid)
            cursor.execute("DELETE FROM fhir_text_stale WHERE rid=?", (rid,))
        texts = ("", "") if deleted else texts_of(orjson.loads(body))
        cursor.execute("INSERT INTO fhir_text(rid, narrative, content) VALUES(?,?,?)", (rid, *texts))
        cursor.executemany("INSERT INTO fhir_word(param, word, rid) VALUES(?,?,?)", _rows(kind, rid, texts))
    return len(found)


def asks_words(parameters: Sequence[tuple[str, str]]) -> bool:
    """Whether a search asks for words, by itself, behind a chain or in a ``_filter``."""
    return any(
        word in (text if name.endswith("_filter") else name)
        for name, text in parameters
        for word in WORD_PARAMETERS
    )


def mark_stale(cursor: Executes, rid: int) -> None:
    """Remember that a resource whose words are indexed was changed."""
    cursor.execute("INSERT OR IGNORE INTO fhir_text_stale(rid) SELECT rid FROM fhir_text WHERE rid=?", (rid,))


def catch_up(database: Database, *, most: int = MAX_AT_ONCE) -> int:
    """Bring the index of words up to date; return how many resources were read.

    Parameters
    ----------
    database
        Where the resources are.
    most
        Resources to read at most.

    Raises
    ------
    FhirError
        503 when there are more: what was read stays, and the next call goes on behind it.
    """
    done = 0
    while True:
        with database.read() as connection:
            row = cast("tuple[int, int, int]", connection.execute(_PENDING).fetchone())
        stale, behind = bool(row[0]), row[1] - row[2]
        if not stale and behind <= 0:
            return done
        if done >= most:
            text = f"The index of words is being built: {behind} resources are waiting."
            raise FhirError(503, [Issue("transient", text)], fix="Ask again; each search goes on with it.")
        done += max(1, database.write(partial(_index, stale=stale)))
