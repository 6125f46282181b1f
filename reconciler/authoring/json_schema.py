"""Explains what a JSON Schema finds wrong with a value: profiles, the configuration, exports. Pure.

Home of ``jsonschema``, ``jsonschema_rs`` and ``referencing``, which are imported on first use. The
compiled validator gives the verdict in about a microsecond; jsonschema explains only what it refused.
Both enforce the same formats and patterns: the formats are ours, and jsonschema's ``pattern`` asks the
compiled engine (Python's ``$`` also matches before a last line break, and its ``\\s`` is another set).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache, lru_cache
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.phrases import MOST_EXACT, did_you_mean, kind_of, place_name, quote
from reconciler.errors import Diagnostic, Message, error

MOST_VIOLATIONS = 100
"""Violations that are explained of one value."""
MORE_FINDINGS = "more-findings"
"""The kind of the violation that stands for all that are not explained."""


def validate_value(
    document: Document, schema: Mapping[str, Any], *, prefix: str
) -> list[Diagnostic]:
    """The findings of a JSON Schema (2020-12) about a document, in the order of places.

    The rules are ``<prefix>/unknown-field``, ``/type``, ``/value``, ``/missing-field`` and
    ``/more-findings``. A schema with ``"writeOnly": true`` marks a value that is never quoted. No
    reference leaves the schema.
    """
    if verdict_of(schema)(document.value):
        return []
    return sorted(
        (
            error(
                f"{prefix}/{each.kind}", each.message, source=document.at(each.path), hint=each.hint
            )
            for each in violations(document.value, schema)
        ),
        key=Diagnostic.sort_key,
    )


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
    """The verdict of a JSON Schema (2020-12) on values, compiled once.

    Values that cannot be JSON, such as maps whose keys are not text, are refused.
    """
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
    """A maker of jsonschema validators that fetch nothing and judge as the compiled ones do."""
    from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
    from referencing import Registry

    def pattern(_: Any, required: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not _matches(required)(instance):
            yield ValidationError("pattern")

    def unique(_: Any, required: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
        # Only of scalars; `items` refuses the rest, and comparing those would be quadratic.
        if required and isinstance(instance, list) and _repeated(instance) is not None:
            yield ValidationError("uniqueItems")

    def any_of(
        validator: Any, branches: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        # As jsonschema's own, except that a value with many mistakes has only the first ones explained.
        context: list[Any] = []
        for index, branch in enumerate(branches):
            problems = validator.descend(instance, branch, schema_path=index)
            refused = [*islice(problems, MOST_VIOLATIONS + 1)]
            if not refused:
                return
            context += refused
        yield ValidationError("anyOf", context=context)

    formats = FormatChecker(formats=())
    for name, holds in _FORMATS.items():
        formats.checks(name)(holds)
    extend: Any = validators.extend
    explaining = extend(
        Draft202012Validator, {"pattern": pattern, "uniqueItems": unique, "anyOf": any_of}
    )
    registry: Registry[Any] = Registry()
    return lambda schema: explaining(schema, registry=registry, format_checker=formats)


def _repeated(items: Sequence[Any]) -> str | None:
    """The first text that is in a list twice."""
    earlier: set[str] = set()
    for item in items:
        if isinstance(item, str):
            if item in earlier:
                return item
            earlier.add(item)
    return None


def _tame(value: Any) -> Any:
    """The same value to jsonschema, without numbers that it cannot write or compare."""
    match value:
        case Mapping():
            return {str(key): _tame(item) for key, item in value.items()}
        case list() | tuple():
            return [_tame(item) for item in value]
        case int() if not isinstance(value, bool) and abs(value) > MOST_EXACT:
            return MOST_EXACT if value > 0 else -MOST_EXACT
        case float() if not isfinite(value):
            return MOST_EXACT
        case _:
            return value


# --- findings of a schema ------------------------------------------------------------------------


class SchemaViolation(NamedTuple):
    """One thing that a schema finds wrong. ``name`` is the unknown or missing member, if any."""

    kind: str
    """``unknown-field``, ``missing-field``, ``type``, ``value`` or `MORE_FINDINGS`."""
    keyword: str
    path: Path
    message: Message
    hint: Message
    instance: Any
    name: str = ""
    of_key: bool = False
    """The key at the end of the path is wrong, not the value under it."""


# If one value has several violations, the one that says most comes first.
_MOST_TELLING = {
    keyword: rank
    for rank, keyword in enumerate(
        ("type", "enum", "const", "minLength", "maxLength", "pattern", "format")
    )
}
_KINDS = {"additionalProperties": "unknown-field", "required": "missing-field", "type": "type"}


def violations(value: Any, schema: Mapping[str, Any]) -> list[SchemaViolation]:
    """The violations of a schema, one for each place and member. If there are more than `MOST_VIOLATIONS`,
    the last one says so."""
    problems = _explaining()(schema).iter_errors(_tame(value))
    explained = (violation for problem in problems for violation in _violations_of(problem))
    first = [*islice(explained, MOST_VIOLATIONS)]
    has_more = next(explained, None) is not None
    ordered = sorted(first, key=lambda each: _MOST_TELLING.get(each.keyword, len(_MOST_TELLING)))
    once: dict[tuple[Path, str, bool], SchemaViolation] = {}
    for each in ordered:
        once.setdefault((each.path, each.name, each.of_key), each)
    if not once:  # only if the two engines disagreed: say so rather than let it pass
        once[(), "", False] = SchemaViolation(
            "value", "", (), Message.of("this document is not valid"), Message(""), None
        )
    if has_more:
        once[(), MORE_FINDINGS, False] = SchemaViolation(
            MORE_FINDINGS,
            "",
            (),
            Message.of("more is wrong with this document than what is listed"),
            Message.of("Mend what is listed, then check again."),
            None,
        )
    return list(once.values())


def _violations_of(problem: Any) -> Iterator[SchemaViolation]:
    keyword: str = problem.validator
    path: Path = tuple(problem.absolute_path)
    instance, schema = problem.instance, problem.schema
    if keyword in ("anyOf", "oneOf"):
        yield from _violations_of_branches(problem, path)
    elif keyword == "additionalProperties":
        known = schema.get("properties", {})
        for name in instance:
            if name not in known:
                yield _unknown(name, path, known=known, instance=instance)
    elif keyword == "required":
        for name in problem.validator_value:
            if name not in instance:
                where = (" in ", place_name(path)) if path else ()
                yield SchemaViolation(
                    "missing-field", keyword, path, Message.of(f"`{name}` is missing", *where),
                    Message.of(f"Add `{name}`."), instance, name,
                )  # fmt: skip
    else:
        of_key = "propertyNames" in problem.absolute_schema_path
        if of_key:
            path = (*path, instance)
        message, hint = _explained(
            keyword, problem.validator_value, instance=instance, schema=schema
        )
        subject = (
            Message.of("the key ", quote(instance, is_name=True)) if of_key else place_name(path)
        )
        yield SchemaViolation(
            _KINDS.get(keyword, "value"), keyword, path,
            Message.of(subject, " ", message), Message.of(hint), instance,
            of_key=of_key,
        )  # fmt: skip


def _violations_of_branches(problem: Any, path: Path) -> Iterator[SchemaViolation]:
    """The violations of the only branch that takes this kind of value, if there is one."""
    branches: dict[Any, list[Any]] = {}
    for nested in problem.context:
        branches.setdefault(nested.relative_schema_path[0], []).append(nested)
    refused = {
        index: nested
        for index, branch in branches.items()
        for nested in branch
        if nested.validator == "type" and not nested.relative_path
    }
    fitting = [branch for index, branch in branches.items() if index not in refused]
    if len(fitting) == 1:
        for nested in fitting[0]:
            yield from _violations_of(nested)
        return
    types: list[str] = []
    for nested in refused.values():
        required = nested.validator_value
        types += [required] if isinstance(required, str) else required
    if types and not fitting:
        message, hint = _explained("type", types, instance=problem.instance, schema=problem.schema)
        yield SchemaViolation(
            "type", "type", path, Message.of(place_name(path), " ", message), Message.of(hint),
            problem.instance,
        )  # fmt: skip
    else:
        message = Message.of(place_name(path), " has none of the forms that it may have")
        hint = Message.of(str(problem.schema.get("description", "")))
        yield SchemaViolation("value", problem.validator, path, message, hint, problem.instance)


def _unknown(name: str, path: Path, *, known: Iterable[str], instance: Any) -> SchemaViolation:
    names = list(known)
    suggestion = did_you_mean(name, names)
    hint = f"Did you mean `{suggestion}`?" if suggestion else f"Known here: {', '.join(names)}."
    where = (" in ", place_name(path)) if path else ()
    message = Message.of("unknown field ", quote(name, is_name=True), *where)
    return SchemaViolation(
        "unknown-field", "", (*path, name), message, Message.of(hint), instance[name], name
    )


_MOST_OPTIONS = 12
"""Allowed values that a message lists."""

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


def _explained(
    keyword: str, required: Any, *, instance: Any, schema: Mapping[str, Any]
) -> tuple[str | Message, str | Message]:
    """Message and hint for a keyword that a value fails."""
    about = str(schema.get("description", ""))
    shown = "this value" if schema.get("writeOnly") else quote(instance)
    match keyword:
        case "type":
            types = [required] if isinstance(required, str) else list(required)
            hint = _type_hint(types, instance) or about or f"Write {_either(types)}."
            return Message.of(f"must be {_either(types)}, not ", kind_of(instance)), hint
        case _ if instance == "" and keyword in ("minLength", "pattern", "format", "enum"):
            clears = "null" in schema.get("type", ())
            return "is empty text", "Write null to clear it." if clears else about
        case "enum" | "const":
            options = required if keyword == "enum" else [required]
            listed = _list(option for option in options if option is not None)
            among = f"one of {listed}" if len(options) <= _MOST_OPTIONS else "an allowed value"
            return Message.of("is ", shown, f", which is not {among}"), _options_hint(
                options, instance
            )
        case "pattern":
            upper = instance.upper()
            fits = upper != instance and not schema.get("writeOnly") and _matches(required)(upper)
            hint = Message.of("Did you mean ", quote(upper), "?") if fits else about
            return Message.of("is ", shown, ", which does not have the right form"), hint
        case "format":
            kind = _NOT_A.get(required, required)
            return Message.of("is ", shown, f", which is not {kind}"), _WRITE_AS.get(
                required, about
            )
        case "maxLength":
            return f"has {len(instance)} characters; at most {required} are allowed", "Shorten it."
        case "minimum" | "exclusiveMinimum":
            over = "at least" if keyword == "minimum" else "more than"
            return Message.of("is ", shown, f"; it must be {over} {required}"), about
        case "maximum":
            return Message.of("is ", shown, f"; it must be at most {required}"), about
        case "minProperties" | "minItems":
            return "is empty", about
        case "uniqueItems":
            return Message.of("lists ", quote(_repeated(instance)), " twice"), "Remove one of them."
        case _:
            return Message.of("is ", shown, ", which is not allowed"), about


def _either(types: Sequence[str]) -> str:
    """``text, a number or null``; "true or false" is said before the "or"."""
    names = [_EXPECTED[name] for name in dict.fromkeys(types)]
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _type_hint(types: Sequence[str], instance: Any) -> str | Message:
    match instance:
        case None:
            return "Give a value, or leave it out."
        case bool() if "string" in types:
            return f'Quote it: "{str(instance).lower()}".'
        case int() | float() if "string" in types:
            exact = abs(instance) < MOST_EXACT
            example = (": ", quote(str(instance))) if exact else ()
            return Message.of("Quote it, so that it is text", *example, ".")
        case str() if "boolean" in types and len(types) <= 2:
            return "Write true or false, without quotes."
        case str() if {"number", "integer"} & {*types} and _NUMBER(instance):
            return "Remove the quotes."
        case _:
            return ""


_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?").fullmatch


def _options_hint(options: Sequence[Any], instance: Any) -> str | Message:
    texts = [option for option in options if isinstance(option, str) and option]
    if instance is None and "null" in texts:
        return "Quote it: 'null'."
    if isinstance(instance, str) and (suggestion := did_you_mean(instance, texts)):
        return Message.of("Did you mean ", quote(suggestion), "?")
    return f"Write one of: {_list(options)}."


def _list(options: Iterable[Any]) -> str:
    named = (option for option in options if option != "")
    return ", ".join("null" if option is None else str(option) for option in named)
