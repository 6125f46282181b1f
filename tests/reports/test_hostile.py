"""Whatever stands in values, keys, file names, git and the API's words stays text in every format.

Plans full of hostile text are rendered and parsed back: by a CommonMark parser with GitHub's links and
tables, by an HTML parser, by the rules of workflow commands, by XML and JSON parsers. What is found must
be what a plan of harmless text of the same shape has.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reconciler.core.outcomes import Outcome, Result
from reconciler.core.plan import (
    Action,
)
from reconciler.errors import Diagnostic, Severity, Source
from reconciler.reports import ci, markdown
from reconciler.reports import html as page
from reconciler.reports.findings_text import diagnostics_text, group_findings
from reconciler.reports.json import change_event, diagnostics_json, plan_json
from reconciler.reports.plan_text import plan_text
from reconciler.reports.text import result_line
from reconciler.values import shown
from tests.support.hostile import LINKS, hostile, like, plan_of

PARSER = MarkdownIt("gfm-like").enable("linkify")
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ue000]"
)


def findings_of(texts: Iterator[str], number: int) -> list[Diagnostic]:
    return [
        Diagnostic(
            Severity.ERROR if index % 2 else Severity.WARNING,
            "profile/value",
            next(texts),
            Source(next(texts), index % 3, index % 2),
            next(texts),
        )
        for index in range(number)
    ]


CHANGES = 20
BATCHES = range(25)
"""Each makes some 290 texts of a plan in 4 formats, 180 of findings in 6, 240 of outcomes in 2 and 140 of
annotations: more than 50,000 in all."""


# --- Markdown ------------------------------------------------------------------------------------


def flat(text: str) -> list[Token]:
    found: list[Token] = []
    for token in PARSER.parse(text):
        found.append(token)
        found += token.children or []
    return found


def skeleton(tokens: list[Token]) -> Counter[tuple[str, str]]:
    """What stands in the document; texts, code spans and links are looked at apart."""
    plain = (
        "text",
        "code_inline",
        "inline",
        "text_special",
        "softbreak",
        "link_open",
        "link_close",
    )
    return Counter((token.type, token.tag) for token in tokens if token.type not in plain)


LIVE = re.compile(r"[@#<>`\[\]|\\]|://|www\.|\b[0-9a-f]{7,40}\b|:\w+:|\b[A-Z]+-\d")


def live(tokens: list[Token]) -> list[str]:
    """Texts outside of code in which GitHub or GitLab would find something."""
    return [
        token.content
        for token in tokens
        if token.type == "text"
        and LIVE.search(token.content)
        and not token.content.startswith("[!")
    ]


def addresses(tokens: list[Token]) -> list[str]:
    return [
        str(value)
        for token in tokens
        for name, value in token.attrItems()
        if name in ("href", "src")
    ]


@pytest.mark.parametrize("seed", BATCHES)
def test_hostile_text_adds_no_markup_to_a_comment(seed: int) -> None:
    view, _ = plan_of(hostile(seed), CHANGES)
    tame, _ = plan_of(like(hostile(seed)), CHANGES)
    options: dict[str, Any] = {"limit": 1 << 24, "show_requests": True}
    tokens = flat(markdown.plan_markdown(view, **options))
    expected = flat(markdown.plan_markdown(tame, **options))
    assert skeleton(tokens) == skeleton(expected)
    assert live(tokens) == []
    ours = [link for c in view.changes for link in (c.link, *(f.link for f in c.fields)) if link]
    assert sorted(addresses(tokens)) == sorted(ours)
    assert all(
        re.fullmatch(r"https://git\.example/o/n/blob/abc/app/[\w.~/%-]*#L\d", link) for link in ours
    )
    assert not UNSAFE.search(markdown.plan_markdown(view, **options))
    spans = {token.content for token in tokens if token.type == "code_inline"}
    told = [shown(change.address) for change in view.plan.changes if change.address.strip()]
    assert [text for text in told if len(text) <= 100 and text not in spans] == []


@pytest.mark.parametrize("seed", BATCHES)
def test_hostile_findings_add_no_markup_to_a_comment(seed: int) -> None:
    tokens = flat(
        markdown.diagnostics_markdown(
            findings_of(hostile(seed), 60), environment="x", links=LINKS, limit=1 << 24
        )
    )
    expected = flat(
        markdown.diagnostics_markdown(
            findings_of(like(hostile(seed)), 60), environment="x", links=LINKS
        )
    )
    breaks = ("html_inline", "")
    found, tame = skeleton(tokens), skeleton(expected)
    assert found.pop(breaks, 0) <= tame.pop(breaks)  # a hint may be empty
    assert found == tame
    assert live(tokens) == []
    ordered = sorted(
        findings_of(hostile(seed), 60), key=lambda item: (not item.is_error, item.sort_key())
    )
    ours = [LINKS.to(each.finding.source) for each in group_findings(ordered)]
    assert sorted(addresses(tokens)) == sorted(link for link in ours if link)


# --- HTML ----------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The tags of a page with their attributes' names, and the texts of its JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.inside = ""
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag, tuple(name for name, _ in attrs)] += 1
        self.inside = tag if ("id", "data") in attrs else ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.data += data


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


@pytest.mark.parametrize("seed", BATCHES)
def test_hostile_text_adds_no_element_to_a_page(seed: int) -> None:
    view, _ = plan_of(hostile(seed), CHANGES)
    tame, _ = plan_of(like(hostile(seed)), CHANGES)
    text = page.plan_html(view)
    parsed = elements(text)
    assert parsed.found == elements(page.plan_html(tame)).found
    assert not UNSAFE.search(text)
    told = [change["address"] for change in json.loads(parsed.data)["changes"]]
    assert told == [shown(change.address) for change in view.plan.changes]


# --- terminal and log ----------------------------------------------------------------------------


def commands(text: str) -> list[str]:
    """What GitHub or Azure would obey in a log."""
    return [
        line
        for line in re.split(r"[\r\n\v\f\x85\u2028\u2029]", text)
        if line.strip().startswith("::") or re.search(r"##(vso)?\[", line, re.IGNORECASE)
    ]


@pytest.mark.parametrize("seed", BATCHES)
def test_hostile_text_cannot_steer_a_terminal_or_a_log(seed: int) -> None:
    view, _ = plan_of(hostile(seed), CHANGES)
    tame, _ = plan_of(like(hostile(seed)), CHANGES)
    found = findings_of(hostile(seed), 60)
    texts = hostile(seed)
    results = [
        Result(next(texts), Action.UPDATE, Outcome.FAILED, next(texts), next(texts), (next(texts),))
        for _ in range(60)
    ]
    outputs = [
        plan_text(view, color=False, show_requests=True),
        plan_json(view),
        diagnostics_text(found, color=False),
        diagnostics_json(found),
        *(result_line(result, color=False) for result in results),
        *(change_event(result) for result in results),
        ci.plan_gitlab(view),
        ci.diagnostics_gitlab(found),
        ci.diagnostics_sarif(found, version="1"),
    ]
    for output in outputs:
        assert commands(output) == []
        assert not UNSAFE.search(output)
    lines = outputs[0].count("\n")
    assert lines == plan_text(tame, color=False, show_requests=True).count("\n")
    read = json.loads(outputs[1])
    assert [change["address"] for change in read["changes"]] == [
        change.address for change in view.plan.changes
    ]


# --- workflow commands ---------------------------------------------------------------------------

COMMAND = re.compile(r"::(error|warning|notice) ([^:\r\n]*)::([^\r\n]*)").fullmatch
PROPERTY = re.compile(r"(file|line|col|title)=([^,:\r\n]*)").fullmatch


@pytest.mark.parametrize("seed", BATCHES)
def test_annotations_hold_hostile_text_as_data(seed: int) -> None:
    view, _ = plan_of(hostile(seed), 8)
    tame, _ = plan_of(like(hostile(seed)), 8)
    output = ci.plan_annotations(view).splitlines()
    assert len(output) == len(ci.plan_annotations(tame).splitlines())
    lines = [line for line in output if not line.startswith("reconcile: ")]
    assert output[: len(lines)] == lines
    found = findings_of(hostile(seed), 18)
    *more, _ = ci.diagnostics_annotations(found).splitlines()
    assert len(more) == 18
    for line in [*lines, *more]:
        command = COMMAND(line)
        assert command is not None, line
        assert all(PROPERTY(part) for part in command[2].split(",")), line
        assert not UNSAFE.search(line)
        assert not re.search(r"##(vso)?\[", line, re.IGNORECASE)
    files = {
        unquote(part[5:])
        for line in more
        for part in line.split("::")[1].split(",")
        if "file=" in part
    }
    assert any(shown(item.source.file) in file for item in found for file in files)


# --- reports of builds ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", BATCHES)
def test_junit_holds_hostile_text_as_data(seed: int) -> None:
    found = findings_of(hostile(seed), 60)
    suite = ElementTree.fromstring(ci.diagnostics_junit(found, documents=60))
    names = {case.get("name") for case in suite}
    assert names == {shown(item.source.file) for item in found} | {"60 documents read"}
    assert {element.tag for element in suite.iter()} == {
        "testsuite",
        "testcase",
        "failure",
        "system-out",
    }


@pytest.mark.parametrize("seed", BATCHES)
def test_reports_for_gitlab_and_code_scanning_hold_hostile_text_as_data(seed: int) -> None:
    found = findings_of(hostile(seed), 60)
    issues = json.loads(ci.diagnostics_gitlab(found))
    assert [issue["location"]["path"] for issue in issues] == [
        shown(item.source.file) for item in found
    ]
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    results = json.loads(ci.diagnostics_sarif(found, version="1"))["runs"][0]["results"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results]
    assert all(re.fullmatch(r"[\w.~/%-]*", uri, re.ASCII) for uri in uris)
