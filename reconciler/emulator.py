"""The API, locally: a faithful stand-in for Adapty's profile methods, over real HTTP.

It judges requests by its own code over the contract's *data* (``schemas/contract.json``) and the
fact sheet's defaults (adapty-api 7), and shares neither the normaliser nor the validation of the
planner: a mistake there must not be repeated here. Answers hold what the real API returns and
nothing else; what was written but is never returned is seen through `Emulator.profiles` only.

`Emulator` is the API without HTTP, `EmulatorServer` puts it on a loopback port, and `Faults` stands
between the two and misbehaves on request.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import random
import re
import socket
import sqlite3
import struct
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, Protocol, Self, assert_never

from reconciler.errors import ReconcileError, Refused, UsageError
from reconciler.resources import load_schema
from reconciler.values import Json, canonical

PROFILE_PATH = "/api/v2/server-side-api/profile/"
DEBUG_PATH = "/debug/profiles/"
MAX_BODY = 1 << 20
"""Bytes of a request body; more is answered with 413. (Assumed: nobody documents a limit.)"""

_LOG_SIZE = 10_000
_METHODS = "GET, POST, PATCH, DELETE"
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_AUTHORIZATION = re.compile(r"Api-Key (?!public_live_)([!-~]+)")
_ADVERTISING = ("idfa", "idfv", "advertising_id")
_NOBODY_KNOWS = "ZZ"
"""The country of a loopback address: a code that ISO 3166-1 will never assign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Answers to questions that nobody documents; the defaults are those of adapty-api 7."""

    strict: bool = True
    """Refuse unknown fields (7.21), ``""`` (7.28) and duplicate attribute keys (7.18). Lenient:
    ignored, stored, and the last one wins."""
    null_deletes: bool = True
    """``null`` deletes a custom attribute; otherwise only ``""`` does (7.16)."""
    installation_required: bool = False
    """A body without installation_meta is refused (7.4)."""
    null_lists: bool = False
    """Empty access lists are answered as null (7.23)."""
    country_from_request: bool = True
    """A write without ip_country takes the country from the sender's address (7.26)."""
    rate_limit: int | None = None
    """Requests a minute for each key; beyond it 429 (7.25)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it goes over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A request that arrived, for the log: header names in lower case, without the key; ``body``
    parsed, or text where it was not JSON; ``status`` what the API answered, 0 for a connection
    that a fault closed first."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json
    status: int


class _Rejected(Exception):
    """Ends a request with an error body; nothing of the request takes effect."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        source: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers
        self.errors: list[tuple[str | None, str]] = [(source, message)]


