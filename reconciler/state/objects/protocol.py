"""What the log of the state asks of a bucket and of a sealer.

Names of objects are relative to the prefix of the state, and have no blank and no empty part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol


class Blob(NamedTuple):
    """An object as it was read."""

    data: bytes
    tag: str
    """Names this content, for `Bucket.replace`; opaque. Two contents that are equal may have the same tag
    (an e-tag of S3 is a digest of the content), so every content that is replaced holds a random id."""
    modified: float
    """When it was written, in Unix seconds by the clock of the store."""


class Created(Enum):
    """The result of `Bucket.create`."""

    DONE = "done"
    """The object is there, with our content."""
    CONFLICT = "conflict"
    """Another content is there."""


class Bucket(Protocol):
    """Objects by name. Methods may be called from any thread.

    Every method raises StateUnreachable where the store does not answer or refuses the credentials; nothing
    was written then, unless the method says otherwise. No message repeats what the store or a library said.
    """

    def get(self, name: str) -> Blob | None:
        """The object; ``None`` only where the store says that there is none. A store that forbids the
        question has not said so: StateUnreachable."""
        ...

    def get_many(self, names: Sequence[str]) -> Sequence[Blob | None]:
        """As `get` for each name, asked at once."""
        ...

    def create(self, name: str, data: bytes) -> Created:
        """Write an object unless there is one. ``data`` is unlike every other content: it holds a random id.

        An answer that says anything but success is settled by reading: "already there" is also what our
        own write answers whose first answer was lost. Raises CommitUnknown where the object may have been
        written and the store does not say.
        """
        ...

    def replace(self, name: str, data: bytes, *, tag: str | None) -> str | None:
        """Write an object if what is there still has this tag (``None``: if there is none); the new tag, or
        ``None`` where something else is there and ours never was. ``data`` holds a random id, as for
        `create`.

        Raises CommitUnknown where that is not certain: an answer was lost, and what stands there now may
        have replaced ours. Nothing that ours names may be cleaned up then.
        """
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write an object under a name that nobody else writes to, such as a snapshot. Raises
        StateUnreachable where that is not certain; an object may be left then."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects. What cannot be deleted is left; no error."""
        ...

    def list(self, prefix: str) -> Sequence[str]:
        """The names below a folder, all of them for "", sorted. Slow and dear."""
        ...

    def store_time(self) -> float:
        """The clock of the store, in Unix seconds, from an object that is written for it."""
        ...

    def self_test(self) -> None:
        """Try on an object of its own whether the store keeps to conditions, where that is not known of the
        service: a server at an address that the configuration names. Raises StateRefused where it creates
        what exists, replaces what changed, or does not replace what did not change."""
        ...

    def close(self) -> None:
        """Ends threads. The bucket may be used again."""
        ...


class Sealer(Protocol):
    """Packs the content of objects. Both methods raise StateRefused."""

    def seal(self, name: str, data: bytes) -> bytes:
        """Compressed, and encrypted where there is a key. A new result each time."""
        ...

    def open(self, name: str, data: bytes) -> bytes:
        """The content that was sealed under this name. Raises StateRefused where it was not, where its
        key is not given, or where it is too large."""
        ...
