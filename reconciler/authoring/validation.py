"""Documents → diagnostics: everything that is wrong with profile files, all at once. Pure.

Home of ``jsonschema`` and ``jsonschema_rs``, which are imported on first use. The compiled
validator gives the verdict in about a microsecond; only what it refuses goes through jsonschema,
for the findings. Both enforce the same formats and patterns: the formats are ours, and jsonschema's
``pattern`` asks the compiled engine (Python's ``$`` also matches before a last line break, and its
``\\s`` is another set).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache, lru_cache
from math import isfinite
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.core.contract import (
    ATTRIBUTES,
    DEVICE_ID,
    INSTALLATION,
    Clear,
    Contract,
    Dialect,
    Field,
    length,
    profile_schema,
    ways_out,
)
from reconciler.core.lifetimes import is_time
from reconciler.errors import Diagnostic, Source, error, warning

_LONGEST_QUOTE = 60
_NULLABLE_WITHOUT_ANALYTICS = ("idfa", "idfv", "advertising_id")  # adapty-api 7.27


def validate_documents(documents: Iterable[Document], contract: Contract) -> list[Diagnostic]:
    """All findings about profile documents under a contract, in the order of their places.

    Rules about several documents (the same address or device twice) see those given here together;
    their order does not matter.
    """
    checker = _checker(contract)
    everyone = _Everyone()
    found: list[Diagnostic] = []
    for document in documents:
        if found_here := checker.check(document):
            found += found_here
        everyone.add(document)
    found += everyone.clashes()
    return sorted(found, key=Diagnostic.sort_key)


def validate_document(document: Document, contract: Contract) -> list[Diagnostic]:
    """All findings about one document by itself."""
    return _checker(contract).check(document)


def validate_defaults(
    document: Document, contract: Contract, *, has_placeholders: bool
) -> list[Diagnostic]:
    """What is wrong with the defaults of a folder by themselves: a part of a profile, without what names
    one. With placeholders the rest shows only in the profiles below."""
    found = [
        error(
            "defaults/not-shared",
            f"`{name}` cannot be the same for all profiles of a folder",
            document.at((name,)),
            hint="Write it into the profiles.",
        )
        for name in ("customer_user_id", "profile_id", "for_each")
        if name in document.value
    ]
    if not found and not has_placeholders:
        found += _checker(contract, partial=True).check(document)
    return found


def cross_file_findings(documents: Iterable[Document]) -> list[Diagnostic]:
    """All findings about documents that only shows beside others."""
    everyone = _Everyone()
    for document in documents:
        everyone.add(document)
    return [*everyone.clashes()]


def claims(document: Document) -> tuple[str | None, str | None, str | None]:
    """What may be claimed once: ``customer_user_id``, ``profile_id`` in lower case, ``device_id``."""
    value: Any = document.value
    if type(value) is not dict:
        return None, None, None
    customer, profile = value.get("customer_user_id"), value.get("profile_id")
    installation = value.get(INSTALLATION)
    device = installation.get("device_id") if type(installation) is dict else None
    return (
        customer if type(customer) is str else None,
        profile.lower() if type(profile) is str else None,
        device if type(device) is str and device else None,
    )


def validate_value(
    document: Document, schema: Mapping[str, Any], *, prefix: str
) -> list[Diagnostic]:
    """What a JSON Schema (2020-12) finds wrong with a document, in the order of places.

    The rules are ``<prefix>/unknown-field``, ``/type``, ``/value`` and ``/missing-field``. A schema
    with ``"writeOnly": true`` marks a value that is never quoted. No reference leaves the schema.
    """
    if verdict_of(schema)(document.value):
        return []
    return sorted(
        (
            error(f"{prefix}/{flaw.kind}", flaw.message, document.at(flaw.path), hint=flaw.hint)
            for flaw in _flaws(document.value, schema)
        ),
        key=Diagnostic.sort_key,
    )


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody most likely meant; case, dashes and camel case aside."""
    if len(name) > _LONGEST_QUOTE:
        return None
    from difflib import get_close_matches  # here, since only a mistake needs it

    folded = {_fold(candidate): candidate for candidate in known}
    matches = get_close_matches(_fold(name), folded, n=1)
    return folded[matches[0]] if matches else None


