"""``reconcile.yaml``: found, checked by its schema, and turned into typed settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.contract import Clear, Dialect
from reconciler.documents import Document
from reconciler.errors import Diagnostic, InputError, Source, UsageError, error
from reconciler.loader import parse_yaml
from reconciler.resources import load_schema
from reconciler.validation import validate_value

FILE = "reconcile.yaml"

TEMPLATE = """\
# How `reconcile` finds its profiles, and where it applies them.
version: 1
profiles: profiles
default_environment: local
environments:
  local:
    api: {url: emulator}        # the embedded emulator, kept in .reconcile/emulator.db
  # production:
  #   api:
  #     url: https://api.adapty.io
  #     key_env: ADAPTY_SECRET_KEY   # the name of the variable, never the key
  #     rate: 300/min
  #   state: {url: sqlite:///.reconcile/production.db}
  #   limits: {max_delete: 25%, max_changes: 1000}
  #   confirm: true                  # --auto-approve alone is not enough: quote the plan's digest
"""

_SECRET = re.compile(r"\bsecret_(live|test)_", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Cap:
    """The most deletions that a plan may hold: a count, or a share of the recorded profiles."""

    count: int | None = None
    share: float | None = None

    def allows(self, deletes: int, recorded: int) -> bool:
        if self.count is not None:
            return deletes <= self.count
        return self.share is None or deletes <= recorded * self.share


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment, defaults filled in."""

    name: str
    url: str
    """``emulator``, or the base address of the API without a slash at the end."""
    state: Path
    emulator_db: Path
    key_env: str | None = None
    dialect: Dialect = Dialect.GUIDE
    rate: float | None = None
    """The most requests per second; ``None`` is no limit."""
    rate_auto: bool = False
    timeout: float = 30.0
    quiet_period: float = 60.0
    delete_attribute_with: Clear = Clear.NULL
    send_ip_country_always: bool = False
    proxy: str | None = None
    ca_bundle: Path | None = None
    max_delete: Cap = field(default_factory=lambda: Cap(share=0.25))
    max_changes: int = 1000
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration; paths are absolute."""

    path: Path
    root: Path
    profiles: Path
    default_environment: str
    environments: Mapping[str, Environment]

    def environment(self, name: str | None) -> Environment:
        """The named environment, or the default one.

        Raises UsageError for a name that is not configured.
        """
        wanted = name or self.default_environment
        if wanted in self.environments:
            return self.environments[wanted]
        near = get_close_matches(wanted, self.environments, n=1)
        raise UsageError(
            f"there is no environment {wanted} in {self.path.name}"
            + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"Configured: {', '.join(self.environments)}.",
        )


def find(start: Path) -> Path | None:
    """The nearest ``reconcile.yaml`` in a folder or one above it."""
    folder = start.absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE).is_file():
            return candidate / FILE
    return None


def load_config(path: Path | None, *, start: Path) -> Config:
    """The configuration in ``path``, or the nearest one upwards from ``start``.

    Raises InputError where there is none, where it cannot be read, and with every finding where it is
    not valid.
    """
    found = path if path is not None else find(start)
    if found is None:
        raise InputError(
            f"there is no {FILE} here or in a folder above",
            hint="Write one with `reconcile init`, or name it with --config.",
        )
    try:
        data = found.read_bytes()
    except OSError as problem:
        raise InputError(
            f"cannot read the configuration {found}: {problem.strerror}",
            hint="Write one with `reconcile init`.",
        ) from None
    document, diagnostics = parse_yaml(data, found.name)
    if _SECRET.search(data.decode("utf-8", "replace")):
        raise InputError(
            f"{found.name} holds what looks like a secret key",
            hint="Take it out, revoke it, and name a variable in api.key_env instead.",
        )
    if document is not None and not _errors(diagnostics):
        diagnostics = [*diagnostics, *_findings(document)]
    if document is None or _errors(diagnostics):
        raise InputError(f"{found.name} is not valid", diagnostics=_errors(diagnostics))
    return _config(found.absolute(), document)


def parse_rate(text: str) -> float | None:
    """Requests per second of ``N/min`` or ``N/s``; ``None`` for no limit is not spelled here.

    Raises UsageError for anything else.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)/(min|s)", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"a rate is N/min or N/s, not {text}")
    return float(match[1]) / (60 if match[2] == "min" else 1)


def _errors(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    return [diagnostic for diagnostic in diagnostics if diagnostic.is_error]


def _findings(document: Document) -> list[Diagnostic]:
    found = validate_value(document, load_schema("config.schema"), prefix="config")
    if found:
        return found
    value: Any = document.value
    environments = value["environments"]
    default = value.get("default_environment")
    if default is not None and default not in environments:
        found.append(
            error(
                "config/default-environment",
                f"default_environment {default} is not among the environments",
                document.at(("default_environment",)),
                hint=f"Name one of {', '.join(environments)}.",
            )
        )
    for name, environment in environments.items():
        place = document.at(("environments", name, "api", "url"))
        found.extend(_api_findings(name, environment["api"], place))
    return found


def _api_findings(name: str, api: Mapping[str, Any], place: Source) -> list[Diagnostic]:
    found = []
    url = api["url"]
    if url != "emulator":
        if "key_env" not in api:
            found.append(
                error(
                    "config/key-env",
                    f"environment {name} names no variable for the secret key",
                    place,
                    hint="Add key_env: the name of the variable, never the key.",
                )
            )
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if host is None:
            found.append(error("config/url", f"{url} is not an address", place))
        elif url.startswith("http://") and host not in _LOOPBACK:
            found.append(
                error(
                    "config/url",
                    "http:// would send the secret key in the clear",
                    place,
                    hint="Use https://; http:// is for this machine only.",
                )
            )
    return found


def _config(path: Path, document: Document) -> Config:
    value: Any = document.value
    root = path.parent
    environments = {
        name: _environment(name, settings, root) for name, settings in value["environments"].items()
    }
    return Config(
        path=path,
        root=root,
        profiles=root / value.get("profiles", "profiles"),
        default_environment=value.get("default_environment") or next(iter(environments)),
        environments=environments,
    )


def _environment(name: str, settings: Mapping[str, Any], root: Path) -> Environment:
    api = settings["api"]
    limits = settings.get("limits", {})
    embedded = api["url"] == "emulator"
    rate = api.get("rate", None if embedded else "300/min")
    address = settings.get("state", {}).get("url", f"sqlite:///.reconcile/{name}.db")
    return Environment(
        name=name,
        url=api["url"].rstrip("/"),
        state=root / address.removeprefix("sqlite:///"),
        emulator_db=root / ".reconcile" / ("emulator.db" if name == "local" else f"emulator-{name}.db"),
        key_env=api.get("key_env"),
        dialect=Dialect(api.get("dialect", "guide")),
        rate=5.0 if rate == "auto" else parse_rate(rate) if rate is not None else None,
        rate_auto=rate == "auto",
        timeout=float(api.get("timeout", 30)),
        quiet_period=float(api.get("quiet_period", 60)),
        delete_attribute_with=Clear(api.get("delete_attribute_with") or "null"),
        send_ip_country_always=api.get("send_ip_country") == "always",
        proxy=api.get("proxy"),
        ca_bundle=root / api["ca_bundle"] if "ca_bundle" in api else None,
        max_delete=_cap(limits.get("max_delete", "25%")),
        max_changes=limits.get("max_changes", 1000),
        confirm=settings.get("confirm", False),
    )


def _cap(value: int | str) -> Cap:
    if isinstance(value, str):
        return Cap(share=float(value.removesuffix("%")) / 100)
    return Cap(count=value)
