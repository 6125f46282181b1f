"""The verdict on a request: its headers and its body against one dialect of the contract.

The judge reads the contract's *data* (``schemas/contract.json``) with code of its own. It shares neither
the normaliser nor the validation of the planner, so a mistake there is not repeated here. Points that
nobody documents follow the defaults of adapty-api 7; `Switches` changes them.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

from reconciler.emulator.instants import parse_instant
from reconciler.emulator.profile import StoredProfile
from reconciler.values import Json

CUSTOMER_HEADER = "adapty-customer-user-id"
PROFILE_HEADER = "adapty-profile-id"
_PLATFORM_HEADER = "adapty-platform"
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ADVERTISING_MEMBERS = ("idfa", "idfv", "advertising_id")
NULL = ("not_allowed", "none is not an allowed value")
NOT_A_DICT = ("dict", "value is not a valid dict")
NOT_A_STRING = ("str", "str type expected")
MISSING = ("missing", "field required")
EXTRA = ("extra", "extra fields not permitted")
_BAD_INSTANT = ("datetime", "invalid datetime format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Answers to questions that nobody documents; the defaults are those of adapty-api 7."""

    strict: bool = True
    """Refuse unknown fields (7.21), ``""`` (7.28) and duplicate attribute keys (7.18). If not strict,
    unknown fields are ignored, ``""`` is stored, and the last of two equal keys wins."""
    null_deletes: bool = True
    """``null`` deletes a custom attribute; otherwise only ``""`` does (7.16)."""
    installation_required: bool = False
    """A body without installation_meta is refused (7.4)."""
    null_lists: bool = False
    """Empty access lists are answered as null (7.23)."""
    country_from_request: bool = True
    """A write without ip_country takes the country from the sender's address (7.26)."""
    grant_shortens: bool = False
    """A grant with an earlier end than the present one shortens access; otherwise the present end stays
    (8.3)."""
    grant_moves_start: bool = True
    """A grant of a level that is not over replaces its starts_at (8.3)."""
    missing_is_404: bool = False
    """A grant or a revoke for an unknown profile, or of a level that the app does not have, is answered
    with 404 and not with 400; both are documented (7.13, 7.14)."""
    whole_seconds: bool = False
    """Instants of answers have no microseconds (8.4)."""
    default_consent: bool | None = True
    """The consent that shows where none was set (8.5)."""
    default_preference: str | None = "decline"
    """The refund preference that shows where none was set (8.5)."""