def _fold(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold().replace("-", "_").strip()


# --- formats and engines -------------------------------------------------------------------------


def _is_date(text: object) -> bool:
    """A day of the calendar, ``YYYY-MM-DD`` in ASCII digits, from year 1."""
    return not isinstance(text, str) or _is_day(text)


@lru_cache(maxsize=32768)  # there are not many days, and a great many birthdays
def _is_day(text: str) -> bool:
    if not _DATE(text):
        return False
    try:
        date(int(text[:4]), int(text[5:7]), int(text[8:]))
    except ValueError:
        return False
    return True


def _is_uuid(text: object) -> bool:
    return not isinstance(text, str) or _UUID(text) is not None


def _is_ipv4(text: object) -> bool:
    """Four decimal numbers up to 255, without leading zeros."""
    return not isinstance(text, str) or _IPV4(text) is not None


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}").fullmatch
_FORMATS: dict[str, Callable[[object], bool]] = {
    "date": _is_date,
    "uuid": _is_uuid,
    "ipv4": _is_ipv4,
}


def verdict_of(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """The verdict of a JSON Schema (2020-12) on values, compiled once. What cannot be JSON (keys that
    are not text, say) is refused."""
    import jsonschema_rs

    is_valid = jsonschema_rs.Draft202012Validator(
        dict(schema), validate_formats=True, formats=_FORMATS, offline=True
    ).is_valid

    def verdict(value: Any) -> bool:
        try:
            return is_valid(value)
        except (ValueError, TypeError):
            return False

    return verdict


@cache
def _matches(pattern: str) -> Callable[[Any], bool]:
    return verdict_of({"pattern": pattern})


@cache
def _explaining() -> Callable[[Mapping[str, Any]], Any]:
    """Makes jsonschema validators that fetch nothing and judge as the compiled ones do."""
    from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
    from referencing import Registry

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not _matches(wanted)(instance):
            yield ValidationError("pattern")

    def unique(_: Any, wanted: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
        # Only of scalars; `items` refuses the rest, and comparing those would be quadratic.
        if wanted and isinstance(instance, list) and _repeated(instance) is not None:
            yield ValidationError("uniqueItems")

    formats = FormatChecker(formats=())
    for name, holds in _FORMATS.items():
        formats.checks(name)(holds)
    extend: Any = validators.extend
    explaining = extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})
    registry: Registry[Any] = Registry()
    return lambda schema: explaining(schema, registry=registry, format_checker=formats)


def _repeated(items: Sequence[Any]) -> str | None:
    seen: set[str] = set()
    for item in items:
        if isinstance(item, str):
            if item in seen:
                return item
            seen.add(item)
    return None


def _tame(value: Any) -> Any:
    """The same value for a verdict, without the numbers that jsonschema cannot write or compare."""
    match value:
        case Mapping():
            return {str(key): _tame(item) for key, item in value.items()}
        case list() | tuple():
            return [_tame(item) for item in value]
        case int() if not isinstance(value, bool) and abs(value) > _UNQUOTED:
            return _UNQUOTED if value > 0 else -_UNQUOTED
        case float() if not isfinite(value):
            return _UNQUOTED
        case _:
            return value


_UNQUOTED = 10**18


# --- findings of a schema ------------------------------------------------------------------------


class _Flaw(NamedTuple):
    """One thing that a schema finds wrong. ``name`` is the unknown or missing member, if any."""

    kind: str
    """``unknown-field``, ``missing-field``, ``type`` or ``value``."""
    keyword: str
    path: Path
    message: str
    hint: str
    instance: Any
    name: str = ""
    of_key: bool = False
    """It is the key at the end of the path that is wrong, not what stands under it."""


# Of several findings about one value, the one that says most comes first.
_TELLING = ("type", "enum", "const", "minLength", "maxLength", "pattern", "format")
_KINDS = {"additionalProperties": "unknown-field", "required": "missing-field", "type": "type"}


