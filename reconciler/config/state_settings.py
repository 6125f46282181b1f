"""The settings of a state → its location. An edge, as locations hold `Path` values; it opens nothing.

No value is quoted in a problem: an address may hold a password by mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from reconciler.config.hosts import host_of
from reconciler.config.places import KeptFile
from reconciler.config.trust import is_foreign_key, is_state_name
from reconciler.state.location import (
    AddressFlaw,
    Encryption,
    ObjectAddress,
    StateAddress,
    StateKind,
    StateLocation,
    is_file_address,
    parse_address,
)

_OBJECTS = (StateKind.S3, StateKind.GS, StateKind.AZ)
_KEY = r"[A-Za-z0-9+/_-]{43}=?"
"""32 bytes in base64."""
_PRINTERS = frozenset({"echo", "printf", "print"})


class Report(Protocol):
    """Takes a problem of a setting at a path of the configuration."""

    def __call__(
        self, path: tuple[str, ...], message: str, *, hint: str, rule: str = "value"
    ) -> None: ...


class StatePlace(NamedTuple):
    """Where an environment has its state, and what else it keeps."""

    location: StateLocation
    home_state: Path | None
    """Where a state file belongs, if it lies in the project's folder; see `KeptFile.other`."""
    cache: Path
    """The folder of what only this machine needs: texts of long plans, outcomes that a state could not take,
    claims of tests."""


