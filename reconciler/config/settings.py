"""The settings of a configuration as typed, frozen values.

`SettingsBuilder` makes them from a document that has passed the schema, and checks the rules that a schema
cannot express.
The module reads no file; it counts as an edge because settings hold `Path` values.

Values that could hold a secret key by mistake (addresses, the name of the variable) are never quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from reconciler.authoring.documents import Document
from reconciler.authoring.phrases import did_you_mean
from reconciler.authoring.privacy import Guard, Level
from reconciler.config.places import KeptFile, ProjectPlaces
from reconciler.config.project import Boundary
from reconciler.config.state_settings import StateSettings
from reconciler.config.trust import ALLOW_OUTSIDE, is_foreign_key, is_proxy_name
from reconciler.core.contract import Clear, Dialect
from reconciler.core.options import Cap, Count, Rate, Share
from reconciler.errors import Diagnostic, UsageError, error
from reconciler.state.location import StateKind, StateLocation
from reconciler.values import Scalar

EMULATOR = "emulator"
"""The address that stands for the embedded emulator."""
DEFAULT_RATE = 300 / 60
"""Requests per second: what the API allowed when the guide was written (adapty-api 7.25)."""


class Environment(NamedTuple):
    """One app at Adapty, or the emulator, with its own state."""

    name: str
    url: str
    """``emulator``, or the base address of the API without a slash at its end."""
    key_env: str | None
    """The variable that holds the secret key; ``None`` for the emulator."""
    dialect: Dialect
    rate: Rate
    rate_shared: bool
    """Whether all processes with this state keep to the rate together."""
    timeout: float
    """Seconds: the deadline of a whole call. Waiting for the rate or after a 429 does not count."""
    quiet_period: float
    """Seconds that a different value waits after a write whose outcome is unknown."""
    delete_attribute_with: Clear
    """``NULL`` or ``EMPTY``."""
    send_ip_country_always: bool
    proxy: str | None
    ca_bundle: Path | None
    state: StateLocation
    """Where its state is; there may be none yet."""
    cache: Path
    """The folder of what only this machine needs; see `StatePlace.cache`."""
    max_delete: Cap
    max_changes: int
    confirm: bool
    """Whether ``--auto-approve`` needs the plan's digest beside it."""
    emulator_db: Path
    max_sweep: Cap = Share(100)
    """The most deletions of a sweep."""
    variables: Mapping[str, Scalar] = {}
    """The value of each ``${var.NAME}`` in profile files."""
    attempt_timeout: float | None = None
    """Seconds after which an attempt of a call is abandoned. ``None``: a third of ``timeout``, 10 at most."""
    patience: float = 300.0
    """Seconds for which a run waits while the API is away, or answers 429 to everything."""
    refuse_existing: bool = False
    """Whether profiles that exist and are not recorded are refused, rather than adopted."""
    proxy_env: str | None = None
    """The variable that holds the proxy's address with its login, instead of ``proxy``."""
    home_state: Path | None = None
    """Where the state belongs, if it lies in the project's folder for no other reason than that it was made
    there."""


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
    access_levels: tuple[str, ...] = ()
    """The access levels that the app has; empty if the configuration names none."""
    env_prefix: str | None = None
    """Profile files may use the environment variables that begin with this text."""
    fake_seed: str = ""
    guard: Guard = Guard()
    places: ProjectPlaces = ProjectPlaces()
    """The folders of the project in the homes of the user."""
    secret_variables: frozenset[str] = frozenset()
    """The variables that any environment names for its key or its proxy."""

    @property
    def listed(self) -> Mapping[str, tuple[str, ...]]:
        """The keys that profiles may name below a member with several fields, by its name, where they are
        limited."""
        return {"access_levels": self.access_levels} if self.access_levels else {}

    def environment(self, name: str | None) -> Environment:
        """An environment by name, or the default one.

        Raises UsageError for an unknown name.
        """
        name = self.default_environment if name is None else name
        if name not in self.environments:
            suggestion = did_you_mean(name, self.environments)
            raise UsageError(
                f'there is no environment "{name}"',
                hint=f"Did you mean {suggestion}?"
                if suggestion
                else _known_environments(self.environments),
            )
        return self.environments[name]


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


