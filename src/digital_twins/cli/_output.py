"""What every command writes: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def write_json(data: object) -> None:
    """Write one JSON document to standard output; a number that is none becomes null."""
    sys.stdout.write(json.dumps(_plain(data), ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def write_lines(lines: Iterable[str]) -> None:
    """Write lines for a person to standard output."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table for a person to standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def write_progress(text: str) -> None:
    """Write a line about the work in hand to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write_error(error: Mapping[str, str], *, as_json: bool) -> None:
    """Write what, why and fix to standard error: three lines, or a JSON object."""
    if as_json:
        sys.stderr.write(json.dumps(dict(error), ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"error: {error['what']}\n  why: {error['why']}\n  fix: {error['fix']}\n")
    sys.stderr.flush()


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without loading numpy
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form here")
