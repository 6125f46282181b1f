"""Access over time: what a file asks for and what an answer shows of an access level, in one form. Pure.

The form is a text, since a field holds one scalar: ``lifetime``, ``until 2027-01-31T00:00:00Z``,
``2027-01-01T00:00:00Z until 2027-01-15T00:00:00Z``, ``lifetime from 2027-01-01T00:00:00Z`` and ``for 30d``.
Access that somebody bought ends with ``, bought in`` and the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, NamedTuple

from reconciler.core.instants import instant_of, instant_text
from reconciler.core.lifetimes import seconds_of

LIFETIME = "lifetime"
TOLERANCE = 1
"""Seconds within which two instants are the same (adapty-api 8.4), rounding included: access that was ended
just now may be known to end so much later."""
_FORM = (
    r"(?:for (?P<span>\w+)|(?:(?P<start>\S+) )?until (?P<end>\S+)"
    r"|lifetime(?: from (?P<lifetime_start>\S+))?)(?:, bought in (?P<store>.+))?"
)
STARTS_AT, EXPIRES_AT, FOR = "starts_at", "expires_at", "for"


@cache
def _form() -> Callable[[str], re.Match[str] | None]:
    """Compiled on first use: most plans are about no access."""
    return re.compile(_FORM, re.DOTALL).fullmatch


class Access(NamedTuple):
    """The access to one level over time. Instants are whole seconds since 1970."""

    start: int | None = None
    """``None``: from any time on."""
    end: int | None = None
    """``None``: for ever, or a span after it is granted."""
    span: str = ""
    """How long it lasts from the time at which it is granted, such as ``30d``."""
    store: str = ""
    """Where it was bought; empty if it was granted."""

    @property
    def text(self) -> str:
        """The one form."""
        if self.span:
            text = f"for {self.span}"
        elif self.end is None:
            text = LIFETIME + (
                f" from {instant_text(self.start)}" if self.start is not None else ""
            )
        else:
            start = f"{instant_text(self.start)} " if self.start is not None else ""
            text = f"{start}until {instant_text(self.end)}"
        return f"{text}, bought in {self.store}" if self.store else text

    def is_over(self, now: float) -> bool:
        """Whether it has ended, or ends before it begins (adapty-api 8.1)."""
        return self.end is not None and (
            self.end <= now or (self.start is not None and self.end <= self.start)
        )

    def is_active(self, now: float) -> bool:
        """Whether it has begun and not ended (adapty-api 8.1)."""
        return not self.is_over(now) and (self.start is None or self.start <= now)

    def begins_later(self, now: float) -> int | None:
        """Its beginning, if that is still to come."""
        return self.start if self.start is not None and self.start > now else None


@lru_cache(maxsize=4096)
def access_of(text: str) -> Access:
    """The access that a text in the one form stands for.

    Raises ValueError for another text.
    """
    match = _form()(text)
    if match is None:
        raise ValueError(text)
    span = match["span"] or ""
    if span:
        seconds_of(span)
    start, end = match["start"] or match["lifetime_start"], match["end"]
    return Access(
        None if start is None else instant_of(start),
        None if end is None else instant_of(end),
        span,
        match["store"] or "",
    )


def declared_access(value: Any) -> Access:
    """The access that a value of a file asks for.

    Raises ValueError for a value that asks for none: see `reconciler.authoring.facets.access_levels`.
    """
    if isinstance(value, str):
        if value == LIFETIME:
            return Access()
        try:
            return Access(end=instant_of(value))
        except ValueError:
            return access_of(value)
    if not isinstance(value, Mapping):
        raise ValueError(value)
    if FOR in value:
        seconds_of(value[FOR])
        return Access(span=value[FOR])
    start, end = value.get(STARTS_AT), value[EXPIRES_AT]
    return Access(
        None if start is None else instant_of(start),
        None if end == LIFETIME else instant_of(end),
    )


class AccessStep(StrEnum):
    """The way from one access to another (adapty-api 8.3)."""

    NOTHING = "nothing"
    GRANT = "grant"
    SHORTEN = "shorten"
    """Revoke at the new end: a grant is never relied on to shorten."""
    SHORTEN_AND_GRANT = "shorten_and_grant"
    """Revoke at the new end, then grant from the new beginning."""
    REVOKE = "revoke"
    """Revoke now."""


def step(present: Access | None, wanted: Access | None, *, now: float) -> AccessStep:
    """The way from the ``present`` access to the ``wanted`` one; ``None`` is no access.

    Access that is wanted until a time which has passed asks for nothing: a file must not break overnight.
    """
    lasts = present is not None and not present.is_over(now + TOLERANCE)
    if wanted is None:
        return AccessStep.REVOKE if lasts else AccessStep.NOTHING
    if wanted.span:
        is_active = lasts and present is not None and present.is_active(now)
        return AccessStep.NOTHING if is_active else AccessStep.GRANT
    if wanted.is_over(now):
        return AccessStep.NOTHING
    if present is None or present.is_over(now):
        return AccessStep.GRANT
    is_shorter = _is_before(wanted.end, present.end)
    begins = [access.begins_later(now) or now for access in (present, wanted)]
    if abs(begins[0] - begins[1]) > TOLERANCE:
        return AccessStep.SHORTEN_AND_GRANT if is_shorter else AccessStep.GRANT
    if _same(present.end, wanted.end):
        return AccessStep.NOTHING
    return AccessStep.SHORTEN if is_shorter else AccessStep.GRANT


def begins_later(present: Access | None, wanted: Access | None, *, now: float) -> bool:
    """Whether the wanted access begins after the present one does, which is to say that a grant of it takes
    away what lies before."""
    if present is None or wanted is None or present.is_over(now):
        return False
    begins = wanted.begins_later(now)
    return begins is not None and begins > (present.begins_later(now) or now) + TOLERANCE


def _same(one: int | None, other: int | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE


def _is_before(end: int | None, other: int | None) -> bool:
    """Whether an end lies before another by more than the tolerance; ``None`` is no end."""
    return end is not None and (other is None or end < other - TOLERANCE)
