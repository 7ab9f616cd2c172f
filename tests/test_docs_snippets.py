"""What the pages show can be typed: configurations are valid, Python compiles, commands and options exist."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from twisted_rr.build import read_config
from twisted_rr.cli import control
from twisted_rr.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/haproxy/README.md"]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.M | re.S)
#: Keys of other programs' files.
FOREIGN = {"lifecycle", "readinessProbe", "livenessProbe", "terminationGracePeriodSeconds", "config"}
REQUIRED = {"http": "address", "grpc": "listen", "status": "address"}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are in the source only")


def blocks(*languages: str) -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text() if page.exists() else ""
        for found in BLOCK.finditer(text):
            if found[2] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield pytest.param(textwrap.dedent(found[3]), id=f"{page.relative_to(ROOT)}:{line}")


def completed(shown: dict[str, Any]) -> dict[str, Any]:
    """A part of a configuration with what it leaves out."""
    whole: dict[str, Any] = {"version": "3", "server": {}, **shown}
    whole["server"] = {"command": "worker", **whole["server"]}
    for section, key in REQUIRED.items():
        if section in whole:
            whole[section] = {key: "127.0.0.1:0", **whole[section]}
    for section in ("http", "grpc"):
        for route in whole.get(section, {}).get("routes", ()):
            if route["pool"] not in ("http", "grpc"):
                whole.setdefault("pools", {}).setdefault(route["pool"], {})
    return whole


@pytest.mark.parametrize("text", list(blocks("yaml")))
def test_a_configuration_that_is_shown_is_valid(text: str, tmp_path: Path) -> None:
    shown = yaml.safe_load(text)
    if FOREIGN & set(shown):
        pytest.skip("of another program")
    for name in ("echo.proto", "protos/echo.proto"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('syntax = "proto3";')
    file = tmp_path / ".rr.yaml"
    file.write_text(yaml.safe_dump(completed(shown), sort_keys=False))
    read_config(file, environ={})


@pytest.mark.parametrize("text", list(blocks("python")))
def test_python_that_is_shown_compiles(text: str) -> None:
    compile(text, "shown", "exec")


def commands() -> Iterator[Any]:
    seen = set()
    for parameter in blocks("console", "sh"):
        for line in str(parameter.values[0]).replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|\$ |[A-Z]=\S+ )(twisted-rr [a-z-].*)", line)
            if found and found[1] not in seen:
                seen.add(found[1])
                yield pytest.param(found[1], id=found[1])


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_that_is_shown_is_understood(command: str) -> None:
    words = shlex.split(command.rstrip("&").strip(), comments=True)[1:]
    if words[0] in control.VERBS:
        control._parsed(words)
        return
    group: Any = cli
    context = click.Context(cli)
    while words and isinstance(group, click.Group) and not words[0].startswith("-"):
        name, group, words = group.resolve_command(context, words)
        context = click.Context(group, info_name=name, parent=context)
    if words != ["--version"]:
        group.make_parser(context).parse_args(list(words))


def test_there_is_something_to_look_at() -> None:
    assert min(len(list(blocks("yaml"))), len(list(blocks("python"))), len(list(commands()))) > 10
