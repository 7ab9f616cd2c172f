"""`twisted-rr drain-test`: reads its options and hands over to `twisted_rr.draintest`."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from twisted_rr.errors import RRError

if TYPE_CHECKING:
    from twisted_rr.draintest.campaign import Asked, Results
    from twisted_rr.draintest.target import Launch

_MOST_RATE = 2000.0
_LONGEST_SOAK = 24 * 3600.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def _seconds(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration such as 30s or 60m")
    return float(found[1]) * _UNITS[found[2]]


@click.command(
    "drain-test",
    short_help="Test what a stop under load and faults loses.",
    context_settings={"allow_interspersed_args": True},
)
@click.option("-c", "--config", metavar="FILE", help="start the server of this configuration, on free ports")
@click.option("-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="set one key of it")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--url", help="where the server of COMMAND answers, such as http://127.0.0.1:8080/")
@click.option("--grpc", metavar="HOST:PORT", help="where it answers gRPC; https://HOST:PORT is over TLS")
@click.option("--status", metavar="URL", help="where its health endpoints are, such as http://127.0.0.1:2114")
@click.option("--budget", callback=_seconds, metavar="30s", help="COMMAND's whole time to stop [30s]")
@click.option(
    "--announce", callback=_seconds, metavar="5s", help="for how long it serves after the signal [0s]"
)
@click.option("--faults", metavar="F1,F4,..", help="what to inject: a list, all, or none [one of each kind]")
@click.option(
    "--phase", metavar="PHASE,..", help="when: running, announce, finish, stop [where each says most]"
)
@click.option(
    "--scale", type=click.FloatRange(0.01, 1.0), default=0.1, show_default=True, help="of the budgets"
)
@click.option(
    "--rate", type=click.FloatRange(1, _MOST_RATE), default=60.0, show_default=True, help="requests a second"
)
@click.option(
    "--at-once", type=click.IntRange(1, 8), default=2, show_default=True, help="runs side by side, with -c"
)
@click.option("--path", default="/", show_default=True, help="answers quickly")
@click.option(
    "--long-path", metavar="PATH", help="answers after {seconds} [/wait?seconds={seconds}, if it is there]"
)
@click.option(
    "--big-path", metavar="PATH", help="answers with {size} bytes [/big?size={size}, if it is there]"
)
@click.option("--stream-path", metavar="PATH", help="streams without end [/stream, if it is there]")
@click.option("--grpc-call", metavar="SERVICE/METHOD", help="a unary method for gRPC's load [health checks]")
@click.option("--grpc-stream", metavar="SERVICE/METHOD", help="a method whose messages need not end")
@click.option("--soak", callback=_seconds, metavar="60m", help="go on at random until the time is over")
@click.option("--seed", type=int, default=1, show_default=True, help="of everything random")
@click.option("--json", "json_file", metavar="FILE", help="write everything as JSON; - for standard output")
@click.option("--html", "html_file", metavar="FILE", help="write one page with a timeline of each run")
@click.option("--allow-remote", is_flag=True, help="also speak to addresses that are not this machine's own")
@click.option("--list", "list_", is_flag=True, help="list the invariants and the faults, and stop")
def drain_test(
    config: str | None,
    overrides: tuple[str, ...],
    command: tuple[str, ...],
    list_: bool,
    json_file: str | None,
    html_file: str | None,
    **options: Any,
) -> None:
    """Stop a server under load and faults, and tell which invariants held.

    \b
      twisted-rr drain-test -c .rr.yaml
      twisted-rr drain-test -c .rr.yaml --faults all --html report.html
      twisted-rr drain-test --url http://127.0.0.1:8080 --status http://127.0.0.1:2114 -- ./serve

    Exit codes: 0 all hold, 1 one is broken, 2 wrong usage.
    """
    if list_:
        _list()
        return
    if bool(command) == (config is not None):
        raise click.UsageError("either -c FILE or -- COMMAND with --url and --status")
    asked = _asked(_launcher(config, overrides, command, options), options)
    sys.exit(_run(asked, json_file, html_file))


def _list() -> None:
    from twisted_rr.draintest.faults import ELSEWHERE, FAULTS
    from twisted_rr.draintest.invariants import INVARIANTS

    for invariant in INVARIANTS.values():
        click.echo(f"{invariant.id:<8} {invariant.text}")
    click.echo()
    for fault in FAULTS.values():
        click.echo(f"{fault.id:<8} {fault.text} [{', '.join(fault.phases)}]")
    for name, why in ELSEWHERE.items():
        click.echo(f"{name:<8} not from outside: {why}")


def _asked(launch: Callable[[str], Launch], options: dict[str, Any]) -> Asked:
    from twisted_rr.draintest.campaign import USUAL, Asked
    from twisted_rr.draintest.clients import Paths
    from twisted_rr.draintest.faults import FAULTS
    from twisted_rr.draintest.grpc_clients import Methods
    from twisted_rr.draintest.records import PHASES

    text = options["faults"]
    if text is None:
        faults: tuple[str, ...] = USUAL if options["soak"] is None else tuple(FAULTS)
    elif text == "all":
        faults = tuple(FAULTS)
    else:
        faults = () if text == "none" else tuple(word.strip() for word in text.split(","))
    _known(faults, FAULTS, "--faults", "fault; --list shows them")
    phases = tuple(word.strip() for word in (options["phase"] or "").split(",") if word.strip())
    _known(phases, PHASES, "--phase", f"phase of {', '.join(PHASES)}")
    if options["soak"] is not None and not 0 < options["soak"] <= _LONGEST_SOAK:
        raise click.UsageError("--soak: at most 24h")
    if options["soak"] is not None and not faults:
        raise click.UsageError("--soak needs faults to choose from")
    paths = Paths(
        plain=options["path"],
        long=options["long_path"],
        big=options["big_path"],
        stream=options["stream_path"],
    )
    return Asked(
        launch=launch,
        faults=faults,
        phases=phases,
        soak=options["soak"],
        seed=options["seed"],
        rate=options["rate"],
        at_once=options["at_once"],
        paths=paths,
        methods=Methods(unary=_method(options, "grpc_call"), stream=_method(options, "grpc_stream")),
    )


def _method(options: dict[str, Any], name: str) -> str | None:
    """As a path; reads ``package.Service/Method``, with or without a slash before it."""
    text = options[name]
    if text is None:
        return None
    path = "/" + text.lstrip("/")
    if path.count("/") != 2 or not path.rpartition("/")[2]:
        raise click.UsageError(f"--{name.replace('_', '-')}: {text!r} is no package.Service/Method")
    return str(path)


def _known(words: tuple[str, ...], known: Any, option: str, what: str) -> None:
    for word in words:
        if word not in known:
            raise click.UsageError(f"{option}: {word!r} is no {what}")


def _launcher(
    config: str | None, overrides: tuple[str, ...], command: tuple[str, ...], options: dict[str, Any]
) -> Callable[[str], Launch]:
    from twisted_rr.draintest.target import from_config

    if config is not None:
        if not Path(config).is_file():
            raise click.UsageError(f"there is no file {config}")
        try:
            from_config(config, options["scale"], ".", overrides, check_only=True)
        except RRError as error:
            raise click.UsageError(str(error)) from None
        return lambda scratch: from_config(config, options["scale"], scratch, overrides)
    launch = _foreign(command, options)
    return lambda scratch: launch


def _foreign(command: tuple[str, ...], options: dict[str, Any]) -> Launch:
    from twisted_rr.draintest.records import Terms
    from twisted_rr.draintest.target import Launch

    if not (options["url"] or options["grpc"]) or not options["status"]:
        raise click.UsageError("-- COMMAND needs --url (or --grpc) and --status")
    remote = options["allow_remote"]
    grpc = _address("--grpc", options["grpc"], remote) if options["grpc"] else None
    budget = 30.0 if options["budget"] is None else options["budget"]
    reserve = min(4.0, budget * 0.4)
    announce = options["announce"] or 0.0
    return Launch(
        command=command,
        folder=os.getcwd(),
        app=_address("--url", options["url"] or options["grpc"], remote),
        grpc=grpc,
        grpc_tls=(options["grpc"] or "").startswith("https:"),
        http=bool(options["url"]),
        status=_address("--status", options["status"], remote),
        terms=Terms(
            total=budget,
            cut=budget - reserve,
            announce=announce,
            announce_max=announce,
            worker_stop=reserve * 0.75,
        ),
    )


def _address(option: str, url: str, allow_remote: bool) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
    if parts.scheme not in ("", "http"):
        raise click.UsageError(f"{option}: only http:// is spoken")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise click.UsageError(f"{option}: {host!r} is no IP address and not localhost") from None
    if not local and not allow_remote:
        raise click.UsageError(f"{option}: {host} is not this machine; --allow-remote if that is meant")
    return host, port


async def _until_signalled(campaign: Coroutine[Any, Any, Results]) -> Results:
    """SIGTERM and a hang-up cancel *campaign*, as asyncio does with SIGINT: its servers must not outlive it."""
    task = asyncio.ensure_future(campaign)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _run(asked: Asked, json_file: str | None, html_file: str | None) -> int:
    from twisted_rr.draintest.campaign import carry_out
    from twisted_rr.draintest.page import page
    from twisted_rr.draintest.table import as_data, table

    quiet = json_file == "-"
    try:
        results = asyncio.run(_until_signalled(carry_out(asked, lambda line: click.echo(line, err=True))))
    except asyncio.CancelledError:
        raise click.ClickException("ended by a signal; the servers it had started are ended too") from None
    if not quiet:
        click.echo()
        click.echo(table(results, colour=sys.stdout.isatty()))
    if json_file is not None:
        text = json.dumps(as_data(results), indent=1)
        _write(json_file, text)
    if html_file is not None:
        _write(html_file, page(results))
    return 1 if results.broken else 0


def _write(file: str, text: str) -> None:
    if file == "-":
        click.echo(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
