"""Commands that messages suggest. One function writes them all, so that they work when pasted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import NamedTuple

from reconciler.values import shown

CONFIG_NAME = "reconcile.yaml"
"""The name of a configuration, where no option names one."""


class Permissions(NamedTuple):
    """What the options of the command line allow a checkout."""

    allow_outside: bool = False
    env_prefix: str | None = None
    allowed_hosts: str | None = None
    allowed_states: str | None = None
    allowed_commands: str | None = None

    def options(self) -> tuple[str, ...]:
        """The options as words."""
        named = (
            ("--env-prefix", self.env_prefix),
            ("--allowed-hosts", self.allowed_hosts),
            ("--allowed-states", self.allowed_states),
            ("--allowed-commands", self.allowed_commands),
        )
        words = tuple(word for name, value in named if value for word in (name, value))
        return (*(["--allow-outside"] if self.allow_outside else []), *words)


class Invocation(NamedTuple):
    """The options of the program with which it was started. A suggested command repeats them, so that it
    means the same project and environment."""

    config: str | None = None
    env: str | None = None
    run: str | None = None
    worker: str | None = None
    permissions: Permissions = Permissions()

    def options(self, env: str | None = None) -> tuple[str, ...]:
        """The options as words; ``env`` is another environment."""
        named = (
            ("--config", self.config),
            ("--env", env or self.env),
            ("--run", self.run),
            ("--worker", self.worker),
        )
        words = tuple(word for name, value in named if value is not None for word in (name, value))
        return (*words, *self.permissions.options())


class Command(NamedTuple):
    """A command of this program, to be suggested in a message."""

    words: tuple[str, ...]
    """Its name, options and arguments."""
    env: str | None = None
    """The environment that it is about, where that is not the one of the invocation."""
    is_global: bool = True
    """Whether it takes the options of the program. `init` needs none."""

    @classmethod
    def of(cls, *words: str, env: str | None = None, is_global: bool = True) -> Command:
        return cls(words, env, is_global)

    def text(self, invocation: Invocation = Invocation()) -> str:  # noqa: B008
        """The command as a line for a shell; it is safe to print."""
        options = invocation.options(self.env) if self.is_global else ()
        return " ".join(map(quoted, ("reconcile", *options, *self.words)))


def file_argument(path: str) -> str:
    """The name of a file that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def arguments(words: Iterable[str]) -> tuple[str, ...]:
    """Arguments that no command takes for options."""
    words = tuple(words)
    return ("--", *words) if any(word.startswith("-") for word in words) else words


def quoted(word: str) -> str:
    """A word for a shell, in visible characters that no terminal and no build's log obeys."""
    if _is_plain(word.replace("\\", "")):
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _is_plain(text: str) -> bool:
    return shown(f"x{text}") == f"x{text}"


def _escaped(character: str) -> str:
    """A character between ``$'`` and ``'``, as bash, zsh and ksh read it. No quote is left in there: a shell
    that knows no ``$'`` takes all of it for one word."""
    if character not in "#'\\" and _is_plain(character):
        return character
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:  # a byte of a file name that is not UTF-8
        point -= 0xDC00
    if point < 0x100 and not 0x80 <= ord(character) <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
