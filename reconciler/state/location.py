"""Where a state is: the addresses of states, read from settings and from variables.

The module opens nothing; it counts as an edge because locations hold `Path` values. A location holds no
secret: an address with a password is kept in a variable, and read from there by whoever connects.

The forms of an address::

    sqlite:///PATH
    postgresql://USER@HOST:PORT/DATABASE?schema=NAME     further: sslmode, sslrootcert, sslcert, sslkey, host
    s3://BUCKET/PREFIX
    gs://BUCKET/PREFIX
    az://ACCOUNT/CONTAINER/PREFIX
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeAlias
from urllib.parse import SplitResult, quote, unquote, urlsplit


class StateKind(StrEnum):
    """The kinds of stores, by the beginning of their addresses."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    S3 = "s3"
    GS = "gs"
    AZ = "az"


class AddressFlaw(ValueError):
    """A text is not the address of a state. The message can follow the name of a setting; it quotes nothing
    of the text, which may hold a password."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class PostgresAddress(NamedTuple):
    """A schema of a PostgreSQL database, which is one state."""

    host: str
    """A name, an address, or the folder of a socket, which begins with ``/``."""
    port: int
    user: str | None
    database: str
    schema: str
    parameters: Mapping[str, str] = {}
    """Parameters of libpq for TLS: ``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey``."""

    @property
    def is_local(self) -> bool:
        """Whether the connection stays on this machine."""
        return (
            self.host.startswith("/")
            or self.host in ("localhost", "::1")
            or (re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", self.host) is not None)
        )

    @property
    def weakened(self) -> bool:
        """Whether its parameters take another than the usual way to know the server: verify it by the roots
        of this machine."""
        return bool(self.parameters) and self.parameters != {"sslrootcert": "system"}

    @property
    def identity(self) -> str:
        """The address without what only says how to get there."""
        return f"postgresql://{self._place}?schema={self.schema}{self._socket}"

    @property
    def url(self) -> str:
        """The address in one form, without a password."""
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        more = "".join(
            f"&{name}={quote(value, safe='/:')}" for name, value in sorted(self.parameters.items())
        )
        return f"postgresql://{user}{self._place}?schema={self.schema}{self._socket}{more}"

    @property
    def _socket(self) -> str:
        return f"&host={quote(self.host, safe='/')}" if self.host.startswith("/") else ""

    @property
    def _place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'' if self._socket else host}:{self.port}/{quote(self.database, safe='')}"


class ObjectAddress(NamedTuple):
    """A prefix of a bucket, which is one state."""

    kind: StateKind
    account: str | None
    """The storage account, for Azure."""
    bucket: str
    """The bucket, or the container at Azure."""
    prefix: str
    """Without a slash at its ends."""

    @property
    def url(self) -> str:
        """The address in one form."""
        account = "" if self.account is None else f"{self.account}/"
        return f"{self.kind}://{account}{self.bucket}/{self.prefix}"

    def holds(self, other: ObjectAddress) -> bool:
        """Whether the other prefix is this one, or lies inside it."""
        return f"{other.url}/".startswith(f"{self.url}/")


StateAddress: TypeAlias = PostgresAddress | ObjectAddress


class Encryption(NamedTuple):
    """Where the keys are with which a state in object storage is encrypted. It holds no key."""

    key_env: str | None = None
    """The variable with the key: 32 bytes in base64."""
    key_command: tuple[str, ...] = ()
    """The command that prints the key."""
    old_key_env: str | None = None
    """The variable with a former key, which only reads."""


class StateLocation(NamedTuple):
    """Where the state of an environment is, and how to get there. Holds no secret and can be pickled."""

    url: str
    """The address in one form, without a password; empty as long as only a variable holds it."""
    environment: str
    cache_folder: Path
    """Where a store keeps what it can make anew, such as a copy of a state in a bucket."""
    url_env: str | None = None
    """The variable that holds the address, which may have a password there."""
    region: str | None = None
    endpoint: str | None = None
    """The address of a server that speaks S3."""
    password_command: tuple[str, ...] = ()
    """The command that prints the password, run at each connect."""
    lock_wait: float = 0.0
    """Seconds to wait for the lock."""
    encryption: Encryption | None = None

    @classmethod
    def of_file(cls, path: Path, environment: str) -> StateLocation:
        """The location of a SQLite file."""
        return cls(f"{SQLITE_PREFIX}{path}", environment, path.parent)

    @property
    def kind(self) -> StateKind | None:
        """``None`` as long as only a variable holds the address."""
        return StateKind(self.url.partition(":")[0]) if self.url else None

    @property
    def file(self) -> Path | None:
        """The SQLite file, if the state is one; it may not exist yet."""
        file = self.url.removeprefix(SQLITE_PREFIX)
        return None if file == self.url else Path(file)

    @property
    def address(self) -> StateAddress:
        """The address of a state that is no file."""
        return parse_address(self.url)

    @property
    def identity(self) -> str:
        """A text that is the same for all locations of one state."""
        if self.file is not None or not self.url:
            return self.url
        address = self.address
        if isinstance(address, PostgresAddress):
            return address.identity
        return address.url if self.endpoint is None else f"{address.url} at {self.endpoint}"

    def resolved(self, environ: Mapping[str, str]) -> StateLocation:
        """The location with the address that its variable holds.

        Raises `AddressFlaw` where the variable holds none.
        """
        if self.url_env is None:
            return self
        return self._replace(
            url=parse_address(environ.get(self.url_env, "").strip(), with_password=True).url
        )

    def password(self, environ: Mapping[str, str]) -> str | None:
        """The password in the address that the variable holds."""
        text = "" if self.url_env is None else environ.get(self.url_env, "").strip()
        password = _split(text).password
        return None if password is None else unquote(password)


SQLITE_PREFIX = "sqlite:///"
_FORMS = (
    "Write sqlite:///PATH, postgresql://USER@HOST/DATABASE?schema=NAME, s3://BUCKET/PREFIX, "
    "gs://BUCKET/PREFIX, or az://ACCOUNT/CONTAINER/PREFIX."
)
# Texts: most plans need none of them, and to compile them all takes as long as to read a small state.
_SCHEMA = r"[a-z_][a-z0-9_]{0,62}"
_HOST = r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?|[0-9a-f:.]{2,45}"
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_ACCOUNT = r"[a-z0-9]{3,24}"
_CONTAINER = r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*"
_PART = r"(?!\.{1,2}$)[A-Za-z0-9._=@+~-]{1,200}"
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_SSLMODES = ("require", "verify-ca", "verify-full")
_LONGEST = 1024


def is_file_address(text: str) -> bool:
    """Whether a text is meant as the address of a SQLite file."""
    return text.startswith("sqlite:")


def parse_address(text: str, *, with_password: bool = False) -> StateAddress:
    """The address of a state that is no file. ``with_password`` says that there may be a password, which is
    no part of the result.

    Raises `AddressFlaw`.
    """
    parts = _split(text)
    scheme = parts.scheme
    if scheme in ("postgresql", "postgres"):
        return _postgres(parts, with_password=with_password)
    if scheme in (StateKind.S3, StateKind.GS, StateKind.AZ):
        return _object(parts, StateKind(scheme))
    raise AddressFlaw("is not the address of a state", _FORMS)


def _split(text: str) -> SplitResult:
    """Raises `AddressFlaw` for a text that programs read differently."""
    if len(text) > _LONGEST or not re.fullmatch(r"[!-~]*", text) or "\\" in text:
        raise AddressFlaw("is not the address of a state", _FORMS)
    try:
        parts = urlsplit(text)
        _ = parts.port, parts.hostname
    except ValueError:
        raise AddressFlaw("is not the address of a state", _FORMS) from None
    if "#" in text:
        raise AddressFlaw("has a fragment", "End it before #; write # in a name as %23.")
    return parts


# --- PostgreSQL ----------------------------------------------------------------------------------


def _postgres(parts: SplitResult, *, with_password: bool) -> PostgresAddress:
    if parts.password is not None and not with_password:
        raise AddressFlaw(
            "holds a password, which does not belong in this file",
            "Remove it, and set PGPASSWORD or a passfile. `url_env` names a variable that may hold the "
            "whole address.",
        )
    parameters = _parameters(parts.query)
    schema = parameters.pop("schema", "")
    if not schema:
        raise AddressFlaw(
            "names no schema", "Add ?schema=NAME: one schema of the database holds one state."
        )
    if not re.fullmatch(_SCHEMA, schema):
        raise AddressFlaw(
            "has a schema that cannot be one",
            "Write lower-case letters, digits and underscores, at most 63, no digit first.",
        )
    socket = parameters.pop("host", "")
    host = _host(parts.hostname or "", socket)
    if parameters.get("sslmode", "verify-full") not in _SSLMODES:
        raise AddressFlaw(
            "allows a connection that others can read",
            "Leave `sslmode` out, which verifies the server, or write sslmode=require.",
        )
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in parts.path.removeprefix("/") or not database.isprintable():
        raise AddressFlaw("names no database", "Write postgresql://USER@HOST/DATABASE?schema=NAME.")
    return PostgresAddress(
        host,
        parts.port or 5432,
        user=None if not parts.username else unquote(parts.username),
        database=database,
        schema=schema,
        parameters=parameters,
    )


def _host(host: str, socket: str) -> str:
    if socket.startswith("/") and not host:
        return socket
    if socket or not re.fullmatch(_HOST, host):
        raise AddressFlaw(
            "names no host",
            "Write one host after //, or the folder of a socket as ?host=/run/postgresql.",
        )
    return host


def _parameters(query: str) -> dict[str, str]:
    """The parameters of a query. An unknown one is refused here, before libpq could do as it says."""
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if name not in ("schema", "host", *_TLS) or not equals or not value:
            raise AddressFlaw(
                "has a parameter that is not known",
                f"Only these may stand after the ?: schema, host, {', '.join(_TLS)}, each as NAME=VALUE.",
            )
        if name in parameters:
            raise AddressFlaw("has a parameter twice", f"Write `{name}` once.")
        parameters[name] = unquote(value)
    return parameters


# --- object storage ------------------------------------------------------------------------------


def _object(parts: SplitResult, kind: StateKind) -> ObjectAddress:
    form = f"{kind}://{'ACCOUNT/CONTAINER' if kind is StateKind.AZ else 'BUCKET'}/PREFIX"
    if "@" in parts.netloc or ":" in parts.netloc:
        raise AddressFlaw(
            "holds a user name, a password or a port",
            f"Write {form}; credentials are found as the tools of the cloud find them.",
        )
    if parts.query:
        raise AddressFlaw("has a query", f"Write {form}, and `region` or `endpoint` beside `url`.")
    names = [parts.netloc, *parts.path.removeprefix("/").split("/")]
    account = names.pop(0) if kind is StateKind.AZ else None
    bucket, *prefix = names or [""]
    is_bucket = re.fullmatch(_CONTAINER if kind is StateKind.AZ else _BUCKET, bucket)
    if (account is not None and not re.fullmatch(_ACCOUNT, account)) or not is_bucket:
        raise AddressFlaw("names no bucket that can exist", f"Write {form}.")
    if not prefix or prefix == [""]:
        raise AddressFlaw(
            "names no prefix in the bucket",
            f"Write {form}: a prefix of its own keeps the state apart from everything else.",
        )
    if not all(re.fullmatch(_PART, part) for part in prefix):
        raise AddressFlaw(
            "has a part that is empty, is .. or holds a character that is not allowed",
            f"Write {form}, with letters, digits and ._=@+~- in each part, and no slash at the end.",
        )
    return ObjectAddress(kind, account, bucket, "/".join(prefix))
