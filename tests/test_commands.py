"""Suggested commands: a shell reads each word as it is, and no terminal or build's log obeys one."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.commands import Command, Invocation, arguments, file_argument, quoted
from reconciler.errors import Diagnostic, Message, Quote, ReconcileError, Source, error
from reconciler.values import shown

ROOT = Path(__file__).parent.parent
WORDS = [
    *("", " ", "plain", "a b", "it's", '"', "`id`", "$(id)", "$HOME", "a\\b", "\\", "!!", "~", "*"),
    *("\n", "\t", "\x1b[31m", "\x7f", "\u202e", "é", "日本", "🙂", "\udcff", "-x", "::error::x"),
    *("##[error]", "##vso[task]", "#", "a'\x01b", "\x01f", "\u20281", "--", ";", "&&", "|", "\\'"),
]


def read_by_bash(line: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", f"reconcile() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    return [word.decode("utf-8", "surrogateescape") for word in done.stdout.split(b"\0")[:-1]]


def is_obeyed(line: str) -> bool:
    """Whether a terminal or a build's log could obey something in a line."""
    return bool(re.search(r"[^\x20-\x7e\u00a1-\ud7ff\U0001f000-\U0001ffff]|##(vso)?\[", line))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_reads_the_words_that_were_meant() -> None:
    command = Command(tuple(WORDS))
    line = command.text(Invocation("it's\nmine.yaml", "qa 1", "r", "$w"))
    options = ["--config", "it's\nmine.yaml", "--env", "qa 1", "--run", "r", "--worker", "$w"]
    assert read_by_bash(line) == [*options, *WORDS]
    assert not is_obeyed(line)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.text(
            st.characters(exclude_characters="\0", exclude_categories=["Cs"])
            | st.sampled_from("'\\#[:")
        ),
        min_size=1,
        max_size=20,
    )
)
def test_bash_reads_any_words(words: list[str]) -> None:
    line = Command(tuple(words)).text()
    assert read_by_bash(line) == words
    assert shown(line.replace("\\", "")) == line.replace("\\", "")


def test_plain_words_are_not_quoted() -> None:
    assert quoted("label:qa") == "label:qa"
    assert quoted("profile:3286abd3") == "profile:3286abd3"
    assert Command.of("apply", "a.plan").text() == "reconcile apply a.plan"
    assert Command.of("init", is_global=False).text(Invocation("x", "y")) == "reconcile init"
    assert Command.of("sweep", env="b").text(Invocation(None, "a")) == "reconcile --env b sweep"


def test_names_that_look_like_options_are_arguments() -> None:
    assert file_argument("-x") == "./-x"
    assert file_argument("x/-y") == "x/-y"
    assert arguments(["a", "-b"]) == ("--", "a", "-b")
    assert arguments(["a"]) == ("a",)


def test_the_commands_of_a_message_repeat_the_invocation_and_quotes_stay_in_place() -> None:
    parts = (Quote("a"), " see ", Command.of("plan"), " and ", Quote("b"), Command.of("apply"), ".")
    message = Message.of("x ", Message.of(*parts))
    assert message.text == 'x "a" see `reconcile plan` and "b"`reconcile apply`.'

    after = message.for_invocation(Invocation(None, "qa"))

    assert after.text == ('x "a" see `reconcile --env qa plan` and "b"`reconcile --env qa apply`.')
    assert [after.text[each.start : each.end] for each in after.values] == ['"a"', '"b"']
    assert after.for_invocation(Invocation(None, "other")) == after


def test_errors_and_findings_repeat_the_invocation_once() -> None:
    problem = ReconcileError("no", hint=Message.of("Try ", Command.of("plan"), "."))
    assert problem.hint == "Try `reconcile plan`."
    problem.repeat(Invocation(None, "qa"))
    problem.hint += " More."
    problem.repeat(Invocation(None, "other"))
    assert problem.hint == "Try `reconcile --env qa plan`. More."

    finding = error("a/b", "no", source=Source("f"), hint=Message.of(Command.of("plan"), "."))
    assert finding.hint == "`reconcile plan`."
    assert finding.for_invocation(Invocation("c")).hint == "`reconcile --config c plan`."
    plain: Diagnostic = error("a/b", "no", source=Source("f"), hint="yes")
    assert plain.for_invocation(Invocation("c")) is plain


def test_no_message_spells_a_command_itself() -> None:
    """Texts that belong to no project and no environment, such as help and schemas, may."""
    allowed = {
        "reconciler/cli/examples.py",
        "reconciler/config/template.py",
        "reconciler/core/profile_schema.py",
        "reconciler/testing/pytest_plugin.py",
    }
    spelled = []
    for path in sorted((ROOT / "reconciler").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        spelled += [
            f"{name}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and re.search(
                r"\breconcile (--|init|plan|apply|state|sweep|refresh|show|fmt)", node.value
            )
            and name not in allowed
        ]
    assert spelled == []
