"""What identifies a plain coded value, so that what was found out of it once can be kept."""

from __future__ import annotations

from typing import Any

Key = tuple[Any, ...]
_LONGEST_TEXT = 200


def coding_key(value: dict[str, Any]) -> Key | None:
    """Return system, code and display of a coding that has nothing else, else None."""
    key = (value.get("system"), value.get("code"), value.get("display"))
    return key if len(value) == 3 - key.count(None) else None


def concept_key(value: dict[str, Any]) -> Key | None:
    """Return what identifies a concept of one such coding with or without a text, else None."""
    text, codings = value.get("text"), value.get("coding")
    if type(codings) is not list or len(codings) != 1 or type(codings[0]) is not dict:
        return None
    if len(value) != 2 - (text is None) or (text is not None and not _is_short(text)):
        return None
    key = coding_key(codings[0])
    return None if key is None else (*key, text)


def _is_short(text: Any) -> bool:
    return type(text) is str and len(text) <= _LONGEST_TEXT
