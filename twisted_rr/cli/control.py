"""`twisted-rr drain`, `undrain`, `stop`, `reload`, `reset` and `status`: verbs for a server that runs already.

Fit for preStop hooks, HEALTHCHECK and exec probes: they load neither Twisted nor click, and say by the exit code
how it went: 0 done (or yes), 1 not (or no), 2 wrong usage, 3 no server there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from .client import Connection, Ending, NoAnswerError, NobodyThereError, Reply
from .target import AmbiguousError, Target

DONE, NOT_DONE, NOBODY = 0, 1, 3

#: Each verb with its one line of help.
VERBS: Mapping[str, str] = {
    "drain": "Take a server out of traffic: not ready, still serving.",
    "undrain": "Take a drain back.",
    "stop": "Stop a server as SIGTERM does.",
    "reload": "Apply a changed configuration: all of it, or nothing.",
    "reset": "Replace the workers, the new ones first.",
    "status": "Tell how a server fares.",
}

# Everything is answered in the turn it is asked; only a wait takes longer.
_PATIENCE = 5.0
_PROBE_PATIENCE = 1.0
# From the report to the end of the process: the flush and the status listener.
_LAST_STEPS = 3.0


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the exit code."""
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    if options.verb == "reset":
        _split_names(options)
    try:
        folder = os.getcwd()
    except OSError:
        folder = os.environ.get("PWD", "/")  # it was removed: the name may be all that is needed
    target = Target(
        socket=options.socket,
        config=options.config,
        application=options.application,
        environ=os.environ,
        folder=folder,
        uid=os.geteuid(),
    )
    try:
        return int(_RUN[options.verb](options, target))
    except NobodyThereError as error:
        _complain(f"no server there for {target}: {error}")
        return NOBODY
    except (AmbiguousError, NoAnswerError) as error:
        _complain(str(error))
        return NOT_DONE
    except KeyboardInterrupt:
        return NOT_DONE


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """The options; of what is wrong the verb tells, with its own usage and not with that of all verbs."""
    parser = argparse.ArgumentParser(prog="twisted-rr", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_verbs(verbs)
    options, rest = parser.parse_known_args(arguments)
    if rest:
        verbs.choices[options.verb].error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _add_verbs(verbs: Any) -> None:
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text, allow_abbrev=False, epilog=_CODES)
        if name == "reset":
            verb.add_argument("names", nargs="*", metavar="POOL", help="of these pools [of all]")
        else:
            verb.add_argument(
                "application",
                nargs="?",
                metavar="MODULE:ATTRIBUTE",
                help="of a server without a configuration",
            )
        verb.add_argument("-c", "--config", metavar="FILE", help="the server's configuration [.rr.yaml]")
        verb.add_argument(
            "--socket", metavar="PATH", help="its admin socket, when it cannot be found by that"
        )
        verb.add_argument("--json", action="store_true", help="print the answer as JSON")
        _OPTIONS[name](verb)


_CODES = "Exit codes: 0 done or yes, 1 not done or no, 2 wrong usage, 3 no server there."


def _deadline_option(verb: argparse.ArgumentParser, such_as: str = "60s") -> None:
    text = "wait so long at most, and exit with 1 if that was too short"
    verb.add_argument("--deadline", metavar=such_as, help=text)


def _drain_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--wait", action="store_true", help="return when nothing is in flight")
    _deadline_option(verb, "20s")
    verb.add_argument("--quiet", metavar="2s", help="wait until nothing was in flight for so long")


def _stop_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--force", action="store_true", help="cut what is in flight")
    verb.add_argument("--wait", action="store_true", help="return when the server has ended")
    _deadline_option(verb)


def _reload_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--workers", action="store_true", help="replace the workers in any case")
    _deadline_option(verb)


def _reset_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--wait", action="store_true", help="return when the old workers have ended, and tell of each"
    )
    _deadline_option(verb)


def _split_names(options: argparse.Namespace) -> None:
    """Names of pools have no colon; what has one is the application of a server without a configuration."""
    applications = [name for name in options.names if ":" in name]
    options.application = applications[0] if applications else None
    options.pools = [name for name in options.names if ":" not in name]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, not {text!r}")
    return seconds


def _status_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--probe",
        choices=("ready", "health", "startup"),
        help="only this answer: exit code 0 for yes, 1 for no",
    )
    verb.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="how long the answer may take [1]")


_OPTIONS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "drain": _drain_options,
    "undrain": lambda verb: None,
    "stop": _stop_options,
    "reload": _reload_options,
    "reset": _reset_options,
    "status": _status_options,
}

