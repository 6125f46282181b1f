"""Hosts in one form, and lists of them: what looks alike is not the same."""

from __future__ import annotations

import pytest

from reconciler.config.hosts import Host, host_of, parse_hosts
from reconciler.config.trust import Trust
from reconciler.errors import UsageError

ALLOWED = Trust(
    hosts=parse_hosts(
        "Staging.Example.com, 10.1.2.3:8443  [fd00::1]:9000 2001:DB8::5", where="the list"
    )
)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.adapty.io",
        "https://API.Adapty.IO/prefix",
        "https://api.adapty.io.",
        "https://api.adapty.io:8443",
        "https://staging.example.com",
        "https://STAGING.example.com.:444/x",
        "https://10.1.2.3:8443",
        "https://[::ffff:10.1.2.3]:8443",
        "https://[fd00:0::1]:9000",
        "https://[2001:db8:0::5]",
        "http://127.0.0.1:8080",
        "http://127.8.9.1:1",
        "http://[::1]:8080",
        "http://[::ffff:127.0.0.1]:8080",
        "http://LOCALHOST:8080",
    ],
)
def test_an_allowed_host_is_allowed_however_it_is_written(url: str) -> None:
    assert ALLOWED.allows_host(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.adapty.io.evil.com",
        "https://evil-api.adapty.io",
        "https://api-adapty.io",
        "https://adapty.io",
        "https://sub.api.adapty.io",
        "https://api.adapty.io%2eevil.com",
        "https://api.adapty.io@evil.com",
        "https://api.adapty.io:443@evil.com",
        "https://evil.com\\@api.adapty.io",
        "https://evil.com:443#@api.adapty.io",
        "https://api.adapty.іo",
        "https://xn--api-adapty-xyz.io",
        "https://api。adapty。io",
        "https://localhost.evil.com",
        "https://127.0.0.1.nip.io",
        "https://2130706433",
        "https://0x7f000001",
        "https://127.1",
        "https://0.0.0.0",
        "https://[::]",
        "https://10.1.2.3",
        "https://10.1.2.3:8444",
        "https://[fd00::1]:9001",
        "https://[fd00::1%25eth0]:9000",
        "https://sub.staging.example.com",
        "https://staging.example.com..",
        "https://",
        "https://[::1",
        "https://host:99999",
        "ftp://staging.example.com",
        "staging.example.com",
        "",
    ],
)
def test_another_host_is_not_allowed_however_alike_it_looks(url: str) -> None:
    assert not ALLOWED.allows_host(url)


@pytest.mark.parametrize("text", ["", " ", ",", " , \n"])
def test_an_empty_list_allows_nothing(text: str) -> None:
    assert parse_hosts(text, where="the list") == ()


@pytest.mark.parametrize(
    "text",
    [
        "*", "*.example.com", "https://a.example", "a.example/x", "me@a.example", "a.example:",
        "a.example:0", "a.example:http", "a.example:99999", "[::1", "bücher.example", "a..b",
        "-a.example", "a.example:1:2", "a%2eb", "a\\b",
    ],
)  # fmt: skip
def test_anything_else_in_a_list_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hosts(f"good.example {text}", where="RECONCILE_ALLOWED_HOSTS")
    assert "RECONCILE_ALLOWED_HOSTS holds something that is not a host" in str(caught.value)
    assert "HOST:PORT" in caught.value.hint
    assert text not in str(caught.value)


def test_a_host_is_written_with_its_port() -> None:
    assert str(host_of("https://[fd00::1]/x")) == "[fd00::1]:443"
    assert str(host_of("http://A.example.")) == "a.example:80"
    assert str(Host("a.example")) == "a.example"
