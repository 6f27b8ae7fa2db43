"""docs/reference/cli.md lists every command with every option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from digital_twins.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def help_of(capsys, *words: str) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


def commands(text: str) -> list[str]:
    return re.findall(r"^  ([a-z][a-z0-9]*)\s", text.partition("Commands:")[2], flags=re.MULTILINE)


def section(command: str) -> str:
    start = PAGE.index(f"## `twin {command}")
    return PAGE[start : PAGE.find("\n## ", start + 1)]


def test_every_command_and_option_is_documented(capsys):
    for command in commands(help_of(capsys)):
        text = help_of(capsys, command)
        for sub in commands(text):
            text += help_of(capsys, command, sub)
            assert f"twin {command} {sub}" in section(command)
        for option in set(re.findall(r"--[a-z][a-z-]+", text.partition("Options:")[2])) - {"--help"}:
            assert option in section(command), f"{option} of twin {command}"


def test_no_command_is_documented_that_is_gone(capsys):
    known = commands(help_of(capsys))
    for command in re.findall(r"^## `twin ([a-z][a-z0-9]*)", PAGE, flags=re.MULTILINE):
        assert command in known


@pytest.mark.parametrize("code", ["0", "1", "2", "130"])
def test_exit_codes_are_documented(code):
    assert f"| {code} |" in PAGE