def _flaws(value: Any, schema: Mapping[str, Any]) -> list[_Flaw]:
    """All that the schema finds wrong, once for each place and member."""
    problems = _explaining()(schema).iter_errors(_tame(value))
    found = [flaw for problem in problems for flaw in _flaws_of(problem)]
    found.sort(key=lambda flaw: _TELLING.index(flaw.keyword) if flaw.keyword in _TELLING else 99)
    once: dict[tuple[Path, str, bool], _Flaw] = {}
    for flaw in found:
        once.setdefault((flaw.path, flaw.name, flaw.of_key), flaw)
    if not once:  # only if the two engines disagreed: say so rather than let it pass
        once[(), "", False] = _Flaw("value", "", (), "this document is not valid", "", None)
    return list(once.values())


def _flaws_of(problem: Any) -> Iterator[_Flaw]:
    keyword: str = problem.validator
    path: Path = tuple(problem.absolute_path)
    instance, schema = problem.instance, problem.schema
    if keyword in ("anyOf", "oneOf"):
        yield from _flaws_of_branches(problem, path)
    elif keyword == "additionalProperties":
        known = schema.get("properties", {})
        for name in instance:
            if name not in known:
                yield _unknown(name, path, known, instance)
    elif keyword == "required":
        for name in problem.validator_value:
            if name not in instance:
                where = f" in {_place(path)}" if path else ""
                yield _Flaw(
                    "missing-field", keyword, path, f"`{name}` is missing{where}",
                    f"Add `{name}`.", instance, name,
                )  # fmt: skip
    else:
        of_key = "propertyNames" in problem.absolute_schema_path
        if of_key:
            path = (*path, instance)
        message, hint = _said(keyword, problem.validator_value, instance, schema)
        subject = f"the key {_quote(instance)}" if of_key else _place(path)
        yield _Flaw(
            _KINDS.get(keyword, "value"), keyword, path, f"{subject} {message}", hint, instance,
            of_key=of_key,
        )  # fmt: skip


def _flaws_of_branches(problem: Any, path: Path) -> Iterator[_Flaw]:
    """The findings of the branch that was meant: the only one that takes this kind of value."""
    branches: dict[Any, list[Any]] = {}
    for nested in problem.context:
        branches.setdefault(nested.relative_schema_path[0], []).append(nested)
    refused = {
        index: nested
        for index, branch in branches.items()
        for nested in branch
        if nested.validator == "type" and not nested.relative_path
    }
    meant = [branch for index, branch in branches.items() if index not in refused]
    if len(meant) == 1:
        for nested in meant[0]:
            yield from _flaws_of(nested)
        return
    types: list[str] = []
    for nested in refused.values():
        wanted = nested.validator_value
        types += [wanted] if isinstance(wanted, str) else wanted
    if types and not meant:
        message, hint = _said("type", types, problem.instance, problem.schema)
        yield _Flaw("type", "type", path, f"{_place(path)} {message}", hint, problem.instance)
    else:
        message = f"{_place(path)} has none of the forms that it may have"
        hint = str(problem.schema.get("description", ""))
        yield _Flaw("value", problem.validator, path, message, hint, problem.instance)


def _unknown(name: str, path: Path, known: Iterable[str], instance: Any) -> _Flaw:
    names = list(known)
    meant = did_you_mean(name, names)
    hint = f"Did you mean `{meant}`?" if meant else f"Known here: {', '.join(names)}."
    message = f"unknown field {_quote(name)}" + (f" in {_place(path)}" if path else "")
    return _Flaw("unknown-field", "", (*path, name), message, hint, instance[name], name)


_EXPECTED = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
    "null": "null",
}
_NOT_A = {"date": "a date of the calendar", "uuid": "a UUID", "ipv4": "an IPv4 address"}
_WRITE_AS = {
    "date": "Write it as YYYY-MM-DD, for example 2000-12-31.",
    "uuid": "Write it like 3fa85f64-5717-4562-b3fc-2c963f66afa6.",
    "ipv4": "Write it like 203.0.113.7.",
}


