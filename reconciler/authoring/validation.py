"""The rules of profiles: documents → all findings about them at once. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from reconciler.authoring.claims import cross_file_findings
from reconciler.authoring.documents import Document, Path
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.json_schema import (
    MORE_FINDINGS,
    MOST_VIOLATIONS,
    SchemaViolation,
    verdict_of,
    violations,
)
from reconciler.authoring.phrases import did_you_mean, kind_of, place_name, quote
from reconciler.core.contract import (
    ADVERTISING_IDS,
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
from reconciler.errors import Diagnostic, Message, Quote, error, warning


def validate_documents(documents: Iterable[Document], contract: Contract) -> list[Diagnostic]:
    """All findings about profile documents under a contract, in the order of their places.

    Rules about several documents (the same address or device twice) compare all of them; their order
    does not matter. The findings of a rule about a file are bounded: see `LimitedFindings`.
    """
    documents = list(documents)
    findings = LimitedFindings()
    findings.extend(document_findings(documents, contract))
    return sorted(
        [*findings.listed(), *cross_file_findings(documents)],
        key=Diagnostic.sort_key,
    )


def document_findings(documents: Iterable[Document], contract: Contract) -> Iterator[Diagnostic]:
    """The findings about each of some documents by itself.

    To explain why a document is refused takes a thousand times longer than to refuse it. So only about
    `MOST_VIOLATIONS` errors of a file are explained; one finding counts the documents that are refused
    after those.
    """
    checker = _checker(contract)
    for _, group in groupby(documents, key=lambda document: document.source.file):
        yield from checker.check_file(group)


def validate_document(document: Document, contract: Contract) -> list[Diagnostic]:
    """All findings about one document by itself."""
    return [*_checker(contract).check_file([document])]


def validate_defaults(
    document: Document, contract: Contract, *, has_placeholders: bool
) -> list[Diagnostic]:
    """All findings about the defaults of a folder: a part of a profile, without its identifiers.

    With placeholders in them, most findings show only in the profiles below.
    """
    findings = [
        error(
            "defaults/not-shared",
            f"`{name}` cannot be the same for all profiles of a folder",
            source=document.at((name,)),
            hint="Write it into the profiles.",
        )
        for name in ("customer_user_id", "profile_id", "for_each")
        if name in document.value
    ]
    if not findings and not has_placeholders:
        findings += _checker(contract, partial=True).check_file([document])
    return findings


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

    def check_file(self, documents: Iterable[Document]) -> Iterator[Diagnostic]:
        """The findings about each document of a file by itself."""
        explained = 0
        unexplained: Document | None = None
        count = 0
        for document in documents:
            may_explain = explained < MOST_VIOLATIONS
            problems: Sequence[SchemaViolation] = ()
            if not self.is_valid(document.value):
                if not may_explain:
                    count += 1
                    unexplained = unexplained or document
                    continue
                if not isinstance(document.value, Mapping):
                    explained += 1
                    yield _not_a_map(document)
                    continue
                problems = violations(document.value, self.schema)
            findings = self.check(document, problems, suggest=may_explain)
            explained += sum(finding.is_error for finding in findings)
            yield from findings
        if unexplained is not None:
            yield _refused_too(unexplained, count)

    def check(
        self, document: Document, problems: Sequence[SchemaViolation], *, suggest: bool
    ) -> list[Diagnostic]:
        """The findings about a document, which violates the schema as the ``problems`` say. Without
        ``suggest``, hints name no similar names, since the search for them takes long."""
        value: Any = document.value
        refused = {violation.path for violation in problems}
        findings = [self.diagnostic(violation, document) for violation in problems]
        warned, integers = self.warned, self.integers
        for name, content in value.items():
            usual = warned.get(name)
            if usual is not None:
                if type(content) is str and not usual(content) and (name,) not in refused:
                    findings.append(self._suspicious(name, content, document=document))
            elif type(content) is float and name in integers and (name,) not in refused:
                findings.append(_written_as_float(name, content, document=document))
        if attributes := value.get(ATTRIBUTES):
            findings += self._attributes(attributes, document)
        installation = value.get(INSTALLATION)
        if type(installation) is dict:
            for name, content in installation.items():
                usual = self.warned_members.get(name)
                if usual is not None and type(content) is str and not usual(content):
                    path = (INSTALLATION, name)
                    if path not in refused:
                        findings.append(
                            self._suspicious(".".join(path), content, document=document)
                        )
            if value.get("analytics_disabled") is True:
                findings += _identifiers_without_analytics(installation, document)
        meta = value.get("meta")
        if type(meta) is dict:
            if type(meta.get("forget")) is list:
                findings += self._forget(meta["forget"], document, suggest=suggest)
            if "expires" in meta and ("meta", "expires") not in refused:
                findings += _lifetime(meta, document)
        return findings

    # -- violations of the schema, in the words of a profile --

    def diagnostic(self, violation: SchemaViolation, document: Document) -> Diagnostic:
        path = violation.path
        head = path[0] if path else ""
        rule = f"profile/{violation.kind}"
        message: str | Message = violation.message
        hint: str | Message = violation.hint
        if violation.kind == "unknown-field":
            hint = self._unknown_hint(violation) or hint
        elif not path and violation.keyword == "anyOf":
            rule, message = "profile/missing-id", "the profile has no identifier"
            hint = "Add `customer_user_id` (your own id of the user), or `profile_id`."
        elif head in ("customer_user_id", "profile_id") and violation.kind == "value":
            rule = "profile/id"
            if head == "customer_user_id":
                hint = "Use visible ASCII without blanks, not beginning with `profile:`."
        elif violation.instance is None and (field := self._field(path)) is not None:
            rule = "profile/cannot-clear"
            message = Message.of(
                place_name(path), " cannot be cleared: the API does not accept null for it"
            )
            hint = _ways_out(field)
        elif path == (INSTALLATION,) and violation.kind == "missing-field":
            rule = "installation/device-id-missing"
            message = "`installation_meta` needs a `device_id`"
            hint = "Add the `device_id` that the app made on the device, or remove the whole map."
        elif violation.instance is None and path == (ATTRIBUTES,):
            hint = "To delete attributes, name each key with null; or leave the field out."
        elif violation.instance is None and path == (INSTALLATION,):
            hint = "Leave it out; to stop managing it, list `installation_meta` under meta.forget."
        elif head == ATTRIBUTES and len(path) > 1:
            rule, message, hint = self._attribute_violation(violation)
        elif path[:2] == ("meta", "forget") and violation.kind == "value":
            rule = "meta/forget"
        elif violation.kind == "value" and violation.instance == "":
            field = self._field(path)
            if field is not None and field.clear is Clear.NEVER:
                hint = f"It cannot be cleared. {_ways_out(field)}"
        return error(rule, message, source=document.at(path), hint=hint)

    def _field(self, path: Path) -> Field | None:
        """The standard field or member of installation_meta at a path of a document."""
        return self.contract.fields.get(".".join(str(part) for part in path))

    def _unknown_hint(self, violation: SchemaViolation) -> str:
        contract, path = self.contract, violation.path
        dotted = ".".join(str(part) for part in path)
        if other := _other_dialect(contract, dotted):
            return (
                f"The {other} dialect has it: set `dialect: {other}` for the environment in "
                "reconcile.yaml, or remove the field."
            )
        if len(path) == 1:
            if f"{INSTALLATION}.{violation.name}" in contract.fields:
                return f"It belongs under `{INSTALLATION}`."
            if violation.name in self.schema["properties"]["meta"]["properties"]:
                return "It belongs under `meta`."
        return ""

    def _attribute_violation(self, violation: SchemaViolation) -> tuple[str, Message, str]:
        message: str | Message
        path, limit = violation.path, self.contract.max_attribute_length
        if violation.of_key or (path[-1] == "key" and len(path) == 3):
            is_empty = violation.instance == ""
            subject = (
                ("an empty key",)
                if is_empty
                else (
                    "the key ",
                    quote(violation.instance, is_name=True),
                )
            )
            return (
                "attribute/key",
                Message.of(*subject, " is not a key of a custom attribute"),
                "A key has 1 to 30 ASCII letters, digits, dashes, periods or underscores.",
            )
        if violation.kind == "missing-field":
            hint = f"Add `{violation.name}`." + (
                " null makes sure that the attribute is absent."
                if violation.name == "value"
                else ""
            )
            return f"attribute/{violation.name}", violation.message, hint
        if len(path) == 2 and isinstance(path[1], int):
            return "profile/type", violation.message, "Write an item as {key: …, value: …}."
        if violation.instance == "":
            message, hint = "is empty text", "Write null to make sure that the attribute is absent."
        elif violation.kind == "type":
            message = Message.of(
                "must be text, a number, true, false or null, not ", kind_of(violation.instance)
            )
            hint = "Write one value; an attribute holds neither lists nor maps."
        elif violation.keyword in ("minimum", "maximum"):
            message = "is a number that a float does not hold exactly"
            hint = f"Stay within ±{self.contract.max_integer}, or quote it, so that it is text."
        else:
            message = f"has {length(violation.instance)} characters; at most {limit} are allowed"
            hint = "Shorten it."
        return "attribute/value", Message.of(place_name(path), " ", message), hint

    # -- rules that a schema cannot express --

    def _attributes(self, content: Any, document: Document) -> list[Diagnostic]:
        contract = self.contract
        if type(content) is dict and len(content) <= contract.max_attributes:
            # The schema has checked everything but characters that count as more than one.
            texts = [raw for raw in content.values() if type(raw) is str]
            if "".join(texts).isascii():
                return []
        findings: list[Diagnostic] = []
        limit = contract.max_attribute_length
        count = 0
        for key, raw, place in _attributes_of(content):
            if raw is None:
                continue
            count += 1
            if type(raw) is str and not raw.isascii() and len(raw) <= limit < length(raw):
                findings.append(
                    error(
                        "attribute/value",
                        Message.of(
                            place_name((ATTRIBUTES, key)),
                            f" has {length(raw)} characters, counted in UTF-16 units; "
                            f"at most {limit} are allowed",
                        ),
                        source=document.at((ATTRIBUTES, *place)),
                        hint="Shorten it; an emoji counts as two or more.",
                    )
                )
        if count > self.contract.max_attributes:
            findings.append(
                error(
                    "attribute/too-many",
                    f"{count} custom attributes; a profile has at most "
                    f"{self.contract.max_attributes}",
                    source=document.at((ATTRIBUTES,)),
                    hint="Remove some; attributes set to null do not count.",
                )
            )
        if type(content) is list:
            findings += _duplicate_keys(content, document)
        return findings

    def _forget(self, paths: list[Any], document: Document, *, suggest: bool) -> list[Diagnostic]:
        declared = set(_declared(document.value))
        if not declared.isdisjoint(self.contract.members()):
            declared.add(INSTALLATION)
        findings: list[Diagnostic] = []
        for index, path in enumerate(paths):
            if not isinstance(path, str):
                continue
            if not self._can_be_forgotten(path):
                message = Message.of("meta.forget: there is no field ", quote(path, is_name=True))
                may_suggest = suggest and len(findings) < MOST_VIOLATIONS
                hint = self._forget_hint(path, suggest=may_suggest)
            elif path in declared:
                message = Message.of(
                    place_name((path,)), " is both declared and listed under meta.forget"
                )
                hint = "Remove it from one of the two."
            else:
                continue
            place = document.at(("meta", "forget", index))
            findings.append(error("meta/forget", message, source=place, hint=hint))
        return findings

    def _can_be_forgotten(self, path: str) -> bool:
        group, _, key = path.partition(".")
        if group == ATTRIBUTES:
            return self.attribute_key(key) is not None
        # The state may record fields of another dialect, which this one has no other way to drop.
        return path == INSTALLATION or bool(self.contract.dialects_with(path))

    def _forget_hint(self, path: str, *, suggest: bool) -> str:
        if path.partition(".")[0] == ATTRIBUTES:
            return "Name each key: custom_attributes.KEY."
        names = [*self.contract.fields, INSTALLATION] if suggest else []
        suggestion = did_you_mean(path, names)
        return f'Did you mean "{suggestion}"?' if suggestion else "Give paths like `birthday`."

    def _suspicious(self, path: str, content: str, *, document: Document) -> Diagnostic:
        field = self.contract.fields[path]
        warn = field.warn or {}
        fits = warn.get("known") == "countries" and content.upper() in self.contract.countries
        return warning(
            "profile/suspicious",
            Message.of(
                f"`{path}` is ", quote(content), f", which {warn.get('message', 'looks wrong')}"
            ),
            source=document.at(tuple(path.split("."))),
            hint=Message.of("Did you mean ", quote(content.upper()), "?")
            if fits
            else field.description,
        )


def _lifetime(meta: Mapping[str, Any], document: Document) -> Iterator[Diagnostic]:
    expires: str = meta["expires"]
    if not is_time(expires):
        yield error(
            "meta/expires",
            Message.of(
                "`meta.expires` is ",
                quote(expires),
                ", which is no day of the calendar or time of a day",
            ),
            source=document.at(("meta", "expires")),
            hint="Write it like 2030-12-31 or 2030-12-31T18:00Z.",
        )
    elif "ttl" in meta:
        yield error(
            "meta/expires",
            "`meta.expires` and `meta.ttl` are both given",
            source=document.at(("meta", "ttl")),
            hint="Keep one of the two.",
        )


def _not_a_map(document: Document) -> Diagnostic:
    return error(
        "profile/type",
        Message.of("a profile must be a map, not ", kind_of(document.value)),
        source=document.source,
        hint="Begin with `customer_user_id: …`.",
    )


def _refused_too(first: Document, count: int) -> Diagnostic:
    more = f" and {count - 1:,} more of this file are" if count > 1 else " is"
    return error(
        f"profile/{MORE_FINDINGS}",
        f"this document{more} refused too, without an explanation",
        source=first.source,
        hint="Mend what is listed for this file, then check again.",
    )


def _written_as_float(name: str, content: float, *, document: Document) -> Diagnostic:
    whole = (": ", Quote(f"{content:.0f}", "")) if content.is_integer() else ()
    return error(
        "profile/type",
        Message.of(f"`{name}` must be a whole number, not ", Quote(str(content), "")),
        source=document.at((name,)),
        hint=Message.of("Write it without a point", *whole, "."),
    )


def _ways_out(field: Field) -> str:
    return ways_out(INSTALLATION if field.path == DEVICE_ID else field.path)


def _other_dialect(contract: Contract, path: str) -> Dialect | None:
    dialects = contract.dialects_with(path)
    return dialects[0] if dialects and contract.dialect not in dialects else None


def _identifiers_without_analytics(
    installation: Mapping[str, Any], document: Document
) -> Iterator[Diagnostic]:
    for name in sorted(path.removeprefix(f"{INSTALLATION}.") for path in ADVERTISING_IDS):
        if installation.get(name):
            yield warning(
                "profile/suspicious",
                f"`{INSTALLATION}.{name}` is declared while `analytics_disabled` is true: "
                "the API empties it, and it is not compared until they are on again (assumed)",
                source=document.at((INSTALLATION, name)),
                hint="Remove the identifier, or set `analytics_disabled` to false.",
            )


def _attributes_of(content: Any) -> Iterator[tuple[str, Any, Path]]:
    """Key, value and place of each custom attribute. Items of another shape are left out."""
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
                Message.of(
                    "the custom attribute ",
                    quote(key, is_name=True),
                    f" is listed twice, first in line {document.at(first[key]).line}",
                ),
                source=document.at(path),
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
    """The compiled checks of a contract, made once; with ``partial`` no field has to be there."""
    return _Checker(contract, partial=partial)
