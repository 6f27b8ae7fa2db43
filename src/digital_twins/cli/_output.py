"""What every command writes: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager


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


@contextmanager
def steps() -> Iterator[Callable[[str], AbstractContextManager[Callable[[float, str], None]]]]:
    """Show steps of long work on standard error: what gives a bar in a terminal gives a line elsewhere.

    Gives a function that shows one step while its block runs; the block reports a fraction and a text.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (
        SpinnerColumn(finished_text=" "),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:

        @contextmanager
        def step(name: str) -> Iterator[Callable[[float, str], None]]:
            task = shown.add_task(name, total=None, text="")
            started = time.monotonic()

            def progress(fraction: float, text: str) -> None:
                shown.update(task, total=1.0, completed=fraction, text=text)

            yield progress
            shown.update(task, total=1.0, completed=1.0, text="")
            if shown.disable:
                write_progress(f"{time.monotonic() - started:7.2f} s  {name}")

        yield step


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
    if hasattr(value, "model_dump"):  # a group of settings
        return _plain(value.model_dump())
    raise TypeError(f"{type(value).__name__} has no JSON form here")
