"""The page of taste as tests: sizes, doors, docstrings, and what an import loads."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
PACKAGE = SRC / "digital_twins"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "vendor" not in path.parts)
DOORS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in FILES:
        yield path.relative_to(SRC), ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, Function, bool]]:
    """Every function as (place, node, whether it is a method)."""
    for path, tree in trees():
        methods = {
            id(child) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body
        }
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}:{node.lineno} {node.name}", node, id(node) in methods


def body_lines(node: Function) -> int:
    """Lines of the body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def percentile_95(values: list[int]) -> int:
    return sorted(values)[int(0.95 * (len(values) - 1))]


def test_files_are_small():
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > 800} == {}
    assert percentile_95(list(lines.values())) <= 500
    assert sorted(lines.values())[len(lines) // 2] <= 200


def test_functions_are_short():
    lines = {place: body_lines(node) for place, node, _ in functions()}
    assert {place: count for place, count in lines.items() if count > 80} == {}
    assert percentile_95(list(lines.values())) <= 45


def test_functions_take_few_parameters():
    too_many, too_positional = [], []
    for place, node, is_method in functions():
        arguments = node.args
        decorators = {ast.unparse(each).split("(")[0] for each in node.decorator_list}
        bound = int(is_method and "staticmethod" not in decorators)
        positional = len(arguments.posonlyargs) + len(arguments.args) - bound
        if is_command(place) or is_numba_kernel(decorators):
            continue
        if positional + len(arguments.kwonlyargs) > 8:
            too_many.append(place)
        if positional > 3 and not node.name.startswith("_") and is_public(node, place):
            too_positional.append(place)
    assert too_many == []
    assert too_positional == []


def is_command(place: str) -> bool:
    """A command's parameters are its options: named on the command line, never positional in code."""
    return place.startswith("digital_twins/cli/")


def is_numba_kernel(decorators: set[str]) -> bool:
    """Compiled kernels take plain arrays by position: numba has no structures that cost nothing."""
    return any(
        name.split(".")[-1] in {"njit", "jit", "_kernel", "vectorize", "guvectorize"} for name in decorators
    )


PUBLIC: dict[str, set[str]] = {}


def is_public(node: Function, place: str) -> bool:
    """Whether users can reach it: it, or the class around it, leaves its room through the door."""
    path = place.split(":", maxsplit=1)[0]
    room = path.split("/")[1] if path.count("/") > 1 else ""
    if not room:
        return True
    if room not in PUBLIC:
        PUBLIC[room] = set(getattr(importlib.import_module(f"digital_twins.{room}"), "_WHERE", ()))
    if node.name in PUBLIC[room]:
        return True
    tree = ast.parse((SRC / path).read_text(encoding="utf-8"))
    return any(
        isinstance(each, ast.ClassDef)
        and each.name in PUBLIC[room]
        and any(isinstance(child, Function) and child.lineno == node.lineno for child in each.body)
        for each in tree.body
    )


def test_nothing_prints_and_nothing_is_left_to_do():
    for path, tree in trees():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [node.lineno for node in calls if ast.unparse(node.func) == "print"], path
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not any(mark in text for mark in ("TODO", "FIXME", "XXX ")), path


def type_checking_imports(door: Path) -> dict[str, str]:
    """Public name to module, as the door's ``if TYPE_CHECKING`` block imports it."""
    found = {}
    for node in ast.parse((door / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for each in node.body:
                assert isinstance(each, ast.ImportFrom), door
                assert each.module is not None
                for alias in each.names:
                    assert alias.asname == alias.name, f"{door.name}: import {alias.name} as {alias.name}"
                    found[alias.name] = each.module
    return found


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_every_door_resolves_and_says_the_same_to_type_checkers(door):
    room = importlib.import_module(f"digital_twins.{door.name}")
    where = getattr(room, "_WHERE", {})
    assert dict(where) == type_checking_imports(door)
    for name, module in where.items():
        value = getattr(room, name)
        assert value is getattr(importlib.import_module(module), name)
    assert dir(room) == sorted(where) or not where
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = room.no_such_name


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_every_public_name_is_documented(door):
    room = importlib.import_module(f"digital_twins.{door.name}")
    assert inspect.getdoc(room), door.name
    for name in getattr(room, "_WHERE", {}):
        value = getattr(room, name)
        if inspect.isclass(value):
            assert value.__doc__, name
            for member, each in vars(value).items():
                if not member.startswith("_") and (inspect.isfunction(each) or isinstance(each, property)):
                    assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"
        elif inspect.isfunction(value):
            assert inspect.getdoc(value), name


def loaded_by(code: str) -> set[str]:
    """Top-level packages that are not the standard library's, loaded by a fresh interpreter."""
    script = f"import sys\n{code}\nsys.stderr.write('LOADED ' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SRC)},
    )
    names = {name.split(".")[0] for name in done.stderr.split("LOADED ")[1].split()}
    before = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return names - {name.split(".")[0] for name in before.stdout.split()} - set(sys.stdlib_module_names)


def test_importing_the_package_loads_no_third_party_module():
    assert loaded_by("import digital_twins") == {"digital_twins"}


def test_a_waiting_worker_loads_no_numerics(tmp_path: Path):
    """Every node starts and ends one: what only a job needs is imported by the job."""
    code = (
        "import digital_twins.server.worker\n"
        "from pathlib import Path\n"
        "from digital_twins.server._services import open_services\n"
        f"open_services(Path({str(tmp_path)!r}), boot_id='1').close()"
    )
    heavy = {"numpy", "scipy", "numba", "pydicom", "matplotlib", "fastapi", "pydantic", "httpx"}
    assert not loaded_by(code) & heavy


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_opening_a_door_loads_no_third_party_module(door):
    if door.name == "units":
        pytest.skip("a module, not a door")
    assert loaded_by(f"import digital_twins.{door.name}") == {"digital_twins"}


@pytest.mark.parametrize("words", [["--help"], ["audit", "--help"], ["--version"]])
def test_help_loads_only_what_the_command_line_needs(words):
    loaded = loaded_by(f"from digital_twins.cli import main; main({words!r})")
    assert loaded <= {
        "digital_twins",
        "typer",
        "click",
        "shellingham",
        "annotated_doc",
        "typing_extensions",
        "colorama",
        *(
            "pydantic",
            "pydantic_core",
            "annotated_types",
            "typing_inspection",
        ),  # typer checks options with it
        "_sysconfigdata__linux_x86_64-linux-gnu",
    }