def _said(keyword: str, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> tuple[str, str]:
    """What a failed keyword means for its value, and what to do."""
    about = str(schema.get("description", ""))
    quote = "this value" if schema.get("writeOnly") else _quote(instance)
    match keyword:
        case "type":
            types = [wanted] if isinstance(wanted, str) else list(wanted)
            hint = _type_hint(types, instance) or about or f"Write {_either(types)}."
            return f"must be {_either(types)}, not {_kind(instance)}", hint
        case _ if instance == "" and keyword in ("minLength", "pattern", "format", "enum"):
            clears = "null" in schema.get("type", ())
            return "is empty text", "Write null to clear it." if clears else about
        case "enum" | "const":
            options = wanted if keyword == "enum" else [wanted]
            return f"is {quote}", _options_hint(options, instance)
        case "pattern":
            upper = instance.upper()
            fits = upper != instance and not schema.get("writeOnly") and _matches(wanted)(upper)
            hint = f"Did you mean {_quote(upper)}?" if fits else about
            return f"is {quote}, which does not have the right form", hint
        case "format":
            return f"is {quote}, which is not {_NOT_A.get(wanted, wanted)}", _WRITE_AS.get(
                wanted, about
            )
        case "maxLength":
            return f"has {len(instance)} characters; at most {wanted} are allowed", "Shorten it."
        case "minimum" | "exclusiveMinimum":
            over = "at least" if keyword == "minimum" else "more than"
            return f"is {quote}; it must be {over} {wanted}", about
        case "maximum":
            return f"is {quote}; it must be at most {wanted}", about
        case "minProperties" | "minItems":
            return "is empty", about
        case "uniqueItems":
            return f"lists {_quote(_repeated(instance))} twice", "Remove one of them."
        case _:
            return f"is {quote}, which is not allowed", about


def _either(types: Sequence[str]) -> str:
    """``text, a number or null``; "true or false" is said before the "or"."""
    names = [_EXPECTED[name] for name in dict.fromkeys(types)]
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _type_hint(types: Sequence[str], instance: Any) -> str:
    match instance:
        case None:
            return "Give a value, or leave it out."
        case bool() if "string" in types:
            return f'Quote it: "{str(instance).lower()}".'
        case int() | float() if "string" in types:
            return "Quote it, so that it is text" + (
                f": {_quote(str(instance))}." if abs(instance) < _UNQUOTED else "."
            )
        case str() if "boolean" in types and len(types) <= 2:
            return "Write true or false, without quotes."
        case str() if {"number", "integer"} & {*types} and _NUMBER(instance):
            return "Remove the quotes."
        case _:
            return ""


_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?").fullmatch


def _options_hint(options: Sequence[Any], instance: Any) -> str:
    texts = [option for option in options if isinstance(option, str) and option]
    if instance is None and "null" in texts:
        return "Quote it: 'null'."
    if isinstance(instance, str) and (meant := did_you_mean(instance, texts)):
        return f"Did you mean {_quote(meant)}? Allowed: {_list(options)}."
    return f"Write one of: {_list(options)}."


def _list(options: Sequence[Any]) -> str:
    named = (option for option in options if option != "")
    return ", ".join("null" if option is None else str(option) for option in named)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}" if abs(value) < _UNQUOTED else "a number"
        case str():
            return "text"
        case Mapping():
            return "a map"
        case _:
            return "a list"


def _quote(value: Any) -> str:
    """A value in a message: whole if it is short, never more than sixty characters."""
    if not isinstance(value, str):
        return _kind(value).removeprefix("the number ")
    fits = len(value) <= _LONGEST_QUOTE - 2
    return f'"{value}"' if fits else f'"{value[: _LONGEST_QUOTE - 3]}…"'


def _place(path: Path) -> str:
    """``custom_attributes.tier``, ``meta.labels[1]``."""
    if not path:
        return "the document"
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    return f"`{text if len(text) <= 2 * _LONGEST_QUOTE else text[: 2 * _LONGEST_QUOTE] + '…'}`"


# --- one profile ---------------------------------------------------------------------------------


