"""What the person who runs the program said outside of the checkout. Pure.

A pull request writes every file of a checkout, ``reconcile.yaml`` included. So a checkout may not say alone
where a key goes, which variables of the environment profiles may use, or that a path may leave the project.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from reconciler.authoring.variable_names import is_sensitive
from reconciler.config.buildinfo import is_build
from reconciler.config.hosts import DEFAULT_HOSTS, Host, host_of, parse_hosts
from reconciler.errors import UsageError
from reconciler.state.location import AddressFlaw, PostgresAddress, StateLocation, parse_address

ALLOW_OUTSIDE = "RECONCILE_ALLOW_OUTSIDE"
ENV_PREFIX = "RECONCILE_ENV_PREFIX"
ALLOWED_HOSTS = "RECONCILE_ALLOWED_HOSTS"
ALLOWED_STATES = "RECONCILE_ALLOWED_STATES"
ALLOWED_COMMANDS = "RECONCILE_ALLOWED_COMMANDS"
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"", "0", "false", "f", "no", "n", "off"})
_PREFIX = re.compile(r"[A-Z][A-Z0-9_]{0,61}_").fullmatch
"""As the schemas have it."""


class Trust(NamedTuple):
    """What was allowed outside of the checkout."""

    hosts: tuple[Host, ...] = ()
    """Hosts that keys may go to, besides the API's and this machine."""
    env_prefix: str | None = None
    """Profile files may use the environment variables that begin with this text."""
    all_outside: bool = False
    """Whether paths of the configuration may lead anywhere."""
    outside: tuple[str, ...] = ()
    """Folders outside of the project that paths of the configuration may lead into; absolute."""
    is_build: bool = False
    """Whether the program runs in a build, where nobody sees what a checkout asks for before it happens."""
    states: tuple[str, ...] = ()
    """Addresses of states on other machines, or beginnings of such."""
    commands: tuple[str, ...] = ()
    """Commands that may be run for a secret, each as one line for a shell."""
    file: str | None = None
    """The file of the user's configuration that a part of this comes from."""

    def allows_host(self, url: str) -> bool:
        """Whether a key may go to a web address, or traffic through a proxy there."""
        host = host_of(url)
        if host is None:
            return False
        return host.is_loopback or any(
            allowed.allows(host) for allowed in (*DEFAULT_HOSTS, *self.hosts)
        )

    def allows_state(self, location: StateLocation) -> bool:
        """Whether a state may be read and written at a location. An address in a variable was set outside of
        the checkout, and one of this machine sends nothing anywhere."""
        if location.file is not None:
            return True
        if location.endpoint is not None and not self.allows_host(location.endpoint):
            return False
        address = location.address
        if location.url_env is not None:
            return True
        if isinstance(address, PostgresAddress):
            return (address.is_local and not address.weakened) or any(
                _allows_database(allowed, address) for allowed in self.states
            )
        endpoint = None if location.endpoint is None else host_of(location.endpoint)
        return (endpoint is not None and endpoint.is_loopback) or any(
            f"{address.url}/".startswith(f"{allowed.rstrip('/')}/") for allowed in self.states
        )

    def allows_command(self, words: Sequence[str]) -> bool:
        """Whether a command may be run for a secret."""
        return shlex.join(words) in self.commands

    def variables(
        self, environ: Mapping[str, str], *, prefix: str | None, secrets: Collection[str]
    ) -> Variables:
        """The variables that profile files may use. ``prefix`` is the one of the checkout, ``secrets`` names
        the variables that hold keys and addresses of proxies."""
        effective, reason = self._prefix(prefix)
        usable = {
            name: environ[name]
            for name in environ
            if effective and name.startswith(effective) and not is_sensitive(name, secrets)
        }
        return Variables(usable, effective, reason)

    def _prefix(self, prefix: str | None) -> tuple[str | None, str]:
        """The beginning that names must have, and why there is none or which."""
        outer = self.env_prefix
        if prefix is None and outer is None:
            return None, "none may"
        if outer is None:
            if self.is_build:
                return None, f"in a build, {ENV_PREFIX} has to say which variables may be used"
            return prefix, f"it does not begin with {prefix}"
        if prefix is None or outer.startswith(prefix):
            return outer, f"it does not begin with {outer}"
        if prefix.startswith(outer):
            return prefix, f"it does not begin with {prefix}"
        return None, f"`env_prefix` is {prefix}, and {outer} was allowed outside of the checkout"


