"""Configurations for tests, as a user would have them: a file in a directory and an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from watcher.config import ConfigurationError, LoadedConfiguration, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ACCOUNT_ID = "AC" + "0" * 32
OTHER_ACCOUNT_ID = "AC" + "1" * 32
API_KEY = "SK" + "0" * 32
OPERATION_ID = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"
TOKEN = "made-up-token-5a7f"
CREDENTIALS = {"TWILIO_ACCOUNT_SID": ACCOUNT_ID, "TWILIO_AUTH_TOKEN": TOKEN}


class Loader:
    """Loads configurations from one directory; messages have the directory left out."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "config.yaml"

    def write(self, name: str, content: str) -> Path:
        path = self.directory / name
        path.write_text(content)
        return path

    def load(self, text: str | None, environ: Mapping[str, str] = CREDENTIALS) -> LoadedConfiguration:
        if text is None:
            return load(None, environ)
        return load(self.write("config.yaml", text), environ)

    def value(self, text: str | None, *path: str | int, environ: Mapping[str, str] | None = None) -> Any:
        value: Any = self.load(text, CREDENTIALS | dict(environ or {})).configuration
        for part in path:
            value = value[part] if isinstance(part, int) else getattr(value, part)
        return value

    def problems(self, text: str | None, environ: Mapping[str, str] = CREDENTIALS) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(text, environ)
        return [str(problem).replace(f"{self.directory}/", "") for problem in caught.value.problems]