class _Errors:
    """The violations of one body, in the order found: a code each, and a source."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []

    def add(self, source: str, code: str, message: str) -> None:
        self.found.append((source, code, message))

    def stop(self) -> None:
        """Raises the 400 that reports all of them, under the code of the first (adapty-api 6.5)."""
        if self.found:
            rejected = _Rejected(400, self.found[0][1], "")
            rejected.errors = [(source, message) for source, _, message in self.found]
            raise rejected


# --- judging a body ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    schema: Mapping[str, Any]
    nullable: bool
    empty_clears: bool


@dataclass(slots=True)
class _Profile:
    """What the server keeps. Cleared fields and members are absent."""

    profile_id: str
    customer_user_id: str | None
    fields: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str | float] = field(default_factory=dict)
    installations: dict[str, dict[str, Any]] = field(default_factory=dict)
    country: str | None = None
    country_source: str | None = None
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class _Judge:
    """One dialect of the contract's data, and the verdict on request bodies."""

    fields: Mapping[str, _Rule]
    members: Mapping[str, _Rule]
    required_members: tuple[str, ...]
    key_pattern: str
    max_length: int
    max_attributes: int
    platforms: tuple[str, ...]
    switches: Switches

    @classmethod
    def of(cls, data: Mapping[str, Any], dialect: str, switches: Switches) -> _Judge:
        def rules(group: Mapping[str, Any]) -> dict[str, _Rule]:
            chosen = {}
            for name, facts in group.items():
                if dialect in facts.get("dialects", data["dialects"]):
                    facts = {**facts, **facts.get(dialect, {})}
                    clear = facts["clear"]
                    chosen[name] = _Rule(facts["schema"], clear != "never", clear == "empty")
            return chosen

        attributes = {**data["custom_attributes"], **data["custom_attributes"].get(dialect, {})}
        installation = {**data["installation_meta"], **data["installation_meta"].get(dialect, {})}
        return cls(
            fields=rules(data["fields"]),
            members=rules(installation["fields"]),
            required_members=tuple(installation["required"]),
            key_pattern=attributes["key_pattern"],
            max_length=attributes["value_max_length"],
            max_attributes=attributes["max_items"],
            platforms=tuple(data["platforms"]),
            switches=switches,
        )

    def apply(self, body: Json, profile: _Profile) -> None:
        """Write a body into a profile, or raise `_Rejected` with every violation; then the profile
        is to be thrown away."""
        errors = _Errors()
        if not isinstance(body, dict):
            errors.add("non_field_errors", "dict", "value is not a valid dict")
            errors.stop()
            return
        for name, value in body.items():
            match name:
                case "custom_attributes":
                    self._attributes(value, profile, errors)
                case "installation_meta":
                    self._installation(value, profile, errors)
                case _ if name in self.fields:
                    self._write(self.fields[name], name, value, profile.fields, errors, name)
                case _ if self.switches.strict:
                    errors.add(name, "extra", "extra fields not permitted")
        if self.switches.installation_required and "installation_meta" not in body:
            errors.add("installation_meta", "missing", "field required")
        errors.stop()
        if profile.fields.get("analytics_disabled") is True:
            for members in profile.installations.values():
                for name in _ADVERTISING:
                    members.pop(name, None)

    def _write(
        self,
        rule: _Rule,
        name: str,
        value: Json,
        into: dict[str, Any],
        errors: _Errors,
        source: str,
    ) -> None:
        if (value is None and rule.nullable) or (value == "" and rule.empty_clears):
            into.pop(name, None)
        elif problem := self._problem(name, rule.schema, value):
            errors.add(source, *problem)
        else:
            into[name] = value

    def _problem(self, name: str, schema: Mapping[str, Any], value: Json) -> tuple[str, str] | None:
        """Code and message of what is wrong with a value, in Pydantic's words (adapty-api 6.5)."""
        if value is None:
            return "not_allowed", "none is not an allowed value"
        match schema["type"]:
            case "boolean" if not isinstance(value, bool):
                return "bool", "value could not be parsed to a boolean"
            case "integer" if isinstance(value, bool) or not isinstance(value, int):
                return "integer", "value is not a valid integer"
            case "string" if not isinstance(value, str):
                return "str", "str type expected"
        if "enum" in schema and value not in schema["enum"]:
            return _not_a_member(schema["enum"])
        if not isinstance(value, str):
            return None
        judged = self.switches.strict or name in self.required_members
        if judged and len(value) < schema.get("minLength", 0):
            return "min_length", "ensure this value has at least 1 characters"
        match schema.get("format"):
            case "date" if not _is_date(value):
                return "date", "invalid date format"
            case "ipv4" if not _is_ipv4(value):
                return "ipv4address", "value is not a valid IPv4 address"
            case "uuid" if not _UUID.fullmatch(value):
                return "uuid", "value is not a valid uuid"
        pattern = schema.get("pattern")
        if pattern and not _matches(pattern, value):
            if name == "email":
                return "email", "value is not a valid email address"
            return "regex", f'string does not match regex "{pattern}"'
        return None

    def _attributes(self, value: Json, profile: _Profile, errors: _Errors) -> None:
        at = "custom_attributes"
        if value is None:
            return errors.add(at, "not_allowed", "none is not an allowed value")
        if not isinstance(value, list):
            return errors.add(at, "list", "value is not a valid list")
        if not value:
            return errors.add(at, "min_items", "ensure this value has at least 1 items")
        before = len(errors.found)
        seen: set[str] = set()
        for index, item in enumerate(value):
            place = f"{at}.{index}"
            if not isinstance(item, dict):
                errors.add(place, "dict", "value is not a valid dict")
                continue
            for name in ("key", "value"):
                if name not in item:
                    errors.add(f"{place}.{name}", "missing", "field required")
            if self.switches.strict:
                for name in item.keys() - {"key", "value"}:
                    errors.add(f"{place}.{name}", "extra", "extra fields not permitted")
            if "key" in item:
                self._attribute_key(item["key"], f"{place}.key", seen, errors)
            if "value" in item:
                self._attribute_value(item["value"], f"{place}.value", errors)
        if len(errors.found) > before:
            return None
        for item in value:
            key, new = item["key"], item["value"]
            if new is None or new == "":
                profile.attributes.pop(key, None)
            else:
                profile.attributes[key] = new if isinstance(new, str) else float(new)
        if len(profile.attributes) > self.max_attributes:
            limit = f"Maximum of {self.max_attributes} attributes for the profile"
            errors.add(at, "value_error", limit)
        return None

    def _attribute_key(self, key: Json, at: str, seen: set[str], errors: _Errors) -> None:
        if not isinstance(key, str):
            code = ("str", "str type expected")
            errors.add(at, *(_NULL if key is None else code))
        elif not _matches(self.key_pattern, key):
            errors.add(at, "regex", f'string does not match regex "{self.key_pattern}"')
        elif key in seen and self.switches.strict:
            errors.add(at, "unique_items", "the list has duplicated items")
        else:
            seen.add(key)

    def _attribute_value(self, value: Json, at: str, errors: _Errors) -> None:
        match value:
            case None:
                if not self.switches.null_deletes:
                    errors.add(at, *_NULL)
            case str():
                if len(value) > self.max_length:
                    longest = f"ensure this value has at most {self.max_length} characters"
                    errors.add(at, "max_length", longest)
            case bool() | int() | float():
                if not _is_double(value):
                    errors.add(at, "float", "value is not a valid float")
            case _:
                errors.add(at, "str", "str type expected")

    def _installation(self, value: Json, profile: _Profile, errors: _Errors) -> None:
        at = "installation_meta"
        if not isinstance(value, dict):
            code = ("dict", "value is not a valid dict")
            return errors.add(at, *(_NULL if value is None else code))
        before = len(errors.found)
        for name in self.required_members:
            if name not in value:
                errors.add(f"{at}.{name}", "missing", "field required")
        device = value.get("device_id")
        known = profile.installations.get(device, {}) if isinstance(device, str) else {}
        members = dict(known)
        for name, member in value.items():
            if name in self.members:
                self._write(self.members[name], name, member, members, errors, f"{at}.{name}")
            elif self.switches.strict:
                errors.add(f"{at}.{name}", "extra", "extra fields not permitted")
        if len(errors.found) == before and isinstance(device, str):
            del members["device_id"]
            profile.installations[device] = members
        return None


