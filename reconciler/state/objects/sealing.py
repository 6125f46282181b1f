"""Objects are compressed, and encrypted where there is a key: AES-256-GCM, bound to the object's name.

An object is a magic text, a byte for the algorithm, and the content. Encrypted, it names its key by a digest
of it, so that objects under an older key can be read during a rotation; they are written with the new one
only. The name is authenticated with the content, so no object can stand for another one. Lengths are not
hidden.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.commands import Command
from reconciler.errors import Message, StateRefused

KEY_BYTES = 32
LARGEST = 256 * 1024 * 1024
"""Bytes of content, decompressed. An object is input: a few kilobytes can decompress to gigabytes."""

_MAGIC = b"RST1"
_PLAIN: Final = b"\0"
_ENCRYPTED: Final = b"\1"
_ID_BYTES = 8
_NONCE_BYTES = 12
_LEVEL = 1
"""Of zlib. Level 6 takes three times as long for a sixth less (state-backends 3.5)."""


class ObjectSealer:
    """Packs and unpacks objects. ``key`` has `KEY_BYTES` bytes, ``None`` for no encryption; ``older`` are
    keys that are only read with. ``most`` is the most content of an object in bytes."""

    def __init__(
        self, key: bytes | None = None, *, older: Sequence[bytes] = (), most: int = LARGEST
    ) -> None:
        self._id = None if key is None else _id_of(key)
        self._ciphers = {_id_of(each): AESGCM(each) for each in (key, *older) if each is not None}
        self._most = most

    def __repr__(self) -> str:
        return f"ObjectSealer(encrypts={self._id is not None})"

    def __reduce__(self) -> str:
        raise TypeError("a sealer holds keys, which are not passed on")

    def seal(self, name: str, data: bytes) -> bytes:
        """The packed content; differs each time if it is encrypted. Raises StateRefused where it is too
        large to be read again."""
        if len(data) > self._most:
            raise _too_large()
        packed = zlib.compress(data, _LEVEL)
        if self._id is None:
            return _MAGIC + _PLAIN + packed
        nonce = os.urandom(_NONCE_BYTES)
        encrypted = self._ciphers[self._id].encrypt(nonce, packed, name.encode())
        return _MAGIC + _ENCRYPTED + self._id + nonce + encrypted

    def open(self, name: str, data: bytes) -> bytes:
        """The content that was sealed under this name."""
        start = len(_MAGIC)
        if data[:start] != _MAGIC:
            raise _altered()
        algorithm, rest = data[start : start + 1], data[start + 1 :]
        if algorithm == _ENCRYPTED:
            return self._decompressed(self._decrypted(name, rest))
        if algorithm != _PLAIN:
            raise StateRefused(
                "an object of the state is packed in a way that this version does not know",
                hint="Use the version of reconcile that wrote it, or a later one.",
            )
        if self._id is not None:
            raise StateRefused(
                "an object of the state is not encrypted, although a key is given",
                hint="Somebody without the key may have put it there. If the state was never encrypted: "
                "pull it without the key, and push it with the key to a new address.",
            )
        return self._decompressed(rest)

    def _decrypted(self, name: str, data: bytes) -> bytes:
        key_id, nonce, encrypted = (
            data[:_ID_BYTES],
            data[_ID_BYTES : _ID_BYTES + _NONCE_BYTES],
            data[_ID_BYTES + _NONCE_BYTES :],
        )
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            what = "a key that is not given" if self._ciphers else "a key, and none is given"
            raise StateRefused(
                f"the state is encrypted with {what}",
                hint="Give its key under state.encryption (docs/teams.md); during a rotation, the "
                "former one in old_key_env.",
            )
        try:
            return cipher.decrypt(nonce, encrypted, name.encode())
        except (InvalidTag, ValueError):
            raise _altered() from None

    def _decompressed(self, data: bytes) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(data, self._most + 1)
        except zlib.error:
            raise _altered() from None
        if len(content) > self._most:
            raise _too_large()
        if not unpacker.eof or unpacker.unused_data:
            raise _altered()
        return content


def _id_of(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    return sha256(b"id" + key).digest()[:_ID_BYTES]


def _altered() -> StateRefused:
    return StateRefused(
        "an object of the state was altered, is another one's, or is not of this program",
        hint=Message.of("Restore a backup; ", Command.of("state", "backups"), " lists them."),
    )


def _too_large() -> StateRefused:
    return StateRefused(
        "an object of the state is larger than one may be",
        hint="Its content may have 256 MiB. If nobody altered it, please report this.",
    )
