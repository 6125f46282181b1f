"""The findings of the strict YAML reader about a file, in a person's words. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from itertools import islice

from reconciler.authoring.documents import Place
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.walk import MAX_FILE, TOO_LARGE
from reconciler.authoring.yaml_scalars import INVISIBLE, is_visible, read_elsewhere
from reconciler.errors import Diagnostic, Message, Quote, Source, error, warning

MAX_DEPTH = 16
"""Nested collections in a document, the root mapping included."""
MAX_NODES = 20_000
"""Keys, scalars and collections in a document, aliases expanded."""
MAX_ALIASED = 1_000_000
"""Keys, scalars and collections that the aliases of a file stand for."""
MAX_SCALAR = 64 * 1024
"""Bytes of one scalar, in UTF-8."""
MAX_FINDINGS = 20
"""Invisible characters reported one by one in a file; the last one says how many there were."""


class Stop(Exception):
    """The rest of the file cannot be read; a diagnostic says why."""


class YamlFindings:
    """Collects the findings about one file."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file = file
        self._data = data
        self._findings = LimitedFindings()

    @property
    def diagnostics(self) -> list[Diagnostic]:
        return self._findings.listed()

    def error(
        self, rule: str, message: str | Message, *, place: Place, hint: str | Message = ""
    ) -> None:
        source = Source(self.file, *place)
        self._findings.add(error(rule, message, source=source, hint=hint))

    def _is_only_counted(self, rule: str) -> bool:
        """Whether so many findings of a rule are listed that another one is only counted; counts it."""
        is_full = self._findings.is_full(self.file, rule)
        if is_full:
            self._findings.count(self.file, rule)
        return is_full

    @cached_property
    def _has_conflict_markers(self) -> bool:
        return _CONFLICT(self._data) is not None

    def stop(self, rule: str, message: str, *, place: Place, hint: str) -> Stop:
        self.error(rule, message, place=place, hint=hint)
        return Stop()

    # -- before parsing --

    def are_text(self, data: bytes) -> bool:
        """Whether the bytes are text that can be parsed: size, encoding, characters."""
        if len(data) > MAX_FILE:
            self.error(
                "file/too-large", TOO_LARGE, place=(0, 0), hint="Split it into several files."
            )
            return False
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as problem:
            place = _place(data[: problem.start].decode("utf-8"))
            self._encoding(_utf_16_or_32(data), place)
            return False
        if "\0" in text[:4] and (guess := _utf_16_or_32(data)):
            self._encoding(guess, (1, 1))
            return False
        text = text.removeprefix("\ufeff")
        if not is_visible(text):
            self._invisible(text)
            return False
        return True

    def _encoding(self, guess: str, place: Place) -> None:
        message = f"the file looks like {guess}" if guess else "the file is not UTF-8"
        self.error(
            "file/encoding", f"{message}; only UTF-8 is read", place=place, hint="Save it as UTF-8."
        )

    def _invisible(self, text: str) -> None:
        matches = INVISIBLE.finditer(text)
        for number, match in enumerate(islice(matches, MAX_FINDINGS), 1):
            more = sum(1 for _ in matches) if number == MAX_FINDINGS else 0
            rest = f"; and {more} more like it" if more else ""
            self.error(
                "yaml/invisible-character",
                f"{_named(match.group())} is not allowed{rest}",
                place=_place(text[: match.start()]),
                hint="Delete it: it is invisible, or changes how the text around it reads.",
            )

    # -- documents --

    def empty_document(self, place: Place) -> None:
        self.error(
            "yaml/empty-document",
            "this document is empty",
            place=place,
            hint="Remove its `---`, or write the profile that belongs here.",
        )

    def no_document(self) -> None:
        self.error(
            "file/empty",
            "the file holds no document",
            place=(0, 0),
            hint="Write a profile into it, or delete the file: an empty file is never read as "
            "a wish to delete.",
        )

    def not_a_mapping(self, kind: str, *, place: Place) -> None:
        """The root of a document is of another kind: ``a list``."""
        if self._is_only_counted("yaml/not-a-mapping"):
            return
        data = self._data
        hint = "Write `key: value` lines; separate several profiles with `---` lines."
        if data.startswith(b"version https://git-lfs"):
            hint = "This is a Git LFS pointer, not the file: run `git lfs pull`."
        elif self._has_conflict_markers:
            hint = _RESOLVE
        elif data.startswith(b"$ANSIBLE_VAULT"):
            hint = "This file is encrypted with Ansible Vault; only plain files are read."
        self.error(
            "yaml/not-a-mapping",
            f"a document must be a mapping, found {kind}",
            place=place,
            hint=hint,
        )

    def too_deep(self, place: Place) -> Stop:
        return self.stop(
            "yaml/too-deep",
            f"collections are nested more than {MAX_DEPTH} levels deep",
            place=place,
            hint="No profile needs this; the rest of the file was not read.",
        )

    def too_many_aliased(self, place: Place) -> Stop:
        return self.stop(
            "yaml/too-many-nodes",
            f"the aliases of this file stand for more than {MAX_ALIASED:,} keys and values",
            place=place,
            hint="Split the file; the rest of it was not read.",
        )

    def too_many(self, place: Place) -> Stop:
        return self.stop(
            "yaml/too-many-nodes",
            f"the document has more than {MAX_NODES:,} keys and values, aliases expanded",
            place=place,
            hint="Split it into several documents; the rest of the file was not read.",
        )

    # -- keys and values --

    def tag(self, tag: str, place: Place) -> None:
        short = tag.replace("tag:yaml.org,2002:", "!!", 1)
        self.error(
            "yaml/tag",
            Message.of("the tag ", Quote(short, "`"), " is not allowed here"),
            place=place,
            hint="Remove it; to keep a value as text, put it in quotes.",
        )

    def key_not_text(self, text: str, place: Place) -> None:
        """A plain key is a number, true, false or nothing."""
        short = _short(text)
        self.error(
            "yaml/non-string-key",
            Message.of("a key must be text, and ", Quote(short, "`", is_name=True), " is not")
            if text
            else "a key is missing here",
            place=place,
            hint=Message.of("Put it in quotes: ", Quote(short, is_name=True), ".")
            if text
            else "Write one before the `:`.",
        )

    def collection_key(self, place: Place, *, what: str = "a list or mapping") -> None:
        self.error(
            "yaml/non-string-key",
            f"a key must be text, and this is {what}",
            place=place,
            hint="Write the key as text; text that begins with `[`, `{`, `*` or `? ` needs quotes.",
        )

    def duplicate_key(self, key: str, *, place: Place, first: Place) -> None:
        self.error(
            "yaml/duplicate-key",
            Message.of(
                "the key ",
                Quote(_short(key), "`", is_name=True),
                f" is here twice; first at line {first[0]}, column {first[1]}",
            ),
            place=place,
            hint="Keep one of the two.",
        )

    def number_range(self, text: str, place: Place) -> None:
        self.error(
            "yaml/number-range",
            Message.of("the number ", Quote(_short(text), ""), " is beyond the range of a float"),
            place=place,
            hint="If it is text, such as an id, put it in quotes.",
        )

    def ambiguous(self, text: str, place: Place) -> None:
        if self._is_only_counted("yaml/ambiguous-scalar"):
            return
        short = _short(text)
        example = (": ", Quote(short)) if short is text else ()
        self._findings.add(
            warning(
                "yaml/ambiguous-scalar",
                Message.of(
                    Quote(short, "`"),
                    " is text here, but other YAML tools read it as ",
                    Quote(read_elsewhere(text), ""),
                ),
                source=Source(self.file, *place),
                hint=Message.of("Put it in quotes", *example, "."),
            )
        )

    def check_scalar(self, text: str, place: Place) -> None:
        """Check what only a decoded scalar shows: its length, and characters written as escapes."""
        if len(text) > MAX_SCALAR // 4:
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > MAX_SCALAR:
                self.error(
                    "yaml/scalar-too-long",
                    f"this value has {size:,} bytes; {MAX_SCALAR:,} are allowed",
                    place=place,
                    hint="Shorten it.",
                )
        characters = dict.fromkeys(match.group() for match in INVISIBLE.finditer(text))
        for character in list(characters)[:MAX_FINDINGS]:
            self.error(
                "yaml/invisible-character",
                f"{_named(character)} is not allowed, not as an escape either",
                place=place,
                hint="Delete the escape.",
            )

    # -- aliases --

    def undefined_alias(self, name: str, place: Place) -> None:
        anchor = Quote(f"&{name}", "`")
        self.error(
            "yaml/undefined-alias",
            Message.of(
                "the alias ",
                Quote(f"*{name}", "`"),
                " has no anchor ",
                anchor,
                " before it in this document",
            ),
            place=place,
            hint=Message.of(
                "Write ", anchor, " before the value it stands for, or quote the text."
            ),
        )

    def alias_loop(self, name: str, place: Place) -> None:
        self.error(
            "yaml/alias-loop",
            Message.of(
                "the alias ", Quote(f"*{name}", "`"), " stands inside of what it stands for"
            ),
            place=place,
            hint="Remove the alias, or write the value out.",
        )

    def merge(self, place: Place) -> None:
        self.error(
            "yaml/merge",
            "`<<` takes a mapping or a list of mappings",
            place=place,
            hint='Give it an alias of a mapping; if a key named `<<` is meant, quote it: "<<".',
        )

    # -- failures of the parser --

    def syntax(self, message: str | Message, *, place: Place, hint: str) -> None:
        """The parser stopped."""
        if self._has_conflict_markers:
            hint = _RESOLVE
        self.error(
            "yaml/syntax", message, place=place, hint=f"{hint} The rest of the file was not read."
        )