# ------------------------------------------------------------------------------- verbs


def _drain(options: argparse.Namespace, target: Target) -> int:
    waits = options.wait or options.deadline is not None or options.quiet is not None
    asked = _chosen(wait=waits, deadline=options.deadline, quiet=options.quiet)
    reply = target.connect(None if waits else _PATIENCE).ask("POST", f"/drain{asked}")
    return _outcome(options, reply, _drained)


def _undrain(options: argparse.Namespace, target: Target) -> int:
    reply = target.connect(_PATIENCE).ask("POST", "/undrain")
    return _outcome(options, reply, lambda told: f"{told['state']}: ready again")


def _stop(options: argparse.Namespace, target: Target) -> int:
    waits = options.wait or options.deadline is not None
    connection = target.connect(None if waits else _PATIENCE)
    ending = Ending(connection.pid)
    asked = _chosen(wait=waits, deadline=options.deadline, force=options.force)
    reply = connection.ask("POST", f"/stop{asked}")
    if waits and (reply.told or {}).get("report"):
        ending.wait(_LAST_STEPS)
    return _outcome(options, reply, _stopped)


def _reload(options: argparse.Namespace, target: Target) -> int:
    asked = _chosen(workers=options.workers, deadline=options.deadline)
    reply = target.connect(None).ask("POST", f"/reload{asked}")
    return _outcome(options, reply, _reloaded)


def _reset(options: argparse.Namespace, target: Target) -> int:
    waits = options.wait or options.deadline is not None
    worst = DONE
    for pool in options.pools or [None]:
        asked = _chosen(wait=waits, deadline=options.deadline, pool=pool)
        reply = target.connect(None if waits else _PATIENCE).ask("POST", f"/reset{asked}")
        worst = max(worst, _outcome(options, reply, _was_reset))
        done = _was_reset(reply.told or {})
        if reply.status >= 400 and done and not options.json:
            sys.stdout.write(done + "\n")
    return worst


def _status(options: argparse.Namespace, target: Target) -> int:
    patience = _PROBE_PATIENCE if options.timeout is None else options.timeout
    if options.probe is None:
        reply = target.connect(patience).ask("GET", "/status")
        return _outcome(options, reply, _described)
    try:
        reply = _probed(options.probe, target, patience)
    except (NobodyThereError, NoAnswerError, AmbiguousError) as error:
        # A probe knows yes and no only (Docker reserves every code above 1).
        _complain(f"{options.probe}: no: {error}")
        return NOT_DONE
    if options.json:
        _print_json(reply.told)
    else:
        yes = reply.status == 200
        sys.stdout.write(f"{options.probe}: {'yes' if yes else 'no'}{_reasons(reply.told)}\n")
    return DONE if 200 <= reply.status < 400 else NOT_DONE


def _probed(probe: str, target: Target, patience: float) -> Reply:
    """By the admin socket, else at the status address of the configuration."""
    try:
        return target.connect(patience).ask("GET", f"/{probe}")
    except NobodyThereError:
        address = target.status_address()
        if address is None:
            raise
    reply = Connection(address, patience).ask("GET", f"/{probe}")
    return Reply(reply.status, {"code": reply.status, "plugins": reply.told or []})


_RUN: Mapping[str, Callable[[argparse.Namespace, Target], int]] = {
    "drain": _drain,
    "undrain": _undrain,
    "stop": _stop,
    "reload": _reload,
    "reset": _reset,
    "status": _status,
}


def _chosen(**given: Any) -> str:
    """The query for those parameters that were given."""
    pairs = {
        name: 1 if value is True else value for name, value in given.items() if value not in (None, False)
    }
    return f"?{urlencode(pairs)}" if pairs else ""


def _outcome(options: argparse.Namespace, reply: Reply, words: Callable[[Mapping[str, Any]], str]) -> int:
    told = reply.told if isinstance(reply.told, dict) else {}
    fine = 200 <= reply.status < 300
    if options.json:
        _print_json(reply.told)
    elif fine:
        sys.stdout.write(words(told) + "\n")
    if not fine:
        _complain(_trouble(reply.status, told))
    return DONE if fine else NOT_DONE


# ------------------------------------------------------------------------------- words


def _drained(told: Mapping[str, Any]) -> str:
    if told.get("report"):
        return _reported(told["report"])
    undo = "; twisted-rr undrain takes it back" if told["reversible"] else ""
    return f"{told['state']}: not ready, {_busy(told)}{undo}"


