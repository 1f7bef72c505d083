"""The page as HTML. Every text is escaped. Bars are SVG, since their widths are attributes and need no inline style.

It is rendered in pieces, so that a thousand operations do not block the event loop. URLs are relative, so that the
page works behind a proxy that adds a prefix to the path.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources

from watcher.core.channels import BAR, FAILURES, Stats
from watcher.core.model import SECOND, Instant, Micros, Moment, Operation, Outcome, Phase, Source, Status, rfc3339
from watcher.core.snapshot import AccountSnapshot
from watcher.server.page.delta_view import Delta, rank, worth
from watcher.server.views import account_view, visible_labels


def _resource(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE, SCRIPT = _resource("style.css"), _resource("script.js")

POLICY = (
    f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The Content-Security-Policy of the page: only its own script, style and listener, and no text parsed as HTML."""

LINKS: Sequence[tuple[str, str]] = (
    ("metrics", "Metrics"),
    ("api/v1/operations", "Operations as JSON"),
    ("api/v1/overview", "This page as JSON"),
    ("openapi.json", "OpenAPI"),
    ("-/healthy", "Healthy"),
    ("-/ready", "Ready"),
)

_ROWS_AT_ONCE = 50
_JUST_NOW = 2  # seconds
_COUNTS: Sequence[tuple[str, str, str]] = (
    ("failing", "Failing", "Operations with failed notifications or unaddressable recipients, or that ended badly"),
    ("running", "Running", "Operations that have not ended"),
    ("ended", "Ended", "Operations that have ended and are still shown"),
)
_ACCOUNT_HEADINGS: Sequence[tuple[str, str, str]] = (
    ("account", "Account", ""),
    ("health", "Health", ""),
    ("followed", "Tracking", ""),
    ("lag", "Late by", "Time past the poll that freshness promised"),
    ("limit", "Limit", "Requests per second allowed now"),
    ("finished", "Finished so far", "Finished operations, from the counters"),
    ("notified", "Their notifications", "Notifications of finished operations, from the counters"),
)
_HEADINGS: Sequence[tuple[str, str]] = (
    ("operation", "Operation"),
    ("status", "Status"),
    ("progress", "Progress"),
    *((name, name.capitalize()) for name in FAILURES),
    ("changed", "Changed"),
)
_BLANK = Operation(account="", id="", source=Source.API, registered_at=0)
_BLANK_ACCOUNT = AccountSnapshot(account="", taken=Moment(0, 0))


def render(delta: Delta, visible: Sequence[str] | None, now: Moment, version: str) -> Iterator[str]:
    """Yield the page in pieces. `visible` are the names of the labels to show, None for all."""
    operations = sorted(delta.operations, key=worth)
    yield _head(delta, version, now)
    yield _summary(operations, delta.stats)
    yield _accounts(delta.snapshots)
    yield _controls(delta.snapshots)
    heads = "".join(f'<th role="columnheader" scope="col" class="{kind}">{heading}</th>' for kind, heading in _HEADINGS)
    yield (
        '<table role="table" id="operations" aria-labelledby="operations-title"><thead role="rowgroup">'
        f'<tr role="row">{heads}</tr></thead><tbody role="rowgroup">'
    )
    for start in range(0, len(operations), _ROWS_AT_ONCE):
        yield "".join(_row(one, visible, now) for one in operations[start : start + _ROWS_AT_ONCE])
    yield "</tbody></table>"
    yield _foot(delta, is_empty=not operations)


def _head(delta: Delta, version: str, now: Moment) -> str:
    as_of = rfc3339(now.at)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Operation watcher</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f'<style>{STYLE}</style></head><body data-bookmark="{delta.bookmark}" data-as-of="{as_of}" '
        f'data-bar="{" ".join(BAR)}" data-failures="{" ".join(FAILURES)}">'
        '<a class="skip" href="#operations-title">Skip to the operations</a>'
        f"<header><h1>Operation watcher</h1> <small>{escape(version)}</small>"
        f'<p id="live">As of <time datetime="{as_of}">{as_of}</time></p>'
        '<button id="pause" type="button" hidden>Pause</button></header>'
        '<p id="news" class="unseen" role="status"></p><main>'
        "<noscript><p>Without scripts this page does not update itself. Reload it for the present state.</p></noscript>"
    )