def _known_environments(names: Mapping[str, object]) -> str:
    return f"Known environments: {', '.join(names)}."


class SettingsBuilder:
    """Makes the settings of a document that has passed the schema.

    ``places`` says where states lie for which no place is configured. Paths may lead wherever ``boundary``
    says; without one, anywhere. ``problems`` holds an error for each rule that a schema cannot express.
    """

    def __init__(
        self,
        document: Document,
        root: Path,
        *,
        places: ProjectPlaces,
        boundary: Boundary | None = None,
    ) -> None:
        self.document = document
        self.root = root
        self.places = places
        self.boundary = boundary
        self.problems: list[Diagnostic] = []
        self.emulator_db = places.kept_file("emulator.db").path
        self.states = StateSettings(
            root,
            emulator_db=self.emulator_db,
            caches=places.caches,
            report=self.problem,
            within=self.within,
            kept=self.kept,
        )

    def problem(
        self, path: tuple[str, ...], message: str, *, hint: str, rule: str = "value"
    ) -> None:
        source = self.document.at(path)
        self.problems.append(error(f"config/{rule}", message, source=source, hint=hint))

    def config(self, path: Path | None) -> Config:
        data: Any = self.document.value
        environments = {
            name: self.environment(name, values) for name, values in data["environments"].items()
        }
        return Config(
            path=path,
            root=self.root,
            profiles=self.within(("profiles",), self.root / data.get("profiles", "profiles")),
            default_environment=self.default_environment(data, environments),
            environments=environments,
            mask="personal" in data.get("mask", ()),
            public_attributes=tuple(data.get("public_attributes", ())),
            access_levels=tuple(data.get("access_levels", ())),
            env_prefix=self.env_prefix(data.get("env_prefix"), environments),
            fake_seed=str(data.get("fake_seed", "")),
            guard=Guard(
                Level(data.get("personal_data", {}).get("guard", Level.WARN)),
                tuple(
                    domain.lower() for domain in data.get("personal_data", {}).get("domains", ())
                ),
            ),
            places=self.places,
            secret_variables=frozenset(
                name
                for values in data["environments"].values()
                for name in _secret_variables(values)
            ),
        )

    def within(self, path: tuple[str, ...], target: Path) -> Path:
        """A path that a setting names. Reports one that leads out of the project."""
        if self.boundary is not None and not self.boundary.holds(target):
            self.problem(
                path,
                f"`{'.'.join(path)}` leads out of the project",
                hint=f"Name a place below {self.boundary.root}, links included. If it is meant, say so "
                f"outside of the checkout: --allow-outside, {ALLOW_OUTSIDE}=true, or `outside` in your "
                "trust.yaml.",
                rule="outside",
            )
        return target

    def kept(self, path: tuple[str, ...], name: str) -> KeptFile:
        """A file that is kept for the project, in the home or in the project."""
        kept = self.places.kept_file(name)
        if kept.path.parent != self.places.states:
            self.within(path, kept.path)
        return kept

    def env_prefix(self, prefix: str | None, environments: Mapping[str, Environment]) -> str | None:
        if prefix is not None and any(
            name and name.startswith(prefix)
            for environment in environments.values()
            for name in (environment.key_env, environment.proxy_env)
        ):
            self.problem(
                ("env_prefix",),
                "`env_prefix` would let profile files use a variable that holds a secret",
                hint="Choose a prefix that no `key_env` and no `proxy_env` begins with.",
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
                    hint=f"Name one of them. {_known_environments(environments)}",
                    rule="missing-field",
                )
            return next(iter(environments))
        if name not in environments:
            suggestion = did_you_mean(name, environments)
            self.problem(
                ("default_environment",),
                f'`default_environment` is "{name[:63]}", which is not an environment',
                hint=f"Did you mean {suggestion}?"
                if suggestion
                else _known_environments(environments),
            )
        return name

    def environment(self, name: str, values: Mapping[str, Any]) -> Environment:
        here = ("environments", name)
        api: Mapping[str, Any] = values["api"]
        limits: Mapping[str, Any] = values.get("limits", {})
        url = self.url((*here, "api"), api)
        is_emulator = url == EMULATOR
        key_env: str | None = None if is_emulator else api.get("key_env")
        if key_env is None and not is_emulator:
            self.problem(
                (*here, "api"),
                f"the environment {name} has no `key_env`",
                hint="Add `key_env: ADAPTY_SECRET_KEY`, the name of the variable with the key.",
                rule="key-env-missing",
            )
        self.variable_names((*here, "api"), api)
        rate: str | None = api.get("rate")
        default_rate = Rate(None if is_emulator else DEFAULT_RATE)
        ca_bundle: str | None = api.get("ca_bundle")
        place = self.states.place(name, values)
        return Environment(
            name=name,
            url=url,
            key_env=key_env,
            dialect=Dialect(api.get("dialect", Dialect.GUIDE)),
            rate=default_rate if rate is None else parse_rate(rate),
            rate_shared=self.rate_shared((*here, "api"), api, kind=place.location.kind),
            timeout=float(api.get("timeout", 30)),
            attempt_timeout=api.get("attempt_timeout"),
            patience=float(api.get("patience", 300)),
            quiet_period=float(api.get("quiet_period", 60)),
            delete_attribute_with=Clear(api.get("delete_attribute_with", Clear.NULL)),
            send_ip_country_always=api.get("send_ip_country", "always") == "always",
            proxy=self.proxy((*here, "api"), api),
            proxy_env=api.get("proxy_env"),
            ca_bundle=None
            if ca_bundle is None
            else self.within((*here, "api", "ca_bundle"), self.root / ca_bundle),
            state=place.location,
            cache=place.cache,
            home_state=place.home_state,
            max_delete=_cap(limits.get("max_delete", "25%")),
            max_changes=int(limits.get("max_changes", 1000)),
            confirm=values.get("confirm", False),
            refuse_existing=values.get("on_existing") == "refuse",
            emulator_db=self.kept((*here, "api", "url"), "emulator.db").path
            if is_emulator
            else self.emulator_db,
            max_sweep=_cap(limits.get("max_sweep", limits.get("max_delete", "100%"))),
            variables={**self.document.value.get("variables", {}), **values.get("variables", {})},  # type: ignore[dict-item]
        )

    def variable_names(self, path: tuple[str, ...], api: Mapping[str, Any]) -> None:
        """Reports variables that hold something else than what they are named for: a checkout must not send
        the credentials of others anywhere."""
        if is_foreign_key(api.get("key_env", "")):
            self.problem(
                (*path, "key_env"),
                f"`{'.'.join((*path, 'key_env'))}` names a variable with a credential of another service",
                hint="Keep the app's secret key in a variable of its own, such as ADAPTY_SECRET_KEY.",
                rule="insecure",
            )
        if "proxy_env" in api and not is_proxy_name(api["proxy_env"]):
            self.problem(
                (*path, "proxy_env"),
                f"`{'.'.join((*path, 'proxy_env'))}` names a variable that is not one of a proxy",
                hint="Its name must contain PROXY: CI_PROXY, for example.",
                rule="insecure",
            )

    def url(self, path: tuple[str, ...], api: Mapping[str, Any]) -> str:
        url: str = api["url"]
        if url == EMULATOR:
            return url
        refuse = partial(
            _key_in_clear,
            allow_http=bool(api.get("allow_http")),
            has_proxy="proxy" in api or "proxy_env" in api,
        )
        self.address((*path, "url"), url, refuse=refuse)
        return url.rstrip("/")

    def rate_shared(
        self, path: tuple[str, ...], api: Mapping[str, Any], *, kind: StateKind | None
    ) -> bool:
        """Whether processes share the rate. ``kind`` is that of the state, ``None`` where a variable has its
        address."""
        setting = ".".join((*path, "rate_shared"))
        if not api.get("rate_shared", False):
            return False
        if kind not in (StateKind.POSTGRESQL, None):
            self.problem(
                (*path, "rate_shared"),
                f"`{setting}` needs a state in PostgreSQL, whose clock and locks order the processes",
                hint="Remove it, and divide the rate among the jobs by hand; or move the state.",
            )
        if api["url"] == EMULATOR and "rate" not in api:
            self.problem(
                (*path, "rate_shared"),
                f"`{setting}` stands without a rate that could be shared",
                hint="Set `rate` too: the emulator has none by default.",
            )
        return True

    def proxy(self, path: tuple[str, ...], api: Mapping[str, Any]) -> str | None:
        url: str | None = api.get("proxy")
        if url is not None:
            self.address((*path, "proxy"), url, refuse=lambda _scheme, _host: None)
            if "proxy_env" in api:
                self.problem(
                    (*path, "proxy_env"),
                    f"`{'.'.join((*path, 'proxy_env'))}` stands beside `proxy`",
                    hint="Remove one of them: both name the proxy.",
                )
        return url

    def address(
        self,
        path: tuple[str, ...],
        url: str,
        *,
        refuse: Callable[[str, str], tuple[str, str] | None],
    ) -> None:
        """Reports what is wrong with a web address, without quoting it: it may hold a password.

        ``refuse`` is given the scheme and the host of a well-formed one, and may return a message and a
        hint.
        """
        setting = f"`{'.'.join(path)}`"
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or not url.isascii() or re.search(r"[^!-~]|\\", url):
            hint = "Write it like https://api.adapty.io."
            if path[-1] == "url":
                hint = f"Write {EMULATOR}, or an address like https://api.adapty.io."
            self.problem(path, f"{setting} is not an address", hint=hint)
        elif parts.scheme not in ("http", "https"):
            self.problem(path, f"{setting} must begin with https://", hint="Change its beginning.")
        elif "@" in parts.netloc:
            hint = "Remove what stands before the @; credentials do not belong in this file."
            if path[-1] == "proxy":
                hint += " `proxy_env` names a variable that holds the whole address."
            self.problem(path, f"{setting} holds a user name or a password", hint=hint)
        elif "?" in url or "#" in url:
            self.problem(path, f"{setting} has a query or a fragment", hint="End it before ? or #.")
        elif refusal := refuse(parts.scheme, host):
            message, hint = refusal
            self.problem(path, f"{setting} {message}", hint=hint, rule="insecure")


