"""What was allowed outside of the checkout: variables of the environment, and prefixes."""

from __future__ import annotations

import pytest

from reconciler.authoring.variable_names import is_sensitive
from reconciler.config.hosts import Host
from reconciler.config.trust import Trust, is_foreign_key, trust_of
from reconciler.errors import UsageError

ENVIRON = {"QA_NAME": "jane", "QA_EU_CITY": "Oslo", "QA_API_TOKEN": "t0ken", "HOME": "/root"}


def usable(trust: Trust, prefix: str | None, secrets: frozenset[str] = frozenset()) -> set[str]:
    return set(trust.variables(ENVIRON, prefix=prefix, secrets=secrets).values)


def test_at_a_desk_the_prefix_of_the_checkout_holds() -> None:
    assert usable(Trust(), "QA_") == {"QA_NAME", "QA_EU_CITY"}
    assert usable(Trust(), None) == set()


def test_in_a_build_the_prefix_of_the_checkout_alone_allows_nothing() -> None:
    variables = Trust(is_build=True).variables(ENVIRON, prefix="QA_", secrets=())
    assert variables.values == {}
    assert "RECONCILE_ENV_PREFIX" in variables.reason


@pytest.mark.parametrize("is_build", [True, False])
@pytest.mark.parametrize(
    ("outer", "inner", "names"),
    [
        ("QA_", None, {"QA_NAME", "QA_EU_CITY"}),
        ("QA_", "QA_", {"QA_NAME", "QA_EU_CITY"}),
        ("QA_EU_", "QA_", {"QA_EU_CITY"}),
        ("QA_", "QA_EU_", {"QA_EU_CITY"}),
        ("CI_", "QA_", set()),
    ],
)
def test_both_prefixes_must_hold(
    is_build: bool, outer: str, inner: str | None, names: set[str]
) -> None:
    assert usable(Trust(env_prefix=outer, is_build=is_build), inner) == names


def test_a_variable_that_an_environment_names_for_its_key_is_never_usable() -> None:
    assert usable(Trust(), "QA_", frozenset({"QA_NAME"})) == {"QA_EU_CITY"}


@pytest.mark.parametrize(
    "name",
    [
        "QA_KEY", "QA_KEYS", "QA_APIKEY", "QA_API_KEY", "QA_KEY2", "QA_TOKEN", "QA_TOKENS", "QA_AUTHTOKEN",
        "QA_SECRET", "QA_CLIENT_SECRETS", "QA_PASSWORD", "QA_DBPASSWORD", "QA_PASSWD", "QA_PASS", "QA_PWD",
        "QA_CREDENTIALS", "QA_CREDS", "QA_AUTH", "QA_OAUTH_ID", "QA_PRIVATE", "QA_SESSION_ID", "QA_COOKIE",
        "QA_DSN", "QA_CONNECTION_STRING", "QA_CONN_STR", "QA_PAT", "QA_JWT", "QA_PIN", "QA_SECR_ET",
        "qa_token", "AWS_REGION", "RECONCILE_RUN", "LD_LIBRARY_X", "QA_PATH", "PYTHONPATH", "ACTIONS_X",
    ],
)  # fmt: skip
def test_a_name_that_looks_like_that_of_a_secret_is_sensitive(name: str) -> None:
    assert is_sensitive(name)


@pytest.mark.parametrize(
    "name", ["QA_NAME", "QA_DOMAIN", "QA_AUTHOR", "QA_COUNTRY", "QA_PASSENGER", "QA_PATCH", "QA_1"]
)
def test_other_names_are_not_sensitive(name: str) -> None:
    assert not is_sensitive(name)


@pytest.mark.parametrize(
    "name",
    ["GITHUB_TOKEN", "GH_TOKEN", "AWS_SECRET_ACCESS_KEY", "CI_JOB_TOKEN", "NPM_TOKEN", "PATH",
     "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "NODE_AUTH_TOKEN", "github_token", "DATABASE_URL"],
)  # fmt: skip
def test_credentials_of_other_services_are_no_keys(name: str) -> None:
    assert is_foreign_key(name)


@pytest.mark.parametrize(
    "name", ["ADAPTY_SECRET_KEY", "KEY", "CI_KEY", "GITLAB_ADAPTY_KEY", "PROD_KEY"]
)
def test_other_variables_may_hold_the_key(name: str) -> None:
    assert not is_foreign_key(name)


def test_options_win_over_variables() -> None:
    environ = {"RECONCILE_ENV_PREFIX": "QA_", "RECONCILE_ALLOWED_HOSTS": "a.example"}
    assert trust_of(environ).env_prefix == "QA_"
    trust = trust_of(environ, env_prefix="CI_", allowed_hosts="b.example:8443")
    assert (trust.env_prefix, trust.hosts) == ("CI_", (Host("b.example", 8443),))
    assert not trust.all_outside
    assert trust_of({"RECONCILE_ALLOW_OUTSIDE": "True"}).all_outside
    assert not trust_of({"RECONCILE_ALLOW_OUTSIDE": "0"}).all_outside


@pytest.mark.parametrize(
    "environ",
    [
        {"RECONCILE_ALLOW_OUTSIDE": "/srv"},
        {"RECONCILE_ENV_PREFIX": "qa"},
        {"RECONCILE_ENV_PREFIX": "QA"},
        {"RECONCILE_ENV_PREFIX": "_"},
        {"RECONCILE_ALLOWED_HOSTS": "https://a.example"},
    ],
)
def test_a_variable_of_another_form_is_a_usage_error(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        trust_of(environ)
    assert next(iter(environ)) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "environ",
    [{"CI": "true"}, {"CI": "1"}, {"GITHUB_ACTIONS": "true"}, {"GITLAB_CI": "true"}, {"TF_BUILD": "True"},
     {"JENKINS_URL": "https://ci.example"}, {"BUILDKITE": "true"}, {"GITHUB_RUN_ID": "5"}],
)  # fmt: skip
def test_a_build_is_known_by_its_variables(environ: dict[str, str]) -> None:
    assert trust_of(environ).is_build


@pytest.mark.parametrize("environ", [{}, {"CI": ""}, {"CI": "false"}, {"CI": "0"}])
def test_a_desk_is_no_build(environ: dict[str, str]) -> None:
    assert not trust_of(environ).is_build
