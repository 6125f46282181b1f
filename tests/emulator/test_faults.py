"""The syntax of faults: texts that are faults, texts that are not, and the document about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.emulator import (
    End,
    Fault,
    FaultKind,
    parse_fault,
)
from reconciler.emulator.faults import BODIES, CONDITIONS, FAULT_SYNTAX, FRAMINGS
from reconciler.errors import UsageError

DOCS = (Path(__file__).parent.parent.parent / "docs" / "emulator.md").read_text("utf-8")


MENU = DOCS.partition("### The menu")[2].partition("### From Python")[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("latency=0.1", Fault(kind=FaultKind.LATENCY, seconds=0.1)),
        ("latency=0.1:jitter=0.05", Fault(kind=FaultKind.LATENCY, seconds=0.1, jitter=0.05)),
        ("status=503:rate=0.1", Fault(kind=FaultKind.STATUS, status=503, rate=0.1)),
        (
            "429:retry-after=1:every=5",
            Fault(kind=FaultKind.STATUS, status=429, retry_after="1", every=5),
        ),
        (
            '429:retry-after="Sun, 06 Nov 1994 08:49:37 GMT"',
            Fault(kind=FaultKind.STATUS, status=429, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
        ),
        ("reset-before:times=1", Fault(kind=FaultKind.RESET_BEFORE, times=1)),
        ("reset-after:method=PATCH", Fault(kind=FaultKind.RESET_AFTER, method="PATCH")),
        ("late=5:answer=504", Fault(kind=FaultKind.LATE, seconds=5, text="504")),
        ("clock=-60", Fault(kind=FaultKind.CLOCK, size=-60)),
        ("stall-after", Fault(kind=FaultKind.STALL_AFTER, seconds=float("inf"))),
        (
            'redirect=307:to="http://127.0.0.1:9/x"',
            Fault(kind=FaultKind.REDIRECT, status=307, text="http://127.0.0.1:9/x"),
        ),
        ("truncate=-1:end=reset", Fault(kind=FaultKind.TRUNCATE, text="-1", end=End.RESET)),
        ("drip=20:part=body", Fault(kind=FaultKind.DRIP, speed=20, part="body")),
        (
            "body=html:status=502:effect=no:address=qa-*:after=3:between=1.5-",
            Fault(
                kind=FaultKind.BODY,
                text="html",
                status=502,
                effect=False,
                address="qa-*",
                after=3,
                between=(1.5, float("inf")),
            ),
        ),
    ],
)
def test_a_fault_is_read_and_written(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no ''"),
        ("chaos", "there is no 'chaos' among latency, lag"),
        ("latncy=1", "there is no 'latncy'; latency?"),
        ("latency", "latency needs a value: seconds"),
        ("latency=-1", "latency must be seconds"),
        ("latency=nan", "latency must be seconds"),
        ("latency=inf", "latency must be seconds"),
        ("status=200", "status must be a status from 201 to 599"),
        ("status=x", "status must be"),
        ("999", "status must be"),
        ("503=1", "there is no '503'"),
        ("503:rate=2", "rate must be a probability"),
        ("503:rate=nan", "rate must be"),
        ("503:every=0", "every must be a whole number"),
        ("503:times=0", "times must be"),
        ("503:times=1:times=2", "times is there twice"),
        ("503:method=PUT", "method must be one of GET"),
        ("503:colour=1", "status has no option 'colour'"),
        ("503:between=5", "between must be seconds, like 5-20"),
        ("503:between=5-5", "between must be"),
        ("503:", "status has no option ''"),
        ("503:retry-after=1\r\nX: y", "retry-after must be text"),
        ("503:retry-after=", "retry-after must be text"),
        ("latency=1:retry-after=1", "latency has no option 'retry-after'"),
        ("reset-before=1", "reset-before takes no value"),
        ("redirect=304", "redirect must be one of 301"),
        ("redirect=302:to=http://x/", "a value with a colon needs double quotes"),
        ("body=htlm", "body must be one of html"),
        ("length=0", "length must be how many bytes"),
        ("truncate=middle", "truncate must be bytes kept"),
        ("truncate=1:end=explode", "end must be keep, close or reset"),
        ("drip=0", "drip must be bytes a second"),
        ("late=1:answer=200", "answer must be a status from 300 to 599, or none"),
        ("503:" + "x" * 3000, "it is too long"),
    ],
)
def test_a_bad_fault_is_a_usage_error_that_says_why(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fault(text)
    assert "is not a fault" in caught.value.message
    assert why in caught.value.message
    assert "docs/emulator.md" in caught.value.hint


@given(st.text(max_size=40))
def test_any_text_is_a_fault_or_a_usage_error(text: str) -> None:
    try:
        fault = parse_fault(text)
    except UsageError:
        return
    assert parse_fault(str(fault)) == fault


def test_the_document_names_every_fault_option_body_and_framing() -> None:
    words = {word for text in re.findall(r"`([^`\n]+)`", MENU) for word in re.split("[=:]", text)}
    options = {each.name for syntax in FAULT_SYNTAX.values() for each in syntax.options}
    conditions = {each.name for each in CONDITIONS}
    names = {*map(str, FaultKind), *options, *conditions, *BODIES, *FRAMINGS}
    assert names - words == set()


def test_every_fault_in_the_document_can_be_read() -> None:
    first_cells = re.findall(r"^\| (`.+?`) \|", MENU, re.MULTILINE)
    texts = [text for cell in first_cells for text in re.findall(r"`([a-z0-9-]+=[^`]+)`", cell)]
    texts += re.findall(r"--fault '?([a-z0-9][^' `\n]+)'?", DOCS)
    assert len(texts) > 35
    for text in texts:
        parse_fault(text)
