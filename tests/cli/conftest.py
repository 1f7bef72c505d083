import os
from collections.abc import Iterator

import pytest

from tests.cli.running import Command, in_background
from tests.server.serving import AppParts, listening
from watcher.server import Listener


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("WATCHER_", "TWILIO_")):
            monkeypatch.delenv(name)


@pytest.fixture
def watcher(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def parts() -> AppParts:
    return AppParts()


@pytest.fixture
def admin(parts: AppParts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A daemon's admin listener, where the environment says it is."""
    with in_background(lambda: listening(parts.admin())) as listener:
        monkeypatch.setenv("WATCHER_ADMIN__LISTEN", listener.addresses[0].removeprefix("http://"))
        yield listener
