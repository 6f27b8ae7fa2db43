"""Every setting is documented with its default and meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from digital_twins.config import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_the_page_says_what_the_code_says(name):
    field = Settings.model_fields[name]
    assert field.description
    assert f"| `{name}` | `{field.default}` | {' '.join(field.description.split())} |" in PAGE


def test_the_page_lists_no_setting_that_is_gone():
    listed = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert listed == set(Settings.model_fields)