def _summary(operations: Sequence[Operation], stats: Stats) -> str:
    ranks = [rank(one) for one in operations]
    counts = {
        "failing": sum(one <= 1 for one in ranks),
        "running": sum(one.phase is Phase.FOLLOWED for one in operations),
        "ended": sum(one.phase is not Phase.FOLLOWED for one in operations),
    }
    kinds = {"failing": ' class="some"' if counts["failing"] else ""}
    figures = "".join(
        f'<div title="{words}"><dt>{heading}</dt><dd id="{name}"{kinds.get(name, "")}>{counts[name]:,}</dd></div>'
        for name, heading, words in _COUNTS
    )
    legend = "".join(
        f'<div class="{name}"><dt>{name}</dt><dd id="sum-{name}">{_number(getattr(stats, name))}</dd></div>'
        for name in BAR
    )
    return (
        '<section aria-labelledby="summary-title"><h2 id="summary-title" class="unseen">At a glance</h2>'
        f'<dl class="figures">{figures}</dl>'
        f'<div id="sums">{_bar(stats)}<dl class="legend">{legend}</dl></div></section>'
    )


def _accounts(snapshots: Sequence[AccountSnapshot]) -> str:
    heads = "".join(
        f'<th role="columnheader" scope="col" class="{kind}"'
        + (f' title="{words}"' if words else "")
        + f">{heading}</th>"
        for kind, heading, words in _ACCOUNT_HEADINGS
    )
    rows = "".join(_account(snapshot) for snapshot in snapshots)
    return (
        '<section aria-labelledby="accounts-title"><h2 id="accounts-title">Accounts</h2>'
        '<table role="table" id="accounts" aria-labelledby="accounts-title">'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>'
        f'<template id="account-row">{_account(_BLANK_ACCOUNT)}</template></section>'
    )


def _account(snapshot: AccountSnapshot) -> str:
    view = account_view(snapshot)
    down = "credentials refused" if view.unauthorized else "not reached"
    kind, state = ("up", "up") if view.up else ("down", down)
    lag = f"{view.lag_seconds:.1f} s" if view.lag_seconds else "on time"
    cells = {
        "health": f'<span class="{kind}">{state}</span>',
        "followed": escape(_listed(view.statuses)) or "nothing",
        "lag": lag,
        "limit": f"{view.limit_per_second:.1f} a second",
        "finished": escape(_listed(view.finished)) or "none",
        "notified": escape(_listed(view.notifications)) or "none",
    }
    name = f'<th role="rowheader" scope="row" class="account"><bdi>{escape(view.account)}</bdi></th>'
    return f'<tr role="row">{name}' + "".join(_cell(kind, words) for kind, words in cells.items()) + "</tr>"


def _controls(snapshots: Sequence[AccountSnapshot]) -> str:
    statuses = "".join(f'<option value="{status.value}">{status.value}</option>' for status in Status)
    accounts = "".join(f"<option>{escape(snapshot.account)}</option>" for snapshot in snapshots)
    return (
        '<section aria-labelledby="operations-title">'
        '<h2 id="operations-title" tabindex="-1">Operations</h2>'
        '<form id="filter" role="search" hidden>'
        '<label>Search <input type="search" name="q" placeholder="id or label" autocomplete="off" spellcheck="false">'
        '</label><label>Status <select name="status"><option value="">any</option>'
        '<option value="failing">failing</option><option value="running">running</option>'
        f'<option value="ended">ended</option>{statuses}</select></label>'
        f'<label>Account <select name="account"><option value="">any</option>{accounts}</select></label>'
        '<output id="shown"></output></form>'
    )


