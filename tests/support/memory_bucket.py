"""A bucket in memory, with requests that a test can hold up, lose, or make the last ones of a program.

`create` and `replace` settle lost answers by reading, each attempt and each read being a request of its own,
as over a network.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from reconciler.state.objects.protocol import Blob, Created
from reconciler.state.objects.store import ObjectStore
from reconciler.state.store import CommitUnknown

T = TypeVar("T")
_ATTEMPTS = 3


class Lost(Exception):
    """The answer to a request was lost."""


class Request(NamedTuple):
    """One request: what it asks, and of which object."""

    kind: str
    name: str

    @property
    def writes(self) -> bool:
        return self.kind in ("create", "replace", "put", "delete")


Pass = Callable[[Request, Callable[[], Any]], Any]
"""Carries a request out, by calling the function that it is given; or does something worse."""


def passed(request: Request, effect: Callable[[], Any]) -> Any:
    return effect()


class Objects:
    """What lies in a bucket. Tags are the content itself, as e-tags of S3 are a digest of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.blobs: dict[str, Blob] = {}
        self.requests: Counter[str] = Counter()
        """How many of each kind."""
        self.ignores_conditions = False

    def put(self, name: str, data: bytes) -> None:
        self.blobs[name] = Blob(data, str(zlib.crc32(data)), self.clock())

    def create(self, name: str, data: bytes) -> bool:
        if name in self.blobs and not self.ignores_conditions:
            return False
        self.put(name, data)
        return True

    def replace(self, name: str, data: bytes, tag: str | None) -> bool:
        there = self.blobs.get(name)
        if (None if there is None else there.tag) != tag:
            return False
        self.put(name, data)
        return True


class MemoryBucket:
    """A `reconciler.state.objects.protocol.Bucket` of one program."""

    def __init__(self, objects: Objects, pass_: Pass = passed) -> None:
        self.objects = objects
        self.pass_ = pass_
        self.tests = 0

    def _ask(self, kind: str, name: str, effect: Callable[[], T]) -> T:
        self.objects.requests[kind] += 1
        result: T = self.pass_(Request(kind, name), effect)
        return result

    def _read(self, kind: str, name: str, effect: Callable[[], T]) -> T:
        while True:
            try:
                return self._ask(kind, name, effect)
            except Lost:
                continue

    def get(self, name: str) -> Blob | None:
        return self._read("get", name, lambda: self.objects.blobs.get(name))

    def get_many(self, names: Sequence[str]) -> Sequence[Blob | None]:
        return [self.get(name) for name in names]

    def create(self, name: str, data: bytes) -> Created:
        for _ in range(_ATTEMPTS):
            try:
                if self._ask("create", name, lambda: self.objects.create(name, data)):
                    return Created.DONE
            except Lost:
                pass
            there = self.get(name)
            if there is not None:
                return Created.DONE if there.data == data else Created.CONFLICT
        raise CommitUnknown("nobody knows")

    def replace(self, name: str, data: bytes, *, tag: str | None) -> str | None:
        is_lost = False
        for _ in range(_ATTEMPTS):
            try:
                if self._ask("replace", name, lambda: self.objects.replace(name, data, tag)):
                    return str(zlib.crc32(data))
            except Lost:
                is_lost = True
            there = self.get(name)
            if there is not None and there.data == data:
                return there.tag
            if (None if there is None else there.tag) != tag:
                if is_lost:
                    break  # ours may have been there, and have been replaced itself
                return None
        raise CommitUnknown("nobody knows")

    def put(self, name: str, data: bytes) -> None:
        while True:
            try:
                return self._ask("put", name, lambda: self.objects.put(name, data))
            except Lost:
                continue

    def delete(self, names: Iterable[str]) -> None:
        """All in one request."""

        def remove() -> None:
            for name in names:
                self.objects.blobs.pop(name, None)

        with suppress(Lost):
            self._ask("delete", "", remove)

    def list(self, prefix: str) -> Sequence[str]:
        return self._read(
            "list", prefix, lambda: sorted(n for n in self.objects.blobs if n.startswith(prefix))
        )

    def store_time(self) -> float:
        return self._read("time", "", self.objects.clock)

    def self_test(self) -> None:
        self.tests += 1


class PlainSealer:
    """Neither compresses nor encrypts, so that a test can look into the bucket."""

    def seal(self, name: str, data: bytes) -> bytes:
        return data

    def open(self, name: str, data: bytes) -> bytes:
        return data


def memory_store(objects: Objects, *, pass_: Pass = passed, **options: Any) -> ObjectStore:
    """A program's store in a bucket."""
    common = {"environment": "test", "clock": objects.clock, "clock_margin": 0.0}
    sealer = options.pop("sealer", PlainSealer())
    return ObjectStore(MemoryBucket(objects, pass_), sealer, **(common | options))


class FolderBucket:
    """A `reconciler.state.objects.protocol.Bucket` in a folder, for one program, so that large states take no
    memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder

    def _path(self, name: str) -> Path:
        return self._folder / quote(name, safe="")

    def get(self, name: str) -> Blob | None:
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        return Blob(data, str(zlib.crc32(data)), self._path(name).stat().st_mtime)

    def get_many(self, names: Sequence[str]) -> Sequence[Blob | None]:
        return list(map(self.get, names))

    def create(self, name: str, data: bytes) -> Created:
        if self._path(name).exists():
            return Created.CONFLICT
        self.put(name, data)
        return Created.DONE

    def replace(self, name: str, data: bytes, *, tag: str | None) -> str | None:
        there = self.get(name)
        if (None if there is None else there.tag) != tag:
            return None
        self.put(name, data)
        return str(zlib.crc32(data))

    def put(self, name: str, data: bytes) -> None:
        self._path(name).write_bytes(data)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def list(self, prefix: str) -> Sequence[str]:
        names = (unquote(path.name) for path in self._folder.iterdir())
        return sorted(name for name in names if name.startswith(prefix))

    def store_time(self) -> float:
        return time.time()

    def self_test(self) -> None:
        """It keeps to conditions."""