def _secret_variables(values: Mapping[str, Any]) -> Iterator[str]:
    """The variables that the settings of an environment name for something secret."""
    api, state = values["api"], values.get("state", {})
    for setting in ("key_env", "proxy_env"):
        if setting in api:
            yield api[setting]
    if isinstance(state, Mapping):
        encryption = state.get("encryption", {})
        for settings, setting in (
            (state, "url_env"),
            (encryption, "key_env"),
            (encryption, "old_key_env"),
        ):
            if setting in settings:
                yield settings[setting]


def _key_in_clear(
    scheme: str, host: str, *, allow_http: bool, has_proxy: bool
) -> tuple[str, str] | None:
    """A message and a hint, if requests to the host would show the key to others."""
    if scheme == "https":
        return None
    if has_proxy:
        return "would send the key in clear through a proxy", "Use https://, or no proxy."
    if _is_loopback(host) or (allow_http and _is_private(host)):
        return None
    hint = "Use https://."
    if _is_private(host):
        hint = "Use https://; or, in a private network that you trust, add `allow_http: true`."
    return "would send the key in clear", hint


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_PRIVATE_NAMES = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".test")
"""Ends of names that the public name system does not know (RFC 2606, 6761, 6762 and 8375)."""


def _is_private(host: str) -> bool:
    """Whether a host is of a private network, such as a container, as far as its name says so. Whether it is
    one by its address is seen once it is connected."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_NAMES)


def is_proxy_address(text: str) -> bool:
    """Whether a text is the address of a proxy, with or without a login."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    is_clean = re.fullmatch(r"[!-~]+", text) is not None and not set(text) & set("\\?#")
    return is_clean and parts.scheme in ("http", "https") and bool(host) and parts.path in ("", "/")


def _cap(value: str | int) -> Cap:
    return Share(int(value[:-1])) if isinstance(value, str) else Count(int(value))
