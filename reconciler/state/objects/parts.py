"""Rows in objects of a bounded size, one row in a line: the parts of snapshots, of backups and of large
writes. Written and read as a stream, so that memory does not grow with the state. Pure but for the bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

from reconciler.jsontext import packed, unpacked
from reconciler.state.objects.names import part_name
from reconciler.state.objects.protocol import Bucket, Sealer
from reconciler.state.objects.segments import Part

PART_BYTES = 8 * 1024 * 1024
"""How long the lines of a part become, before they are compressed."""
_READ_AT_ONCE = 4


class PartGone(Exception):
    """An object is not there (any more), or is not the one that was named."""


def write_object(bucket: Bucket, sealer: Sealer, *, name: str, content: bytes) -> Part:
    """Writes one object under a name that nobody else uses. Raises StateUnreachable."""
    data = sealer.seal(name, content)
    bucket.put(name, data)
    return Part(name, sha256(data).hexdigest(), size=len(data))


def read_object(bucket: Bucket, sealer: Sealer, *, part: Part) -> bytes:
    """The content of an object. Raises PartGone, StateUnreachable, or StateRefused where it cannot be
    opened."""
    blob = bucket.get(part.name)
    return _content(sealer, part, data=None if blob is None else blob.data)


def write_parts(
    bucket: Bucket,
    sealer: Sealer,
    *,
    folder: str,
    rows: Iterable[Sequence[Any]],
    part_bytes: int = PART_BYTES,
) -> list[Part]:
    """Writes rows into a folder that nobody else uses; no part for no row. Raises StateUnreachable, and
    ValueError for what JSON cannot hold."""
    parts: list[Part] = []
    lines: list[bytes] = []
    size = 0

    def end_part() -> None:
        name = part_name(folder, len(parts))
        parts.append(write_object(bucket, sealer, name=name, content=b"\n".join(lines)))
        lines.clear()

    for row in rows:
        line = packed(row).encode("utf-8", "surrogatepass")
        lines.append(line)
        size += len(line) + 1
        if size >= part_bytes:
            end_part()
            size = 0
    if lines:
        end_part()
    return parts


def read_parts(bucket: Bucket, sealer: Sealer, *, parts: Sequence[Part]) -> Iterator[Any]:
    """The rows in some parts. Raises what `read_object` raises, and ValueError for what is no JSON."""
    for start in range(0, len(parts), _READ_AT_ONCE):
        some = parts[start : start + _READ_AT_ONCE]
        blobs = list(bucket.get_many([part.name for part in some]))
        for number, part in enumerate(some):
            blob, blobs[number] = blobs[number], None
            content = _content(sealer, part, data=None if blob is None else blob.data)
            del blob
            yield from map(unpacked, content.split(b"\n"))


def _content(sealer: Sealer, part: Part, *, data: bytes | None) -> bytes:
    if data is None or sha256(data).hexdigest() != part.sha256:
        raise PartGone(part.name)
    return sealer.open(part.name, data)
