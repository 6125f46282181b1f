"""The API, locally: a faithful stand-in for Adapty's profile methods, over real HTTP.

It judges requests by its own code over the contract's *data* (``schemas/contract.json``) and the
fact sheet's defaults (adapty-api 7), and shares neither the normaliser nor the validation of the
planner: a mistake there must not be repeated here. Answers hold what the real API returns and
nothing else; what was written but is never returned is seen through `Emulator.profiles` only.

`Emulator` is the API without HTTP, and `EmulatorServer` puts it on a loopback port, with faults
between the two on request.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import math
import os
import re
import sqlite3
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeAlias

from reconciler.emulator.faults import (
    Course,
    Fault,
    FaultKind,
    Faults,
    on_the_wire,
    parse_fault,
    retry_after,
    split_faults,
)
from reconciler.emulator.http import MAX_BODY, Answer, End, Loopback, Reply, Request, in_thread
from reconciler.emulator.traffic import (
    IDENTIFIERS,
    RateLimit,
    RateMode,
    Received,
    Sent,
    Traffic,
    Violation,
    refuse_constant,
)
from reconciler.errors import ReconcileError, Refused, UsageError
from reconciler.resources import load_schema
from reconciler.values import Json, canonical

PROFILE_PATH = "/api/v2/server-side-api/profile/"
DEBUG_PATH = "/debug/profiles/"
FAULT_HEADER = "emulator-fault"

_LOG_SIZE = 10_000
_METHODS = ("GET", "POST", "PATCH", "DELETE")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
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

    def copy(self) -> _Profile:
        """Another one, to be changed and perhaps thrown away."""
        return _Profile(
            self.profile_id,
            self.customer_user_id,
            dict(self.fields),
            dict(self.attributes),
            {device: dict(members) for device, members in self.installations.items()},
            self.country,
            self.country_source,
            self.timestamp,
        )


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


class _Store(Protocol):
    """Where profiles are kept. Callers see that one thread at a time uses it."""

    def app_id(self, wanted: str | None, new_id: Callable[[], uuid.UUID]) -> str:
        """The application's id: the one wanted, or kept, or new."""

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """All or nothing; committed when it ends."""

    def by_profile(self, profile_id: str) -> _Profile | None: ...

    def by_customer(self, customer_user_id: str) -> _Profile | None: ...

    def all(self) -> list[_Profile]: ...

    def put(self, profile: _Profile) -> None: ...

    def remove(self, profile_id: str) -> None: ...

    def close(self) -> None: ...


class _Memory:
    """Profiles that live as long as the process. A request puts or removes once, at its end, so there
    is nothing to roll back."""

    def __init__(self) -> None:
        self._profiles: dict[str, _Profile] = {}
        self._customers: dict[str, str] = {}

    def app_id(self, wanted: str | None, new_id: Callable[[], uuid.UUID]) -> str:
        return wanted or str(new_id())

    def writing(self) -> contextlib.AbstractContextManager[None]:
        return _NOTHING_TO_COMMIT

    def by_profile(self, profile_id: str) -> _Profile | None:
        found = self._profiles.get(profile_id)
        return found and found.copy()

    def by_customer(self, customer_user_id: str) -> _Profile | None:
        return self.by_profile(self._customers.get(customer_user_id, ""))

    def all(self) -> list[_Profile]:
        return [profile.copy() for profile in self._profiles.values()]

    def put(self, profile: _Profile) -> None:
        self._profiles[profile.profile_id] = profile.copy()
        if profile.customer_user_id is not None:
            self._customers[profile.customer_user_id] = profile.profile_id

    def remove(self, profile_id: str) -> None:
        customer = self._profiles.pop(profile_id).customer_user_id
        if customer is not None:
            del self._customers[customer]

    def close(self) -> None:
        """Nothing to release."""


_NOTHING_TO_COMMIT = contextlib.nullcontext()


