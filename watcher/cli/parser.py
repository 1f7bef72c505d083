"""Every command and every option. Modules are imported only when a command runs or an option is read."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from watcher import __version__

Command = Callable[[argparse.Namespace], int]

_IDS = "ID"
_DESCRIPTION = (
    "Tracks Twilio push-notification operations to their end, and turns them into metrics, alerts and events."
)
_EPILOG = (
    "`watcher COMMAND --help` says more. Exit codes: 0 good, 1 ended badly, 2 usage or configuration, 3 timed out, \
4 could not be reached, 70 a fault of the watcher."
)


def parse(argv: Sequence[str] | None) -> tuple[Command, argparse.Namespace]:
    """Return the `execute` of the command, and the arguments. Raises SystemExit as argparse does."""
    whole = parser()
    given = sys.argv[1:] if argv is None else argv
    for number, argument in enumerate(given, start=1):
        if not _is_text(argument):
            whole.error(f"argument {number} is not text in UTF-8")
    arguments = whole.parse_args(argv)
    command: Command = importlib.import_module(f"watcher.cli.{arguments.module}").execute
    return command, arguments


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    whole = argparse.ArgumentParser(prog="watcher", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False)
    whole.add_argument("--version", action="version", version=f"watcher {__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, words, add_options in _COMMANDS:
        one = commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".", allow_abbrev=False)
        one.set_defaults(module=_MODULES.get(name, name))
        add_options(one)
    return whole


def _run(one: argparse.ArgumentParser) -> None:
    _config(one)
    one.add_argument(
        "--stay",
        action="store_true",
        help="for sidecars: a bad configuration, missing secret or unusable store does not end the process; it retries",
    )
    one.add_argument(
        "--linger",
        metavar="T",
        type=_value("duration"),
        help="after SIGTERM keep running, admin included, for T (such as 30s) or until a second signal",
    )


def _check(one: argparse.ArgumentParser) -> None:
    _config(one)


def _demo(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--operations",
        metavar="N",
        type=_value("positive"),
        default=40,
        help="about N operations run at a time (default: %(default)s)",
    )
    one.add_argument("--duration", metavar="T", type=_value("duration"), help="end after T (default: at Ctrl-C)")


def _simulate(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=_value("address"),
        default="127.0.0.1:10619",
        help="where it answers (default: %(default)s); port 0 picks a free one",
    )
    one.add_argument(
        "--scenario",
        metavar="FILE",
        default="demo",
        help="a YAML file, or a built-in scenario: calm, demo, nasty (default: %(default)s)",
    )


def _track(one: argparse.ArgumentParser) -> None:
    _ids(one)
    one.add_argument(
        "--label",
        metavar="KEY=VALUE",
        action="append",
        dest="labels",
        default=[],
        type=_value("label"),
        help="a label for all of them; may be repeated",
    )
    _account(one)
    _json(one)
    _daemon(one)


def _untrack(one: argparse.ArgumentParser) -> None:
    _ids(one)
    _account(one)
    _daemon(one)


def _list(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--status",
        metavar="S",
        action="append",
        dest="statuses",
        default=[],
        type=str.upper,
        help="only operations of this status, such as PROCESSING; may be repeated",
    )
    _account(one)
    one.add_argument(
        "--limit",
        metavar="N",
        type=_value("positive"),
        default=100,
        help="show at most N operations (default: %(default)s)",
    )
    _json(one)
    _daemon(one)


def _show(one: argparse.ArgumentParser) -> None:
    one.add_argument("id", metavar=_IDS, help="the operation")
    _account(one)
    _json(one)
    _daemon(one)


def _wait(one: argparse.ArgumentParser) -> None:
    _ids(one)
    one.add_argument("--timeout", metavar="T", type=_value("duration"), help="wait at most T (default: until they end)")
    one.add_argument(
        "--max-failed",
        metavar="N",
        type=_value("count"),
        default=0,
        help="allow up to N failed notifications in total over all ids (default: %(default)s)",
    )
    one.add_argument(
        "--max-unaddressable",
        metavar="N",
        type=_value("count"),
        help="allow up to N unaddressable recipients in total over all ids (default: any number)",
    )
    one.add_argument("--account", metavar="A", help="the account to use; required if several are configured")
    _config(one)


def _healthcheck(one: argparse.ArgumentParser) -> None:
    one.add_argument("--config", metavar="FILE", help="the daemon's configuration (default: WATCHER_CONFIG)")
    one.add_argument(
        "--url", metavar="URL", help="where the request goes: http://…, https://… or unix:/path (default: web.listen)"
    )


def _ids(one: argparse.ArgumentParser) -> None:
    one.add_argument("ids", metavar=_IDS, nargs="+", help="operations; - reads ids from standard input")


def _config(one: argparse.ArgumentParser) -> None:
    one.add_argument("--config", metavar="FILE", help="the configuration (default: WATCHER_CONFIG, else none)")


def _account(one: argparse.ArgumentParser) -> None:
    one.add_argument("--account", metavar="A", help="the account, if there are several")


def _json(one: argparse.ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="print the JSON answer of the API, for programs")


def _daemon(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--config", metavar="FILE", help="the daemon's configuration, for admin.* (default: WATCHER_CONFIG)"
    )
    one.add_argument(
        "--url",
        metavar="URL",
        help="where the daemon answers: http://…, https://… or unix:/path (default: admin.listen)",
    )


def _value(kind: str) -> Callable[[str], object]:
    """Return the reader of an option's value, from `watcher.cli.values`."""

    def read(text: str) -> object:
        reader: Callable[[str], object] = getattr(importlib.import_module("watcher.cli.values"), kind)
        return reader(text)

    return read


_COMMANDS: Sequence[tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = (
    ("run", "run the daemon", _run),
    ("check", "validate the configuration, describe what it means, and warn about doubtful settings", _check),
    (
        "demo",
        "run everything without an account: a simulated API, the daemon, operations that come and go",
        _demo,
    ),
    ("simulate", "run the simulated API alone, for trying dashboards, alerts and clients", _simulate),
    ("track", "make a running daemon track operations", _track),
    ("untrack", "make a running daemon stop tracking operations", _untrack),
    ("list", "list the tracked and recently finished operations of a running daemon", _list),
    ("show", "show one operation of a running daemon, with its history and its next poll", _show),
    ("wait", "track operations to their end, with no daemon and no store, for scripts and CI", _wait),
    ("healthcheck", "check whether a running daemon is healthy, for container health checks", _healthcheck),
)
_MODULES = {"list": "listing"}
