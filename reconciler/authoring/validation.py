"""The rules of profiles: documents → all findings about them at once. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import groupby
from typing import Any

from reconciler.authoring.claims import cross_file_findings
from reconciler.authoring.documents import Document, Path
from reconciler.authoring.facets.registry import BY_GROUP, FACET_RULES
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
    Clear,
    Contract,
    Dialect,
    Field,
    ways_out,
)
from reconciler.core.facets.registry import GROUPS, facet_of
from reconciler.core.lifetimes import is_time
from reconciler.core.profile_schema import profile_schema
from reconciler.core.renames import RULE, Identifiers, former_address, impossible
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
        together = [*group]
        yield from _printable(checker.check_file(together), together)


def _printable(
    findings: Iterable[Diagnostic], documents: Sequence[Document]
) -> Iterator[Diagnostic]:
    """The findings about the documents of a file. If a value of any of them came from the environment, they
    quote none: a finding has a place, and a place may be that of several documents."""
    if any(document.environment for document in documents):
        return (finding.without_values() for finding in findings)
    return iter(findings)


def validate_document(document: Document, contract: Contract) -> list[Diagnostic]:
    """All findings about one document by itself."""
    return [*_printable(_checker(contract).check_file([document]), [document])]


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
            for rules in FACET_RULES:
                rules.without_required(self.schema["properties"][rules.group])
        self.is_valid = verdict_of(self.schema)
        self.warned = {
            path: usual for path, field in contract.fields.items() if (usual := self._usual(field))
        }
        self.warned_members = {
            group: {
                path.partition(".")[2]: usual
                for path, usual in self.warned.items()
                if path.startswith(f"{group}.")
            }
            for group in GROUPS
        }
        self.integers = {
            path for path, field in contract.fields.items() if field.schema["type"] == "integer"
        }

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
        for rules in FACET_RULES:
            if content := value.get(rules.group):
                findings += self._suspicious_members(rules.group, document, refused=refused)
                findings += rules.findings(content, document, contract=self.contract)
        meta = value.get("meta")
        if type(meta) is dict:
            if type(meta.get("forget")) is list:
                findings += self._forget(meta["forget"], document, suggest=suggest)
            if type(meta.get("previously")) is list:
                findings += _previously(meta["previously"], document, refused=refused)
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
        elif (
            isinstance(head, str)
            and head in BY_GROUP
            and (explanation := BY_GROUP[head].explain(violation, self.contract))
        ):
            rule, message, hint = explanation
        elif path[:2] == ("meta", "forget") and violation.kind == "value":
            rule = "meta/forget"
        elif violation.kind == "value" and violation.instance == "":
            field = self._field(path)
            if field is not None and field.clear is Clear.NEVER:
                hint = f"It cannot be cleared. {_ways_out(field)}"
        return error(rule, message, source=document.at(path), hint=hint)

    def _field(self, path: Path) -> Field | None:
        """The field at a path of a document, if the contract names it."""
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
            for group in BY_GROUP:
                if f"{group}.{violation.name}" in contract.fields:
                    return f"It belongs under `{group}`."
            if violation.name in self.schema["properties"]["meta"]["properties"]:
                return "It belongs under `meta`."
        return ""

    # -- rules that a schema cannot express --

    def _forget(self, paths: list[Any], document: Document, *, suggest: bool) -> list[Diagnostic]:
        declared = set(_declared(document.value))
        for group in GROUPS:
            if not declared.isdisjoint(self.contract.members(group)):
                declared.add(group)
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
        rules = BY_GROUP.get(path.partition(".")[0])
        if rules is not None:
            return rules.can_be_forgotten(path, self.contract)
        # The state may record fields of another dialect, which this one has no other way to drop.
        return bool(self.contract.dialects_with(path))

    def _forget_hint(self, path: str, *, suggest: bool) -> str:
        rules = BY_GROUP.get(path.partition(".")[0])
        if rules is not None and (hint := rules.forget_hint()):
            return hint
        forgettable = [group for group in BY_GROUP if self._can_be_forgotten(group)]
        names = [*self.contract.fields, *forgettable] if suggest else []
        suggestion = did_you_mean(path, names)
        return f'Did you mean "{suggestion}"?' if suggestion else "Give paths like `birthday`."

    def _suspicious_members(
        self, group: str, document: Document, *, refused: Set[Path]
    ) -> Iterator[Diagnostic]:
        """The suspicions about the fields of a group that the contract names."""
        warned, content = self.warned_members[group], document.value[group]
        if not warned or not isinstance(content, dict):
            return
        for name, raw in content.items():
            usual = warned.get(name)
            is_unusual = usual is not None and type(raw) is str and not usual(raw)
            if is_unusual and (group, name) not in refused:
                yield self._suspicious(f"{group}.{name}", raw, document=document)

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


def _previously(
    formers: list[Any], document: Document, *, refused: Set[Path]
) -> Iterator[Diagnostic]:
    """The findings about former addresses that no state can have a record of this profile under."""
    value: Any = document.value
    customer, profile_id = value.get("customer_user_id"), value.get("profile_id")
    ids = Identifiers(
        customer if type(customer) is str else None,
        profile_id.lower() if type(profile_id) is str else None,
    )
    for index, former in enumerate(formers):
        place = ("meta", "previously", index)
        if type(former) is not str or place in refused or not any(ids):
            continue
        problem = impossible(former_address(former), ids)
        if problem is not None:
            yield error(RULE, problem.message, source=document.at(place), hint=problem.hint)


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
    path = field.path
    return ways_out(facet_of(path).unclearable(path))


def _other_dialect(contract: Contract, path: str) -> Dialect | None:
    dialects = contract.dialects_with(path)
    return dialects[0] if dialects and contract.dialect not in dialects else None


def _declared(value: Mapping[str, Any]) -> Iterator[str]:
    """The field paths that a document mentions."""
    for name, content in value.items():
        if name in BY_GROUP:
            yield from (f"{name}.{key}" for key in BY_GROUP[name].declared_keys(content))
        elif name != "meta":
            yield name


@lru_cache(maxsize=8)
def _checker(contract: Contract, *, partial: bool = False) -> _Checker:
    """The compiled checks of a contract, made once; with ``partial`` no field has to be there."""
    return _Checker(contract, partial=partial)