class StateSettings:
    """Makes the locations of all states of a configuration, and reports two environments that share one.

    ``within`` checks a path that a setting names, ``kept`` says where a file is kept for the project.
    ``caches`` is the folder of the project's caches, if there is one.
    """

    def __init__(
        self,
        root: Path,
        *,
        emulator_db: Path,
        caches: Path | None,
        report: Report,
        within: Callable[[tuple[str, ...], Path], Path],
        kept: Callable[[tuple[str, ...], str], KeptFile],
    ) -> None:
        self._root = root
        self._emulator_db = emulator_db
        self._caches = caches
        self._report = report
        self._within = within
        self._kept = kept
        self._owners: dict[str, str] = {}
        """The name of the environment of each state, by its identity."""
        self._prefixes: list[tuple[ObjectAddress, str | None, str]] = []
        """Prefixes of buckets, each with its endpoint and its environment."""

    def place(self, name: str, values: Mapping[str, Any]) -> StatePlace:
        """The place of the state of an environment, from its settings."""
        path = ("environments", name, "state")
        settings = values.get("state", {})
        if isinstance(settings, str):
            settings = {"url": settings}
        if isinstance(settings, Mapping) and self._is_elsewhere(settings):
            place = self._elsewhere(path, name, settings=settings)
        else:
            place = self._file(path, name, settings=settings)
        cache: str | None = values.get("cache")
        if cache is not None:
            target = self._within(("environments", name, "cache"), self._root / cache)
            place = place._replace(cache=target)
        return place

    @staticmethod
    def _is_elsewhere(settings: Mapping[str, Any]) -> bool:
        url: str = settings.get("url", "sqlite:")
        return "url_env" in settings or not is_file_address(url)

    # --- a file ------------------------------------------------------------------------------

    def _file(self, path: tuple[str, ...], name: str, *, settings: Mapping[str, Any]) -> StatePlace:
        url: str | None = settings.get("url")
        if url is None:
            kept = self._kept((*path, "url"), f"{name}.db")
        else:
            target = self._root / self._file_name((*path, "url"), url)
            kept = KeptFile(self._within((*path, "url"), target))
        for setting in settings:
            if setting not in ("url", "lock_wait"):
                self._misplaced(path, setting, what="a state in a file")
        self._claim_file((*path, "url"), name, file=kept.path)
        location = StateLocation.of_file(kept.path, name)
        location = location._replace(lock_wait=float(settings.get("lock_wait", 0)))
        return StatePlace(location, kept.other, kept.path.parent)

    def _file_name(self, path: tuple[str, ...], url: str) -> str:
        """The path in the address of a SQLite file."""
        file = url.removeprefix("sqlite:///")
        if file == url or file.strip("/") in ("", ":memory:") or re.search(r"[?#\0]", file):
            self._report(
                path,
                f"`{'.'.join(path)}` is not the address of a SQLite file",
                hint="Write sqlite:///PATH, relative to this file.",
            )
        return file

    def _claim_file(self, path: tuple[str, ...], name: str, *, file: Path) -> None:
        normalised = os.path.normpath(file)
        other = self._owners.setdefault(normalised, name)
        if normalised == os.path.normpath(self._emulator_db):
            self._report(
                path,
                f"the state of the environment {name} would be the embedded emulator's own file",
                hint=f"Give it another one: state: {{url: sqlite:///.reconcile/{name}-state.db}}.",
            )
        elif other != name:
            self._report(
                path,
                f"the environments {other} and {name} share a state file",
                hint="Give each its own: a state describes one app.",
            )

    # --- another machine ---------------------------------------------------------------------

    def _elsewhere(
        self, path: tuple[str, ...], name: str, *, settings: Mapping[str, Any]
    ) -> StatePlace:
        address = self._address(path, settings)
        kept = self._kept((*path, "url"), f"{name}.db")
        encryption: Mapping[str, Any] | None = settings.get("encryption")
        location = StateLocation(
            "" if address is None else address.url,
            name,
            self._caches or kept.path.parent,
            url_env=settings.get("url_env"),
            region=settings.get("region"),
            endpoint=self._endpoint((*path, "endpoint"), settings.get("endpoint")),
            password_command=self._command(path, settings, setting="password_command"),
            lock_wait=float(settings.get("lock_wait", 0)),
            encryption=None
            if encryption is None
            else self._encryption((*path, "encryption"), encryption),
        )
        if address is not None:
            self._check_kind(path, settings, kind=StateKind(location.kind or StateKind.SQLITE))
        self._claim(path, name, location=location, address=address)
        return StatePlace(location, None, kept.path.parent)

    def _address(self, path: tuple[str, ...], settings: Mapping[str, Any]) -> StateAddress | None:
        url, variable = settings.get("url"), settings.get("url_env")
        if variable is not None:
            self._variable((*path, "url_env"), variable)
            if url is not None:
                self._report(
                    (*path, "url_env"),
                    f"`{'.'.join((*path, 'url_env'))}` stands beside `url`",
                    hint="Remove one of them: both say where the state is.",
                )
            return None
        try:
            return parse_address(str(url))
        except AddressFlaw as flaw:
            self._report(
                (*path, "url"), f"`{'.'.join((*path, 'url'))}` {flaw.message}", hint=flaw.hint
            )
            return None

    def _check_kind(
        self, path: tuple[str, ...], settings: Mapping[str, Any], *, kind: StateKind
    ) -> None:
        for setting in settings:
            fits = {
                "password_command": kind is StateKind.POSTGRESQL,
                "encryption": kind in _OBJECTS,
                "region": kind is StateKind.S3,
                "endpoint": kind is StateKind.S3,
            }.get(setting, True)
            if not fits:
                self._misplaced(path, setting, what=f"a state at {kind}://")

    def _misplaced(self, path: tuple[str, ...], setting: str, *, what: str) -> None:
        self._report(
            (*path, setting),
            f"`{'.'.join((*path, setting))}` means nothing for {what}",
            hint="Remove it.",
        )

    def _claim(
        self,
        path: tuple[str, ...],
        name: str,
        *,
        location: StateLocation,
        address: StateAddress | None,
    ) -> None:
        """Reports a state that another environment has, or whose prefix lies inside another one's."""
        identity = location.identity or f"${location.url_env}"
        if (other := self._owners.setdefault(identity, name)) != name:
            self._report(
                path,
                f"the environments {other} and {name} share a state",
                hint="Give each its own: a state describes one app.",
            )
            return
        if not isinstance(address, ObjectAddress):
            return
        for prefix, endpoint, other in self._prefixes:
            if endpoint == location.endpoint and (prefix.holds(address) or address.holds(prefix)):
                self._report(
                    path,
                    f"the prefix of the environment {name} and that of {other} lie one in the other",
                    hint="Choose prefixes side by side: reconcile/production and reconcile/staging.",
                )
        self._prefixes.append((address, location.endpoint, name))

    def _endpoint(self, path: tuple[str, ...], url: str | None) -> str | None:
        if url is None:
            return None
        host = host_of(url)
        is_safe = url.startswith("https://") or (host is not None and host.is_loopback)
        if host is None or not url.startswith(("https://", "http://")) or set(url) & set("?#"):
            self._report(
                path,
                f"`{'.'.join(path)}` is not the address of a server",
                hint="Write it like https://minio.internal:9000.",
            )
        elif not is_safe:
            self._report(
                path,
                f"`{'.'.join(path)}` would send the state in clear",
                hint="Use https://.",
                rule="insecure",
            )
        return url.rstrip("/")

    def _encryption(self, path: tuple[str, ...], settings: Mapping[str, Any]) -> Encryption:
        for setting in ("key_env", "old_key_env"):
            if is_foreign_key(settings.get(setting, "")):
                self._foreign((*path, setting))
        if ("key_env" in settings) == ("key_command" in settings):
            self._report(
                path,
                f"`{'.'.join(path)}` names no key, or two",
                hint="Write `key_env`, the variable with the key, or `key_command`, which prints it.",
            )
        return Encryption(
            settings.get("key_env"),
            self._command(path, settings, setting="key_command"),
            settings.get("old_key_env"),
        )

    def _variable(self, path: tuple[str, ...], name: str) -> None:
        """Reports a variable that holds something else than the address of a state: a checkout must not send
        the credentials of others anywhere."""
        if is_foreign_key(name):
            self._foreign(path)
        elif not is_state_name(name):
            self._report(
                path,
                f"`{'.'.join(path)}` names a variable that is not one of a state",
                hint="Its name must contain STATE: STATE_URL, for example.",
                rule="insecure",
            )

    def _foreign(self, path: tuple[str, ...]) -> None:
        self._report(
            path,
            f"`{'.'.join(path)}` names a variable with a credential of another service",
            hint="Use a variable of its own, such as RECONCILE_STATE_KEY.",
            rule="insecure",
        )

    def _command(
        self, path: tuple[str, ...], settings: Mapping[str, Any], *, setting: str
    ) -> tuple[str, ...]:
        """A command that prints a secret. Reports one that holds the secret itself."""
        words = tuple(settings.get(setting, ()))
        if words and (words[0] in _PRINTERS or any(re.fullmatch(_KEY, word) for word in words)):
            self._report(
                (*path, setting),
                f"`{'.'.join((*path, setting))}` seems to hold a secret",
                hint="Name a command that reads the secret where it is kept; this file is no place for it.",
                rule="insecure",
            )
        if words and "/" in words[0] and not os.path.isabs(words[0]):
            self._report(
                (*path, setting),
                f"`{'.'.join((*path, setting))}` names a program by a relative path",
                hint="Name it alone, or by its whole path: a checkout must bring no programs.",
                rule="insecure",
            )
        return words
