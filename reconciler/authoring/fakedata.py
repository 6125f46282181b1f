"""Made-up data that cannot be anybody's, the same for the same seed on every machine. Home of Faker.

Names and places come from Faker. E-mail and IP addresses are in the ranges that are reserved for
examples (RFC 2606, RFC 5737), phone numbers in the range that is reserved for fiction (555-0100 to
555-0199 of the North American plan). So a message that is sent by mistake reaches nobody.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

_AREAS = ("202", "212", "303", "312", "404", "415", "503", "617", "702", "808")
_DOMAINS = ("example.com", "example.net", "example.org")


@cache
def version() -> str | None:
    """Faker with its version; ``None`` if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"Faker {version('faker')}"
    except PackageNotFoundError:
        return None


def fake(name: str, seed: str) -> str | None:
    """The made-up text for a name such as ``first_name`` and a seed; ``None`` for an unknown name.

    The same name gives the same text wherever it stands in a profile. An e-mail address is made of the
    first and last name of the same seed.
    """
    make = _MAKERS.get(name)
    return None if make is None else make(seed)


def _chance(seed: str, name: str) -> int:
    return int.from_bytes(sha256(f"{seed}\n{name}".encode()).digest()[:8], "big")


@cache
def _faker() -> Any:
    from faker import Faker

    return Faker("en_US", use_weighting=False)


def _of_faker(name: str) -> Callable[[str], str]:
    def make(seed: str) -> str:
        faker = _faker()
        faker.seed_instance(_chance(seed, name))
        return str(getattr(faker, name)())

    return make


def _random(seed: str, name: str) -> Random:
    from random import Random

    return Random(_chance(seed, name))


def _user_name(seed: str) -> str:
    parts = (str(fake("first_name", seed)), str(fake("last_name", seed)))
    letters = ["".join(filter(str.isalnum, part)).lower() for part in parts]
    return ".".join([*letters, f"{_chance(seed, 'user_name') % 10_000:04}"])


def _email(seed: str) -> str:
    return f"{_user_name(seed)}@{_random(seed, 'email').choice(_DOMAINS)}"


def _phone_number(seed: str) -> str:
    chance = _random(seed, "phone_number")
    return f"+1{chance.choice(_AREAS)}55501{chance.randrange(100):02}"


def _birthday(seed: str) -> str:
    chance = _random(seed, "birthday")
    return (
        f"{chance.randrange(1950, 2005)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
    )


def _uuid(seed: str) -> str:
    return str(uuid.UUID(int=_random(seed, "uuid").getrandbits(128), version=4))


def _name(seed: str) -> str:
    return f"{fake('first_name', seed)} {fake('last_name', seed)}"


_MAKERS: dict[str, Callable[[str], str]] = {
    **{
        name: _of_faker(name)
        for name in (
            *("first_name", "last_name", "city", "company", "job", "word", "color_name"),
            *("country_code", "timezone", "street_name"),
        )
    },
    "name": _name,
    "user_name": _user_name,
    "email": _email,
    "phone_number": _phone_number,
    "birthday": _birthday,
    "ip": lambda seed: f"203.0.113.{_random(seed, 'ip').randrange(1, 255)}",
    "uuid": _uuid,
}
NAMES = tuple(sorted(_MAKERS))
