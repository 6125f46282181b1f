"""The command that explains rules, and what `validate` says with its options."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from reconciler.cli.main import main


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [*words])
    return done.exit_code, done.stdout, done.stderr


def test_a_rule_is_explained_with_its_example() -> None:
    code, out, _ = run("explain", "yaml/duplicate-key")
    assert code == 0
    assert out.startswith("yaml/duplicate-key: a key is there twice\n\nMost YAML tools")
    assert "    first_name: Janet\n" in out


def test_without_a_rule_all_are_listed() -> None:
    _, out, _ = run("explain")
    assert "\n  yaml/tag " in out
    assert "\nhazards\n  existing " in out
    assert "`reconcile explain RULE`" in out


def test_a_hazard_is_explained_as_json() -> None:
    _, out, _ = run("explain", "max_delete", "--format", "json")
    (rule,) = json.loads(out)["rules"]
    assert (rule["rule"], rule["hazard"]) == ("max_delete", True)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("duplicate-key", "Did you mean `reconcile explain yaml/duplicate-key`?"),
        ("yaml/duplicate-keys", "Did you mean `reconcile explain yaml/duplicate-key`?"),
        ("zzz", "List them with `reconcile explain`."),
    ],
)
def test_an_unknown_rule_is_answered_with_the_one_that_was_meant(word: str, hint: str) -> None:
    code, _, err = run("explain", word)
    assert code == 64
    assert err == f"error: there is no rule {word}\n  {hint}\n"
