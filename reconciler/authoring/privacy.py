"""The guard: reports values that look like a real person's data. Pure.

An e-mail address is fine below the domains that are reserved for examples and tests (RFC 2606,
RFC 6761) and below configured ones. A phone number is fine in the ranges that regulators reserve for
fiction. A document may hold other data if it says why in ``meta.contains_personal_data``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.facets.registry import FACET_RULES
from reconciler.authoring.facets.rules import FacetRules
from reconciler.authoring.phrases import name
from reconciler.core.contract import Contract
from reconciler.errors import Diagnostic, Message, Quote, Severity

RESERVED_DOMAINS = (
    *("example", "test", "invalid", "localhost"),
    *("example.com", "example.net", "example.org"),
)
_ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?P<domain>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)\.?"
_RESERVED_NUMBERS = r"""
      \+? 1? [2-9][0-9]{2} 555 01 [0-9]{2}              # North America: 555-0100 to 555-0199
    | \+44 (?: 7700900 [0-9]{3}                         # United Kingdom (Ofcom): mobile
             | 20 79460 [0-9]{3} | 1 [0-9]{2} 4960 [0-9]{3}
             | 1632 960 [0-9]{3} | 8081570 [0-9]{3} | 909 8790 [0-9]{3} | 3069990 [0-9]{3} )
    | \+61 [2378] (?: 5550 | 7010 ) [0-9]{4}            # Australia (ACMA)
    | \+33 (?: 199 00 | 261 91 | 353 01 | 465 71 | 536 49 | 639 98 ) [0-9]{4}   # France (Arcep)
    | \+49 (?: 30 23125 | 69 90009 | 40 66969 | 221 4710 | 89 99998 ) [0-9]{3}  # Germany (BNetzA)
    | \+46 (?: 31 39006 | 40 62804 | 8 465004 ) [0-9]{2}                        # Sweden (PTS)
    | \+353 20 91 [0-9]{5}                              # Ireland (ComReg)
    | \+1234567890                                      # the example of the API's own documents
    """
_NUMBER = re.compile(r"\+[0-9][0-9 ().\-/]{6,22}[0-9]").fullmatch
_PUNCTUATION = str.maketrans("", "", " ().-/")


# Compiled on first use: a plan of unchanged files reads no text.
@cache
def _addresses() -> Callable[[str], Iterator[re.Match[str]]]:
    return re.compile(_ADDRESS).finditer


@cache
def _is_reserved_number() -> Callable[[str], re.Match[str] | None]:
    return re.compile(_RESERVED_NUMBERS, re.VERBOSE).fullmatch


_PHONE: Path = ("phone_number",)
_GUARDED = [rules for rules in FACET_RULES if type(rules).texts is not FacetRules.texts]
_GROUPS = [rules.group for rules in _GUARDED]
"""The members that may hold texts of the user's own."""


class Level(StrEnum):
    """Whether the guard reports nothing, warnings or errors."""

    OFF = "off"
    WARN = "warn"
    ERROR = "error"


class Guard(NamedTuple):
    """The settings of the guard."""

    level: Level = Level.WARN
    domains: tuple[str, ...] = ()
    """Domains that are fine besides the reserved ones, with all below them."""


def personal_data_findings(
    document: Document, contract: Contract, *, guard: Guard
) -> Iterator[Diagnostic]:
    """A finding for each e-mail address and phone number that may be a real person's."""
    if guard.level is Level.OFF:
        return
    value = document.value
    email, phone = value.get("email"), value.get("phone_number")
    says_more = email is not None or phone is not None or any(map(value.get, _GROUPS))
    if not says_more and "@" not in str(value.get("customer_user_id")):
        return
    meta = value.get("meta")
    if isinstance(meta, dict) and meta.get("contains_personal_data"):
        return
    for path, text in _texts(value):
        # Runs for every text of every profile, and most are neither an address nor a number.
        if "@" not in text and path != _PHONE and not text.startswith("+"):
            continue
        suspicion = _suspicion(path, text, guard=guard)
        if suspicion is not None:
            message, hint = suspicion
            severity = Severity.ERROR if guard.level is Level.ERROR else Severity.WARNING
            yield Diagnostic.of(
                severity,
                "personal/real-person",
                message=message,
                source=document.at(path),
                hint=f"{hint} If the file may hold it, say why: meta.contains_personal_data.",
            )


def _texts(value: Any) -> Iterator[tuple[Path, str]]:
    for field in ("customer_user_id", "email", "phone_number"):
        if isinstance(value.get(field), str):
            yield (field,), value[field]
    for rules in _GUARDED:
        if (content := value.get(rules.group)) is not None:
            yield from rules.texts(content)


def _suspicion(path: Path, text: str, *, guard: Guard) -> tuple[Message, str] | None:
    """Message and hint about a text, which never quote it; ``None`` if it cannot be a real person's."""
    if "@" in text:
        for match in _addresses()(text):
            domain = match["domain"].lower()
            if "." in domain and not _is_below(domain, (*RESERVED_DOMAINS, *guard.domains)):
                return (
                    Message.of(_name(path), " looks like the e-mail address of a real person"),
                    "Use a domain such as example.com, or list yours under "
                    "`personal_data.domains` in reconcile.yaml.",
                )
        return None
    is_phone = path == _PHONE
    digits = text.translate(_PUNCTUATION)
    looks = _NUMBER(text) is not None or (is_phone and sum(map(str.isdigit, digits)) >= 7)
    if looks and not _is_reserved_number()(digits):
        return (
            Message.of(_name(path), " looks like the phone number of a real person"),
            "Use one that is reserved for fiction, such as +12025550123.",
        )
    return None


def _name(path: Path) -> Quote:
    return name(".".join(map(str, path)))


@lru_cache(maxsize=1024)
def _is_below(domain: str, domains: tuple[str, ...]) -> bool:
    return domain in domains or domain.endswith(tuple([f".{each}" for each in domains]))