class _Checker:
    """The checks of one document under a contract."""

    def __init__(self, contract: Contract, *, partial: bool = False) -> None:
        self.contract = contract
        self.schema = profile_schema(contract)
        if partial:
            del self.schema["anyOf"]
            del self.schema["properties"][INSTALLATION]["required"]
        self.is_valid = verdict_of(self.schema)
        self.warned = {
            path: usual for path, field in contract.fields.items() if (usual := self._usual(field))
        }
        self.warned_members = {
            path.partition(".")[2]: usual for path, usual in self.warned.items() if "." in path
        }
        self.integers = {
            path for path, field in contract.fields.items() if field.schema["type"] == "integer"
        }
        self.attribute_key = re.compile(contract.key_pattern.removesuffix("$")).fullmatch

    def _usual(self, field: Field) -> Callable[[str], object] | None:
        """Whether a text raises no suspicion about a field; ``None`` where none ever does."""
        warn = field.warn
        if warn is None:
            return None
        if "enum" in warn:
            return frozenset(warn["enum"]).__contains__
        if "known" in warn:
            return self.contract.countries.__contains__
        return re.compile(re.sub(r"\$$", r"\\Z", warn["pattern"])).search

    def check(self, document: Document) -> list[Diagnostic]:
        value: Any = document.value
        found: list[Diagnostic] = []
        flawed: set[Path] = set()
        if not self.is_valid(value):
            if not isinstance(value, Mapping):
                return [_not_a_map(document)]
            flaws = _flaws(value, self.schema)
            flawed = {flaw.path for flaw in flaws}
            found += [self.diagnostic(flaw, document) for flaw in flaws]
        warned, integers = self.warned, self.integers
        for name, content in value.items():
            usual = warned.get(name)
            if usual is not None:
                if type(content) is str and not usual(content) and (name,) not in flawed:
                    found.append(self._suspicious(name, content, document))
            elif type(content) is float and name in integers and (name,) not in flawed:
                found.append(_written_as_float(name, content, document))
        if attributes := value.get(ATTRIBUTES):
            found += self._attributes(attributes, document)
        installation = value.get(INSTALLATION)
        if type(installation) is dict:
            for name, content in installation.items():
                usual = self.warned_members.get(name)
                if usual is not None and type(content) is str and not usual(content):
                    path = (INSTALLATION, name)
                    if path not in flawed:
                        found.append(self._suspicious(".".join(path), content, document))
            if value.get("analytics_disabled") is True:
                found += _identifiers_without_analytics(installation, document)
        meta = value.get("meta")
        if type(meta) is dict:
            if type(meta.get("forget")) is list:
                found += self._forget(meta["forget"], document)
            if "expires" in meta and ("meta", "expires") not in flawed:
                found += _lifetime(meta, document)
        return found

    # -- what the schema found, in the words of a profile --

    def diagnostic(self, flaw: _Flaw, document: Document) -> Diagnostic:
        path, message = flaw.path, flaw.message
        head = path[0] if path else ""
        rule, hint = f"profile/{flaw.kind}", flaw.hint
        if flaw.kind == "unknown-field":
            hint = self._unknown_hint(flaw) or hint
        elif not path and flaw.keyword == "anyOf":
            rule, message = "profile/missing-id", "the profile has no identifier"
            hint = "Add `customer_user_id` (your own id of the user), or `profile_id`."
        elif head in ("customer_user_id", "profile_id") and flaw.kind == "value":
            rule = "profile/id"
            if head == "customer_user_id":
                hint = "Use visible ASCII without blanks, not beginning with `profile:`."
        elif flaw.instance is None and (field := self._field(path)) is not None:
            rule = "profile/cannot-clear"
            message = f"{_place(path)} cannot be cleared: the API does not accept null for it"
            hint = _ways_out(field)
        elif path == (INSTALLATION,) and flaw.kind == "missing-field":
            rule = "installation/device-id-missing"
            message = "`installation_meta` needs a `device_id`"
            hint = "Add the `device_id` that the app made on the device, or remove the whole map."
        elif flaw.instance is None and path == (ATTRIBUTES,):
            hint = "To delete attributes, name each key with null; or leave the field out."
        elif flaw.instance is None and path == (INSTALLATION,):
            hint = "Leave it out; to stop managing it, list `installation_meta` under meta.forget."
        elif head == ATTRIBUTES and len(path) > 1:
            rule, message, hint = self._attribute_flaw(flaw)
        elif path[:2] == ("meta", "forget") and flaw.kind == "value":
            rule = "meta/forget"
        elif flaw.kind == "value" and flaw.instance == "":
            field = self._field(path)
            if field is not None and field.clear is Clear.NEVER:
                hint = f"It cannot be cleared. {_ways_out(field)}"
        return error(rule, message, document.at(path), hint=hint)

    def _field(self, path: Path) -> Field | None:
        """The standard field or member of installation_meta at a path of a document."""
        return self.contract.fields.get(".".join(str(part) for part in path))

    def _unknown_hint(self, flaw: _Flaw) -> str:
        contract, path = self.contract, flaw.path
        dotted = ".".join(str(part) for part in path)
        if other := _other_dialect(contract, dotted):
            return (
                f"The {other} dialect has it: set `dialect: {other}` for the environment in "
                "reconcile.yaml, or remove the field."
            )
        if len(path) == 1:
            if f"{INSTALLATION}.{flaw.name}" in contract.fields:
                return f"It belongs under `{INSTALLATION}`."
            if flaw.name in self.schema["properties"]["meta"]["properties"]:
                return "It belongs under `meta`."
        return ""

    def _attribute_flaw(self, flaw: _Flaw) -> tuple[str, str, str]:
        path, limit = flaw.path, self.contract.max_attribute_length
        if flaw.of_key or (path[-1] == "key" and len(path) == 3):
            subject = "an empty key" if flaw.instance == "" else f"the key {_quote(flaw.instance)}"
            return (
                "attribute/key",
                f"{subject} is not a key of a custom attribute",
                "A key has 1 to 30 ASCII letters, digits, dashes, periods or underscores.",
            )
        if flaw.kind == "missing-field":
            hint = f"Add `{flaw.name}`." + (
                " null makes sure that the attribute is absent." if flaw.name == "value" else ""
            )
            return f"attribute/{flaw.name}", flaw.message, hint
        if len(path) == 2 and isinstance(path[1], int):
            return "profile/type", flaw.message, "Write an item as {key: …, value: …}."
        if flaw.instance == "":
            message, hint = "is empty text", "Write null to make sure that the attribute is absent."
        elif flaw.kind == "type":
            message = f"must be text, a number, true, false or null, not {_kind(flaw.instance)}"
            hint = "Write one value; an attribute holds neither lists nor maps."
        elif flaw.keyword in ("minimum", "maximum"):
            message = "is a number that a float does not hold exactly"
            hint = f"Stay within ±{self.contract.max_integer}, or quote it, so that it is text."
        else:
            message = f"has {length(flaw.instance)} characters; at most {limit} are allowed"
            hint = "Shorten it."
        return "attribute/value", f"{_place(path)} {message}", hint

    # -- what a schema cannot say --

    def _attributes(self, content: Any, document: Document) -> list[Diagnostic]:
        contract = self.contract
        if type(content) is dict and len(content) <= contract.max_attributes:
            # The schema has seen to everything but characters that count as more than one.
            texts = [raw for raw in content.values() if type(raw) is str]
            if "".join(texts).isascii():
                return []
        found: list[Diagnostic] = []
        limit = contract.max_attribute_length
        count = 0
        for key, raw, place in _attributes_of(content):
            if raw is None:
                continue
            count += 1
            if type(raw) is str and not raw.isascii() and len(raw) <= limit < length(raw):
                found.append(
                    error(
                        "attribute/value",
                        f"{_place((ATTRIBUTES, key))} has {length(raw)} characters, counted in "
                        f"UTF-16 units; at most {limit} are allowed",
                        document.at((ATTRIBUTES, *place)),
                        hint="Shorten it; an emoji counts as two or more.",
                    )
                )
        if count > self.contract.max_attributes:
            found.append(
                error(
                    "attribute/too-many",
                    f"{count} custom attributes; a profile has at most "
                    f"{self.contract.max_attributes}",
                    document.at((ATTRIBUTES,)),
                    hint="Remove some; attributes set to null do not count.",
                )
            )
        if type(content) is list:
            found += _duplicate_keys(content, document)
        return found

    def _forget(self, paths: list[Any], document: Document) -> list[Diagnostic]:
        declared = set(_declared(document.value))
        if not declared.isdisjoint(self.contract.members()):
            declared.add(INSTALLATION)
        found: list[Diagnostic] = []
        for index, path in enumerate(paths):
            if not isinstance(path, str):
                continue
            if not self._can_be_forgotten(path):
                message = f"meta.forget: there is no field {_quote(path)}"
                hint = self._forget_hint(path)
            elif path in declared:
                message = f"{_place((path,))} is both declared and listed under meta.forget"
                hint = "Remove it from one of the two."
            else:
                continue
            place = document.at(("meta", "forget", index))
            found.append(error("meta/forget", message, place, hint=hint))
        return found

    def _can_be_forgotten(self, path: str) -> bool:
        group, _, key = path.partition(".")
        if group == ATTRIBUTES:
            return self.attribute_key(key) is not None
        return path == INSTALLATION or path in self.contract.fields

    def _forget_hint(self, path: str) -> str:
        if path.partition(".")[0] == ATTRIBUTES:
            return "Name each key: custom_attributes.KEY."
        if other := _other_dialect(self.contract, path):
            return f"Only the {other} dialect has it."
        meant = did_you_mean(path, [*self.contract.fields, INSTALLATION])
        return f"Did you mean {_quote(meant)}?" if meant else "Give paths like `birthday`."

    def _suspicious(self, path: str, content: str, document: Document) -> Diagnostic:
        field = self.contract.fields[path]
        warn = field.warn or {}
        fits = warn.get("known") == "countries" and content.upper() in self.contract.countries
        return warning(
            "profile/suspicious",
            f"`{path}` is {_quote(content)}, which {warn.get('message', 'looks wrong')}",
            document.at(tuple(path.split("."))),
            hint=f"Did you mean {_quote(content.upper())}?" if fits else field.description,
        )


