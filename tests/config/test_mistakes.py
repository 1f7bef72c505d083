"""One file per mistake, and beside it the exact text that the operator reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.factories import CREDENTIALS
from watcher.config import ConfigurationError, load

MISTAKES = Path(__file__).parent / "mistakes"


@pytest.mark.parametrize("file", sorted(MISTAKES.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_mistake_has_exactly_this_message(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file, CREDENTIALS)
    reported = str(caught.value).replace(f"{MISTAKES}/", "").replace(str(MISTAKES), "mistakes") + "\n"
    assert reported == file.with_suffix(".txt").read_text()


def test_each_text_belongs_to_a_mistake() -> None:
    assert {file.stem for file in MISTAKES.glob("*.txt")} == {file.stem for file in MISTAKES.glob("*.yaml")}
