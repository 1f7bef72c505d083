"""The defaults are those of the documented configuration, and the core's own agree with them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from watcher.core.census import Retention
from watcher.core.governor import Share
from watcher.core.lifecycle import LifecycleRules
from watcher.core.model import micros
from watcher.core.planner import Promise
from watcher.core.settings import (
    PUBLIC_BASE_URL,
    Account,
    Admin,
    Configuration,
    LogSettings,
    Metrics,
    Polling,
    Storage,
    Web,
)


def test_an_account_takes_a_small_share_of_the_public_api():
    account = Account(name="main")
    assert account.base_url == PUBLIC_BASE_URL == "https://comms.twilio.com/v1"
    assert (account.max_requests_per_second, account.max_concurrency) == (5, 4)
    assert (account.discover, account.discover_since) == (False, timedelta(hours=24))
    assert (account.allow_http, account.ca_file, account.operations) == (False, None, ())
    assert [account.account_id, account.auth_token_file, account.api_key, account.api_key_secret_file] == [None] * 4


def test_the_other_sections_have_the_documented_defaults():
    assert Configuration() == Configuration(
        accounts=(),
        polling=Polling(
            freshness=timedelta(seconds=5),
            request_timeout=timedelta(seconds=10),
            settle_after=(timedelta(seconds=30), timedelta(minutes=2)),
            not_found_grace=timedelta(minutes=2),
        ),
        storage=Storage(url="sqlite:///watcher.db", keep=timedelta(hours=24)),
        metrics=Metrics(
            hold=timedelta(minutes=10),
            hold_at_most=timedelta(hours=24),
            max_operations=1000,
            labels=(),
            counter_labels=(),
        ),
        web=Web(listen=":10617", config_file=None),
        admin=Admin(listen="localhost:10618", token_file=None, allowed_hosts=()),
        log=LogSettings(level="info", format="json"),
    )


def test_the_core_agrees_with_the_settings():
    polling, metrics, account = Polling(), Metrics(), Account(name="main")
    settle_after = tuple(map(micros, polling.settle_after))
    assert Promise() == Promise(freshness=micros(polling.freshness), settle_after=settle_after)
    assert LifecycleRules() == LifecycleRules(
        settle_after=settle_after, not_found_grace=micros(polling.not_found_grace)
    )
    assert Share() == Share(per_second=account.max_requests_per_second, concurrency=account.max_concurrency)
    assert Retention() == Retention(
        hold=micros(metrics.hold), hold_at_most=micros(metrics.hold_at_most), max_operations=metrics.max_operations
    )


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        Polling().freshness = timedelta(0)  # type: ignore[misc]
