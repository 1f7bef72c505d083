"""The status page, made whole on the server: no script, nothing from elsewhere, every text escaped.

It comes in pieces, so that a thousand operations do not hold the event loop. Colours are in `style.css`, which stands
in the page itself and is allowed by its hash; bars are SVG, whose widths are attributes and need no inline style.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources

from watcher.core.model import SECOND, Moment, Operation, Phase, Stats, rfc3339
from watcher.core.snapshot import AccountSnapshot

STYLE = resources.files(__name__).joinpath("style.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page."""

LINKS: Sequence[tuple[str, str]] = (
    ("/metrics", "metrics"),
    ("/api/v1/operations", "operations as JSON"),
    ("/openapi.json", "OpenAPI"),
    ("/-/healthy", "healthy"),
    ("/-/ready", "ready"),
)

_ROWS_AT_ONCE = 50
_BAR = ("failed", "sent", "canceled", "queued", "scheduled")
_HEADINGS = ("Operation", "Status", "Progress", "Failed", "Unaddressable", "Changed", "Labels")


def render(
    snapshots: Sequence[AccountSnapshot], visible: Sequence[str] | None, now: Moment, version: str
) -> Iterator[str]:
    """The page in pieces. `visible` are the names of the labels that may be seen, None for all."""
    yield _head(version)
    for snapshot in snapshots:
        yield _account(snapshot)
    operations = sorted((one for snapshot in snapshots for one in snapshot.shown), key=_worth)
    if operations:
        heads = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
        yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
        for start in range(0, len(operations), _ROWS_AT_ONCE):
            yield "".join(_row(one, visible, now) for one in operations[start : start + _ROWS_AT_ONCE])
        yield "</tbody></table>"
    else:
        yield "<p>Nothing is followed at the moment.</p>"
    suppressed = sum(snapshot.suppressed for snapshot in snapshots)
    if suppressed:
        yield f"<p>{suppressed} more do not show here; the JSON has them.</p>"
    yield f"</main><footer>As of {escape(rfc3339(now.at) or '')}</footer></body></html>\n"


def _head(version: str) -> str:
    links = " ".join(f'<a href="{escape(path)}">{escape(name)}</a>' for path, name in LINKS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Operation watcher</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><header><h1>Operation watcher</h1> "
        f"<small>{escape(version)}</small><nav>{links}</nav></header><main>"
    )


def _account(snapshot: AccountSnapshot) -> str:
    counts = ", ".join(f"{count} {escape(status)}" for status, count in snapshot.statuses.items() if count)
    down = "credentials refused" if snapshot.unauthorized else "not reached"
    state = "up" if snapshot.up else down
    return (
        f'<p class="account"><strong>{escape(snapshot.account)}</strong> '
        f'<span class="{"up" if snapshot.up else "down"}">{state}</span> {counts or "nothing followed"}</p>'
    )


def _worth(operation: Operation) -> tuple[bool, bool, str, str]:
    """Failures first, then what is running, then what has ended."""
    has_ended = operation.phase is not Phase.FOLLOWED
    return not operation.stats.has_failures, has_ended, operation.account, operation.id


def _row(operation: Operation, visible: Sequence[str] | None, now: Moment) -> str:
    stats = operation.stats
    cells = (
        f"<small>{escape(operation.account)}</small>",
        f'<span class="status">{escape(operation.status.value)}</span>',
        _progress(stats),
        _number(stats.failed),
        _number(stats.unaddressable),
        _ago(operation.progressed_at, now),
        _labels(operation.labels, visible),
    )
    link = f"/api/v1/operations/{escape(operation.id)}?account={escape(operation.account)}"
    name = f'<th scope="row"><a href="{link}"><code>{escape(operation.id)}</code></a> {cells[0]}</th>'
    kind = ' class="failing"' if stats.has_failures else ""
    return f"<tr{kind}>{name}" + "".join(f"<td>{cell}</td>" for cell in cells[1:]) + "</tr>"


def _progress(stats: Stats) -> str:
    if not stats.total:
        return "–"
    parts = [(name, getattr(stats, name) or 0) for name in _BAR]
    label = ", ".join(f"{count} {name}" for name, count in parts if count) + f" of {stats.total}"
    whole = max(stats.total, sum(count for _, count in parts))
    bars: list[str] = []
    start = 0.0
    for name, count in parts:
        width = 100 * count / whole
        bars.append(f'<rect class="{name}" x="{start:.2f}" width="{width:.2f}" height="8"/>')
        start += width
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 100 8" preserveAspectRatio="none">'
        f"<title>{escape(label)}</title>{''.join(bars)}</svg>"
    )


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _ago(instant: int | None, now: Moment) -> str:
    if instant is None:
        return "–"
    return f'<time datetime="{rfc3339(instant)}">{max(0, now.at - instant) // SECOND} s ago</time>'


def _labels(labels: Mapping[str, str], visible: Sequence[str] | None) -> str:
    shown = {name: value for name, value in labels.items() if visible is None or name in visible}
    return " ".join(f"<code>{escape(name)}={escape(value)}</code>" for name, value in sorted(shown.items()))