def _lifetime(meta: Mapping[str, Any], document: Document) -> Iterator[Diagnostic]:
    expires: str = meta["expires"]
    if not is_time(expires):
        yield error(
            "meta/expires",
            f"`meta.expires` is {_quote(expires)}, which is no day of the calendar or time of a day",
            document.at(("meta", "expires")),
            hint="Write it like 2030-12-31 or 2030-12-31T18:00Z.",
        )
    elif "ttl" in meta:
        yield error(
            "meta/expires",
            "`meta.expires` and `meta.ttl` are both given",
            document.at(("meta", "ttl")),
            hint="Keep one of the two.",
        )


def _not_a_map(document: Document) -> Diagnostic:
    return error(
        "profile/type",
        f"a profile must be a map, not {_kind(document.value)}",
        document.source,
        hint="Begin with `customer_user_id: …`.",
    )


def _written_as_float(name: str, content: float, document: Document) -> Diagnostic:
    whole = f": {content:.0f}" if content.is_integer() else ""
    return error(
        "profile/type",
        f"`{name}` must be a whole number, not {content}",
        document.at((name,)),
        hint=f"Write it without a point{whole}.",
    )


def _ways_out(field: Field) -> str:
    return ways_out(INSTALLATION if field.path == DEVICE_ID else field.path)


