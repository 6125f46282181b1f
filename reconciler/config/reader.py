"""``reconcile.yaml`` → frozen values (edge: it reads one file, and remembers what it said).

A secret key never belongs in the file: one that is found is an error which does not repeat it, and
values that could hold one by mistake (addresses, the name of the variable) are never quoted.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from reconciler.atomicfile import is_ours_alone, write_whole
from reconciler.authoring.documents import Document
from reconciler.authoring.loader import parse_yaml
from reconciler.authoring.privacy import Guard, Level
from reconciler.authoring.validation import did_you_mean, validate_value
from reconciler.core.contract import Clear, Dialect
from reconciler.core.planner import Cap, Count, Share
from reconciler.core.transitions import Rate
from reconciler.errors import Diagnostic, InputError, ReconcileError, Source, UsageError, error
from reconciler.resources import fingerprint, load_schema
from reconciler.values import Json, Scalar

FILE_NAME = "reconcile.yaml"
EMULATOR = "emulator"
DEFAULT_RATE = 300 / 60
"""Requests per second: what the API allowed when the guide was written (adapty-api 7.25)."""
MAX_BYTES = 1024 * 1024


class Environment(NamedTuple):
    """One app at Adapty, or the emulator, with its own state."""

    name: str
    url: str
    """``emulator``, or the base address of the API without a slash at its end."""
    key_env: str | None
    """The variable that holds the secret key; ``None`` for the emulator."""
    dialect: Dialect
    rate: Rate
    timeout: float
    """Seconds: the deadline of a whole call, what its rate and a ``Retry-After`` hold it back not
    counted."""
    quiet_period: float
    """Seconds that a different value waits after a write whose outcome is unknown."""
    delete_attribute_with: Clear
    """``NULL`` or ``EMPTY``."""
    send_ip_country_always: bool
    proxy: str | None
    ca_bundle: Path | None
    state: Path
    """The SQLite file; it may not exist yet."""
    max_delete: Cap
    max_changes: int
    confirm: bool
    """Whether ``--auto-approve`` needs the plan's digest beside it."""
    emulator_db: Path
    max_sweep: Cap = Share(100)
    """The most deletions of a sweep."""
    variables: Mapping[str, Scalar] = {}
    """What ``${var.NAME}`` stands for in profile files."""


class Config(NamedTuple):
    """A configuration. ``root`` is the folder of its file; all relative paths start there."""

    path: Path | None
    root: Path
    profiles: Path
    default_environment: str
    environments: Mapping[str, Environment]
    mask: bool = False
    """Whether personal values are masked in whatever is printed."""
    public_attributes: tuple[str, ...] = ()
    """Globs for keys of custom attributes that are not personal."""
    env_prefix: str | None = None
    """What variables of the environment begin with that profile files may use."""
    fake_seed: str = ""
    guard: Guard = Guard()

    def environment(self, name: str | None) -> Environment:
        """An environment by name, or the default one.

        Raises UsageError for an unknown name.
        """
        name = self.default_environment if name is None else name
        if name not in self.environments:
            meant = did_you_mean(name, self.environments)
            raise UsageError(
                f'there is no environment "{name}"',
                hint=f"Did you mean {meant}?" if meant else _known(self.environments),
            )
        return self.environments[name]


def find(start: Path) -> Path | None:
    """The nearest ``reconcile.yaml`` in a folder or above it."""
    start = start.absolute()
    for folder in (start, *start.parents):
        try:
            stat_of = (folder / FILE_NAME).stat()
        except FileNotFoundError:
            continue
        except OSError:
            return folder / FILE_NAME  # it is there, and reading it says what is wrong
        if not stat.S_ISDIR(stat_of.st_mode):
            return folder / FILE_NAME
    return None


def load_config(path: Path | None, *, start: Path, cache: bool = True) -> Config:
    """The configuration in ``path``, or else in the nearest one from ``start`` upwards.

    Without ``cache`` it is read as if for the first time, and not remembered.

    Raises InputError, with a diagnostic for each thing that is wrong.
    """
    if path is None:
        path = find(start)
        if path is None:
            raise InputError(
                f"there is no {FILE_NAME} here or above",
                hint="Run `reconcile init` to write one, or give --config FILE.",
            )
    name = _display(path, start)
    data = _read(path, name)
    if leaks := list(_leaks(data, name)):
        raise _invalid(name, leaks)
    root = path.absolute().parent
    if cache and (value := _remembered(path, data)) is not None:
        reading = _Reading(Document(value, Source(name), {}), root)
        config = reading.config(path)
        if not reading.problems:  # where one is, depends on places, which were not kept
            return config
    document, diagnostics = parse_yaml(data, name)
    problems = [diagnostic for diagnostic in diagnostics if diagnostic.is_error]
    if document is None or problems:
        raise _invalid(name, problems)
    if problems := validate_value(document, load_schema("config.schema"), prefix="config"):
        raise _invalid(name, problems)
    reading = _Reading(document, root)
    config = reading.config(path)
    if reading.problems:
        raise _invalid(name, reading.problems)
    if cache and not diagnostics and os.path.normpath(_memory(path)) not in reading.states:
        _remember(path, data, document.value)
    return config


