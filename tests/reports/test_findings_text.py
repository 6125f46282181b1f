"""Findings as text: grouped, and with the lines that they are about."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.commands import Invocation
from reconciler.errors import Message, Quote, QuotedValue, Source, error, warning
from reconciler.reports.findings_text import diagnostics_text, excerpt_of

ODD = "is odd"


def marked(line: str, column: int, *, value: str = "", width: int = 80) -> str:
    """An excerpt with its mark below."""
    values = [QuotedValue(0, len(value), value)] if value else []
    excerpt = excerpt_of(line, column, values=values, width=width)
    return f"{excerpt.text}\n{' ' * excerpt.before}{'^' * excerpt.marked}"


def test_findings_in_full() -> None:
    findings = [
        error("profile/type", "it is wrong", source=Source("a.yaml", 1, 8), hint="mend it"),
        warning("profile/suspicious", "odd", source=Source("b.yaml")),
    ]
    text = diagnostics_text(findings, color=False, excerpts=lambda source: "name: [Jane]")
    assert text == (
        "a.yaml:1:8: error: it is wrong [profile/type]\n"
        "  1 | name: [Jane]\n"
        "    |        ^^^^\n"
        "  mend it\n"
        "b.yaml: warning: odd [profile/suspicious]\n"
        "1 error, 1 warning.\n"
    )


def test_warnings_that_are_alike_are_listed_once_with_their_number() -> None:
    findings = [
        warning("a/w", Message.of(Quote(f"v{n}"), ODD), source=Source(f"a{n}.yaml", 1))
        for n in range(3_000)
    ]
    text = diagnostics_text(findings, color=False, invocation=Invocation(env="qa"))
    assert text == (
        'a0.yaml:1: warning: "v0"is odd [a/w]\n'
        "  and 2,999 more\n"
        "3,000 warnings.\n"
        "`reconcile --env qa validate --all` lists all of them.\n"
    )
    assert len(diagnostics_text(findings, color=False, everything=True).splitlines()) == 3_001


def test_errors_are_listed_up_to_twenty_that_are_alike() -> None:
    findings = [error("a/e", "wrong", source=Source(f"b{n}.yaml", 1)) for n in range(25)]
    findings.append(error("a/e", "worse", source=Source("c.yaml", 1)))
    lines = diagnostics_text(findings, color=False).splitlines()
    assert lines[19:] == [
        "b19.yaml:1: error: wrong [a/e]",
        "  and 5 more",
        "c.yaml:1: error: worse [a/e]",
        "26 errors.",
        "`reconcile validate --all` lists all of them.",
    ]


def test_of_very_many_findings_the_errors_are_listed_first() -> None:
    warnings = [warning(f"a/w{n}", "odd", source=Source("a.yaml", n + 1)) for n in range(1_200)]
    errors = [error(f"a/e{n}", "wrong", source=Source("b.yaml", n + 1)) for n in range(600)]
    lines = diagnostics_text([*warnings, *errors], color=False).splitlines()
    assert lines[0] == "b.yaml:1: error: wrong [a/e0]"
    assert lines[999] == "a.yaml:400: warning: odd [a/w399]"
    assert lines[1_000:1_002] == ["and 800 more", "600 errors, 1,200 warnings."]


def test_at_a_terminal_the_rule_in_full_is_suggested() -> None:
    findings = [error("yaml/tag", "no", source=Source("b.yaml", 1))]
    text = diagnostics_text(findings, color=False, width=80)
    assert text.endswith("`reconcile explain yaml/tag` says more about that rule.\n")


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [
        ("first_name: Jane", 13, "first_name: Jane\n            ^^^^"),
        ("\ttier: gold", 2, "    tier: gold\n    ^^^^"),
        ("name: \u5c71\u7530 x", 10, "name: \u5c71\u7530 x\n           ^"),
        ("name: \u5c71\u7530 x", 7, "name: \u5c71\u7530 x\n      ^^^^"),
        ("name: Zoe\u0301 x", 12, "name: Zoe\u0301 x\n          ^"),
        ('name: "Jane \\"Doe"', 7, 'name: "Jane \\\\"Doe"\n      ^^^^^^^^^^^^^'),
        ("name: a\x1b[31mb", 7, "name: a\\x1b\n"),
        ("name:", 6, "name:\n     ^"),
        ("name: Jane", 99, "name: Jane\n"),
        ("name: Jane", 0, "name: Jane\n"),
    ],
)
def test_the_mark_stands_below_what_the_finding_is_about(
    line: str, column: int, expected: str
) -> None:
    if "\x1b" in line:
        assert marked(line, column).startswith("name: a\\x1b[31mb\n      ^")
    else:
        assert marked(line, column) == expected


def test_a_quoted_value_is_marked_whole() -> None:
    assert marked("name: Jane Doe # x", 7, value="Jane Doe") == "name: Jane Doe # x\n      ^^^^^^^^"


def test_a_long_line_is_cut_around_its_mark() -> None:
    line = "a" * 500 + " NO " + "b" * 500
    text, mark = marked(line, 502, width=40).split("\n")
    assert (len(text), text[0], text[-1]) == (40, "…", "…")
    assert text[mark.index("^") : mark.rindex("^") + 1] == "NO"
    assert marked("a" * 200, 1, width=30) == "a" * 28 + "…\n" + "^" * 28


HOSTILE = st.text(
    alphabet=st.sampled_from("\x1b\x9b\r\x00\u202e\u200b\u2028\ud800\t:#[ a\u5c71\u0301"),
    max_size=60,
)
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800]|##\\[")


@given(HOSTILE, st.integers(0, 70), st.integers(30, 60))
def test_a_line_of_a_file_cannot_steer_the_terminal(line: str, column: int, width: int) -> None:
    excerpt = excerpt_of(line, column, width=width)
    assert not UNSAFE.search(excerpt.text)
    assert excerpt.before + excerpt.marked <= 10 * width
