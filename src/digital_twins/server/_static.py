"""Where the web pages lie in the installed package."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""Folder of the pages, styles, modules and vendored libraries."""