def _row(operation: Operation, visible: Sequence[str] | None, now: Moment) -> str:
    stats = operation.stats
    account, operation_id = escape(operation.account), escape(operation.id)
    name = (
        '<th role="rowheader" scope="row" class="operation">'
        f'<a href="api/v1/operations/{operation_id}?account={account}">{operation_id}</a>'
        f'<small><bdi class="account">{account}</bdi> <span class="labels">{_labels(operation.labels, visible)}</span>'
        "</small></th>"
    )
    cells = (
        ("status", _status(operation)),
        ("progress", f"{_bar(stats)}<small>{_words(stats)}</small>"),
        *((f"{name} some" if (count := getattr(stats, name)) else name, _number(count)) for name in FAILURES),
        ("changed", _ago(operation.progressed_at, now)),
    )
    return (
        f'<tr role="row" data-rank="{rank(operation)}" data-at="{rfc3339(operation.registered_at)}" '
        f'data-key="{account}:{operation_id}" data-account="{account}" data-status="{operation.status.value}" '
        f'data-phase="{operation.phase.value}">{name}' + "".join(_cell(kind, words) for kind, words in cells) + "</tr>"
    )


def _foot(delta: Delta, *, is_empty: bool) -> str:
    links = "".join(f'<li><a href="{escape(path)}">{escape(name)}</a></li>' for path, name in LINKS)
    empty = "" if is_empty else " hidden"
    more = "" if delta.more else " hidden"
    return (
        f'<template id="operation-row">{_row(_BLANK, None, Moment(0, 0))}</template>'
        f'<p id="empty"{empty}>No operations are tracked at the moment.</p>'
        f'<p id="more"{more}><span>{delta.more:,}</span> more operations are not shown here; the JSON has them.</p>'
        "</section></main>"
        f'<footer><nav aria-label="Links"><ul>{links}</ul></nav></footer>'
        '<dialog id="details" aria-labelledby="details-title"><div class="top"><h2 id="details-title"></h2>'
        '<button id="close" type="button">Close</button></div><div id="details-body"></div>'
        '<p><a id="details-json" href="api/v1/operations">This as JSON</a></p></dialog>'
        f'<script type="module">{SCRIPT}</script></body></html>\n'
    )


def _cell(kind: str, words: str) -> str:
    return f'<td role="cell" class="{kind}">{words}</td>'


def _status(operation: Operation) -> str:
    word = f" ({operation.word})" if operation.status is Status.UNKNOWN and operation.word else ""
    return escape(operation.status.value + word)


def _bar(stats: Stats) -> str:
    parts = [getattr(stats, name) or 0 for name in BAR]
    whole = max(stats.total or 0, sum(parts)) or 1
    start, bars = 0.0, ""
    for name, count in zip(BAR, parts, strict=True):
        width = 100 * count / whole
        if count:
            bars += f'<rect class="{name}" x="{start:.2f}" width="{width:.2f}" height="8"/>'
        start += width
    return f'<svg aria-hidden="true" viewBox="0 0 100 8" preserveAspectRatio="none">{bars}</svg>'


def _words(stats: Stats) -> str:
    """Return the numbers of the bar as text."""
    parts = [f"{count:,} {name}" for name in BAR if (count := getattr(stats, name))]
    whole = "" if stats.total is None else f"{', '.join(parts) or '0'} of {stats.total:,}"
    return whole or ", ".join(parts) or "no stats yet"


def _listed(counts: Mapping[Outcome, int] | Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _ago(instant: Instant | None, now: Moment) -> str:
    if instant is None:
        return "–"
    return f'<time datetime="{rfc3339(instant)}">{_span(now.at - instant)}</time>'


def _span(wait: Micros) -> str:
    seconds = wait // SECOND
    if seconds < _JUST_NOW:
        return "just now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _labels(labels: Mapping[str, str], visible: Sequence[str] | None) -> str:
    shown = sorted(visible_labels(labels, visible).items())
    return " ".join(f"<code>{escape(name)}={escape(value)}</code>" for name, value in shown)
