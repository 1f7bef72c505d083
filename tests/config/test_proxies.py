"""Proxies of the environment, read as curl and Go read them."""

from __future__ import annotations

import pytest

from watcher.config.proxies import ProxyError, choose_proxy

PROXY = "http://proxy.internal:3128"
NAME = "https://comms.twilio.com/v1"


def goes_through(url: str, no_proxy: str) -> bool:
    return choose_proxy(url, {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}) is not None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        (NAME, "*"),
        (NAME, "comms.twilio.com"),
        (NAME, "twilio.com"),
        (NAME, ".twilio.com"),
        (NAME, "*.twilio.com"),
        (NAME, "COMMS.Twilio.COM."),
        (NAME, "example.com, comms.twilio.com"),
        (NAME, "example.com comms.twilio.com"),
        (NAME, "comms.twilio.com:443"),
        ("https://comms.twilio.com:8443/v1", "twilio.com:8443"),
        ("https://10.1.2.3/v1", "10.1.2.3"),
        ("https://10.1.2.3/v1", "10.0.0.0/8"),
        ("https://[fd00::17]/v1", "fd00::/64"),
        ("https://[fd00::17]/v1", "fd00::17"),
        ("https://[fd00::17]/v1", "[fd00::17]"),
        ("https://[fd00::17]:8080/v1", "[fd00::17]:8080"),
        ("https://[::ffff:10.1.2.3]/v1", "10.0.0.0/8"),
    ],
)
def test_an_entry_that_names_the_host_keeps_it_from_the_proxy(url: str, no_proxy: str):
    assert not goes_through(url, no_proxy)


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        (NAME, ""),
        (NAME, "comms.twilio.com:8443"),
        (NAME, "ommstwilio.com"),
        (NAME, "wilio.com"),
        (NAME, "."),
        (NAME, ",,"),
        (NAME, "[::1]"),
        (NAME, "[::1]:8080"),
        (NAME, "fd00::/64"),
        (NAME, "::1/128"),
        (NAME, "localhost:abc"),
        (NAME, "comms.twilio.com:abc"),
        (NAME, "10.0.0.0/99"),
        (NAME, "[half"),
        ("https://10.1.2.3/v1", "10.1.2.0/31"),
        ("https://10.1.2.3/v1", "10.1.2"),
        ("https://[fd00::17]:8080/v1", "[fd00::17]:8081"),
        ("https://[fd01::17]/v1", "fd00::/64"),
    ],
)
def test_an_entry_that_means_something_else_or_nothing_changes_nothing(url: str, no_proxy: str):
    assert goes_through(url, no_proxy)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "http://localhost/v1",
        "https://[::1]:8443/v1",
        "http://127.8.9.1/",
        "http://a.localhost",
    ],
)
def test_loopback_never_goes_through_a_proxy(url: str):
    assert not goes_through(url, "")


def test_each_scheme_has_its_variable_and_the_lower_case_wins():
    environ = {"HTTP_PROXY": "http://a:1", "https_proxy": "b:2", "HTTPS_PROXY": "http://c:3", "ALL_PROXY": "http://d:4"}
    chosen = {scheme: choose_proxy(f"{scheme}://comms.example/", environ) for scheme in ("http", "https")}
    assert {scheme: str(proxy) for scheme, proxy in chosen.items()} == {"http": "a:1", "https": "b:2"}
    only = choose_proxy(NAME, {"all_proxy": "", "ALL_PROXY": "http://d:4", "HTTP_PROXY": "http://a:1"})
    assert str(only) == "d:4"


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "http://[::1", "http://", "http://proxy:0", "http://a b:1"])
def test_what_is_not_the_url_of_a_proxy_is_refused_by_the_name_of_its_variable(value: str):
    with pytest.raises(ProxyError, match="not the URL of an HTTP proxy") as caught:
        choose_proxy(NAME, {"HTTPS_PROXY": value})
    assert caught.value.variable == "HTTPS_PROXY"


def test_credentials_of_a_proxy_do_not_show():
    proxy = choose_proxy(NAME, {"HTTPS_PROXY": "http://user:word@proxy.internal:3128"})
    assert proxy is not None
    assert (str(proxy), repr(proxy)) == ("proxy.internal:3128", "Proxy(HTTPS_PROXY)")
