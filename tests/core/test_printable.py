from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watcher.core.printable import SHOWN_AT_MOST, printable, shortened


def test_what_a_terminal_would_obey_becomes_an_escape_sequence_and_letters_stay():
    assert printable("Größe \x1b[31m\r\n\u202e\ud800") == r"Größe \x1b[31m\r\n\u202e\ud800"


def test_a_long_text_is_cut_with_an_ellipsis():
    assert shortened("x" * SHOWN_AT_MOST) == "x" * SHOWN_AT_MOST
    assert shortened("x" * (SHOWN_AT_MOST + 1)) == "x" * (SHOWN_AT_MOST - 1) + "…"


@given(st.text())
def test_a_shortened_text_is_printable_and_short_also_after_escaping(text: str):
    assert shortened(text).isprintable()
    assert len(shortened(text)) <= SHOWN_AT_MOST


@given(st.text())
def test_the_result_is_printable_and_what_was_printable_is_unchanged(text: str):
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text