class Variables(NamedTuple):
    """The environment variables that profile files may use."""

    values: Mapping[str, str]
    prefix: str | None
    """The beginning that their names must have; ``None`` if there is none to use."""
    reason: str
    """Why another variable may not be used."""


def trust_of(
    environ: Mapping[str, str],
    *,
    allow_outside: bool = False,
    env_prefix: str | None = None,
    allowed_hosts: str | None = None,
    allowed_states: str | None = None,
    allowed_commands: str | None = None,
) -> Trust:
    """What the environment allows. The options of the command line, where they are given, replace what the
    variable of the same name says.

    Raises UsageError for a value that has not the form of its variable.
    """
    text = environ.get(ALLOW_OUTSIDE, "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise UsageError(
            f"{ALLOW_OUTSIDE} is neither true nor false", hint="Write true, or leave it out."
        )
    allow_outside = allow_outside or text in _TRUE
    prefix = env_prefix if env_prefix is not None else environ.get(ENV_PREFIX, "")
    if prefix and not _PREFIX(prefix):
        raise UsageError(
            f"{ENV_PREFIX} cannot be the beginning of variables",
            hint="Write capitals, digits and underscores, with an underscore at the end: QA_.",
        )
    hosts = allowed_hosts if allowed_hosts is not None else environ.get(ALLOWED_HOSTS, "")
    states = allowed_states if allowed_states is not None else environ.get(ALLOWED_STATES, "")
    commands = (
        allowed_commands if allowed_commands is not None else environ.get(ALLOWED_COMMANDS, "")
    )
    return Trust(
        hosts=parse_hosts(hosts, where=ALLOWED_HOSTS),
        env_prefix=prefix or None,
        all_outside=allow_outside,
        is_build=is_build(environ),
        states=parse_states(states.split()),
        commands=tuple(filter(None, map(str.strip, commands.splitlines()))),
    )


def parse_states(entries: Iterable[str]) -> tuple[str, ...]:
    """The addresses of states of a list, in one form as far as they are whole. A beginning of an address
    stays as it is."""
    states = []
    for entry in entries:
        try:
            states.append(parse_address(entry).url)
        except AddressFlaw:
            states.append(entry)
    return tuple(states)


def _allows_database(allowed: str, address: PostgresAddress) -> bool:
    """Whether an allowed address is that of a database, or begins it: with its host, port and database. Who
    the user is makes no difference. One that knows the server in another way has to be allowed as a whole."""
    scheme, _, rest = allowed.partition("://")
    host, slash, more = rest.rpartition("@")[2].partition("/")
    if scheme not in ("postgresql", "postgres"):
        return False
    port = "" if re.search(r":[0-9]+$", host) else ":5432"
    allowed = f"postgresql://{host}{port}{slash}{more}"
    if address.weakened:
        return allowed == address._replace(user=None).url
    ends = "/?" if slash else "/"
    return address.identity == allowed or any(
        address.identity.startswith(f"{allowed}{end}") for end in ends
    )


_FOREIGN = re.compile(
    "(?:GITHUB|GH|GITLAB|ACTIONS|AWS|AZURE|ARM|GOOGLE|GCLOUD|CLOUDSDK|NPM|PYPI|TWINE|DOCKER|SSH|VAULT|"
    "SLACK|STRIPE|OPENAI|ANTHROPIC|SENTRY|DATADOG|CODECOV|SNYK|SONAR|HEROKU|NETLIFY|VERCEL|CLOUDFLARE|"
    "DIGITALOCEAN|BITBUCKET|CIRCLE|BUILDKITE|TRAVIS)_.*|"
    "CI_(?:JOB|REGISTRY|DEPLOY|DEPENDENCY_PROXY|REPOSITORY|SERVER)_.*|NODE_AUTH_TOKEN|SYSTEM_ACCESSTOKEN|"
    "DATABASE_URL|REDIS_URL|PGPASSWORD|MYSQL_PWD|PATH|HOME|USER|LOGNAME|SHELL|PWD",
    re.IGNORECASE,
).fullmatch
"""Names that builds, clouds, package indexes and services give to their own credentials."""


def is_foreign_key(name: str) -> bool:
    """Whether a variable holds what belongs to somebody else than the API, as far as its name says: the token
    of a build, of a cloud, of a package index."""
    return "ADAPTY" not in name.upper() and _FOREIGN(name) is not None


def is_state_name(name: str) -> bool:
    """Whether a variable holds the address of a state, as far as its name says."""
    return "STATE" in name.upper()


def is_proxy_name(name: str) -> bool:
    """Whether a variable holds the address of a proxy, as far as its name says."""
    return "PROXY" in name.upper()