def plain_config(root: Path) -> Config:
    """The configuration of a folder without one: profiles below ``profiles``, and the embedded emulator
    as the environment ``local``."""
    data: dict[str, Json] = {
        "version": 1,
        "environments": {"local": {"api": {"url": EMULATOR}}},
    }
    return _Reading(Document(data, Source(FILE_NAME), {}), root).config(None)


def parse_rate(text: str) -> Rate:
    """The rate of ``N/min``, ``N/s``, or ``auto``, which learns; ``auto:N/min`` begins there.

    Raises UsageError for anything else.
    """
    if text == "auto":
        return Rate(DEFAULT_RATE, auto=True)
    match = _RATE(text)
    if match is None:
        raise UsageError(
            f'"{text}" is not a rate', hint="Write N/min, N/s, auto, or auto:N/min to begin there."
        )
    per_second = int(match["count"]) / (60 if match["unit"] == "min" else 1)
    return Rate(per_second, auto=bool(match["auto"]))


_RATE = re.compile(r"(?P<auto>auto:)?(?P<count>[1-9][0-9]{0,6})/(?P<unit>min|s)").fullmatch
_SECRET_KEY = re.compile(rb"secret_(?:live|test)_[A-Za-z0-9]", re.IGNORECASE)


def _display(path: Path, start: Path) -> str:
    try:
        return path.absolute().relative_to(start.absolute()).as_posix()
    except ValueError:
        return str(path)


def _read(path: Path, name: str) -> bytes:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise _unreadable(name, "it is not a file")
        if facts.st_size > MAX_BYTES:
            raise _unreadable(name, "it is larger than 1 MiB")
        return path.read_bytes()
    except OSError as problem:
        raise _unreadable(name, problem.strerror or type(problem).__name__) from None
    except ValueError:
        raise _unreadable(name, "that is not a path") from None


# --- what a configuration was found to say -------------------------------------------------------

# To parse YAML and to check it against a schema takes two libraries, and these longer to import than
# a plan of a few profiles takes. So the value of a valid file is kept, beside the state, under a
# digest of the file, of this program and of the value itself.


def _memory(path: Path) -> Path:
    return path.absolute().parent / ".reconcile" / f"{path.name}.cache"


def _digest(data: bytes, value: bytes) -> str:
    parts = (fingerprint().encode(), data, value)
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()


