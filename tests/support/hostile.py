"""Hostile texts, and plans with a text in every place that can hold one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    LineAuthor,
    Mode,
    Op,
    Request,
    Scope,
)
from reconciler.errors import Source
from reconciler.reports.view import Links, PlanView
from tests.support.plans import plan_with

SAMPLES = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</code></pre></details><h1>x</h1>",
    "]]></script><script>x</script>",
    "<!-- reconcile:plan:production sha256:" + "0" * 64 + " -->",
    "-->",
    "&lt;b&gt;&#x40;octocat",
    "@octocat @org/team",
    "#1 owner/name#2 GH-3 0123456789abcdef0123456789abcdef01234567 deadbeef",
    "https://evil.example/ www.evil.example ftp://x mailto:a@evil.example a@evil.example",
    "[x](https://evil.example) ![x](https://evil.example/x.png) [x]: https://evil.example",
    "<https://evil.example>",
    "`",
    "``` `` ````",
    "```\n@octocat\n```",
    "~~~",
    "| a | b |\n| - | - |",
    "\\|",
    "\\",
    "*a* _b_ **c** ~~d~~ ==e== :tada: $x$ $$y$$",
    "# heading\n> quote\n- item\n1. one\n---\n===\n+ x",
    "1. x",
    "- [ ] x",
    "> [!CAUTION]",
    "::error::x",
    "  ::set-output name=x::y",
    "::stop-commands::x",
    ":",
    "##[add-mask]x",
    "##vso[task.setvariable variable=x]y",
    "%0A::error::x %25 %3A %2C",
    "a\r\n::warning::b\n##[group]c",
    "\x1b[31mred\x1b]8;;https://evil.example\x07link\x1b]8;;\x07 \x9b31m",
    "\x00\x07\x08\x7f\x85\u2028\u2029",
    "\u202egnp.exe\u202c \u2066x\u2069 \u200b\u200d\ufeff\u00ad",
    "\ud800 \udfff \ue000 \uffff \U0010ffff",
    "{{ 7 * 7 }} {% raw %} ${{ secrets.X }} $(id) `id` ; rm -rf / && x",
    "'\"><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "file.yaml#L1) [x](https://evil.example",
    "../../etc/passwd?x=1&y=<b>",
    "=cmd|' /C calc'!A0",
    "/close /assign @octocat ~label !1 %2 &3 $4",
    "",
    " ",
    "a" * 5000,
    "é" * 300 + "💥",
)  # fmt: skip

PIECES = (*SAMPLES[:-2], *"`|<>&@#:[]()!*_~\\\"'%\n\r\t\x1b\u202e.,;-+=/ ", "a", "deadbeef", "x.y")
LINKS = Links("https://git.example/o/n/blob/abc/", "app/")


def hostile(seed: int) -> Iterator[str]:
    """All samples, then random mixtures of their pieces without end."""
    chance = random.Random(seed)
    yield from SAMPLES
    while True:
        yield "".join(chance.choices(PIECES, k=chance.randint(1, 5)))


def mixed(seed: int) -> Iterator[str]:
    """Samples and random mixtures of their pieces, in no order, without end."""
    chance = random.Random(seed)
    while True:
        yield (
            chance.choice(SAMPLES)
            if chance.random() < 0.3
            else "".join(chance.choices(PIECES, k=chance.randint(1, 5)))
        )


def harmless() -> Iterator[str]:
    """Words that no format has to escape, all different."""
    return (f"word{number}x" for number in count())


def like(texts: Iterator[str]) -> Iterator[str]:
    """Words that no format has to escape, equal where the texts are: equal sentences are said once."""
    words: dict[str, str] = {}
    return (words.setdefault(text, f"word{len(words)}x") for text in texts)


def plan_of(texts: Iterator[str], changes: int) -> tuple[PlanView, list[str]]:
    """A plan with a text in every place that can hold one, and the texts."""
    used: list[str] = []

    def text() -> str:
        used.append(next(texts))
        return used[-1]

    hostile_changes = []
    blame = {}
    for number in range(changes):
        address, name, value, after = text(), text(), text(), text()
        path = f"custom_attributes.{name}"
        headers, body = {"adapty-customer-user-id": text()}, {text(): text()}
        hostile_changes.append(
            Change(
                address,
                list(Action)[number % 5],
                text(),
                (
                    FieldChange(path, Op.SET, value, after, Basis.RECORDED, 3),
                    FieldChange("email", Op.CLEAR, value, None, Basis.UNCERTAIN),
                ),
                (Request("PATCH", "/x", headers, body),),
                (Hazard("link", text()), Hazard("other", text())),
                Source(text(), 1),
                1,
                (text(),),
            )
        )
        blame[address, path] = LineAuthor(text(), text(), "2026-01-01", "")
    plan = plan_with(
        hostile_changes,
        environment=text(),
        mode=Mode.PRUNE,
        lineage=text(),
        serial=1,
        orphans=(text(),),
        unchanged=1,
        hazards=(Hazard("max_changes", text()), Hazard("file_shrank", text(), f"x{text()}", 2)),
        scope=Scope((text(),), (text(),), text()),
    )
    return PlanView.of(plan, blame=blame, links=LINKS), used
