"""Lists the verbs of `control` beside the other commands; the console script runs them without coming here."""

from __future__ import annotations

import sys

import click

from . import control


def add_verbs(group: click.Group) -> None:
    """Let *group* list and run them."""
    for name, text in control.VERBS.items():
        group.add_command(_command(name, text))


def _command(name: str, text: str) -> click.Command:
    # control reads the options, --help too: there must not be two lists of them.
    @click.command(name, help=text, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        sys.exit(control.main([name, *arguments]))

    return run
