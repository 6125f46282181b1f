"""Checks that an operator would make: key, address, clock, state, disk, versions. Nothing is changed, and
one GET of a profile that cannot exist is sent, to a host that was allowed outside of the checkout.

A check that fails keeps later ones from running only where they need what it looked at.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler import __version__
from reconciler.commands import Command
from reconciler.config.settings import EMULATOR, Config, Environment
from reconciler.config.trust import Trust
from reconciler.core.endpoints import read
from reconciler.core.records import Header, Known, Record
from reconciler.errors import ExitCode, Message, ReconcileError
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.client import Exchange
from reconciler.state.store import LEASE, Lock, Store
from reconciler.systems import user_id
from reconciler.workspace.connection import Connection
from reconciler.workspace.state_admin import StateAdmin

_LIBRARIES = ("click", "orjson", "requests", "urllib3", "PyYAML", "jsonschema", "jsonschema-rs")
"""Libraries whose versions are told. The others are optional."""
_TIMEOUT = 10.0
"""Seconds for the request and for a look at the certificate."""
_PATIENCE = 1.0
"""Seconds for which an API that is away is asked again."""
_CLOCK_SECONDS = LEASE / 2
"""A clock that is further off than this may let two machines think that they hold a lock."""
_CERTIFICATE_DAYS = 14
_LITTLE_DISK = 100 * 1024 * 1024
"""Bytes."""
_DAY = 86_400.0
_PUBLIC_KEY = "public_"
"""How a key begins that is not the secret one (adapty-api 2)."""


class CheckVerdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Check(NamedTuple):
    """One check: its name, its verdict, what there is, and what to do next. The texts may quote the
    configuration and the API, so they are untrusted."""

    name: str
    verdict: CheckVerdict
    text: str
    hint: Message = Message("")
    code: ExitCode = ExitCode.DONE
    """The exit code of a failure: that of the command which would meet it."""

    @classmethod
    def ok(cls, name: str, text: str) -> Check:
        return cls(name, CheckVerdict.OK, text)

    @classmethod
    def warning(cls, name: str, text: str, *, hint: str | Message) -> Check:
        return cls(name, CheckVerdict.WARNING, text, Message.of(hint))

    @classmethod
    def failure(
        cls, name: str, text: str, *, hint: str | Message, code: ExitCode = ExitCode.FAILED
    ) -> Check:
        return cls(name, CheckVerdict.FAILURE, text, Message.of(hint), code)

    @classmethod
    def skipped(cls, name: str, text: str) -> Check:
        return cls(name, CheckVerdict.SKIPPED, text)

    @classmethod
    def of_error(cls, name: str, problem: ReconcileError) -> Check:
        hint = Message(problem.hint, (), problem.hint_commands)
        return cls(name, CheckVerdict.FAILURE, problem.message, hint, problem.exit_code)


def exit_code(checks: list[Check]) -> ExitCode:
    """That of the first failure; warnings are none."""
    return next(
        (each.code for each in checks if each.verdict is CheckVerdict.FAILURE), ExitCode.DONE
    )


def installed() -> Check:
    """The versions of this program, of Python and of the libraries."""
    libraries = []
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            libraries.append(f"{name} {version(name)}")
    python = ".".join(map(str, sys.version_info[:3]))
    return Check.ok("versions", f"reconcile {__version__}, Python {python}, {', '.join(libraries)}")


class Doctor:
    """Checks one environment of a configuration."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        environ: Mapping[str, str],
        trust: Trust,
        now: Callable[[], float],
        stop: Callable[[], bool] = lambda: False,
        on_exchange: Callable[[Exchange], None] = lambda exchange: None,
    ) -> None:
        self._config = config
        self._environment = environment
        self._environ = environ
        self._now = now
        self._warnings: list[Message] = []
        self._state = StateAdmin(
            environment,
            places=config.places,
            environ=environ,
            trust=trust,
            now=now,
            store=None,
            on_warning=self._warnings.append,
        )
        # Nobody is asked about a host, so none gets the key that is not allowed already. A few requests need
        # no turns of a shared rate, which would be a write of the state.
        self._connection = Connection(
            environment._replace(
                timeout=_TIMEOUT, attempt_timeout=None, patience=_PATIENCE, rate_shared=False
            ),
            places=config.places,
            environ=environ,
            trust=trust,
            ask_host=lambda question: False,
            stop=stop,
            clock=None,
            store=lambda: self._state.store,
            on_exchange=on_exchange,
        )

    def checks(self) -> Iterator[Check]:
        """All checks, each as soon as it is made."""
        yield self._profiles()
        yield self._index()
        try:
            header = yield from self._state_checks()
        finally:
            self._state.close()
        yield from self._api_checks(header)
        yield self._disk()

    # --- files -------------------------------------------------------------------------------

    def _profiles(self) -> Check:
        folder = self._config.profiles
        try:
            with os.scandir(folder) as entries:
                any_file = next(entries, None) is not None
        except OSError as problem:
            return Check.failure(
                "profiles",
                f"{folder} cannot be read: {problem.strerror}",
                hint="Make it, or name another folder under `profiles` of reconcile.yaml.",
                code=ExitCode.INVALID,
            )
        if not any_file:
            return Check.warning(
                "profiles",
                f"{folder} is empty",
                hint=Message.of("To write a first file: ", Command.of("import", "ID"), "."),
            )
        return Check.ok("profiles", str(folder))

    def _index(self) -> Check:
        config = self._config.path
        purpose = ("index", config.name if config is not None else "", self._environment.name)
        path = self._config.places.cache(*purpose)
        if path is None or self._config.places.key(*purpose) is None:
            return Check.warning(
                "index",
                "none can be kept: the user has no home for it, so every plan reads every file",
                hint="Set HOME, or RECONCILE_CACHE_DIR to a folder outside of the project.",
            )
        if not path.exists():
            return Check.ok("index", f"none yet; a large project gets one in {path.parent}")
        return Check.ok("index", f"{path} ({path.stat().st_size:,} bytes)")

    def _disk(self) -> Check:
        folder = self._environment.cache
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            free = shutil.disk_usage(folder).free
        except OSError as problem:
            return Check.warning(
                "disk", f"cannot tell what is free: {problem.strerror}", hint="Look at it by hand."
            )
        text = f"{free // 2**20:,} MiB free in {folder}"
        if free < _LITTLE_DISK:
            return Check.warning(
                "disk", text, hint="Free some: a write of the state that fails ends a run."
            )
        return Check.ok("disk", text)

    # --- the state ---------------------------------------------------------------------------

    def _state_checks(self) -> Generator[Check, None, Header | None]:
        try:
            store = self._state.store
            header = store.header()
        except ReconcileError as problem:
            yield Check.of_error("state", problem)
            return None
        for message in self._warnings:
            yield Check.warning("state", message.text, hint="")
        location = self._environment.state
        place = str(location.file or location.url or f"the address in {location.url_env}")
        if header.lineage is None:
            yield Check.ok("state", f"none yet; the first apply makes it: {place}")
            return header
        try:
            yield from self._records(store, header, place=place)
            yield self._lock(store.locked())
            yield self._backups(store)
        except ReconcileError as problem:
            yield Check.of_error("state", problem)
        yield from self._permissions()
        return header

    def _records(self, store: Store, header: Header, *, place: str) -> Iterator[Check]:
        number = uncertain = 0
        for record in store.records():
            number += 1
            uncertain += _is_uncertain(record)
        last = max((run.finished for run in store.runs()), default=None)
        age = "never" if last is None else _age(self._now() - last)
        yield Check.ok(
            "state", f"{place}: {number:,} recorded, serial {header.serial}, last apply {age}"
        )
        interrupted = len(store.interrupted_addresses())
        if uncertain or interrupted:
            yield Check.warning(
                "uncertain",
                f"{uncertain:,} profiles have writes of unknown outcome; an apply that was cut off had "
                f"{interrupted:,} under way",
                hint=Message.of("The next ", Command.of("apply"), " sends these again."),
            )
        else:
            yield Check.ok("uncertain", "no write has an unknown outcome")

    def _lock(self, lock: Lock | None) -> Check:
        if lock is None:
            return Check.ok("lock", "free")
        holder = lock.holder
        who = f"held by {holder.user} on {holder.host} (process {holder.pid}): {holder.command}"
        if lock.expires > self._now():
            return Check.warning("lock", who, hint="Wait until it has finished.")
        return Check.warning(
            "lock",
            f"{who}; its lease ran out {_age(self._now() - lock.expires)}",
            hint=Message.of(
                "The next writer takes it over. By hand: ",
                Command.of("state", "unlock", lock.id),
                ".",
            ),
        )

    def _backups(self, store: Store) -> Check:
        backups = store.backups()
        if not backups:
            return Check.ok("backups", "none yet; one is made before deletions and by hand")
        newest = backups[0]
        age = _age(self._now() - newest.made)
        return Check.ok("backups", f"{len(backups)}, the newest made {age}, serial {newest.serial}")

    def _permissions(self) -> Iterator[Check]:
        file = self._environment.state.file
        if file is None:
            return
        for path, others in ((file, 0o077), (file.parent, 0o022)):
            with suppress(OSError):
                status = path.stat()
                if status.st_mode & others or status.st_uid != user_id():
                    mode = "700" if path.is_dir() else "600"
                    yield Check.warning(
                        "permissions",
                        f"others can read or write {path}, which holds personal data",
                        hint=f"Make it yours alone: chmod {mode} {path}",
                    )
                    return
        yield Check.ok("permissions", "the state is for its owner alone; git does not track it")

    # --- the API -----------------------------------------------------------------------------

    def _api_checks(self, header: Header | None) -> Iterator[Check]:
        environment = self._environment
        if environment.url == EMULATOR:
            yield Check.ok("api", "the embedded emulator; it needs no key and is always there")
            return
        try:
            self._connection.require_allowed_hosts()
        except ReconcileError as problem:
            yield Check.of_error("host", problem)
            yield Check.skipped("api", "nothing was sent, since the host is not allowed")
            return
        yield Check.ok("host", f"{environment.url} is allowed")
        try:
            self._connection.require_key()
        except ReconcileError as problem:
            yield Check.of_error("key", problem)
            yield Check.skipped("api", "nothing was sent, since there is no key")
            return
        yield self._key()
        yield from self._certificate()
        answer = self._probe()
        yield self._answer(answer, header)
        yield from self._clock(answer)

    def _key(self) -> Check:
        name = self._environment.key_env or ""
        if self._environ.get(name, "").strip().startswith(_PUBLIC_KEY):
            return Check.warning(
                "key",
                f"the variable {name} holds a public key, which the API refuses",
                hint="Use the secret key: App settings, General, API keys in the dashboard.",
            )
        return Check.ok("key", f"the variable {name} holds one")

    def _certificate(self) -> Iterator[Check]:
        """How long the certificate is valid. A connection of its own, over which nothing is sent; whether it
        is trusted, the request tells."""
        environment = self._environment
        parts = urlsplit(environment.url)
        if parts.scheme != "https" or environment.proxy or environment.proxy_env:
            return
        bundle = str(environment.ca_bundle) if environment.ca_bundle else None
        try:
            context = ssl.create_default_context(cafile=bundle)
            address = (parts.hostname or "", parts.port or 443)
            with (
                socket.create_connection(address, timeout=_TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
            ):
                end = (secure.getpeercert() or {}).get("notAfter")
        except (OSError, ValueError):
            return
        if not isinstance(end, str):
            return
        days = (ssl.cert_time_to_seconds(end) - self._now()) / _DAY
        text = f"valid for {days:,.0f} more days"
        if days < _CERTIFICATE_DAYS:
            yield Check.warning("certificate", text, hint="Tell those who run the address.")
        else:
            yield Check.ok("certificate", text)

    def _probe(self) -> ApiAnswer:
        """The answer to one GET of a profile that cannot exist."""
        nobody = f"reconcile-doctor-{os.urandom(16).hex()}"
        return self._connection.send(read(nobody, None))

    def _answer(self, answer: ApiAnswer, header: Header | None) -> Check:
        environment = self._environment
        if answer.is_missing or answer.result is CallResult.DONE:
            application = header.application if header is not None else None
            known = f"; the state is of application {application}" if application else ""
            return Check.ok("api", f"{environment.url} answers, and takes the key{known}")
        if answer.is_unauthorised:
            return Check.failure(
                "api",
                f"the API refused the key: {answer.message}",
                hint=self._connection.key_hint,
                code=ExitCode.NOT_AUTHORISED,
            )
        return Check.failure(
            "api",
            answer.message or "the API gave no answer that can be read",
            hint="Try again; if it stays so, look at the network, at api.url, api.proxy and api.ca_bundle.",
            code=ExitCode.UNAVAILABLE,
        )

    def _clock(self, answer: ApiAnswer) -> Iterator[Check]:
        if answer.served_at is None:
            yield Check.skipped("clock", "the answer bears no date")
            return
        difference = answer.served_at - self._now()
        if abs(difference) <= _CLOCK_SECONDS:
            yield Check.ok("clock", f"within {abs(difference):.0f} s of the API's")
            return
        side = "behind" if difference > 0 else "ahead of"
        yield Check.warning(
            "clock",
            f"this machine's clock is {abs(difference):,.0f} s {side} the API's",
            hint="Set it (NTP): locks, quiet periods and spans of access depend on it.",
        )


def _is_uncertain(record: Record) -> bool:
    return record.unknown_at is not None or any(
        fact.known is Known.UNCERTAIN for fact in record.facts.values()
    )


def _age(seconds: float) -> str:
    """How long ago something was."""
    if seconds < 120:
        return "a moment ago"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} days ago"
