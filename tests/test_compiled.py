"""What is said of compiled modules, and that the list of what to compile fits the source."""

import ast
import runpy
import sys
import types
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from twisted_rr import compiled

ROOT = Path(__file__).resolve().parents[1]
SUFFIX = EXTENSION_SUFFIXES[0]


def test_only_extensions_of_this_python_are_compiled_modules(tmp_path):
    root = tmp_path / "package"
    (root / "wire").mkdir(parents=True)
    for name in (f"frame{SUFFIX}", "flow.cpython-27-other.so", "flow.py", f"x__mypyc{SUFFIX}"):
        (root / "wire" / name).touch()
    (root / f"top{SUFFIX}").touch()
    assert compiled.compiled_modules(root) == ["package.top", "package.wire.frame"]


def test_a_module_counts_only_if_it_is_what_python_loads():
    assert compiled.loaded(["twisted_rr.errors"]) == []
    assert "pure Python" in compiled.describe(["twisted_rr.errors"])


def test_packages_are_told_with_the_number_of_their_modules(monkeypatch):
    monkeypatch.setattr(compiled, "loaded", lambda names: list(names))
    told = compiled.describe(["twisted_rr.wire.frame", "twisted_rr.wire.flow", "twisted_rr.net.turn"])
    assert told.startswith("compiled, ") and told.endswith(": twisted_rr.net (1), twisted_rr.wire (2)")


@pytest.fixture
def build(monkeypatch):
    """The names in setup.py, which is run as `--name` so that it does nothing."""
    if not (ROOT / "twisted_rr").is_dir():
        pytest.skip("the source is not here")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["setup.py", "--name"])
    return runpy.run_path("setup.py")


def test_what_is_to_be_compiled_exists_and_is_not_a_package_itself(build):
    names = build["modules"]()
    assert "twisted_rr/wire/frame.py" in names
    assert len(names) == len(set(names)) and all(Path(name).is_file() for name in names)
    assert not [name for name in names if name.endswith("__init__.py")]
    assert set(build["listed"]("mypyc", "exclude")).isdisjoint(names)


def test_a_pattern_without_a_file_is_an_error(build):
    build["cfg"]["mypyc"]["modules"] = "\ntwisted_rr/gone/*.py"
    with pytest.raises(SystemExit, match="there is no twisted_rr/gone"):
        build["modules"]()


def test_modules_that_another_python_would_load_compiled_are_told(tmp_path, monkeypatch):
    root = tmp_path / "package"
    root.mkdir()
    for name in (
        f"frame{SUFFIX}",
        "frame.cpython-27-other.so",
        "flow.cpython-27-other.so",
        "x__mypyc.cpython-27-other.so",
    ):
        (root / name).touch()
    assert compiled.left_to_source(root) == ["package.flow"]
    monkeypatch.setattr(compiled, "left_to_source", lambda: ["package.flow"])
    assert compiled.describe(["twisted_rr.errors"]).endswith(
        "\n1 modules are compiled for another Python only, here their sources run"
    )


def test_what_a_process_has_loaded_is_told_in_short(monkeypatch):
    assert compiled.in_short().partition(",")[0] == compiled.describe().partition(",")[0]
    monkeypatch.setitem(sys.modules, "twisted_rr.some", types.SimpleNamespace(__file__=f"/some{SUFFIX}"))
    assert compiled.in_short().startswith("compiled, ")


def functions_of(names):
    for name in names:
        for node in ast.walk(ast.parse(Path(name).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}: {node.name}", node


def test_no_name_is_given_to_errors_of_two_kinds_in_one_function(build):
    """Compiled, the name has the type of the first clause: what another catches is a TypeError."""
    twice = []
    for where, function in functions_of(build["modules"]()):
        kinds = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name:
                kinds.setdefault(node.name, set()).add(ast.unparse(node.type))
        twice += [f"{where}: {name}" for name, found in kinds.items() if len(found) > 1]
    assert not twice


WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith)


def test_nothing_is_awaited_while_an_error_is_handled(build):
    """Compiled, the error being handled is the thread's, not the coroutine's: another task would see it, and raise it."""
    waiting = []
    for name in build["modules"]():
        for node in ast.walk(ast.parse(Path(name).read_text())):
            if isinstance(node, ast.Try):
                inside = [*node.handlers, *node.finalbody, *(node.body if node.finalbody else [])]
            elif isinstance(node, ast.With | ast.AsyncWith):
                inside = node.body
            else:
                continue
            if any(isinstance(each, WAITS) for part in inside for each in ast.walk(part)):
                waiting.append(f"{name}:{node.lineno}")
    assert not waiting


def test_no_class_to_compile_is_made_by_msgspec_or_attrs(build):
    made = []
    for name in build["modules"]():
        for node in ast.walk(ast.parse(Path(name).read_text())):
            if isinstance(node, ast.ClassDef):
                words = [ast.unparse(each) for each in [*node.bases, *node.decorator_list]]
                made += [
                    f"{name}: {node.name}"
                    for word in words
                    if "Struct" in word or word.startswith(("attrs.", "define"))
                ]
    assert not made


def test_nothing_is_compiled_unless_asked(build):
    assert not build["ASKED"]
