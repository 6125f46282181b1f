"""Changes that are alike: once one was planned and written, others are by filling in their values. Pure.

What becomes of a profile of which nothing is known goes by what it declares, and not by the values that it
declares, unless they are empty or nothing. So one with its values left open is planned by the planner and
written by the writers themselves, and what they make of it tells how they would treat all that are like it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

from reconciler.core.plan import Change, Watcher, line_of
from reconciler.core.profiles import About, Profile
from reconciler.core.records import spelled_scalar
from reconciler.planning.packed import Packed
from reconciler.values import quoted, shown

_MOST = 2048
"""Examples that are kept, at most; what is not like one of them is planned by itself."""
_OPENING, _CLOSING = "\ue000", "\ue001"
"""Around the number of a slot. Nothing else in an example holds them, as all of it is ours."""
_SLOT = re.compile(
    rf'("?)(?:\\ue000|{_OPENING})([0-9]+)(?:\\ue001|{_CLOSING})("?)'  # escaped or not
)
_ADDRESS, _CUSTOMER, _PROFILE, _PLATFORM, _LABELS, _FILE, _LINE, _FIRST = range(8)
"""Slots: those of a profile, then one for each of its values, then one for the line of each."""


def _slot(number: int) -> Any:
    return f"{_OPENING}{number}{_CLOSING}"


class Form:
    """A text with slots."""

    __slots__ = ("_parts", "_pick")

    def __init__(self, parts: list[str], slots: list[int]) -> None:
        """``parts`` are what stands around the slots."""
        self._parts = [""] * (2 * len(slots) + 1)
        self._parts[::2] = parts
        self._pick = itemgetter(*slots)

    @classmethod
    def of(cls, text: str, is_quoted: Callable[[int], bool]) -> Form | None:
        """The form of a text in which slots are quoted, if they ought to be; else there is none: something
        was made of what stands in a slot."""
        slots: list[int] = []
        parts: list[str] = []
        end = 0
        for found in _SLOT.finditer(text):
            slot = int(found[2])
            if not found[1] == found[3] == ('"' if is_quoted(slot) else ""):
                return None
            slots.append(slot)
            parts.append(text[end : found.start()])
            end = found.end()
        return cls([*parts, text[end:]], slots) if len(slots) > 1 else None

    def filled(self, slots: Sequence[str]) -> str:
        parts = self._parts.copy()
        parts[1::2] = self._pick(slots)
        return "".join(parts)


class Example:
    """A change with slots for its values. It stands for all that differ from it in these only."""

    def __init__(self, change: Change, count: int, line: Form) -> None:
        """``count`` values have slots."""
        self.change = change
        self.line = line
        self._values = range(_FIRST, _FIRST + count)
        self._texts: dict[Hashable, Form | None] = {}

    def text(self, write: Callable[[Change], str], how: Hashable) -> Form | None:
        """The form of what ``write`` makes of a change. It is written once for each way (``how``) of
        writing."""
        if how not in self._texts:
            self._texts[how] = Form.of(write(self.change), self._values.__contains__)
        return self._texts[how]


class Alike:
    """A profile that an example stands for."""

    __slots__ = ("_file", "_packed", "_spelled", "example")

    def __init__(self, example: Example, packed: Packed, file: str) -> None:
        self.example = example
        self._packed = packed
        self._file = file
        self._spelled = [*map(spelled_scalar, packed.values)]

    @property
    def address(self) -> str:
        return self._packed.about.address

    def line(self) -> str:
        """The line of its change."""
        packed = self._packed
        about, first = packed.about, packed.line
        return self.example.line.filled(
            [
                spelled_scalar(about.address),
                spelled_scalar(about.customer_user_id),
                spelled_scalar(about.profile_id),
                spelled_scalar(about.platform),
                ",".join(map(spelled_scalar, about.labels)),
                spelled_scalar(self._file),
                str(first),
                *self._spelled,
                *_lines(first, packed.offsets),
            ]
        )

    def text(self, write: Callable[[Change], str], how: Hashable) -> str | None:
        """What ``write`` would make of its change; ``None`` where that cannot be told from the example."""
        form = self.example.text(write, how)
        if form is None:
            return None
        packed, nothing = self._packed, ""
        values = [
            spelled
            if value.__class__ is str and len(spelled) == len(value) + 2 and "##" not in value
            else quoted(value)  # there is more to it than quotes around it
            for spelled, value in zip(self._spelled, packed.values, strict=True)
        ]
        return form.filled(
            [
                shown(packed.about.address),
                *(nothing, nothing, nothing, nothing),
                shown(self._file),
                str(packed.line),
                *values,
            ]
        )


def _lines(first: int, offsets: Sequence[int]) -> Sequence[str]:
    numbers = _numbers()
    try:
        return [numbers[first + offset] for offset in offsets]
    except IndexError:
        return [str(first + offset) for offset in offsets]


@cache
def _numbers() -> Sequence[str]:
    """The numbers of the lines of all but very long files: to spell them takes longer."""
    return [*map(str, range(10_000))]


@runtime_checkable
class AlikeWatcher(Watcher, Protocol):
    """A watcher that need not be shown a change itself."""

    def add_alike(self, alike: Alike) -> bool:
        """Take note of the change of a profile that an example stands for; or say that the change itself has
        to be shown."""
        ...


class Likeness:
    """Finds the example of profiles of which nothing is known."""

    def __init__(self, plan: Callable[[Profile], Change | None]) -> None:
        """``plan`` plans such a profile, or fails to."""
        self._plan = plan
        self._examples: dict[Hashable, Example | None] = {}
        """Nothing where there can be no example."""
        self._met: set[Hashable] = set()
        """What profiles are like of which one was met."""

    def of(self, packed: Packed, file: str) -> Alike | None:
        """A profile from a file with its example, once several were like it."""
        example = self._example(packed)
        return None if example is None else Alike(example, packed, file)

    def _example(self, packed: Packed) -> Example | None:
        about = packed.about
        if packed.files or not about.is_usual or not packed.line:
            return None
        key = (
            packed.paths,
            tuple([1 if value else repr(value) for value in packed.values]),
            about.customer_user_id is None,
            about.profile_id is None,
            about.platform is None,
            not about.labels,
        )
        example = self._examples.get(key)
        if example is None and key not in self._examples:
            if key in self._met:
                example = self._examples[key] = self._made(packed)
            elif len(self._met) < _MOST:
                self._met.add(key)
        return example

    def _made(self, packed: Packed) -> Example | None:
        about, count = packed.about, len(packed.values)
        values = [_slot(_FIRST + at) if value else value for at, value in enumerate(packed.values)]
        open_ = Packed(
            packed.paths,
            values,
            About(
                about.customer_user_id and _slot(_CUSTOMER),
                about.profile_id and _slot(_PROFILE),
                about.platform and _slot(_PLATFORM),
                protect=False,
                labels=[_slot(_LABELS)] if about.labels else (),
                forget=(),
            ),
            packed.offsets,
            packed.files,
            1,
            1,
        ).profile(_slot(_FILE))
        lines = {path: _slot(_FIRST + count + at) for at, path in enumerate(packed.paths)}
        change = self._plan(
            open_._replace(
                address=_slot(_ADDRESS),
                source=open_.source._replace(line=_slot(_LINE)),
                lines=lines,
            )
        )
        if change is None:
            return None
        line = Form.of(line_of(change), range(_FIRST + count).__contains__)
        return None if line is None else Example(change, count, line)