def _stopped(told: Mapping[str, Any]) -> str:
    if told.get("report"):
        return _reported(told["report"])
    left = told.get("deadline_in")
    when = f"in {left:.1f} s at most" if left else "now"
    limit = "" if left is None or not told["in_flight"] else f", cut {when}"
    return f"{told['state']}: {_busy(told)}{limit}"


def _reloaded(told: Mapping[str, Any]) -> str:
    lines = [f"changed: {', '.join(told['changed'])}"] if told["changed"] else []
    if told["replaced"]:
        lines.append(f"workers replaced: {', '.join(told['replaced'])}")
    return "\n".join(lines) or "nothing has changed"


def _was_reset(told: Mapping[str, Any]) -> str:
    """A line for each worker; of one that was only asked for, the names of the pools."""
    lines = []
    for pool in told.get("pools", ()):
        if isinstance(pool, str):
            lines.append(f"{pool}: its workers are being replaced")
            continue
        name = pool["name"]
        for each in pool.get("replaced", ()):
            lines.append(
                f"{name}: {each['old']} by {each['new']}, which took {each['seconds']:.2f} s to start"
            )
        lines += [f"{name}: {pid} stays" for pid in pool.get("kept", ())]
        if pool.get("lost"):
            lines.append(f"{name}: {pool['lost']} calls were cut, their time (reset_timeout) was over")
    return "\n".join(lines)


def _busy(told: Mapping[str, Any]) -> str:
    if not told["in_flight"]:
        return "nothing in flight"
    return f"{told['in_flight']} in flight, the oldest {told['oldest'] or 0.0:.1f} s old"


def _reported(report: Mapping[str, Any]) -> str:
    counts = " ".join(f"{name}={report[name]}" for name in ("finished", "cut", "lost", "refused"))
    return f"stopped by {report['cause']} in {report['duration']:.2f} s: {report['outcome']}; {counts}"


def _trouble(status: int, told: Mapping[str, Any]) -> str:
    lines = [str(told.get("error") or told.get("reason") or f"the server answered {status}")]
    report = told.get("report")
    if report:
        lines = [_reported(report), *report["advice"]]
    elif "in_flight" in told:
        lines[0] += f"; {told['state']}: {_busy(told)}"
    calls = report["blockers"] if report else told.get("calls", ())
    return "\n".join([*lines, *(f"  {_call(call)}" for call in calls[:10])])


def _call(call: Mapping[str, Any]) -> str:
    what = call.get("call") or f"{call.get('method')} {call.get('path')}"
    worker = f", worker {call['pid']}" if call.get("pid") else ""
    return f"{call['protocol']} {what} ({call['age']:.1f} s{worker})"


def _described(told: Mapping[str, Any]) -> str:
    drain = told["drain"]
    lines = [
        f"{drain['state']} for {drain['since']:.0f} s, process {told['pid']}, twisted_rr {told['version']}",
        f"  health   {told['health']}",
        f"  ready    {told['ready']}",
        f"  flight   {_busy(drain)}",
    ]
    if drain["deadline_in"] is not None:
        lines.append(f"  deadline in {drain['deadline_in']:.1f} s, exit in {drain['exit_in']:.1f} s at most")
    lines += [f"  serving  {front['name']} {front['address']}" for front in told["fronts"]]
    for pool in told["pools"]:
        workers = ", ".join(f"{each['pid']} {each['state']}" for each in pool["workers"])
        lines.append(f"  workers  {pool['name']}: {workers or 'none'}")
        if pool.get("template"):
            lines.append(f"  template {pool['name']}: {_template(pool['template'])}")
    if told.get("previous_exit"):
        lines.append(f"  before   {told['previous_exit']['text']}")
    return "\n".join([*lines, *(f"    {_call(call)}" for call in drain["calls"][:10])])


def _template(told: Mapping[str, Any]) -> str:
    """Where preloaded workers come from, or why they do not."""
    if reason := told.get("reason"):
        return f"not used, {reason}"
    return f"{told['pid']} {'ready' if told['ready'] else 'importing'} for {told['seconds']:.0f} s"


def _reasons(told: Any) -> str:
    """Why not, from the list of plugins or from the one reason."""
    if not isinstance(told, dict):
        return ""
    plugins = [
        each for each in told.get("plugins", ()) if isinstance(each, dict) and each.get("error_message")
    ]
    reasons = [f"{each['plugin_name']}: {each['error_message']}" for each in plugins]
    text = "; ".join(reasons) or told.get("reason") or ""
    return f" ({text})" if text else ""


def _print_json(told: Any) -> None:
    sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