def _other_dialect(contract: Contract, path: str) -> Dialect | None:
    for dialect in Dialect:
        if dialect is not contract.dialect:
            other = Contract.of(contract.data, dialect)
            if path in other.fields and path not in contract.fields:
                return dialect
    return None


def _identifiers_without_analytics(
    installation: Mapping[str, Any], document: Document
) -> Iterator[Diagnostic]:
    for name in _NULLABLE_WITHOUT_ANALYTICS:
        if installation.get(name):
            yield warning(
                "profile/suspicious",
                f"`{INSTALLATION}.{name}` is declared while `analytics_disabled` is true: "
                "the API may drop it",
                document.at((INSTALLATION, name)),
                hint="Remove the identifier, or set `analytics_disabled` to false.",
            )


def _attributes_of(content: Any) -> Iterator[tuple[str, Any, Path]]:
    """Key, value and place of each custom attribute; what has not the right shape is left out."""
    if isinstance(content, dict):
        for key, raw in content.items():
            yield key, raw, (key,)
    elif isinstance(content, list):
        for index, item in enumerate(content):
            if isinstance(item, dict) and isinstance(item.get("key"), str) and "value" in item:
                yield item["key"], item["value"], (index, "value")


def _duplicate_keys(content: list[Any], document: Document) -> Iterator[Diagnostic]:
    first: dict[str, Path] = {}
    for key, _, (index, _) in _attributes_of(content):
        path = (ATTRIBUTES, index, "key")
        if key in first:
            yield error(
                "attribute/duplicate",
                f"the custom attribute {_quote(key)} is listed twice, "
                f"first in line {document.at(first[key]).line}",
                document.at(path),
                hint="Remove one of them.",
            )
        else:
            first[key] = path