def explain_syntax(problem: str) -> tuple[str, str] | None:
    """Message and hint for a message of libyaml; ``None`` for a rare one."""
    return _SYNTAX.get(problem)


def explain_bad_start(data: bytes, *, line: int, column: int) -> tuple[str | Message, str]:
    """Message and hint for a character that no value begins with. Lines and columns count from 0."""
    lines = data.decode("utf-8-sig").split("\n")
    character = lines[line][column : column + 1] if line < len(lines) else ""
    if character == "\t":
        return "a tab cannot indent a line", "Use blanks."
    return Message.of("a value cannot begin with ", Quote(character, "`")), "Put it in quotes."


_CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7})(?: |\r?$)", re.MULTILINE).search
_RESOLVE = "The file holds conflict markers of a merge: resolve them."

_SYNTAX = {
    "found unexpected end of stream": (
        "the quote that opens here is never closed",
        "Close it; inside of single quotes write '' for one.",
    ),
    "mapping values are not allowed in this context": (
        "a `: ` cannot stand here",
        "Put the text in quotes, or check the indentation of this line and the one before.",
    ),
    "could not find expected ':'": (
        "a line before this one lacks its `:`",
        "Write `key: value`, or indent text that goes on.",
    ),
    "did not find expected key": (
        "a key was expected here",
        "Check the indentation and the quotes of this line and the one before.",
    ),
    "did not find expected '-' indicator": (
        "a list item was expected here",
        "Begin it with `- `, and indent it like the other items.",
    ),
    "did not find expected ',' or ']'": ("a `,` or `]` was expected here", "Close the list."),
    "did not find expected ',' or '}'": ("a `,` or `}` was expected here", "Close the mapping."),
    "did not find expected <document start>": (
        "something is left over after the end of the document",
        "Check the indentation, or begin another document with `---`.",
    ),
    "found a tab character that violates indentation": (
        "a tab cannot indent a line",
        "Use blanks.",
    ),
    "found a tab character where an indentation space is expected": (
        "a tab cannot indent a line",
        "Use blanks.",
    ),
    "found unknown escape character": (
        "this is not an escape that YAML knows",
        "Write \\\\ for a backslash, or use single quotes.",
    ),
    "found invalid Unicode character escape code": (
        "this escape is not a character",
        "Write the character itself.",
    ),
    "block sequence entries are not allowed in this context": (
        "a list cannot begin here",
        "Begin it on a line of its own.",
    ),
}


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _place(before: str) -> Place:
    """The line and column that follow a text."""
    before = before.removeprefix("\ufeff")
    return (before.count("\n") + 1, len(before) - before.rfind("\n"))


def _named(character: str) -> str:
    name = unicodedata.name(character, "a control character")
    if character == "\r":
        name = "a carriage return without a line feed"
    return f"U+{ord(character):04X} ({name})"


def _utf_16_or_32(data: bytes) -> str:
    """The name of the encoding that the first bytes suggest, or nothing."""
    head = data[:4]
    if head in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if head.count(0) == 3:
        return "UTF-32"
    return "UTF-16" if len(head) > 1 and (head[0] == 0) != (head[1] == 0) else ""