def _remembered(path: Path, data: bytes) -> dict[str, Json] | None:
    """What these bytes were found to say by this very program, if only we can have noted it."""
    try:
        fd = os.open(_memory(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not is_ours_alone(status) or status.st_size > 2 * MAX_BYTES:
                return None
            digest, _, value = os.read(fd, status.st_size).partition(b"\n")
        finally:
            os.close(fd)
        if digest.decode() != _digest(data, value):
            return None
        remembered: dict[str, Json] = json.loads(value)
    except (OSError, ValueError):
        return None
    return remembered


def _remember(path: Path, data: bytes, value: Mapping[str, Json]) -> None:
    """Notes what a configuration says, if there is a folder for that, and as far as it can be done."""
    memory = _memory(path)
    if not memory.parent.is_dir():
        return
    text = ""
    for part in json.JSONEncoder(separators=(",", ":")).iterencode(value):
        text += part
        if len(text) > MAX_BYTES:  # aliases make much of little
            return
    with suppress(ReconcileError):
        write_whole(memory, (_digest(data, text.encode()), "\n", text))


def _unreadable(name: str, why: str) -> InputError:
    found = error(
        "config/unreadable",
        f"the configuration cannot be read: {why}",
        Source(name),
        hint="Give an existing file, or run `reconcile init` to write one.",
    )
    return _invalid(name, [found])


def _invalid(name: str, diagnostics: list[Diagnostic]) -> InputError:
    count = len(diagnostics)
    return InputError(
        f"{name} has {count} error{'s' if count != 1 else ''}",
        diagnostics=sorted(diagnostics, key=Diagnostic.sort_key),
    )


def _leaks(data: bytes, name: str) -> Iterator[Diagnostic]:
    """Secret keys in the text, comments included, found before anything could quote them."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        for match in _SECRET_KEY.finditer(line):
            column = len(line[: match.start()].decode("utf-8", "replace")) + 1
            yield error(
                "config/secret-key",
                "this looks like a secret key",
                Source(name, number, column),
                hint="Remove it and replace the key at Adapty, since it may have been shared. "
                "`key_env` takes the name of the variable that holds the key.",
            )


def _known(names: Mapping[str, object]) -> str:
    return f"Known environments: {', '.join(names)}."


class _Reading:
    """The reading of a document that has passed the schema, for what a schema cannot say."""

    def __init__(self, document: Document, root: Path) -> None:
        self.document = document
        self.root = root
        self.problems: list[Diagnostic] = []
        self.emulator_db = root / ".reconcile" / "emulator.db"
        self.states: dict[str, str] = {}

    def problem(
        self, path: tuple[str, ...], message: str, *, hint: str, rule: str = "value"
    ) -> None:
        place = self.document.at(path)
        self.problems.append(error(f"config/{rule}", message, place, hint=hint))

    def config(self, path: Path | None) -> Config:
        data: Any = self.document.value
        environments = {
            name: self.environment(name, facts) for name, facts in data["environments"].items()
        }
        return Config(
            path=path,
            root=self.root,
            profiles=self.root / data.get("profiles", "profiles"),
            default_environment=self.default_environment(data, environments),
            environments=environments,
            mask="personal" in data.get("mask", ()),
            public_attributes=tuple(data.get("public_attributes", ())),
            env_prefix=self.env_prefix(data.get("env_prefix"), environments),
            fake_seed=str(data.get("fake_seed", "")),
            guard=Guard(
                Level(data.get("personal_data", {}).get("guard", Level.WARN)),
                tuple(
                    domain.lower() for domain in data.get("personal_data", {}).get("domains", ())
                ),
            ),
        )

    def env_prefix(self, prefix: str | None, environments: Mapping[str, Environment]) -> str | None:
        if prefix is not None and any(
            environment.key_env and environment.key_env.startswith(prefix)
            for environment in environments.values()
        ):
            self.problem(
                ("env_prefix",),
                "`env_prefix` would let profile files use a variable that holds a secret key",
                hint="Choose a prefix that no `key_env` begins with.",
                rule="insecure",
            )
        return prefix

    def default_environment(
        self, data: Mapping[str, Any], environments: Mapping[str, object]
    ) -> str:
        name: str | None = data.get("default_environment")
        if name is None:
            if len(environments) > 1:
                self.problem(
                    (),
                    "`default_environment` is missing, and there are several environments",
                    hint=f"Name one of them. {_known(environments)}",
                    rule="missing-field",
                )
            return next(iter(environments))
        if name not in environments:
            meant = did_you_mean(name, environments)
            self.problem(
                ("default_environment",),
                f'`default_environment` is "{name[:63]}", which is not an environment',
                hint=f"Did you mean {meant}?" if meant else _known(environments),
            )
        return name

    def environment(self, name: str, facts: Mapping[str, Any]) -> Environment:
        here = ("environments", name)
        api: Mapping[str, Any] = facts["api"]
        limits: Mapping[str, Any] = facts.get("limits", {})
        url = self.url((*here, "api", "url"), api["url"])
        emulated = url == EMULATOR
        key_env: str | None = None if emulated else api.get("key_env")
        if key_env is None and not emulated:
            self.problem(
                (*here, "api"),
                f"the environment {name} has no `key_env`",
                hint="Add `key_env: ADAPTY_SECRET_KEY`, the name of the variable with the key.",
                rule="key-env-missing",
            )
        rate: str | None = api.get("rate")
        without = Rate(None if emulated else DEFAULT_RATE)
        ca_bundle: str | None = api.get("ca_bundle")
        return Environment(
            name=name,
            url=url,
            key_env=key_env,
            dialect=Dialect(api.get("dialect", Dialect.GUIDE)),
            rate=without if rate is None else parse_rate(rate),
            timeout=float(api.get("timeout", 30)),
            quiet_period=float(api.get("quiet_period", 60)),
            delete_attribute_with=Clear(api.get("delete_attribute_with", Clear.NULL)),
            send_ip_country_always=api.get("send_ip_country") == "always",
            proxy=self.proxy((*here, "api", "proxy"), api.get("proxy")),
            ca_bundle=None if ca_bundle is None else self.root / ca_bundle,
            state=self.state(name, facts.get("state", {}).get("url")),
            max_delete=_cap(limits.get("max_delete", "25%")),
            max_changes=int(limits.get("max_changes", 1000)),
            confirm=facts.get("confirm", False),
            emulator_db=self.emulator_db,
            max_sweep=_cap(limits.get("max_sweep", limits.get("max_delete", "100%"))),
            variables={**self.document.value.get("variables", {}), **facts.get("variables", {})},  # type: ignore[dict-item]
        )

    def url(self, path: tuple[str, ...], url: str) -> str:
        if url == EMULATOR:
            return url
        self.address(path, url, _no_key_in_clear)
        return url.rstrip("/")

    def proxy(self, path: tuple[str, ...], url: str | None) -> str | None:
        if url is not None:
            self.address(path, url, lambda _scheme, _host: None)
        return url

    def address(
        self, path: tuple[str, ...], url: str, refuses: Callable[[str, str], str | None]
    ) -> None:
        """Reports what is wrong with an address of the web; without quoting it, since it may hold a
        password."""
        what = f"`{'.'.join(path)}`"
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or not url.isascii() or re.search(r"[^!-~]|\\", url):
            hint = "Write it like https://api.adapty.io."
            if path[-1] == "url":
                hint = f"Write {EMULATOR}, or an address like https://api.adapty.io."
            self.problem(path, f"{what} is not an address", hint=hint)
        elif parts.scheme not in ("http", "https"):
            self.problem(path, f"{what} must begin with https://", hint="Change its beginning.")
        elif "@" in parts.netloc:
            self.problem(
                path,
                f"{what} holds a user name or a password",
                hint="Remove what stands before the @; credentials do not belong in this file.",
            )
        elif "?" in url or "#" in url:
            self.problem(path, f"{what} has a query or a fragment", hint="End it before ? or #.")
        elif message := refuses(parts.scheme, host):
            self.problem(path, f"{what} {message}", hint="Use https://.", rule="insecure")

    def state(self, name: str, url: str | None) -> Path:
        path = ("environments", name, "state", "url")
        url = f"sqlite:///.reconcile/{name}.db" if url is None else url
        file = url.removeprefix("sqlite:///")
        if file == url or file.strip("/") in ("", ":memory:") or re.search(r"[?#\0]", file):
            self.problem(
                path,
                f"`{'.'.join(path)}` is not the address of a SQLite file",
                hint="Write sqlite:///PATH, relative to this file; other stores do not exist yet.",
            )
        state = self.root / file
        place = os.path.normpath(state)
        other = self.states.setdefault(place, name)
        if place == os.path.normpath(self.emulator_db):
            self.problem(
                path,
                f"the state of the environment {name} would be the embedded emulator's own file",
                hint=f"Give it another one: state: {{url: sqlite:///.reconcile/{name}-state.db}}.",
            )
        elif other != name:
            self.problem(
                path,
                f"the environments {other} and {name} share a state file",
                hint="Give each its own: a state describes one app.",
            )
        return state


def _no_key_in_clear(scheme: str, host: str) -> str | None:
    return None if scheme == "https" or _is_loopback(host) else "would send the key in clear"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cap(value: str | int) -> Cap:
    return Share(int(value[:-1])) if isinstance(value, str) else Count(int(value))


TEMPLATE = """\
# Configuration of reconcile. Paths are relative to this file.
version: 1

profiles: profiles                    # every *.yaml and *.yml below it is read

default_environment: local

# mask: [personal]                    # show (personal #1) instead of personal values
# public_attributes: [tier]           # keys of custom attributes that are not personal

environments:
  local:
    api:
      url: emulator                   # the embedded emulator, kept in .reconcile/emulator.db

  production:
    api:
      url: https://api.adapty.io
      key_env: ADAPTY_SECRET_KEY      # the name of the variable, never the key
      dialect: guide                  # or openapi: the later published specification
      rate: 300/min                   # or N/s, or auto: start low, learn from 429
      timeout: 30                     # seconds, the deadline of a whole call
      quiet_period: 60                # seconds before another value follows an uncertain write
      delete_attribute_with: 'null'   # or empty
      send_ip_country: changed        # or always: repeat it in every PATCH
      # proxy: http://proxy.example:3128
      # ca_bundle: certificates.pem
    state:
      url: sqlite:///.reconcile/production.db
    limits:
      max_delete: 25%                 # the most that --prune may delete: a share, or a count
      max_sweep: 100%                 # the most of one sweep; without it, max_delete where given
      max_changes: 1000               # the most changes of one apply
    confirm: true                     # --auto-approve also needs the plan's digest
"""
