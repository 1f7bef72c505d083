"""Settings from the environment: `WATCHER_` and the key path with `__`, such as `WATCHER_POLLING__FRESHNESS=2s`.

List items are separated by commas. An empty variable sets a nullable setting to null, and a list to the empty list.
Names without `__` are ignored: Kubernetes injects `WATCHER_PORT` for a Service called watcher.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from watcher.config.draft import Draft, DraftEntry, RawValue, read_list, read_one
from watcher.config.problems import ENVIRONMENT, Origin, Problems, suggest
from watcher.config.rules import is_private
from watcher.config.scalars import Scalar
from watcher.config.schema import Setting, environment_name, settings
from watcher.core.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "WATCHER_"
_OF_ACCOUNT = re.compile(r"WATCHER_ACCOUNTS__(?P<index>0|[1-9][0-9]{0,2})__.+", re.DOTALL)


def read_environment(environ: Mapping[str, str], draft: Draft, problems: Problems) -> None:
    """Put the settings of the environment into the draft, over those already there."""
    ours = (name for name in environ if name.startswith(PREFIX) and "__" in name)
    for name in sorted(ours, key=_in_order):
        origin = Origin(file=ENVIRONMENT, path=shortened(name))
        match = _OF_ACCOUNT.fullmatch(name)
        index = int(match["index"]) if match else 0
        setting = _known(index).get(name)
        if setting is None:
            problems.add(origin, "unknown setting", suggestion=_suggestion(name, index))
        elif match is None or _has_account(index, origin, draft, problems):
            path = setting.path.replace("[]", f"[{index}]")
            draft.put(path, _read(setting, environ[name], origin, problems))


def _in_order(name: str) -> tuple[int, str]:
    match = _OF_ACCOUNT.fullmatch(name)
    return (int(match["index"]) if match else -1, name)


def _known(index: int) -> Mapping[str, Setting]:
    return {environment_name(setting.path.replace("[]", f"[{index}]")): setting for setting in settings()}


def _suggestion(name: str, index: int) -> str | None:
    # Compared without the common prefix, or every name would seem similar.
    rest = suggest(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in _known(index)])
    return None if rest is None else f"{PREFIX}{rest}"


def _has_account(index: int, origin: Origin, draft: Draft, problems: Problems) -> bool:
    count = len(draft.accounts)
    if index > count:
        problems.add(
            origin, f"there is no account {index}: accounts are counted from 0, and {count} are defined before this one"
        )
        return False
    if index == count:
        draft.accounts.append(origin.at(f"accounts[{index}]"))
    return True


def _read(setting: Setting, text: str, origin: Origin, problems: Problems) -> DraftEntry | None:
    if not text and setting.is_nullable:
        return DraftEntry(value=None, origin=origin)
    if setting.is_list:
        items = [item.strip() for item in text.split(",")] if text else []
        return read_list(setting, [_written(setting, item, origin) for item in items], origin, problems)
    return read_one(setting, _written(setting, text, origin), problems)


def _written(setting: Setting, text: str, origin: Origin) -> RawValue:
    return RawValue(scalar=Scalar(text=text, is_private=is_private(setting.path)), origin=origin)
