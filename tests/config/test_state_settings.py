"""The settings of states: where each environment has its own, and what a checkout may not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.config.settings import Config
from reconciler.config.trust import Trust, trust_of
from reconciler.errors import Diagnostic
from reconciler.state.location import Encryption, StateLocation
from tests.support.configurations import LOCAL
from tests.support.places import state_of

Load = Callable[..., Config]
Refused = Callable[[str], list[Diagnostic]]
OPS = "postgresql://ann@db.internal/ops?schema=qa"


def with_state(state: str, rest: str = "") -> str:
    return f"{LOCAL}    state: {state}\n{rest}"


def test_a_state_is_an_address_or_a_mapping(load: Load, tmp_path: Path) -> None:
    for state in ("sqlite:///a/b.db", "{url: sqlite:///a/b.db, lock_wait: 90}"):
        local = load(with_state(state)).environment("local")
        assert local.state.file == tmp_path / "a/b.db"
        assert local.cache == tmp_path / "a"
        assert local.state.lock_wait == (90 if "90" in state else 0)


def test_every_setting_of_a_state_is_read(load: Load, tmp_path: Path) -> None:
    location = load(
        with_state(
            "\n      url: s3://team-bucket/reconcile/qa\n      region: eu-central-1\n"
            "      endpoint: https://minio.internal:9000/\n      lock_wait: 1.5\n"
            "      encryption: {key_command: [sops, -d, state-key.yaml], old_key_env: OLD_STATE_KEY}",
            "    cache: local\n",
        )
    ).environment("local")
    state = location.state
    assert location.cache == tmp_path / "local"
    assert (state.url, state.file) == ("s3://team-bucket/reconcile/qa", None)
    assert (state.region, state.endpoint) == ("eu-central-1", "https://minio.internal:9000")
    assert state.encryption == Encryption(None, ("sops", "-d", "state-key.yaml"), "OLD_STATE_KEY")
    postgres = load(with_state(f"{{url: '{OPS}', password_command: [vault, read]}}"))
    state = postgres.environment("local").state
    assert state.url == "postgresql://ann@db.internal:5432/ops?schema=qa"
    assert state.password_command == ("vault", "read")
    assert load(with_state("{url_env: STATE_URL}")).environment("local").state.url == ""


def test_what_only_this_machine_needs_lies_in_the_home(load: Load, tmp_path: Path) -> None:
    config = load(with_state("s3://team-bucket/qa"))
    local = config.environment("local")
    assert local.cache == state_of(tmp_path).parent
    assert local.state.cache_folder == config.places.caches


def test_variables_with_secrets_of_a_state_are_no_variables_of_profiles(load: Load) -> None:
    encryption = "encryption: {key_env: QA_STATE_KEY, old_key_env: QA_STATE_OLD}"
    config = load(with_state(f"{{url_env: QA_STATE_URL, {encryption}}}"))
    assert config.secret_variables == {"QA_STATE_URL", "QA_STATE_KEY", "QA_STATE_OLD"}


FLAWS = {
    "postgresql://u:hunter2@h/d?schema=s": "holds a password",
    "mysql://hunter2": "is not the address of a state",
    "{url: s3://bucket/a, password: hunter2}": "unknown field",
    "{url: s3://bucket/a, region: 'Hunter2 x'}": "this value",
    "{url: s3://bucket/a, url_env: STATE_URL}": "stands beside `url`",
    "{url_env: 'postgres://hunter2'}": "this value",
    "{url_env: DATABASE_URL}": "credential of another service",
    "{url_env: MY_DB}": "not one of a state",
    "{url: gs://bucket/a, endpoint: https://hunter2.example}": "means nothing for a state at gs://",
    "{url: sqlite:///a.db, region: eu}": "means nothing for a state in a file",
    "{url: s3://bucket/a, endpoint: ftp://hunter2.example}": "is not the address of a server",
    "{url: s3://bucket/a, endpoint: http://hunter2.example}": "in clear",
    "{url: s3://bucket/a, password_command: [x]}": "means nothing for a state at s3://",
    "{url: s3://bucket/a, encryption: {}}": "names no key, or two",
    "{url: s3://bucket/a, encryption: {key_env: GITHUB_TOKEN}}": "credential of another service",
    "{url: s3://bucket/a, encryption: {key_command: [echo, hunter2]}}": "seems to hold a secret",
    "{url: s3://b-b/a, encryption: {key_command: [kms, hunter2AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]}}": (
        "seems to hold a secret"
    ),
    "{url: s3://bucket/a, encryption: {key_command: [./key.sh]}}": "by a relative path",
}


@pytest.mark.parametrize("state", FLAWS)
def test_a_flaw_of_a_state_is_told_at_its_line_and_not_quoted(refused: Refused, state: str) -> None:
    [finding] = refused(with_state(state))
    assert FLAWS[state] in str(finding), str(finding)
    assert finding.source.line == 5
    assert finding.hint
    assert "hunter2" not in (str(finding) + str(finding.hint)).lower()


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (OPS, "postgres://bob@DB.internal:5432/ops?schema=qa", "share a state"),
        ("s3://bucket/a", "s3://bucket/a", "share a state"),
        ("s3://bucket/a", "s3://bucket/a/b", "lie one in the other"),
        ("s3://bucket/a/b", "s3://bucket/a", "lie one in the other"),
        ("{url_env: STATE_URL}", "{url_env: STATE_URL}", "share a state"),
    ],
)
def test_two_environments_never_share_a_state_on_another_machine(
    load: Load, refused: Refused, one: str, other: str, message: str
) -> None:
    second = "  b: {api: {url: emulator}, state: "
    [finding] = refused(f"default_environment: b\n{with_state(one)}{second}{_quoted(other)}}}\n")
    assert message in finding.message
    assert finding.source.line == 7
    third = _quoted("s3://bucket/ab" if one.startswith("s3") else "s3://elsewhere/x")
    load(f"default_environment: b\n{with_state(one)}{second}{third}}}\n")


def _quoted(state: str) -> str:
    return state if state.startswith("{") else f"'{state}'"


@pytest.mark.parametrize(
    ("url", "allowed", "expected"),
    [
        ("s3://team/a", "", False),
        ("s3://team/a", "s3://team/a", True),
        ("s3://team/a", "s3://team", True),
        ("s3://team/a", "s3://team/", True),
        ("s3://team/ab", "s3://team/a", False),
        ("s3://team/a", "gs://team", False),
        (OPS, "", False),
        (OPS, "postgresql://db.internal", True),
        (OPS, "postgresql://db.internal:5432/ops", True),
        (OPS, "postgres://bob@db.internal/ops?schema=qa", True),
        (OPS, "postgresql://db.internal/ops?schema=other", False),
        (OPS, "postgresql://db.internal:99/ops", False),
        (OPS, "postgresql://db.internal/op", False),
        (OPS, "postgresql://db", False),
        (f"{OPS}&sslrootcert=system", "postgresql://db.internal", True),
        (f"{OPS}&sslmode=require", "postgresql://db.internal", False),
        (f"{OPS}&sslmode=require", f"{OPS}&sslmode=require", True),
        ("postgresql://localhost/d?schema=s", "", True),
        ("postgresql://localhost/d?schema=s&sslrootcert=x", "", False),
    ],
)
def test_a_state_elsewhere_is_allowed_outside_of_the_checkout(
    load: Load, url: str, allowed: str, expected: bool
) -> None:
    location = load(with_state(f"'{url}'")).environment("local").state
    trust = trust_of({"RECONCILE_ALLOWED_STATES": allowed})
    assert trust.allows_state(location) is expected


def test_a_server_for_states_is_held_to_the_list_of_hosts() -> None:
    location = StateLocation(
        "s3://bucket/a", "local", Path(), endpoint="https://minio.internal:9000"
    )
    states = {"RECONCILE_ALLOWED_STATES": "s3://bucket"}
    assert not trust_of(states).allows_state(location)
    hosts = {"RECONCILE_ALLOWED_HOSTS": "minio.internal:9000"}
    assert not trust_of(hosts).allows_state(location)
    assert trust_of({**states, **hosts}).allows_state(location)
    assert trust_of({}).allows_state(location._replace(endpoint="http://127.0.0.1:9000"))


def test_a_command_is_allowed_as_a_whole() -> None:
    trust = trust_of({"RECONCILE_ALLOWED_COMMANDS": "\n sops -d 'a b' \nvault read x\n"})
    assert trust.allows_command(["sops", "-d", "a b"])
    assert not trust.allows_command(["sops", "-d", "a"])
    assert not Trust().allows_command(["vault"])