class _Database:
    """Profiles in an SQLite file that several processes may share.

    Nothing is cached, so each request sees what another process wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._sql = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
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

    ``keys`` are the accepted secret keys (any, unless given). ``clock`` gives seconds since the epoch,
    ``monotonic`` those of the log; ``locate`` the country of a sender's address. ``log_file`` gets a
    line of JSON for each request before its answer is sent, ``log_size`` is how many are kept in
    memory. A subclass may override `handle`, and wait in it.
    """

    def __init__(
        self,
        *,
        dialect: str = "guide",
        db: Path | None = None,
        keys: frozenset[str] | None = None,
        debug: bool = False,
        app_id: str | None = None,
        rate_limits: Sequence[RateLimit] = (),
        rate_mode: RateMode = RateMode.REFUSE,
        log_file: Path | None = None,
        log_size: int = _LOG_SIZE,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
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
        self._accepted = keys
        self.debug = debug
        self._clock = clock
        self._monotonic = monotonic
        self._new_id = new_id
        self._locate = locate
        self._lock = threading.RLock()
        self._told: dict[str, int] = {}
        self._effects = 0
        self._store: _Store = _Memory() if db is None else _Database(db)
        self.app_id = self._store.app_id(app_id, new_id)
        self._traffic = Traffic(
            accepted=keys,
            limits=rate_limits,
            mode=rate_mode,
            file=log_file,
            size=log_size,
            monotonic=monotonic,
        )

    @property
    def log(self) -> deque[Received]:
        """The last requests, in the order of their arrival."""
        return self._traffic.log

    @property
    def violations(self) -> deque[Violation]:
        """The last requests above the rate."""
        return self._traffic.violations

    @property
    def log_problem(self) -> str | None:
        """Why the log file ends early, if it does."""
        return self._traffic.problem

    def rates(self) -> dict[str, Json]:
        """The limits, what was reached, and the requests above them, as the debug view has it."""
        return self._traffic.rates()

    def handle(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        peer_ip: str = "127.0.0.1",
        received: Received | None = None,
    ) -> Answer:
        """Judge a request and carry it out; what is written is durable before this returns.

        ``received`` is its entry in the log, if the caller made one and will conclude it.
        """
        if self.debug and path.startswith("/debug/"):
            return self._debug_view(method, path)
        entry = received or self.receive(method, path, headers, body)
        try:
            answer = self._route(entry, peer_ip)
        except _Rejected as rejected:
            answer = _error(rejected)
        except sqlite3.Error as problem:
            answer = _error(_Rejected(500, "internal_error", f"emulator database: {problem}"))
        entry.status, entry.answer = answer.status, answer
        if received is None:
            self.conclude(entry, answer)
        return answer

    def receive(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Received:
        """Note that a request arrived: its entry in the log, which then goes on to `handle`."""
        return self._traffic.receive(method, path, headers, body)

    def conclude(self, received: Received, answer: Answer | None, sent: Sent = Sent.ANSWER) -> None:
        """Note what a request is about to be answered; without an answer, that it is not."""
        received.sent = sent
        if answer is not None:
            received.status, received.answer = answer.status, answer
        self._traffic.conclude(received)

    def land(self, received: Received, *, peer_ip: str = "127.0.0.1") -> None:
        """Have a request take effect that was concluded before."""
        again = replace(received, faults=())
        self.handle(
            again.method, again.path, again.headers, again.raw, peer_ip=peer_ip, received=again
        )
        received.late_status = again.status
        received.effect, received.effect_at = again.effect, again.effect_at
        self._traffic.landed(received)

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

    def clear(self, *, keep: Container[str] = ()) -> None:
        """Removes every profile whose customer id and profile id are not among those to ``keep``, and
        what the log holds in memory."""
        with self._lock, self._store.writing():
            for each in self._store.all():
                if each.customer_user_id not in keep and each.profile_id not in keep:
                    self._store.remove(each.profile_id)
        self._traffic.log.clear()

    def add_anonymous(self) -> str:
        """A profile without customer id, as the app's first start makes one. The API itself cannot.

        Returns its profile id."""
        profile = _Profile(str(self._new_id()), None)
        with self._lock, self._store.writing():
            self._store.put(profile)
        return profile.profile_id

    def somebody_else(self, received: Received) -> Answer:
        """A true answer, but about another profile than a request asks for."""
        customer, profile_id = (received.headers.get(name, "") for name in IDENTIFIERS)
        with self._lock:
            others = [
                each
                for each in self._store.all()
                if each.customer_user_id != customer and each.profile_id != profile_id.lower()
            ]
            other = others[0] if others else _Profile(str(self._new_id()), "somebody-else")
            other.timestamp = self._timestamp(other)
        return _answer(200, {"data": self._shown(other)})

    def close(self) -> None:
        """Release the database. With one, requests after this are answered with 500."""
        with self._lock:
            self._store.close()

    # --- a request ---

    def _route(self, received: Received, peer_ip: str) -> Answer:
        method, headers = received.method, received.headers
        if received.path.partition("?")[0] != PROFILE_PATH:
            raise _Rejected(404, "not_found", "Not found.")
        if not received.authenticated:
            raise _not_authenticated()
        if received.above_rate is not None:
            self._refuse_above_rate(received.above_rate)
        if method not in _METHODS:
            raise _not_allowed(method, ", ".join(_METHODS))
        customer, profile_id = self._identifiers(headers)
        match method:
            case "GET":
                with self._lock:
                    profile = self._find(customer, profile_id)
                    profile.timestamp = self._timestamp(profile)
            case "DELETE":
                with self._lock:
                    with self._store.writing():
                        profile = self._find(customer, profile_id)
                        self._store.remove(profile.profile_id)
                        self._told.pop(profile.profile_id, None)
                    self._take_effect(received)
                return _answer(204)
            case _:
                parsed = _parse(headers.get("content-type", ""), received.raw)
                find = self._find if method == "PATCH" else self._find_or_create
                with self._lock:
                    with self._store.writing():
                        profile = find(customer, profile_id)
                        self._judge.apply(parsed, profile)
                        self._move(profile, parsed, peer_ip)
                        profile.timestamp = self._timestamp(profile)
                        self._store.put(profile)
                    self._take_effect(received)
        return _answer(200, {"data": self._shown(profile)})

    def _refuse_above_rate(self, wait: float) -> None:
        mode = self._traffic.mode
        if mode is not RateMode.RECORD:
            hint = {"Retry-After": str(max(1, math.ceil(wait)))}
            headers = hint if mode is RateMode.REFUSE else {}
            raise _Rejected(429, "rate_limited", "Too many requests", headers=headers)

    def _take_effect(self, received: Received) -> None:
        """Under the lock, so that the numbers follow the order of the writes."""
        self._effects += 1
        received.effect, received.effect_at = self._effects, self._monotonic()

    def _debug_view(self, method: str, path: str) -> Answer:
        place, _, query = path.partition("?")
        match place, method:
            case "/debug/profiles/", "GET":
                return _answer(200, self.profiles())
            case "/debug/profiles/", "POST":
                return _answer(200, {"profile_id": self.add_anonymous()})
            case "/debug/profiles/", _:
                return _error(_not_allowed(method, "GET, POST"))
            case "/debug/log/", "GET":
                after = re.fullmatch(r"after=([0-9]{1,15})", query)
                number = int(after[1]) if after else 0
                return _answer(200, self._traffic.view(number))
            case "/debug/rates/", "GET":
                return _answer(200, self.rates())
            case (("/debug/log/" | "/debug/rates/"), _):
                return _error(_not_allowed(method, "GET"))
            case _:
                return _error(_Rejected(404, "not_found", "Not found."))

    def _identifiers(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Customer id and profile id, ``""`` for none; one of them is there."""
        customer, profile_id = (headers.get(name, "") for name in IDENTIFIERS)
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
        parsed: Json = _STANDARD.decode(body.decode("utf-8"))
    except RecursionError:
        raise _Rejected(400, "parse_error", "JSON parse error - nested too deeply") from None
    except ValueError as problem:
        raise _Rejected(400, "parse_error", f"JSON parse error - {problem}") from None
    return parsed


_STANDARD = json.JSONDecoder(parse_constant=refuse_constant)


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


# --- HTTP ----------------------------------------------------------------------------------------


class FaultHook(Protocol):
    """Stands between the connection and the API. It runs in a thread of its own and may wait."""

    def around(self, received: Received, answer: Callable[[], Answer]) -> Answer | Reply | None:
        """The answer to send, or a reply byte by byte; None resets the connection instead. Calls
        ``answer`` at most once; the request takes effect only if it does."""


FaultChooser: TypeAlias = Callable[[Received], Iterable[Fault]]
"""Which faults strike a request. It must not wait."""


class EmulatorServer:
    """Serves an emulator on a port of 127.0.0.1 (0 takes a free one) from a background thread.

    ``faults`` are those that strike: several that are set, and may be changed while it runs; a function
    that chooses some for each request; or a hook. With ``header_faults`` a request may bring its own.
    ``seed`` makes chance repeatable.

    A context manager: leaving it closes the port and every connection, and forgets requests that were
    still to land. The emulator stays usable, so what was written can be looked at afterwards. Entering
    raises UsageError where the port is taken.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        port: int = 0,
        faults: Iterable[Fault] | Faults | FaultChooser | FaultHook = (),
        seed: int = 0,
        header_faults: bool = False,
    ) -> None:
        self.emulator = emulator
        self.faults = faults if isinstance(faults, Faults) else Faults(seed=seed)
        self._wanted = port
        self._away = 0.0
        self._loopback: Loopback | None = None
        choose: FaultChooser | None = None
        hook: FaultHook | None = None
        if isinstance(faults, Faults):
            pass
        elif isinstance(faults, Iterable):
            for fault in faults:
                self.set_fault(fault)
        elif callable(faults):
            choose = faults
        else:
            hook = faults
        self._front = _Front(self, choose=choose, hook=hook, header_faults=header_faults)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._running.port

    @property
    def url(self) -> str:
        """The base address, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        try:
            self._loopback = Loopback(self._front, port=self._wanted)
        except OSError as problem:
            raise UsageError(
                f"the emulator cannot listen on port {self._wanted}: {problem.strerror}",
                hint="give another port, or 0 for a free one",
            ) from None
        self.faults.start()
        self._loopback.start(away=self._away)
        return self

    def stop(self) -> None:
        if self._loopback is not None:
            self._loopback.stop()
            self._loopback = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- at run time ---

    def set_fault(self, fault: Fault) -> int | None:
        """Sets one more fault; returns its number, to clear it by. An outage without conditions begins
        at once (or as soon as the server does) and has none."""
        if fault.kind is not FaultKind.OUTAGE or fault.is_conditional:
            return self.faults.add(fault)
        if self._loopback is None:
            self._away = fault.seconds
        else:
            self.outage(fault.seconds)
        return None

    def outage(self, seconds: float) -> None:
        """From now on resets every connection and refuses new ones, for so many seconds."""
        self._running.cut_off(seconds)

    def settle(self, timeout: float) -> bool:
        """Waits until every request has landed that was to land late; False if the timeout (seconds)
        came first."""
        deadline = time.monotonic() + timeout
        while self._front.late:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    @property
    def _running(self) -> Loopback:
        if self._loopback is None:
            raise RuntimeError("the emulator is not running")
        return self._loopback


class _Front:
    """Answers the requests of a server, in the thread of its loopback: the emulator's answer, or what
    faults make of it."""

    def __init__(
        self,
        server: EmulatorServer,
        *,
        choose: FaultChooser | None,
        hook: FaultHook | None,
        header_faults: bool,
    ) -> None:
        self._server = server
        self._emulator = server.emulator
        self._choose = choose
        self._hook = hook
        self._header_faults = header_faults
        self._blocks = type(server.emulator).handle is not Emulator.handle
        self.late: set[asyncio.Task[None]] = set()
        """The requests that are still to land."""

    def serve(self, request: Request) -> bytes | Callable[[], Awaitable[Reply]]:
        emulator = self._emulator
        if emulator.debug and request.path.startswith("/debug/"):
            return _written(request, self._debug(request))
        received = emulator.receive(request.method, request.path, request.headers, request.body)
        try:
            received.faults = self._striking(received)
        except UsageError as problem:
            answer = _error(_Rejected(400, "bad_fault", problem.message, source=FAULT_HEADER))
            emulator.conclude(received, answer, Sent.ALTERED)
            return _written(request, answer)
        if received.faults or self._blocks or self._hook is not None:
            return lambda: self._reply(request, received)
        answer = self._handle(request, received)
        emulator.conclude(received, answer)
        return _written(request, answer)

    def malformed(self, status: int, message: str) -> bytes:
        answer = _error(_Rejected(status, "bad_request", message))
        return answer.head("Connection: close") + answer.body

    def _striking(self, received: Received) -> tuple[Fault, ...]:
        striking: tuple[Fault, ...] = ()
        if self._server.faults:
            striking = self._server.faults.strike(received.method, received.address)
        if self._choose is not None:
            striking += tuple(self._choose(received))
        if self._header_faults and FAULT_HEADER in received.headers:
            brought = [parse_fault(text) for text in split_faults(received.headers[FAULT_HEADER])]
            for fault in brought:
                if fault.is_conditional:
                    raise UsageError(f"{fault} has conditions, but is for this request alone")
            striking += tuple(brought)
        return striking

    def _handle(self, request: Request, received: Received) -> Answer:
        return self._emulator.handle(
            request.method,
            request.path,
            request.headers,
            request.body,
            peer_ip=request.peer_ip,
            received=received,
        )

    async def _reply(self, request: Request, received: Received) -> Reply:
        course = Course.of(received.faults)
        if course.wait:
            await asyncio.sleep(course.wait)
        given: Answer | Reply | None = None
        if course.takes_effect:
            given = await self._carried_out(request, received)
        if course.lag:
            await asyncio.sleep(course.lag)
        for fault in received.faults:
            if fault.kind is FaultKind.OUTAGE:
                self._server.outage(fault.seconds)
        if course.late is not None:
            self._land(received, request.peer_ip, course.late)
        return self._told(request, received, course, given)

    async def _carried_out(self, request: Request, received: Received) -> Answer | Reply | None:
        hook = self._hook
        if hook is not None:
            return await in_thread(
                lambda: hook.around(received, lambda: self._handle(request, received))
            )
        if self._blocks:
            return await in_thread(lambda: self._handle(request, received))
        return self._handle(request, received)

    def _land(self, received: Received, peer_ip: str, seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            if self._blocks:
                await in_thread(lambda: self._emulator.land(received, peer_ip=peer_ip))
            else:
                self._emulator.land(received, peer_ip=peer_ip)

        task = asyncio.get_running_loop().create_task(later())
        self.late.add(task)
        task.add_done_callback(self.late.discard)

    def _told(
        self, request: Request, received: Received, course: Course, given: Answer | Reply | None
    ) -> Reply:
        """The reply to a request, which is concluded by it."""
        if isinstance(given, Reply):
            self._emulator.conclude(received, None, Sent.ALTERED)
            return given
        silence = course.silence()
        if silence is None and given is None and course.takes_effect:
            silence = Reply((), End.RESET)  # a hook said so
        if silence is not None:
            self._emulator.conclude(received, given, Sent.NOTHING)
            return silence
        answer = (
            _injected(course.instead, given, request.path) or given or _answer(200, {"data": {}})
        )
        as_it_is = answer is received.answer and not course.alter
        self._emulator.conclude(received, answer, Sent.ANSWER if as_it_is else Sent.ALTERED)
        return on_the_wire(
            answer,
            course.alter,
            close=not request.keep_alive,
            head_only=request.method == "HEAD",
            other=lambda: self._emulator.somebody_else(received),
        )

    # --- the debug endpoint ---

    def _debug(self, request: Request) -> Answer:
        host = request.headers.get("host", "").partition(":")[0]
        if host not in ("127.0.0.1", "localhost", "") or "origin" in request.headers:
            # A page in a browser must not get here, whatever name it gives this machine.
            return _error(_Rejected(403, "forbidden", "only for programs on this machine"))
        place = re.fullmatch(r"/debug/faults/(?:([0-9]{1,15})/?)?", request.path)
        try:
            if place is not None:
                return self._debug_faults(request, int(place[1]) if place[1] else None)
        except UsageError as problem:
            return _error(_Rejected(400, "bad_fault", problem.message))
        except _Rejected as rejected:
            return _error(rejected)
        return self._emulator.handle(request.method, request.path, request.headers, request.body)

    def _debug_faults(self, request: Request, number: int | None) -> Answer:
        match request.method:
            case "DELETE" if number is not None:
                if not self._server.faults.remove(number):
                    raise _Rejected(404, "not_found", f"no fault {number} is set")
            case _ if number is not None:
                raise _not_allowed(request.method, "DELETE")
            case "GET":
                pass
            case "POST":
                lines = request.body.decode("utf-8", "replace").splitlines()
                for fault in [parse_fault(line.strip()) for line in lines if line.strip()]:
                    self._server.set_fault(fault)
            case "DELETE":
                self._server.faults.clear()
            case _:
                raise _not_allowed(request.method, "GET, POST, DELETE")
        shown: list[Json] = [
            {"id": each.id, "fault": str(each.fault), "seen": each.seen, "struck": each.struck}
            for each in self._server.faults.entries()
        ]
        return _answer(200, shown)


def _written(request: Request, answer: Answer) -> bytes:
    head = answer.head() if request.keep_alive else answer.head("Connection: close")
    return head if request.method == "HEAD" else head + answer.body


def _injected(fault: Fault | None, given: Answer | None, path: str) -> Answer | None:
    """What a fault answers in the API's place."""
    if fault is None:
        return None
    if fault.kind is FaultKind.REDIRECT:
        return _answer(fault.status, None, {"Location": fault.text or path})
    status = int(fault.text) if fault.kind is FaultKind.LATE else fault.status
    if status in (204, 205, 304):
        return _answer(status)
    if status < 300:
        return replace(given or _answer(200, {"data": {}}), status=status)
    code = fault.code or ("rate_limited" if status == 429 else "injected_fault")
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = retry_after(fault.retry_after, time.time())
    return _error(_Rejected(status, code, "Injected by the emulator", headers=headers))


__all__ = [
    "DEBUG_PATH",
    "FAULT_HEADER",
    "MAX_BODY",
    "PROFILE_PATH",
    "Answer",
    "Emulator",
    "EmulatorServer",
    "Fault",
    "FaultChooser",
    "FaultHook",
    "FaultKind",
    "Faults",
    "RateLimit",
    "RateMode",
    "Received",
    "Sent",
    "Switches",
    "Violation",
    "parse_fault",
]
