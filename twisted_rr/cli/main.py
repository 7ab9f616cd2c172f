"""`twisted-rr`: serve, check and write configurations."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import twisted_rr
from twisted_rr.config import check, masked, render
from twisted_rr.config.schema import export
from twisted_rr.errors import ConfigError, RRError

from .application import ServeOptions, config_for, find_application, in_container, told, wrong_name
from .drain_test import drain_test
from .verbs import add_verbs

if TYPE_CHECKING:
    from twisted_rr.discovery import ServerPlugin
    from twisted_rr.lifecycle.process import Process

_config = click.option("-c", "--config", "config", metavar="FILE", help="the configuration [.rr.yaml]")
_overrides = click.option(
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="set one key; may be repeated"
)
_dotenv = click.option("--dotenv", metavar="FILE", help="a file of environment variables to read first")
_workdir = click.option(
    "-w", "--workdir", metavar="DIR", help="work in this directory instead of the configuration's"
)


def _tell_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from twisted_rr.compiled import describe

        click.echo(f"twisted-rr {twisted_rr.__version__}\n{describe()}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="show the version, and what of it is compiled",
)
def cli() -> None:
    """An application server on Twisted: isolated workers for WSGI, ASGI and PHP applications."""


@cli.command()
@click.argument("application", required=False, metavar="[MODULE:ATTRIBUTE]")
@_config
@_overrides
@_dotenv
@_workdir
@click.option(
    "--host", help="address to listen on, or unix:PATH [HOST, else 127.0.0.1; 0.0.0.0 in a container]"
)
@click.option("--port", type=click.IntRange(0, 65535), help="port to listen on [PORT, else 8000]")
@click.option("--workers", type=click.IntRange(0), help="worker processes [WEB_CONCURRENCY, else by CPUs]")
@click.option("--threads", type=click.IntRange(1), help="threads of a worker, for WSGI")
@click.option("--interface", type=click.Choice(["auto", "wsgi", "asgi"]), help="what the application speaks")
@click.option("--status", metavar="ADDRESS", help="address of the status endpoints [127.0.0.1:2114]")
@click.option("--access-log", is_flag=True, help="log each request")
@click.option("--preload", is_flag=True, help="import the application once and fork the workers from it")
@click.option("--reload", "reload_", is_flag=True, help="replace the workers when a file changes")
@click.option(
    "--reactor",
    "reactor_name",
    default="rr",
    show_default=True,
    metavar="NAME",
    help="one of `twistd --help-reactors`",
)
@click.option("--print-config", is_flag=True, help="show the configuration that the options mean, and stop")
@click.pass_obj
def serve(
    process: Process | None,
    /,
    application: str | None,
    config: str | None,
    overrides: tuple[str, ...],
    dotenv: str | None,
    workdir: str | None,
    reload_: bool,
    reactor_name: str,
    print_config: bool,
    **options: Any,
) -> None:
    """Serve an application, or what a configuration says.

    \b
      twisted-rr serve app:app --workers 4
      twisted-rr serve -c .rr.yaml -o http.pool.num_workers=4
    """
    from twisted_rr.build import read_config, registry
    from twisted_rr.discovery import discover
    from twisted_rr.net.inherited import claim

    # Workers of a server that reloads show failures to browsers, and no others, whoever set it.
    os.environ.pop("RR_DEV", None)
    if reload_:
        os.environ["RR_DEV"] = "1"
    inherited = claim(os.environ)
    source, folder = _source(application, config, workdir, options)
    try:
        plugins = discover()
        read = functools.partial(
            read_config,
            source,
            overrides=overrides,
            dotenv=dotenv,
            plugins=plugins,
            folder=folder,
            workdir=folder,
        )
        found = read()
    except ConfigError as error:
        _fail("\n".join(map(told, error.problems)) if application else error)
    except RRError as error:
        _fail(error)
    if print_config:
        # What an application's options mean is for a file; what a file says may hold anybody's secrets.
        shown = found.data if application else masked(found.data, registry(plugins))
        click.echo(_rendered(shown, plugins), nl=False)
        return
    from twisted_rr.lifecycle.process import Process

    from .reload import available
    from .run import Run

    if reload_ and not available():
        _fail('--reload needs the package watchfiles: pip install "twisted_rr[reload]"')
    watched = Path.cwd() if reload_ else None
    run = Run(
        process or Process(), found, plugins, reload=watched, inherited=inherited, read=read, folder=folder
    )
    run.run(_installer(reactor_name))


def _source(
    application: str | None, config: str | None, workdir: str | None, options: dict[str, Any]
) -> tuple[Any, str]:
    """A dict for an application, a path for a file; and the working directory, which is set on the way."""
    from twisted_rr.reload import working_folder

    try:
        here = Path(working_folder(os.environ))
    except OSError as error:
        raise click.UsageError(f"cannot work in this folder: {error.strerror}") from None
    given = [
        f"--{name.replace('_', '-')}"
        for name, value in options.items()
        if value is not None and value is not False
    ]
    if application is None:
        if given:
            raise click.UsageError(
                f"{', '.join(given)}: only with MODULE:ATTRIBUTE; a configuration is changed with -o"
            )
        # As RoadRunner: with -w the configuration's own path begins there too.
        path = Path(here, workdir or "", config or ".rr.yaml")
        if config is None and not path.exists():
            raise click.UsageError(f"say what to serve: MODULE:ATTRIBUTE, or -c FILE (there is no {path})")
        folder = str(here / workdir if workdir else path.parent)
        _change_directory(folder)
        return str(path), folder
    if config is not None:
        raise click.UsageError("either MODULE:ATTRIBUTE or -c FILE, not both")
    _check_name(application)
    folder = str(here / (workdir or "."))
    _change_directory(folder)
    try:
        made = config_for(
            ServeOptions(application=application, **options), os.environ, in_container(os.environ)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return made, folder


def _check_name(application: str) -> None:
    wrong = wrong_name(application)
    if wrong:
        raise click.UsageError(wrong)


def _change_directory(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise click.UsageError(f"cannot work in {folder}: {error.strerror}") from None


def _installer(name: str) -> Callable[[], None]:
    """What installs the reactor of that name."""
    from twisted.application.reactors import NoSuchReactor, installReactor

    if name == "rr":
        from twisted_rr.net.reactor import install

        return install

    def install_named() -> None:
        try:
            installReactor(name)
        except NoSuchReactor:
            _fail(f"there is no reactor {name!r}; `twistd --help-reactors` lists them")

    return install_named


def _rendered(data: Any, plugins: dict[str, ServerPlugin]) -> str:
    from twisted_rr.build import registry

    return render(data, registry(plugins))


def _plugins() -> dict[str, ServerPlugin]:
    """Every plugin; the end, with a line, when one of them cannot be loaded."""
    from twisted_rr.discovery import discover

    try:
        return discover()
    except RRError as error:
        _fail(error)


def _fail(reason: object) -> NoReturn:
    click.echo(str(reason), err=True)
    sys.exit(1)


@cli.command(short_help="Write a commented configuration.")
@click.argument("application", required=False, metavar="[MODULE:ATTRIBUTE]")
@click.option(
    "--output", default=".rr.yaml", show_default=True, help="the file to write; - for standard output"
)
@click.option("--force", is_flag=True, help="overwrite the file")
def init(application: str | None, output: str, force: bool) -> None:
    """Write a commented configuration for the application found here."""
    found = application or find_application(Path.cwd())
    if found is None:
        _fail("no application found here; say which: twisted-rr init MODULE:ATTRIBUTE")
    _check_name(str(found))
    data = config_for(ServeOptions(application=str(found)), {}, False, python="python")
    text = _rendered(data, _plugins())
    if output == "-":
        click.echo(text, nl=False)
        return
    if Path(output).exists() and not force:
        _fail(f"{output} exists already; --force overwrites it")
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        _fail(f"cannot write {output}: {error.strerror}")
    click.echo(f"wrote {output} for {found}; next: twisted-rr serve -c {output}")


@cli.group("config")
def config_group() -> None:
    """Check, show and describe configurations."""


@config_group.command("check", short_help="Print every problem of a configuration at once.")
@click.argument("file", default=".rr.yaml")
@_overrides
@_dotenv
@_workdir
@click.option("--json", "as_json", is_flag=True, help="as one JSON object")
def config_check(
    file: str, overrides: tuple[str, ...], dotenv: str | None, workdir: str | None, as_json: bool
) -> None:
    """Print every problem of FILE at once; exit with 0 when there is none, else with 1."""
    from twisted_rr.build import plan_budget, registry
    from twisted_rr.discovery import discover

    try:
        code, text = check(
            file,
            registry(discover()),
            overrides,
            os.environ,
            directory=workdir or ".",
            workdir="." if workdir else None,
            dotenv=dotenv,
            as_json=as_json,
            whole=lambda config: plan_budget(config, os.environ)[1],
        )
    except RRError as error:
        _fail(error)
    click.echo(text)
    sys.exit(code)


@config_group.command("show", short_help="Print a configuration as it is in force.")
@click.argument("file", default=".rr.yaml")
@_overrides
@_dotenv
@_workdir
def config_show(file: str, overrides: tuple[str, ...], dotenv: str | None, workdir: str | None) -> None:
    """Print FILE with includes, variables and overrides applied, secrets masked."""
    from twisted_rr.build import read_config, registry

    plugins = _plugins()
    try:
        read = read_config(
            file,
            overrides=overrides,
            dotenv=dotenv,
            plugins=plugins,
            folder=workdir or ".",
            workdir="." if workdir else None,
        )
    except RRError as error:
        _fail(error)
    click.echo(render(masked(read.data, registry(plugins)), registry(plugins)), nl=False)


@config_group.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration."""
    from twisted_rr.build import registry

    try:
        schema = export(registry(_plugins()))
    except RRError as error:
        _fail(error)
    click.echo(json.dumps(schema, indent=2))


add_verbs(cli)
cli.add_command(drain_test)
