"""The settings of a configuration, and the findings about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.config.settings import Config, is_proxy_address, parse_rate
from reconciler.config.template import TEMPLATE
from reconciler.config.trust import Trust
from reconciler.core.contract import Clear, Dialect
from reconciler.core.options import Count, Rate
from reconciler.errors import Diagnostic, ExitCode, UsageError
from tests.support.configurations import LOCAL, production
from tests.support.places import state_of


def test_the_template_is_a_working_configuration(
    load: Callable[[str], Config], tmp_path: Path
) -> None:
    config = load(TEMPLATE)
    assert (config.root, config.profiles) == (tmp_path, tmp_path / "profiles")
    assert config.environment(None).name == "local"
    live = config.environment("production")
    assert (live.url, live.key_env, live.rate) == (
        "https://api.adapty.io",
        "ADAPTY_SECRET_KEY",
        Rate(5.0),
    )
    assert (live.state.file, live.confirm) == (state_of(tmp_path, "production.db"), True)


def test_the_template_shows_the_defaults(load: Callable[[str], Config]) -> None:
    shown = load(TEMPLATE).environment("production")
    plain = load(
        "version: 1\nenvironments:\n  production:\n"
        "    api: {url: https://api.adapty.io, key_env: ADAPTY_SECRET_KEY}\n    confirm: true\n"
    )
    assert plain.environment("production") == shown


def test_the_emulator_needs_no_key_and_has_no_rate_limit(
    load: Callable[[str], Config], tmp_path: Path
) -> None:
    local = load(LOCAL).environment("local")
    assert (local.url, local.key_env, local.rate) == ("emulator", None, Rate(None))
    assert local.emulator_db == state_of(tmp_path, "emulator.db")
    assert local.state.file == state_of(tmp_path)


def test_every_setting_of_the_file_is_read(load: Callable[..., Config], tmp_path: Path) -> None:
    config = load(
        "version: 1\nprofiles: people\ndefault_environment: live\nenvironments:\n"
        "  local: {api: {url: emulator}}\n"
        "  live:\n"
        "    api:\n"
        "      url: https://api.example.com/prefix/\n"
        "      key_env: KEY\n"
        "      dialect: openapi\n"
        "      rate: 7/s\n"
        "      timeout: 2.5\n"
        "      quiet_period: 0\n"
        "      delete_attribute_with: empty\n"
        "      send_ip_country: always\n"
        "      proxy: http://proxy.example:3128\n"
        "      ca_bundle: ca.pem\n"
        "    state: {url: sqlite:////var/state.db}\n"
        "    limits: {max_delete: 3, max_changes: 5}\n",
        trust=Trust(outside=("/var",)),
    )
    live = config.environment(None)
    assert config.profiles == tmp_path / "people"
    assert (live.url, live.dialect, live.rate) == (
        "https://api.example.com/prefix",
        Dialect.OPENAPI,
        Rate(7.0),
    )
    assert (live.timeout, live.quiet_period) == (2.5, 0.0)
    assert (live.delete_attribute_with, live.send_ip_country_always) == (Clear.EMPTY, True)
    assert (live.proxy, live.ca_bundle) == ("http://proxy.example:3128", tmp_path / "ca.pem")
    assert (live.state.file, live.max_delete, live.max_changes) == (
        Path("/var/state.db"),
        Count(3),
        5,
    )


def test_the_access_levels_of_the_app_are_named_at_the_top(
    load: Callable[[str], Config],
) -> None:
    environments = "version: 1\nenvironments: {local: {api: {url: emulator}}}\n"
    assert load(environments).access_levels == ()
    levels = load(environments + "access_levels: [premium, pro]\n").access_levels
    assert levels == ("premium", "pro")


@pytest.mark.parametrize("text", ["premium", "[premium, premium]", "['']", "[1]"])
def test_access_levels_are_a_list_of_ids(
    refused: Callable[[str], list[Diagnostic]], text: str
) -> None:
    environments = "version: 1\nenvironments: {local: {api: {url: emulator}}}\n"
    [finding] = refused(f"{environments}access_levels: {text}\n")
    assert finding.source.line == 3


def test_a_rate_of_auto_starts_low(load: Callable[[str], Config]) -> None:
    live = load(production("rate: auto")).environment(None)
    assert live.rate == Rate(300 / 60, auto=True)


def test_a_rate_of_auto_can_start_at_a_given_rate(load: Callable[[str], Config]) -> None:
    live = load(production("rate: auto:1200/min")).environment(None)
    assert live.rate == Rate(20.0, auto=True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"]
)
def test_http_is_allowed_to_this_machine(load: Callable[[str], Config], url: str) -> None:
    assert load(production(f"url: {url}")).environment(None).url == url


@pytest.mark.parametrize(
    "host",
    ["10.1.2.3", "172.17.0.2", "192.168.1.5:8080", "[fd00::1]", "emulator:8080", "host.docker.internal",
     "api.local", "169.254.1.1", "100.64.0.1"],
)  # fmt: skip
def test_http_to_a_private_network_needs_a_setting(
    load: Callable[[str], Config], refused: Callable[[str], list[Diagnostic]], host: str
) -> None:
    url = f"url: 'http://{host}'"
    [finding] = refused(production(url))
    assert finding.rule == "config/insecure"
    assert "allow_http: true" in (finding.hint or "")
    assert load(production(f"{url}\n      allow_http: true")).environment(None).url == (
        f"http://{host}"
    )


@pytest.mark.parametrize(
    "host", ["api.adapty.io", "8.8.8.8", "[2001:4860:4860::8888]", "a.example"]
)
def test_http_to_a_public_host_is_never_allowed(
    refused: Callable[[str], list[Diagnostic]], host: str
) -> None:
    [finding] = refused(production(f"url: 'http://{host}'\n      allow_http: true"))
    assert (finding.rule, finding.hint) == ("config/insecure", "Use https://.")


@pytest.mark.parametrize("host", ["127.0.0.1:80", "10.0.0.1", "emulator"])
@pytest.mark.parametrize("proxy", ["proxy: 'http://proxy:1'", "proxy_env: PROXY"])
def test_http_is_never_allowed_through_a_proxy(
    refused: Callable[[str], list[Diagnostic]], host: str, proxy: str
) -> None:
    text = f"url: 'http://{host}'\n      allow_http: true\n      {proxy}"
    [finding] = refused(production(text))
    assert (finding.rule, finding.hint) == ("config/insecure", "Use https://, or no proxy.")


def test_a_proxy_is_named_once(refused: Callable[[str], list[Diagnostic]]) -> None:
    [finding] = refused(production("proxy: 'http://proxy:1'\n      proxy_env: PROXY"))
    assert str(finding.source).endswith(":8:7")


def test_profile_files_may_not_use_the_variable_of_the_proxy(
    refused: Callable[[str], list[Diagnostic]],
) -> None:
    [finding] = refused(production("proxy_env: CI_PROXY") + "env_prefix: CI_\n")
    assert finding.rule == "config/insecure"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("http://proxy:3128", True),
        ("https://me:p%40ss@proxy.example/", True),
        ("proxy:3128", False),
        ("socks5://proxy:1", False),
        ("http://", False),
        ("http://me:a b@proxy:1", False),
        ("http://proxy:99999", False),
        ("http://proxy:1?x", False),
        ("http://proxy/path", False),
    ],
)
def test_the_address_of_a_proxy_is_one(text: str, result: bool) -> None:
    assert is_proxy_address(text) is result


def test_the_only_environment_is_the_default_one(load: Callable[[str], Config]) -> None:
    assert load(LOCAL).default_environment == "local"


@pytest.mark.parametrize(("text", "rate"), [("300/min", 5.0), ("1/min", 1 / 60), ("8/s", 8.0)])
def test_a_rate_is_requests_per_second(text: str, rate: float) -> None:
    assert parse_rate(text) == Rate(rate)


@pytest.mark.parametrize(
    "text", ["", "5", "0/s", "-1/s", "5/h", "auto:", "auto:0/s", "autos", "1.5/s", "٣/s", "5/s\n"]
)
def test_another_text_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


def test_an_unknown_environment_is_a_usage_error(load: Callable[[str], Config]) -> None:
    with pytest.raises(UsageError) as caught:
        load(TEMPLATE).environment("prodution")
    assert (caught.value.exit_code, caught.value.hint) == (
        ExitCode.USAGE,
        "Did you mean production?",
    )


# --- findings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule", "place"),
    [
        ("", "file/empty", "reconcile.yaml"),
        ("version: 1\n", "config/missing-field", "reconcile.yaml:1:1"),
        ("version: 2\nenvironments: {a: {api: {url: emulator}}}\n", "config/value", ":1:1"),
        ("version: 1\nenvironments: {}\n", "config/value", ":2:1"),
        ("version: 1\nenvironments: {a b: {api: {url: emulator}}}\n", "config/value", ":2:16"),
        (LOCAL + "profile: x\n", "config/unknown-field", ":5:1"),
        (LOCAL + "profiles: [x]\n", "config/type", ":5:1"),
        (LOCAL + "default_environment: loca\n", "config/value", ":5:1"),
        (LOCAL + "  other:\n    api: {url: emulator}\n", "config/missing-field", ":1:1"),
        (LOCAL + "  local:\n    api: {url: emulator}\n", "yaml/duplicate-key", ":5:3"),
        (LOCAL + "    state: {url: postgres://db/x}\n", "config/value", ":5:13"),
        (LOCAL + "    state: {url: 'sqlite:///'}\n", "config/value", ":5:13"),
        (LOCAL + "    state: {url: 'sqlite:///:memory:'}\n", "config/value", ":5:13"),
        (LOCAL + "    limits: {max_delete: 25}\n    confirm: yes\n", "config/type", ":6:5"),
        (LOCAL + "    limits: {max_delete: 101%}\n", "config/value", ":5:14"),
        (LOCAL + "    limits: {max_delete: -1}\n", "config/value", ":5:14"),
        (LOCAL + "    limits: {max_changes: 1.5}\n", "config/type", ":5:14"),
        (production("timeout: 0"), "config/value", ":7:7"),
        (production("rate: 300"), "config/type", ":7:7"),
        (production("rate: 300/hour"), "config/value", ":7:7"),
        (production("delete_attribute_with: null"), "config/value", ":7:7"),
        (production("key: x"), "config/unknown-field", ":7:7"),
        (production("proxy: 'http://me:pw@proxy:1'"), "config/value", ":7:7"),
        (production("url: http://api.adapty.io"), "config/insecure", ":6:7"),
        (production("url: http://127.0.0.1.evil.example"), "config/insecure", ":6:7"),
        (production("url: ftp://api.adapty.io"), "config/value", ":6:7"),
        (production("url: api.adapty.io"), "config/value", ":6:7"),
        (production("url: https://me:pw@api.adapty.io"), "config/value", ":6:7"),
        (production("url: https://api.adapty.io?a=b"), "config/value", ":6:7"),
        (production("url: https://api.adapty.io:99999"), "config/value", ":6:7"),
        (production("url: 'https://api adapty.io'"), "config/value", ":6:7"),
        (
            "version: 1\nenvironments:\n  a: {api: {url: https://api.adapty.io}}\n",
            "config/key-env-missing",
            ":3:7",
        ),
    ],
)
def test_a_finding_has_a_rule_and_a_place(
    refused: Callable[[str], list[Diagnostic]], text: str, rule: str, place: str
) -> None:
    [finding] = refused(text)
    assert finding.rule == rule
    assert str(finding.source).endswith(place)
    assert finding.hint


def test_two_environments_never_share_a_state(refused: Callable[[str], list[Diagnostic]]) -> None:
    place = "    state: {url: sqlite:///.reconcile/local.db}\n"
    other = "  b: {api: {url: emulator}, state: {url: sqlite:///x/../.reconcile/local.db}}\n"
    [finding] = refused(f"default_environment: b\n{LOCAL}{place}{other}")
    assert finding.message == "the environments local and b share a state file"


def test_a_state_is_never_the_file_of_the_emulator(
    refused: Callable[[str], list[Diagnostic]],
) -> None:
    [finding] = refused(LOCAL.replace("local", "emulator"))
    assert "embedded emulator's own file" in finding.message


def test_all_findings_are_reported(refused: Callable[[str], list[Diagnostic]]) -> None:
    text = production("rate: fast") + "    confirm: 1\n    limit: {}\n"
    assert [item.rule for item in refused(text)] == [
        "config/value",
        "config/type",
        "config/unknown-field",
    ]


@pytest.mark.parametrize("line", ["key_env: hunter2.x", "url: https://u:hunter2@a.io"])
def test_a_value_that_may_be_a_secret_is_not_quoted(
    refused: Callable[[str], list[Diagnostic]], line: str
) -> None:
    [finding] = refused(production(line))
    assert "hunter2" not in str(finding)
