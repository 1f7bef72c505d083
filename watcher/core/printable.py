"""Texts from outside, fit for a terminal and a log: nothing in them moves a cursor, begins a line or never ends."""

from __future__ import annotations

SHOWN_AT_MOST = 60
"""The most characters that `shortened` returns."""


def printable(text: str) -> str:
    r"""The text with each unprintable character as its escape sequence, such as `\n` or `\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shortened(text: str) -> str:
    """The text as `printable` returns it, cut where that is longer than `SHOWN_AT_MOST`."""
    shown = printable(text[: SHOWN_AT_MOST + 1])
    return shown if len(shown) <= SHOWN_AT_MOST else shown[: SHOWN_AT_MOST - 1] + "…"