_NULL = ("not_allowed", "none is not an allowed value")


def _not_a_member(permitted: Sequence[Json]) -> tuple[str, str]:
    names = ", ".join(repr(each) for each in permitted if each != "")
    return "enum", f"value is not a valid enumeration member; permitted: {names}"


def _matches(pattern: str, text: str) -> bool:
    """Over the whole of a text: ``$`` alone would let a final newline pass."""
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


# --- what was written ----------------------------------------------------------------------------

_APPLICATION_ID = 0x52434D55
_FORMAT = 1
_PATIENCE = 30.0
"""Seconds to wait for another process that is writing."""


class _Store:
    """Profiles in SQLite: in memory, or in a file that several processes may share.

    Nothing is cached, so each request sees what another process wrote.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._sql = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_PATIENCE,
                isolation_level=None,
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error, ValueError) as problem:
            self._refuse(problem)
        # Owners may drop an emulator without closing it: the interpreter would complain.
        weakref.finalize(self, self._sql.close)
        try:
            self._prepare()
        except sqlite3.Error as problem:
            self._sql.close()
            self._refuse(problem)
        except Refused:
            self._sql.close()
            raise

    def _refuse(self, problem: Exception) -> NoReturn:
        raise ReconcileError(
            f"the emulator cannot use its database {self._path}: {problem}",
            hint="give another --db, or remove the file to start with no profiles",
        ) from None

    def _prepare(self) -> None:
        with self._transaction("BEGIN"):
            self._check_owner()
        if self._path is not None:
            self._write_ahead()
        with self.writing():
            if self._check_owner():
                return
            self._sql.execute(
                "CREATE TABLE profile (profile_id TEXT PRIMARY KEY, "
                "customer_user_id TEXT UNIQUE, content TEXT NOT NULL) WITHOUT ROWID"
            )
            self._sql.execute("CREATE TABLE app (app_id TEXT NOT NULL)")
            self._sql.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._sql.execute(f"PRAGMA user_version = {_FORMAT}")

    def _write_ahead(self) -> None:
        """Writes survive a killed process, which is all that an emulator owes.

        SQLite does not wait for its turn when the mode changes, so this does: another process may
        be creating the same file.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._sql.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as problem:
                busy = problem.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        self._sql.execute("PRAGMA synchronous = NORMAL")

    def _check_owner(self) -> bool:
        """Whether the tables are there; inside a transaction, so that it sees one moment.

        Raises Refused for a database that is not an emulator's.
        """
        (owner,) = self._sql.execute("PRAGMA application_id").fetchone()
        (version,) = self._sql.execute("PRAGMA user_version").fetchone()
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (owner, version) != (_APPLICATION_ID, _FORMAT):
            what = "another version's" if owner == _APPLICATION_ID else "not an emulator's"
            raise Refused(
                f"{self._path} is {what} database", hint="give the emulator a file of its own"
            )
        return bool(tables)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """All or nothing; committed when it ends."""
        return self._transaction("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._sql.execute(begin)
        try:
            yield
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise

    def app_id(self, wanted: str | None, new_id: Callable[[], uuid.UUID]) -> str:
        with self.writing():
            row = self._sql.execute("SELECT app_id FROM app").fetchone()
            app_id = wanted or (row[0] if row else str(new_id()))
            if row is None or row[0] != app_id:
                self._sql.execute("DELETE FROM app")
                self._sql.execute("INSERT INTO app VALUES (?)", (app_id,))
        return str(app_id)

    def by_profile(self, profile_id: str) -> _Profile | None:
        return self._one("profile_id", profile_id)

    def by_customer(self, customer_user_id: str) -> _Profile | None:
        return self._one("customer_user_id", customer_user_id)

    def _one(self, column: str, value: str) -> _Profile | None:
        row = self._sql.execute(f"SELECT * FROM profile WHERE {column} = ?", (value,)).fetchone()
        return None if row is None else _decode(*row)

    def all(self) -> list[_Profile]:
        return [_decode(*row) for row in self._sql.execute("SELECT * FROM profile").fetchall()]

    def put(self, profile: _Profile) -> None:
        content = json.dumps(
            {name: getattr(profile, name) for name in _Profile.__slots__[2:]},
            separators=(",", ":"),
        )
        self._sql.execute(
            "INSERT INTO profile VALUES (?, ?, ?) ON CONFLICT (profile_id) DO UPDATE SET "
            "customer_user_id = excluded.customer_user_id, content = excluded.content",
            (profile.profile_id, profile.customer_user_id, content),
        )

    def remove(self, profile_id: str) -> None:
        self._sql.execute("DELETE FROM profile WHERE profile_id = ?", (profile_id,))

    def close(self) -> None:
        self._sql.close()


def _decode(profile_id: str, customer_user_id: str | None, content: str) -> _Profile:
    return _Profile(profile_id, customer_user_id, **json.loads(content))


# --- the API -------------------------------------------------------------------------------------


class Emulator:
    """The API without HTTP: requests in, answers out. Safe to call from several threads.

    ``keys`` are the accepted secret keys (any, unless given). ``clock`` gives seconds since the
    epoch; ``locate`` the country of a sender's address.
    """

    def __init__(
        self,
        *,
        dialect: str = "guide",
        db: Path | None = None,
        keys: frozenset[str] | None = None,
        debug: bool = False,
        app_id: str | None = None,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
        locate: Callable[[str], str] = lambda ip: _NOBODY_KNOWS,
        switches: Switches | None = None,
        contract: Mapping[str, Any] | None = None,
    ) -> None:
        data = load_schema("contract") if contract is None else contract
        if dialect not in data["dialects"]:
            raise UsageError(
                f"the emulator knows no dialect {dialect}",
                hint="one of " + ", ".join(data["dialects"]),
            )
        self._switches = switches or Switches()
        self._judge = _Judge.of(data, dialect, self._switches)
        self._keys = keys
        self._debug = debug
        self._clock = clock
        self._new_id = new_id
        self._locate = locate
        self._lock = threading.RLock()
        self._told: dict[str, int] = {}
        self._recent: dict[str, deque[float]] = {}
        self._store = _Store(db)
        self.app_id = self._store.app_id(app_id, new_id)
        self.log: deque[Received] = deque(maxlen=_LOG_SIZE)
        """The last requests, oldest first, without keys."""

    def handle(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        peer_ip: str = "127.0.0.1",
    ) -> Answer:
        """Judge a request and carry it out; what is written is durable before this returns."""
        names = {name.lower(): value.strip() for name, value in headers.items()}
        try:
            answer = self._route(method, path.partition("?")[0], names, body, peer_ip)
        except _Rejected as rejected:
            answer = _error(rejected)
        except sqlite3.Error as problem:
            answer = _error(_Rejected(500, "internal_error", f"emulator database: {problem}"))
        self.record(method, path, headers, body, status=answer.status)
        return answer

    def record(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, *, status: int
    ) -> None:
        """Add a request to the log, without its key."""
        secret = {"authorization", "proxy-authorization", "cookie"}
        shown = {
            name.lower(): "(hidden)" if name.lower() in secret else value
            for name, value in headers.items()
        }
        parsed: Json = None
        if body:
            try:
                parsed = json.loads(body)
            except (ValueError, RecursionError):
                parsed = body.decode("utf-8", "replace")
        self.log.append(Received(method, path, MappingProxyType(shown), parsed, status))

    def profiles(self) -> list[dict[str, Any]]:
        """Everything that was written, by customer id and profile id; what is cleared is absent."""
        with self._lock:
            found = self._store.all()
        found.sort(key=lambda each: (each.customer_user_id or "", each.profile_id))
        return [
            {
                "customer_user_id": each.customer_user_id,
                "profile_id": each.profile_id,
                "fields": each.fields,
                "custom_attributes": each.attributes,
                "installations": each.installations,
                "country": each.country,
                "country_source": each.country_source,
            }
            for each in found
        ]

    def content(self) -> list[dict[str, Any]]:
        """What was written, in a form to compare two emulators by: without what the server makes up
        (profile ids, times) and without the country, which depends on who sent the last request."""
        kept = ("customer_user_id", "fields", "custom_attributes", "installations")
        found = [{name: profile[name] for name in kept} for profile in self.profiles()]
        return sorted(found, key=canonical)

    def add_anonymous(self) -> str:
        """A profile without customer id, as the app's first start makes one. The API itself cannot.

        Returns its profile id."""
        profile = _Profile(str(self._new_id()), None)
        with self._lock, self._store.writing():
            self._store.put(profile)
        return profile.profile_id

    def close(self) -> None:
        """Release the database. Requests after this are answered with 500."""
        with self._lock:
            self._store.close()

    # --- a request ---

    def _route(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, peer_ip: str
    ) -> Answer:
        if self._debug and path == DEBUG_PATH:
            return self._debug_view(method)
        if path != PROFILE_PATH:
            raise _Rejected(404, "not_found", "Not found.")
        self._authenticate(headers.get("authorization", ""))
        if method not in _METHODS.split(", "):
            raise _not_allowed(method, _METHODS)
        customer, profile_id = self._identifiers(headers)
        match method:
            case "GET":
                with self._lock:
                    profile = self._find(customer, profile_id)
                    profile.timestamp = self._timestamp(profile)
            case "DELETE":
                with self._lock, self._store.writing():
                    profile = self._find(customer, profile_id)
                    self._store.remove(profile.profile_id)
                    self._told.pop(profile.profile_id, None)
                return _answer(204)
            case _:
                parsed = _parse(headers.get("content-type", ""), body)
                with self._lock, self._store.writing():
                    find = self._find if method == "PATCH" else self._find_or_create
                    profile = find(customer, profile_id)
                    self._judge.apply(parsed, profile)
                    self._move(profile, parsed, peer_ip)
                    profile.timestamp = self._timestamp(profile)
                    self._store.put(profile)
        return _answer(200, {"data": self._shown(profile)})

    def _debug_view(self, method: str) -> Answer:
        match method:
            case "GET":
                return _answer(200, self.profiles())
            case "POST":
                return _answer(200, {"profile_id": self.add_anonymous()})
            case _:
                raise _not_allowed(method, "GET, POST")

    def _authenticate(self, authorization: str) -> None:
        match = _AUTHORIZATION.fullmatch(authorization)
        if match is None or (self._keys is not None and match[1] not in self._keys):
            raise _not_authenticated()
        limit = self._switches.rate_limit
        if limit is None:
            return
        now = self._clock()
        with self._lock:
            recent = self._recent.setdefault(match[1], deque())
            while recent and recent[0] <= now - 60:
                recent.popleft()
            if len(recent) >= limit:
                wait = str(max(1, round(recent[0] + 60 - now)) if recent else 60)
                raise _Rejected(
                    429, "rate_limited", "Too many requests", headers={"Retry-After": wait}
                )
            recent.append(now)

    def _identifiers(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Customer id and profile id, ``""`` for none; one of them is there."""
        customer = headers.get("adapty-customer-user-id", "")
        profile_id = headers.get("adapty-profile-id", "")
        if not customer and not profile_id:
            raise _not_authenticated()
        errors = _Errors()
        if profile_id and not _UUID.fullmatch(profile_id):
            errors.add("adapty-profile-id", "uuid", "value is not a valid uuid")
        platform = headers.get("adapty-platform", "")
        if platform and platform not in self._judge.platforms:
            errors.add("adapty-platform", *_not_a_member(self._judge.platforms))
        errors.stop()
        return customer, profile_id.lower()

    def _find(self, customer: str, profile_id: str) -> _Profile:
        """The profile that both ids, or the one given, name (adapty-api 2.2)."""
        profile = (
            self._store.by_profile(profile_id) if profile_id else self._store.by_customer(customer)
        )
        if profile is None or (customer and profile.customer_user_id != customer):
            raise _Rejected(404, "profile_does_not_exist", "Profile not found")
        return profile

    def _find_or_create(self, customer: str, profile_id: str) -> _Profile:
        if not profile_id:
            known = self._store.by_customer(customer)
            return known or _Profile(str(self._new_id()), customer)
        profile = self._find("", profile_id)
        if customer and profile.customer_user_id != customer:
            if profile.customer_user_id is not None or self._store.by_customer(customer):
                raise _Rejected(
                    400,
                    "customer_user_id_conflict",
                    "Profile and customer_user_id belong to different users",
                    source="non_field_errors",
                )
            profile.customer_user_id = customer
        return profile

    def _move(self, profile: _Profile, body: Json, peer_ip: str) -> None:
        """The country follows the request (adapty-api 3.2)."""
        explicit = body.get("ip_country") if isinstance(body, Mapping) else None
        if isinstance(explicit, str):
            profile.country, profile.country_source = explicit, "explicit"
        elif self._switches.country_from_request:
            profile.country, profile.country_source = self._locate(peer_ip), "request_ip"

    def _timestamp(self, profile: _Profile) -> int:
        """Milliseconds; for one profile greater than any told before."""
        last = max(profile.timestamp, self._told.get(profile.profile_id, 0))
        now = max(int(self._clock() * 1000), last + 1)
        self._told[profile.profile_id] = now
        return now

    def _shown(self, profile: _Profile) -> dict[str, Any]:
        none: list[Any] | None = None if self._switches.null_lists else []
        return {
            "app_id": self.app_id,
            "profile_id": profile.profile_id,
            "customer_user_id": profile.customer_user_id,
            "total_revenue_usd": 0.0,
            "segment_hash": hashlib.sha256(profile.profile_id.encode()).hexdigest()[:16],
            "timestamp": profile.timestamp,
            "custom_attributes": [
                {"key": key, "value": value} for key, value in profile.attributes.items()
            ],
            "access_levels": none,
            "subscriptions": none,
            "non_subscriptions": none,
        }


def _parse(content_type: str, body: bytes) -> Json:
    media, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        message = f'Unsupported media type "{content_type}" in request.'
        raise _Rejected(415, "unsupported_media_type", message)
    try:
        parsed: Json = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise _Rejected(400, "parse_error", "JSON parse error - nested too deeply") from None
    except ValueError as problem:
        raise _Rejected(400, "parse_error", f"JSON parse error - {problem}") from None
    return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {name}")


def _not_authenticated() -> _Rejected:
    return _Rejected(
        401,
        "not_authenticated",
        "Authentication credentials were not provided.",
        source="non_field_errors",
    )


def _not_allowed(method: str, allowed: str) -> _Rejected:
    message = f'Method "{method}" not allowed.'
    return _Rejected(405, "method_not_allowed", message, headers={"Allow": allowed})


def _answer(
    status: int, body: Json = None, headers: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    content = b"" if body is None else json.dumps(body).encode("ascii")
    named = {"Content-Type": "application/json"} if content else {}
    made = {"Request-Id": uuid.uuid4().hex, "Content-Length": str(len(content))}
    return Answer(status, {**named, **headers, **made}, content)


def _error(rejected: _Rejected) -> Answer:
    """The main error body (adapty-api 6.1): an entry for each source, its messages together."""
    by_source: dict[str | None, list[str]] = {}
    for source, message in rejected.errors:
        by_source.setdefault(source, []).append(message)
    body: Json = {
        "errors": [{"source": source, "errors": said} for source, said in by_source.items()],
        "error_code": rejected.code,
        "status_code": rejected.status,
    }
    return _answer(rejected.status, body, rejected.headers)


# --- faults --------------------------------------------------------------------------------------


class FaultKind(StrEnum):
    """What goes wrong."""

    LATENCY = "latency"
    STATUS = "status"
    RESET_BEFORE = "reset-before"
    RESET_AFTER = "reset-after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour and when it happens: of the requests with ``method``, each ``every``-th,
    with probability ``rate``, ``times`` at most."""

    kind: FaultKind
    seconds: float = 0.0
    status: int = 0
    retry_after: str | None = None
    rate: float = 1.0
    every: int = 1
    times: int | None = None
    method: str | None = None


def parse_fault(text: str) -> Fault:
    """A fault from ``latency=SECONDS``, ``status=CODE`` (or ``CODE``), ``reset-before`` or
    ``reset-after``, followed by any of ``:rate=P``, ``:every=N``, ``:times=N``, ``:method=M`` and,
    of a status, ``:retry-after=TEXT``.

    Raises UsageError on anything else.
    """
    first, *rest = text.split(":")
    name, _, value = first.partition("=")
    if first.isdecimal():
        name, value = FaultKind.STATUS.value, first
    try:
        made: dict[str, Any] = {"kind": FaultKind(name)}
        if name == FaultKind.LATENCY:
            made["seconds"] = _within(float(value), 0, 3600)
        elif name == FaultKind.STATUS:
            made["status"] = int(_within(int(value), 400, 599))
        elif value:
            raise ValueError
        for option in rest:
            key, _, value = option.partition("=")
            match key:
                case "rate":
                    made[key] = _within(float(value), 0, 1)
                case "every" | "times":
                    made[key] = int(_within(int(value), 1, 1_000_000_000))
                case "method" if value in _METHODS.split(", "):
                    made[key] = value
                case "retry-after" if made["kind"] is FaultKind.STATUS and value.isprintable():
                    made["retry_after"] = value
                case _:
                    raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is not a fault",
            hint="for example latency=0.1, status=503:rate=0.1, 429:retry-after=1:every=5, "
            "reset-before:times=1, reset-after:method=PATCH",
        ) from None
    return Fault(**made)


def _within(number: float, least: float, most: float) -> float:
    if not least <= number <= most:
        raise ValueError
    return number


class FaultHook(Protocol):
    """Stands between the connection and the API."""

    def around(self, method: str, answer: Callable[[], Answer]) -> Answer | None:
        """The answer to send; None closes the connection instead. Calls ``answer`` at most once;
        the request takes effect only if it does."""


class Faults:
    """Faults in their order; the same seed and the same sequence of requests misbehave alike."""

    def __init__(
        self,
        faults: Sequence[Fault],
        *,
        seed: int = 0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._faults = tuple(faults)
        self._random = random.Random(seed)
        self._sleep = sleep
        self._lock = threading.Lock()
        self._seen = [0] * len(faults)
        self._struck = [0] * len(faults)

    def around(self, method: str, answer: Callable[[], Answer]) -> Answer | None:
        with self._lock:
            striking = [each for index, each in enumerate(self._faults) if self._hit(index, method)]
        for fault in striking:
            match fault.kind:
                case FaultKind.LATENCY:
                    self._sleep(fault.seconds)
                case FaultKind.STATUS:
                    return _injected(fault)
                case FaultKind.RESET_BEFORE:
                    return None
                case FaultKind.RESET_AFTER:
                    answer()
                    return None
                case _:
                    assert_never(fault.kind)
        return answer()

    def _hit(self, index: int, method: str) -> bool:
        fault = self._faults[index]
        if fault.method not in (None, method) or self._struck[index] == fault.times:
            return False
        self._seen[index] += 1
        if self._seen[index] % fault.every or self._random.random() >= fault.rate:
            return False
        self._struck[index] += 1
        return True


def _injected(fault: Fault) -> Answer:
    code = "rate_limited" if fault.status == 429 else "injected_fault"
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    return _error(_Rejected(fault.status, code, "Injected by the emulator", headers=headers))


# --- HTTP ----------------------------------------------------------------------------------------


class EmulatorServer:
    """Serves an emulator on a port of 127.0.0.1 (0 takes a free one) from background threads.

    A context manager: leaving it closes the port and every connection. The emulator stays usable,
    so what was written can be looked at afterwards. Entering raises UsageError where the port is
    taken.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        port: int = 0,
        faults: Sequence[Fault] | FaultHook = (),
        seed: int = 0,
    ) -> None:
        self.emulator = emulator
        self._wanted = port
        self._faults: FaultHook = (
            Faults(faults, seed=seed) if isinstance(faults, Sequence) else faults
        )
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the emulator is not running")
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The base address, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        try:
            server = _Server(self._wanted, self.emulator, self._faults)
        except OSError as problem:
            raise UsageError(
                f"the emulator cannot listen on port {self._wanted}: {problem.strerror}",
                hint="give another port, or 0 for a free one",
            ) from None
        self._server = server
        threading.Thread(
            target=server.serve_forever, args=(0.02,), name="emulator", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_connections()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, emulator: Emulator, faults: FaultHook) -> None:
        self.emulator = emulator
        self.faults = faults
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._open_lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are their own business; anything else is a mistake of ours."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline:
                self.close_connection = True
                return
            if len(self.raw_requestline) > 65536:
                self.requestline = self.request_version = self.command = ""
                self.send_error(414)
                return
            if not self.parse_request():
                return
            body = self._body()
            if body is not None:
                self._serve(body)
        except OSError:
            self.close_connection = True

    def _body(self) -> bytes | None:
        """The request's body; None once it was answered with an error, or if it is incomplete."""
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        length = lengths.pop()
        if "Transfer-Encoding" in self.headers:
            self.send_error(411, "Content-Length is required")
        elif lengths or not (length.isascii() and length.isdecimal() and len(length) < 19):
            self.send_error(400, "bad Content-Length")
        elif int(length) > MAX_BODY:
            self._drain(int(length))
            self.send_error(413, f"a request body has at most {MAX_BODY} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True
        return None

    def _drain(self, length: int) -> None:
        """Read on, within reason: a client that is still sending would never see the answer."""
        left = min(length, 64 * MAX_BODY)
        while left > 0 and (chunk := self.rfile.read(min(left, MAX_BODY))):
            left -= len(chunk)

    def _serve(self, body: bytes) -> None:
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        emulator = self.server.emulator
        request = (self.command, self.path, headers, body)
        handled = False

        def answer() -> Answer:
            nonlocal handled
            handled = True
            return emulator.handle(*request, peer_ip=self.client_address[0])

        given = self.server.faults.around(self.command, answer)
        if not handled:
            emulator.record(*request, status=given.status if given else 0)
        if given is None:
            self._reset()
        else:
            self._send(given)

    def _send(self, answer: Answer) -> None:
        # One write: a second small segment would wait for the client's delayed acknowledgement.
        lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if self.close_connection:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        self.wfile.write(head if self.command == "HEAD" else head + answer.body)

    def _reset(self) -> None:
        """Close so that the client sees a reset rather than an orderly end."""
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The standard library's complaints about malformed HTTP, in the API's error body."""
        self.close_connection = True
        said = message or self.responses.get(code, ("error",))[0]
        status = code if code in (411, 413, 414, 431) else 400
        self._send(_error(_Rejected(status, "bad_request", said)))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the emulator's log is `Emulator.log`."""