def _declared(value: Mapping[str, Any]) -> Iterator[str]:
    """The field paths that a document mentions."""
    for name, content in value.items():
        if name == ATTRIBUTES:
            yield from (f"{ATTRIBUTES}.{key}" for key, _, _ in _attributes_of(content))
        elif name == INSTALLATION:
            if isinstance(content, dict):
                yield from (f"{INSTALLATION}.{member}" for member in content)
        elif name != "meta":
            yield name


@lru_cache(maxsize=8)
def _checker(contract: Contract, *, partial: bool = False) -> _Checker:
    """The compiled checks of a contract, made once; ``partial`` misses nothing."""
    return _Checker(contract, partial=partial)


# --- several profiles ----------------------------------------------------------------------------


class _Everyone:
    """What may be claimed once: identifiers and devices, by the documents that claim them."""

    def __init__(self) -> None:
        self.customers: dict[str, Document | list[Document]] = {}
        self.profiles: dict[str, Document | list[Document]] = {}
        self.devices: dict[str, Document | list[Document]] = {}

    def add(self, document: Document) -> None:
        groups = (self.customers, self.profiles, self.devices)
        for group, claimed in zip(groups, claims(document), strict=True):
            if claimed is not None:
                _claim(group, claimed, document)

    def clashes(self) -> Iterator[Diagnostic]:
        told: set[tuple[Source, Source]] = set()
        for name, claims in (("customer_user_id", self.customers), ("profile_id", self.profiles)):
            for identifier, first, document in _clashes(claims):
                pair = (first.source, document.source)
                if pair not in told:
                    told.add(pair)
                    yield error(
                        "profile/duplicate-address",
                        f"`{name}` {_quote(identifier)} is declared twice, first at "
                        f"{first.at((name,))}",
                        document.at((name,)),
                        hint="Keep one of the two documents.",
                    )
        for device, first, document in _clashes(self.devices):
            path = (INSTALLATION, "device_id")
            yield warning(
                "profile/duplicate-device",
                f"the device_id {_quote(device)} is also declared at {first.at(path)}",
                document.at(path),
                hint="A device belongs to one profile; give each its own, or remove one.",
            )


def _claim(claims: dict[str, Document | list[Document]], key: str, document: Document) -> None:
    others = claims.setdefault(key, document)
    if others is document:
        return
    if isinstance(others, list):
        others.append(document)
    else:
        claims[key] = [others, document]


def _clashes(
    claims: Mapping[str, Document | list[Document]],
) -> Iterator[tuple[str, Document, Document]]:
    """Each later claim of something with the first one, by place."""
    for key, documents in claims.items():
        if isinstance(documents, list):
            first, *later = sorted(documents, key=lambda document: document.source)
            for document in later:
                yield key, first, document
