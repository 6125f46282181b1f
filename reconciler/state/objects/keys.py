"""The keys of an encrypted state: from a variable, or from a command that prints one."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Mapping

from reconciler.errors import InputError
from reconciler.state.location import Encryption
from reconciler.state.objects.sealing import KEY_BYTES, ObjectSealer
from reconciler.state.secret_command import printed_secret

_HINT = f"A key has {KEY_BYTES} bytes in base64; `openssl rand -base64 {KEY_BYTES}` makes one."


class KeyedSealer:
    """Seals with the keys of a state. They are fetched once, at the first use, which lies before any lock is
    taken, and then kept: a key service that fails later must not keep an outcome out of the state.

    Raises InputError where a variable holds no key, and ReconcileError where the command prints none.
    """

    def __init__(self, encryption: Encryption, *, environ: Mapping[str, str]) -> None:
        self._encryption = encryption
        self._environ = environ
        self._lock = threading.Lock()
        self._sealer: ObjectSealer | None = None

    def __repr__(self) -> str:
        return "KeyedSealer()"

    def __reduce__(self) -> str:
        raise TypeError("a sealer holds keys, which are not passed on")

    def seal(self, name: str, data: bytes) -> bytes:
        return self._with_keys().seal(name, data)

    def open(self, name: str, data: bytes) -> bytes:
        return self._with_keys().open(name, data)

    def _with_keys(self) -> ObjectSealer:
        with self._lock:
            if self._sealer is None:
                settings = self._encryption
                if settings.key_command:
                    what = "what the command in `state.encryption.key_command` prints"
                    text = printed_secret(
                        settings.key_command, setting="state.encryption.key_command"
                    )
                    key = _parsed(text, what)
                else:
                    key = self._key_in(settings.key_env or "")
                former = settings.old_key_env
                older = [self._key_in(former)] if former and self._environ.get(former) else []
                self._sealer = ObjectSealer(key, older=older)
            return self._sealer

    def _key_in(self, name: str) -> bytes:
        text = self._environ.get(name, "").strip()
        if not text:
            raise InputError(
                f"the variable {name} holds no key, and the state is to be encrypted",
                hint=f"{_HINT} `state.encryption` names the variable.",
            )
        return _parsed(text, f"what the variable {name} holds")


def _parsed(text: str, what: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(f"{what} is not a key", hint=_HINT)
    return key
