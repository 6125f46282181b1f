"""reconcile.yaml, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.config import reader as config_module
from reconciler.config.reader import (
    TEMPLATE,
    Config,
    find,
    load_config,
    parse_rate,
)
from reconciler.core.contract import Clear, Dialect
from reconciler.core.planner import Count
from reconciler.core.transitions import Rate
from reconciler.errors import Diagnostic, ExitCode, InputError, UsageError

LOCAL = "version: 1\nenvironments:\n  local:\n    api: {url: emulator}\n"
KEY = "secret_live_AbCdEfGh.0123456789abcdef0123456789abcdef"


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Config]:
    def load_text(text: str) -> Config:
        (tmp_path / "reconcile.yaml").write_text(text, "utf-8")
        return load_config(None, start=tmp_path)

    return load_text


@pytest.fixture
def refused(load: Callable[[str], Config]) -> Callable[[str], list[Diagnostic]]:
    def refuse(text: str) -> list[Diagnostic]:
        with pytest.raises(InputError) as caught:
            load(text)
        return list(caught.value.diagnostics)

    return refuse


def production(api: str = "", rest: str = "") -> str:
    """A configuration with one environment that is not the emulator."""
    url = "" if "url:" in api else "      url: https://api.adapty.io\n"
    key = "" if "key_env:" in api else "      key_env: KEY\n"
    more = f"      {api}\n" if api else ""
    return f"version: 1\nenvironments:\n  live:\n    api:\n{url}{key}{more}{rest}"


# --- what it becomes -----------------------------------------------------------------------------


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
    assert (live.state, live.confirm) == (tmp_path / ".reconcile" / "production.db", True)


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
    assert local.emulator_db == tmp_path / ".reconcile" / "emulator.db"
    assert local.state == tmp_path / ".reconcile" / "local.db"


def test_every_setting_arrives(load: Callable[[str], Config], tmp_path: Path) -> None:
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
        "    limits: {max_delete: 3, max_changes: 5}\n"
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
    assert (live.state, live.max_delete, live.max_changes) == (Path("/var/state.db"), Count(3), 5)


def test_a_rate_of_auto_starts_low(load: Callable[[str], Config]) -> None:
    live = load(production("rate: auto")).environment(None)
    assert live.rate == Rate(300 / 60, auto=True)


def test_a_rate_of_auto_may_be_told_where_to_start(load: Callable[[str], Config]) -> None:
    live = load(production("rate: auto:1200/min")).environment(None)
    assert live.rate == Rate(20.0, auto=True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"]
)
def test_http_is_allowed_to_this_machine(load: Callable[[str], Config], url: str) -> None:
    assert load(production(f"url: {url}")).environment(None).url == url


def test_the_only_environment_is_the_default_one(load: Callable[[str], Config]) -> None:
    assert load(LOCAL).default_environment == "local"


@pytest.mark.parametrize(("text", "rate"), [("300/min", 5.0), ("1/min", 1 / 60), ("8/s", 8.0)])
def test_a_rate_is_requests_per_second(text: str, rate: float) -> None:
    assert parse_rate(text) == Rate(rate)


@pytest.mark.parametrize(
    "text", ["", "5", "0/s", "-1/s", "5/h", "auto:", "auto:0/s", "autos", "1.5/s", "٣/s", "5/s\n"]
)
def test_anything_else_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


# --- what is remembered of it --------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where it is remembered; the folder is there, as after the first plan."""
    (tmp_path / ".reconcile").mkdir()
    return tmp_path / ".reconcile" / "reconcile.yaml.cache"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the configurations that are parsed from now on."""
    seen: list[str] = []
    parse = config_module.parse_yaml

    def parse_yaml(data: bytes, name: str) -> Any:
        seen.append(name)
        return parse(data, name)

    monkeypatch.setattr(config_module, "parse_yaml", parse_yaml)
    return seen


FULL = TEMPLATE + (
    "variables: {tier: gold, big: 123456789012345678901234567890, half: 0.5, flag: true}\n"
    "public_attributes: ['Zoë \\', \"\\u00e9\"]\n"
)


@pytest.mark.parametrize("text", [LOCAL, TEMPLATE, FULL])
def test_what_it_says_is_remembered(
    load: Callable[[str], Config], memory: Path, parsed: list[str], text: str
) -> None:
    first = load(text)
    assert memory.stat().st_mode & 0o777 == 0o600
    assert repr(load(text)) == repr(first)
    assert parsed == ["reconcile.yaml"]
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


def test_another_configuration_is_remembered_by_its_name(
    tmp_path: Path, memory: Path, parsed: list[str]
) -> None:
    for name in ("a.yaml", "b.yaml", "a.yaml", "b.yaml"):
        (tmp_path / name).write_text(LOCAL.replace("local", name[0]))
        assert load_config(tmp_path / name, start=tmp_path).default_environment == name[0]
    assert parsed == ["a.yaml", "b.yaml"]


def test_a_change_is_noticed_at_once(
    load: Callable[[str], Config], memory: Path, tmp_path: Path, parsed: list[str]
) -> None:
    load(LOCAL)
    status = (tmp_path / "reconcile.yaml").stat()
    other = LOCAL.replace("local", "lucal")
    (tmp_path / "reconcile.yaml").write_text(other)
    os.utime(tmp_path / "reconcile.yaml", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_config(None, start=tmp_path).default_environment == "lucal"
    assert len(parsed) == 2


def test_a_mistake_has_its_place_although_the_file_was_right_before(
    load: Callable[[str], Config], refused: Callable[[str], list[Diagnostic]], memory: Path
) -> None:
    load(LOCAL)
    [found] = refused(LOCAL + "profile: x\n")
    assert str(found.source) == "reconcile.yaml:5:1"
    [found] = refused(LOCAL + "default_environment: other\n")
    assert str(found.source) == "reconcile.yaml:5:1"


def _forge(memory: Path) -> None:
    memory.write_text(memory.read_text().replace("emulator", "emulatos"))


def _cut(memory: Path) -> None:
    memory.write_bytes(memory.read_bytes()[:-1])


def _empty(memory: Path) -> None:
    memory.write_bytes(b"")


def _spoil(memory: Path) -> None:
    memory.write_bytes(b"\xff" * 200)


def _open(memory: Path) -> None:
    memory.chmod(0o644)


def _link(memory: Path) -> None:
    memory.rename(memory.with_name("real"))
    memory.symlink_to("real")


def _pipe(memory: Path) -> None:
    memory.unlink()
    os.mkfifo(memory)


def _swell(memory: Path) -> None:
    with memory.open("ab") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("harm", [_forge, _cut, _empty, _spoil, _open, _link, _pipe, _swell])
def test_a_memory_that_is_not_all_ours_is_ignored_and_made_anew(
    load: Callable[[str], Config], memory: Path, parsed: list[str], harm: Callable[[Path], None]
) -> None:
    first = load(LOCAL)
    noted = memory.read_bytes()
    harm(memory)
    assert load(LOCAL) == first
    assert len(parsed) == 2
    assert (memory.read_bytes(), memory.lstat().st_mode & 0o777) == (noted, 0o600)


def test_another_owner_is_not_believed(
    load: Callable[[str], Config],
    memory: Path,
    parsed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(LOCAL)
    monkeypatch.setattr(os, "geteuid", lambda: memory.stat().st_uid + 1)
    load(LOCAL)
    assert len(parsed) == 2


def test_another_program_reads_it_anew(
    load: Callable[[str], Config],
    memory: Path,
    parsed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(LOCAL)
    monkeypatch.setattr(config_module, "fingerprint", lambda: "another")
    load(LOCAL)
    load(LOCAL)
    assert len(parsed) == 2


def test_without_the_cache_it_is_neither_believed_nor_written(
    load: Callable[[str], Config], tmp_path: Path, memory: Path, parsed: list[str]
) -> None:
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    first = load_config(None, start=tmp_path, cache=False)
    assert not memory.exists()
    assert load(LOCAL) == first
    assert load_config(None, start=tmp_path, cache=False) == first
    assert len(parsed) == 3


def test_nothing_is_remembered_without_a_folder_for_it_or_with_a_finding(
    load: Callable[[str], Config], tmp_path: Path
) -> None:
    load(LOCAL)
    assert not (tmp_path / ".reconcile").exists()
    (tmp_path / ".reconcile").mkdir()
    load(LOCAL + "fake_seed: yes\n")
    assert list((tmp_path / ".reconcile").iterdir()) == []


def test_a_folder_in_its_place_is_left_alone(
    load: Callable[[str], Config], memory: Path, parsed: list[str]
) -> None:
    memory.mkdir()
    assert load(LOCAL) == load(LOCAL)
    assert len(parsed) == 2
    assert list(memory.parent.iterdir()) == [memory]


def test_a_state_in_its_place_is_left_alone(load: Callable[[str], Config], memory: Path) -> None:
    memory.write_text("the state")
    text = LOCAL + "    state: {url: 'sqlite:///.reconcile/reconcile.yaml.cache'}\n"
    assert load(text).environment(None).state == memory
    assert memory.read_text() == "the state"


def test_many_aliases_of_much_are_not_remembered(
    load: Callable[[str], Config], memory: Path
) -> None:
    aliases = "".join(f"  v{number}: *long\n" for number in range(200))
    load(f"{LOCAL}variables:\n  long: &long {'x' * 60_000}\n{aliases}")
    assert not memory.exists()


def test_a_problem_that_depends_on_where_the_file_is_is_found_with_its_place(
    load: Callable[[str], Config], memory: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    text = f"{LOCAL}    state: {{url: 'sqlite:///{moved}/.reconcile/emulator.db'}}\n"
    load(text)
    assert memory.exists()
    (moved / ".reconcile").mkdir(parents=True)
    (tmp_path / "reconcile.yaml").rename(moved / "reconcile.yaml")
    memory.rename(moved / ".reconcile" / memory.name)
    with pytest.raises(InputError) as caught:
        load_config(None, start=moved)
    [found] = caught.value.diagnostics
    assert str(found.source) == "reconcile.yaml:5:13"


# --- where it is ---------------------------------------------------------------------------------


def test_it_is_found_upwards(tmp_path: Path) -> None:
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find(below) == tmp_path / "reconcile.yaml"
    assert load_config(None, start=below).root == tmp_path


def test_a_folder_of_its_name_is_not_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "reconcile.yaml").mkdir(parents=True)
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    assert find(tmp_path / "a") == tmp_path / "reconcile.yaml"


def test_without_one_the_hint_is_init(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, start=tmp_path)
    assert "`reconcile init`" in caught.value.hint


def test_one_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "other.yaml", start=tmp_path)
    [found] = caught.value.diagnostics
    assert (found.rule, str(found.source)) == ("config/unreadable", "other.yaml")


def test_a_pipe_is_refused_rather_than_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="has 1 error"):
        load_config(tmp_path / "pipe.yaml", start=tmp_path)


def test_an_unknown_environment_is_a_wrong_call(load: Callable[[str], Config]) -> None:
    with pytest.raises(UsageError) as caught:
        load(TEMPLATE).environment("prodution")
    assert (caught.value.exit_code, caught.value.hint) == (
        ExitCode.USAGE,
        "Did you mean production?",
    )


# --- what is wrong with it -----------------------------------------------------------------------


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
    found = refused(text)
    assert [item.rule for item in found] == [rule]
    assert str(found[0].source).endswith(place)
    assert found[0].hint


def test_two_environments_never_share_a_state(refused: Callable[[str], list[Diagnostic]]) -> None:
    other = "  b: {api: {url: emulator}, state: {url: sqlite:///x/../.reconcile/local.db}}\n"
    [found] = refused(f"default_environment: b\n{LOCAL}{other}")
    assert found.message == "the environments local and b share a state file"


def test_a_state_is_never_the_file_of_the_emulator(
    refused: Callable[[str], list[Diagnostic]],
) -> None:
    [found] = refused(LOCAL.replace("local", "emulator"))
    assert "embedded emulator's own file" in found.message


def test_all_findings_are_reported(refused: Callable[[str], list[Diagnostic]]) -> None:
    text = production("rate: fast") + "    confirm: 1\n    limit: {}\n"
    assert [item.rule for item in refused(text)] == [
        "config/value",
        "config/type",
        "config/unknown-field",
    ]


@pytest.mark.parametrize(
    "text",
    [
        production(f"key_env: {KEY}"),
        production(f"key: {KEY}"),
        production(f"{KEY}: x"),
        LOCAL + f"# {KEY}\n",
        LOCAL + f"broken: [{KEY}\n",
        LOCAL + f"default_environment: {KEY.upper()}\n",
        production(f"url: https://api.adapty.io/?key={KEY}"),
    ],
)
def test_a_secret_key_is_found_and_never_repeated(load: Callable[[str], Config], text: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text)
    told = [str(caught.value), caught.value.hint, *map(str, caught.value.diagnostics)]
    assert [item.rule for item in caught.value.diagnostics] == ["config/secret-key"]
    assert not any("AbCdEfGh".casefold() in item.casefold() for item in told)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("line", ["key_env: hunter2.x", "url: https://u:hunter2@a.io"])
def test_what_may_be_a_secret_is_not_quoted(
    refused: Callable[[str], list[Diagnostic]], line: str
) -> None:
    [found] = refused(production(line))
    assert "hunter2" not in str(found)
