"""Hosts that a key may go to: their names in one form, and lists of them. Pure.

Names are compared as they are written, in one form (lower case, without a period at the end, addresses as
numbers). Nothing is looked up: whoever may answer to a name is for the name system and TLS to say.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler.errors import UsageError

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*").fullmatch
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Host(NamedTuple):
    """A host, and one of its ports; in an allowed host, ``None`` stands for all of them."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"

    def allows(self, other: Host) -> bool:
        """Whether another host is this one."""
        return self.name == other.name and self.port in (None, other.port)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, by an address of it or by the name ``localhost``."""
        try:
            return ip_address(self.name).is_loopback
        except ValueError:
            return self.name == "localhost"


DEFAULT_HOSTS = (Host("api.adapty.io"),)
"""Hosts that every key may go to: the API's (adapty-api 1). This machine is allowed as well."""


def host_of(url: str) -> Host | None:
    """The host and the port of a web address; ``None`` where it has no host that can be compared, or holds
    what programs read differently: a login, a backslash, what does not show."""
    if not re.fullmatch(r"[!-~]+", url) or set(url) & set("@\\"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        name = _in_one_form(parts.hostname or "")
    except ValueError:
        return None
    return None if name is None or port is None else Host(name, port)


def parse_hosts(text: str, *, where: str) -> tuple[Host, ...]:
    """The hosts of a list, separated by commas or blanks: ``HOST`` or ``HOST:PORT``. ``where`` names the
    list in messages.

    Raises UsageError for anything else, wildcards included.
    """
    return tuple(_parsed(entry, where=where) for entry in re.split(r"[\s,]+", text) if entry)


def _parsed(entry: str, *, where: str) -> Host:
    try:
        if set(entry) & set("/@?#\\%*") or not entry.isascii():
            raise ValueError
        bare = entry if entry.count(":") < 2 or entry.startswith("[") else f"[{entry}]"
        parts = urlsplit(f"//{bare}")
        name, port = _in_one_form(parts.hostname or ""), parts.port
        if name is None or bare.endswith(":") or port == 0:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{where} holds something that is not a host",
            hint="Write HOST or HOST:PORT, separated by commas or blanks; international names as xn--…. "
            "A wildcard allows nothing.",
        ) from None
    return Host(name, port)


def _in_one_form(name: str) -> str | None:
    """A name in the form in which names are compared, or ``None`` if it is neither a name nor an address."""
    name = name.lower().removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name if len(name) <= 253 and _NAME(name) else None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