class Rejected(Exception):
    """The request ends with an error body. Nothing of the request takes effect."""

    def __init__(
        self,
        status: int,
        code: str,
        *,
        errors: Sequence[tuple[str | None, str]],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.errors = tuple(errors)
        """Source and message of each error."""
        self.headers = headers


class RequestErrors:
    """The errors of one request in the order of their discovery."""

    def __init__(self) -> None:
        self._errors: list[tuple[str, str, str]] = []

    def __len__(self) -> int:
        return len(self._errors)

    def add(self, source: str, problem: tuple[str, str]) -> None:
        """Add an error; ``problem`` is its code and its message."""
        code, message = problem
        self._errors.append((source, code, message))

    def raise_if_any(self) -> None:
        """Raise the 400 that reports all errors under the code of the first (adapty-api 6.5)."""
        if self._errors:
            _, first_code, _ = self._errors[0]
            errors = [(source, message) for source, _, message in self._errors]
            raise Rejected(400, first_code, errors=errors)


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The schema of one member of a body, and the values that clear it."""

    schema: Mapping[str, Any]
    nullable: bool
    empty_clears: bool = False


def field_rules(
    contract: Mapping[str, Any], group: Mapping[str, Any], *, dialect: str
) -> dict[str, FieldRule]:
    """The rules of a group of the contract's fields in a dialect, by their names at the API."""
    rules = {}
    for name, facts in group.items():
        if dialect in facts.get("dialects", contract["dialects"]):
            facts = {**facts, **facts.get(dialect, {})}
            clear = facts["clear"]
            rules[facts.get("api_name", name)] = FieldRule(
                facts["schema"], clear != "never", clear == "empty"
            )
    return rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The rules of one dialect, and the verdict on requests."""

    fields: Mapping[str, FieldRule]
    members: Mapping[str, FieldRule]
    """The members of installation_meta."""
    required_members: tuple[str, ...]
    key_pattern: str
    max_length: int
    """Characters of an attribute's value."""
    max_attributes: int
    """The limit of custom attributes of one profile."""
    platforms: tuple[str, ...]
    switches: Switches

    @classmethod
    def of(cls, contract: Mapping[str, Any], *, dialect: str, switches: Switches) -> Judge:
        """The judge of a dialect that the contract's data describes."""

        def in_dialect(name: str) -> dict[str, Any]:
            return {**contract[name], **contract[name].get(dialect, {})}

        attributes, installation = in_dialect("custom_attributes"), in_dialect("installation_meta")
        return cls(
            fields=field_rules(contract, contract["fields"], dialect=dialect),
            members=field_rules(contract, installation["fields"], dialect=dialect),
            required_members=tuple(installation["required"]),
            key_pattern=attributes["key_pattern"],
            max_length=attributes["value_max_length"],
            max_attributes=attributes["max_items"],
            platforms=tuple(contract["platforms"]),
            switches=switches,
        )

    def identifiers(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Customer id and profile id, each ``""`` if it is absent; at least one is present.

        Raises Rejected if both are absent, or if an identifier or the platform is malformed.
        """
        customer, profile_id = headers.get(CUSTOMER_HEADER, ""), headers.get(PROFILE_HEADER, "")
        if not customer and not profile_id:
            raise not_authenticated()
        errors = RequestErrors()
        if profile_id and not UUID.fullmatch(profile_id):
            errors.add(PROFILE_HEADER, ("uuid", "value is not a valid uuid"))
        platform = headers.get(_PLATFORM_HEADER, "")
        if platform and platform not in self.platforms:
            errors.add(_PLATFORM_HEADER, _not_a_member(self.platforms))
        errors.raise_if_any()
        return customer, profile_id.lower()

    def apply(self, body: Json, profile: StoredProfile) -> None:
        """Write a body into a profile.

        Raises Rejected with every error; the profile is half changed then, and must be thrown away.
        """
        errors = RequestErrors()
        if not isinstance(body, dict):
            errors.add("non_field_errors", NOT_A_DICT)
            errors.raise_if_any()
            return
        for name, value in body.items():
            match name:
                case "custom_attributes":
                    self._write_attributes(value, profile, errors=errors)
                case "installation_meta":
                    self._write_installation(value, profile, errors=errors)
                case _ if name in self.fields:
                    problem = self._write(
                        self.fields[name], value, name=name, target=profile.fields
                    )
                    if problem:
                        errors.add(name, problem)
                case _ if self.switches.strict:
                    errors.add(name, EXTRA)
        if self.switches.installation_required and "installation_meta" not in body:
            errors.add("installation_meta", MISSING)
        errors.raise_if_any()
        if profile.fields.get("analytics_disabled") is True:
            for members in profile.installations.values():
                for name in _ADVERTISING_MEMBERS:
                    members.pop(name, None)

    def _write(
        self, rule: FieldRule, value: Json, *, name: str, target: dict[str, Any]
    ) -> tuple[str, str] | None:
        """Write or clear one value in ``target``; the problem instead if the rule refuses the value."""
        if (value is None and rule.nullable) or (value == "" and rule.empty_clears):
            target.pop(name, None)
        elif problem := value_problem(
            rule.schema,
            value,
            name=name,
            checks_length=self.switches.strict or name in self.required_members,
        ):
            return problem
        else:
            target[name] = value
        return None

    def _write_attributes(
        self, value: Json, profile: StoredProfile, *, errors: RequestErrors
    ) -> None:
        place = "custom_attributes"
        if value is None:
            return errors.add(place, NULL)
        if not isinstance(value, list):
            return errors.add(place, ("list", "value is not a valid list"))
        if not value:
            return errors.add(place, ("min_items", "ensure this value has at least 1 items"))
        errors_before = len(errors)
        keys: set[str] = set()
        for index, item in enumerate(value):
            self._judge_attribute(item, f"{place}.{index}", keys=keys, errors=errors)
        if len(errors) > errors_before:
            return None
        for item in value:
            key, new = item["key"], item["value"]
            if new is None or new == "":
                profile.attributes.pop(key, None)
            else:
                profile.attributes[key] = new if isinstance(new, str) else float(new)
        if len(profile.attributes) > self.max_attributes:
            limit = f"Maximum of {self.max_attributes} attributes for the profile"
            errors.add(place, ("value_error", limit))
        return None

    def _judge_attribute(
        self, item: Json, place: str, *, keys: set[str], errors: RequestErrors
    ) -> None:
        """Judge one pair of key and value; ``keys`` are those of the pairs before it."""
        if not isinstance(item, dict):
            return errors.add(place, NOT_A_DICT)
        for name in ("key", "value"):
            if name not in item:
                errors.add(f"{place}.{name}", MISSING)
        if self.switches.strict:
            for name in item.keys() - {"key", "value"}:
                errors.add(f"{place}.{name}", EXTRA)
        if "key" in item and (problem := self._key_problem(item["key"], keys)):
            errors.add(f"{place}.key", problem)
        if "value" in item and (problem := self._value_problem(item["value"])):
            errors.add(f"{place}.value", problem)
        return None

    def _key_problem(self, key: Json, keys: set[str]) -> tuple[str, str] | None:
        if not isinstance(key, str):
            return NULL if key is None else NOT_A_STRING
        if not _matches(self.key_pattern, key):
            return "regex", f'string does not match regex "{self.key_pattern}"'
        if key in keys and self.switches.strict:
            return "unique_items", "the list has duplicated items"
        keys.add(key)
        return None

    def _value_problem(self, value: Json) -> tuple[str, str] | None:
        match value:
            case None:
                return None if self.switches.null_deletes else NULL
            case str():
                if len(value) > self.max_length:
                    limit = f"ensure this value has at most {self.max_length} characters"
                    return "max_length", limit
            case bool() | int() | float():
                if not _is_double(value):
                    return "float", "value is not a valid float"
            case _:
                return NOT_A_STRING
        return None

    def _write_installation(
        self, value: Json, profile: StoredProfile, *, errors: RequestErrors
    ) -> None:
        place = "installation_meta"
        if not isinstance(value, dict):
            return errors.add(place, NULL if value is None else NOT_A_DICT)
        errors_before = len(errors)
        for name in self.required_members:
            if name not in value:
                errors.add(f"{place}.{name}", MISSING)
        device = value.get("device_id")
        before = profile.installations.get(device, {}) if isinstance(device, str) else {}
        members = dict(before)
        for name, member in value.items():
            problem = None
            if name in self.members:
                problem = self._write(self.members[name], member, name=name, target=members)
            elif self.switches.strict:
                problem = EXTRA
            if problem:
                errors.add(f"{place}.{name}", problem)
        if len(errors) == errors_before and isinstance(device, str):
            del members["device_id"]
            profile.installations[device] = members
        return None


def value_problem(
    schema: Mapping[str, Any], value: Json, *, name: str, checks_length: bool
) -> tuple[str, str] | None:
    """Code and message of an error in the value of the member ``name``, in Pydantic's words (adapty-api
    6.5); None for a valid value."""
    if value is None:
        return NULL
    match schema["type"]:
        case "boolean" if not isinstance(value, bool):
            return "bool", "value could not be parsed to a boolean"
        case "integer" if isinstance(value, bool) or not isinstance(value, int):
            return "integer", "value is not a valid integer"
        case "string" if not isinstance(value, str):
            is_instant = schema.get("format") == "date-time"
            return _BAD_INSTANT if is_instant else NOT_A_STRING
    if "enum" in schema and value not in schema["enum"]:
        return _not_a_member(schema["enum"])
    if not isinstance(value, str):
        return None
    if checks_length and len(value) < schema.get("minLength", 0):
        return "min_length", "ensure this value has at least 1 characters"
    return _format_problem(schema, value) or _pattern_problem(schema, value, name=name)


def _format_problem(schema: Mapping[str, Any], value: str) -> tuple[str, str] | None:
    match schema.get("format"):
        case "date" if not _is_date(value):
            return "date", "invalid date format"
        case "date-time" if parse_instant(value) is None:
            return _BAD_INSTANT
        case "ipv4" if not _is_ipv4(value):
            return "ipv4address", "value is not a valid IPv4 address"
        case "uuid" if not UUID.fullmatch(value):
            return "uuid", "value is not a valid uuid"
    return None


def _pattern_problem(schema: Mapping[str, Any], value: str, *, name: str) -> tuple[str, str] | None:
    pattern = schema.get("pattern")
    if not pattern or _matches(pattern, value):
        return None
    if name == "email":
        return "email", "value is not a valid email address"
    return "regex", f'string does not match regex "{pattern}"'


def _not_a_member(permitted: Sequence[Json]) -> tuple[str, str]:
    names = ", ".join(repr(each) for each in permitted if each != "")
    return "enum", f"value is not a valid enumeration member; permitted: {names}"


def _matches(pattern: str, text: str) -> bool:
    """Whether the pattern matches the whole text: ``$`` alone would accept a final newline."""
    return re.fullmatch(pattern, text) is not None


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_double(number: float) -> bool:
    try:
        return abs(float(number)) != float("inf")
    except OverflowError:
        return False


# --- requests that are refused without a look at their fields ------------------------------------


def parse_body(content_type: str, body: bytes) -> Json:
    """The JSON of a body; raises Rejected for another media type (415) or malformed JSON (400)."""
    media, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        message = f'Unsupported media type "{content_type}" in request.'
        raise Rejected(415, "unsupported_media_type", errors=[(None, message)])
    return parse_json(body)


def parse_json(body: bytes) -> Json:
    """The JSON of a body; raises Rejected (400) if it is malformed."""
    try:
        parsed: Json = _STANDARD_JSON.decode(body.decode("utf-8"))
    except RecursionError:
        raise _parse_error("nested too deeply") from None
    except ValueError as problem:
        raise _parse_error(str(problem)) from None
    return parsed


def refuse_constant(name: str) -> float:
    """The ``parse_constant`` of a JSON decoder that keeps to the standard: NaN and Infinity are errors."""
    raise ValueError(f"Out of range float values are not JSON compliant: {name}")


_STANDARD_JSON = json.JSONDecoder(parse_constant=refuse_constant)


def _parse_error(reason: str) -> Rejected:
    return Rejected(400, "parse_error", errors=[(None, f"JSON parse error - {reason}")])


def not_found() -> Rejected:
    return Rejected(404, "not_found", errors=[(None, "Not found.")])


def not_authenticated() -> Rejected:
    message = "Authentication credentials were not provided."
    return Rejected(401, "not_authenticated", errors=[("non_field_errors", message)])


def method_not_allowed(method: str, allowed: str) -> Rejected:
    """The refusal of a method; ``allowed`` lists the methods that the path takes."""
    message = f'Method "{method}" not allowed.'
    return Rejected(405, "method_not_allowed", errors=[(None, message)], headers={"Allow": allowed})
