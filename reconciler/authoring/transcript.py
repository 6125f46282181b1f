"""What the API tells of a profile → the text of a file that declares it. Pure.

An answer is untrusted: it may hold what no file can declare, such as a text that is too long or has a control
character. Such a field becomes a comment. Whatever is written was read again first, and gave equal values.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document
from reconciler.authoring.yaml_writer import document_yaml
from reconciler.core.contract import Contract
from reconciler.core.facets.registry import FACETS, READABLE, facet_of
from reconciler.core.profiles import PROFILE_PREFIX, Profile
from reconciler.core.transitions import Observed
from reconciler.errors import Diagnostic, Source
from reconciler.values import FieldPath, Json, Scalar, same, shown

_WIDTH = 100
"""Characters of a line of a comment, so far as there are blanks."""
_LONGEST_NAME = 255
"""Bytes of the name of a file."""
_ENDING = ".yaml"
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE).match
"""Names that Windows gives to devices, whatever their ending."""
_ENCODED = re.compile(r"[^A-Za-z0-9._-]")
_LARGEST_EXACT = 1 << 53


class TextReading(NamedTuple):
    """What a reader makes of the text of a file."""

    profile: Profile | None
    """``None`` if a finding is an error."""
    findings: Sequence[Diagnostic]


class Transcript(NamedTuple):
    """A profile of the API as a file declares it."""

    text: str
    reading: TextReading
    omitted: Mapping[FieldPath, str]
    """Why a field that the API tells is not declared."""
    declared: Collection[FieldPath]
    """The fields that the text declares."""


def file_name(address: str, *, is_distinct: bool = False) -> str:
    """The name of the file of a profile: its address, percent-encoded. It hides no file, is none of the
    program's own, and fits in a folder. ``is_distinct`` adds a digest of the address, for names that differ
    in nothing but capitals, which many file systems take for one."""
    name = _ENCODED.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), address)
    if name[:1] in {".", "_"} or _DEVICES(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if is_distinct or len(name) + len(_ENDING) > _LONGEST_NAME:
        mark = f"~{sha256(address.encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"
        cut = name[: _LONGEST_NAME - len(_ENDING) - len(mark)]
        name = re.sub(r"%[0-9A-F]?$", "", cut) + mark
    return name + _ENDING


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def identifiers(address: str) -> dict[str, Json]:
    """The member of a file that names a profile."""
    if address.startswith(PROFILE_PREFIX):
        return {"profile_id": address.removeprefix(PROFILE_PREFIX)}
    return {"customer_user_id": address}


def transcribe(
    observed: Observed,
    *,
    address: str,
    contract: Contract,
    read: Callable[[str], TextReading],
    now: float,
) -> Transcript:
    """The file of a profile that the API shows. ``read`` reads a text as the file would be read, and ``now``
    is Unix time in seconds.

    The profile of the result is ``None`` if not even the identifiers can be declared.
    """
    ids = identifiers(address)
    omitted: dict[FieldPath, str] = {}
    values: dict[FieldPath, Scalar] = {}
    for path, value in sorted(observed.values.items()):
        if reason := facet_of(path).undeclarable(value, now=now):
            omitted[path] = reason
        else:
            values[path] = value
    head = _head(observed, address=address, contract=contract)

    def attempt(paths: Collection[FieldPath]) -> tuple[str, TextReading, str]:
        """The text with some of the fields, what is read of it, and why it does not do."""
        kept = {path: values[path] for path in values if path in paths}
        body = document_yaml(Document({**ids, **_members(kept)}, Source(""), {}))
        text = "".join([*_comments([*head, *_omissions(omitted)]), body])
        reading = read(text)
        return text, reading, _flaw(reading, kept)

    text, reading, flaw = attempt(values)
    if flaw:
        for path in tuple(values):
            if reason := attempt({path})[2]:
                omitted[path] = f"a file cannot declare it: {reason}"
                del values[path]
        text, reading, flaw = attempt(values)
    if flaw:  # each by itself can be declared, but not all of them
        paths = tuple(values)
        fits, too_many = 0, len(paths)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if attempt({*paths[:middle]})[2]:
                too_many = middle
            else:
                fits = middle
        for path in paths[fits:]:
            omitted[path] = f"a file cannot declare it: {flaw}"
            del values[path]
        text, reading, flaw = attempt(values)
    reading = reading if not flaw else reading._replace(profile=None)
    return Transcript(text, reading, omitted, tuple(values))


def _members(values: Mapping[FieldPath, Scalar]) -> dict[str, Json]:
    """The members of a file that declare some values, in the order of the facets."""
    members: dict[str, Json] = {}
    for facet in FACETS:
        by_key = facet.by_key(values)
        if by_key:
            members[facet.group] = {
                key: _whole(facet.declared(by_key[key])) for key in sorted(by_key)
            }
    return members


def _whole(value: Any) -> Json:
    """A value as a person writes it: a whole number without a point."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT
    result: Json = int(value) if is_whole else value
    return result


def _flaw(reading: TextReading, wanted: Mapping[FieldPath, Scalar]) -> str:
    """Why a text does not declare what was wanted; empty if it does."""
    if reading.profile is None:
        errors = [finding for finding in reading.findings if finding.is_error]
        return shown(errors[0].message) if errors else "it cannot be read again"
    values = reading.profile.values
    if all(path in values and same(values[path], value) for path, value in wanted.items()):
        return ""
    return "it would be read as something else"


def _head(observed: Observed, *, address: str, contract: Contract) -> list[str]:
    """What a reader of the file has to know of its origin."""
    lines = ["Imported: this file declares what the API told of the profile."]
    unread = [facet for facet in FACETS if not observed.shows(facet.prefix)]
    never = [
        name for facet in unread if facet not in READABLE for name in facet.properties(contract)
    ]
    lines.append(f"The API tells nothing of {', '.join(never)}.")
    if unasked := [facet.group for facet in unread if facet in READABLE]:
        lines.append(f"It was not asked for {', '.join(unasked)} (option --with).")
    if observed.customer_user_id not in (None, address):
        lines.append(f"Its customer id is {shown(str(observed.customer_user_id))}.")
    return lines


def _omissions(omitted: Mapping[FieldPath, str]) -> list[str]:
    return [f"Not declared: {shown(path)}: {reason}." for path, reason in sorted(omitted.items())]


def _comments(lines: Sequence[str]) -> list[str]:
    """Lines of comments. Their texts are safe to print, so each stays a comment."""
    out = []
    for line in lines:
        wrapped = textwrap.wrap(
            line, _WIDTH - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        out += [f"# {part}\n" for part in wrapped]
    return out
