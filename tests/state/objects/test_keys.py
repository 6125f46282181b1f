"""Keys of an encrypted state come from a variable or a command, once, and are shown by nothing."""

from __future__ import annotations

import base64
import pickle
import sys
from pathlib import Path

import pytest

from reconciler.errors import InputError, ReconcileError, StateRefused
from reconciler.state.location import Encryption
from reconciler.state.objects.keys import KeyedSealer
from reconciler.state.objects.sealing import KEY_BYTES

KEY, FORMER = bytes(range(KEY_BYTES)), bytes(range(100, 100 + KEY_BYTES))
TEXT, FORMER_TEXT = (base64.b64encode(key).decode() for key in (KEY, FORMER))
BY_VARIABLE = Encryption(key_env="STATE_KEY", old_key_env="STATE_KEY_OLD")


def printing(text: str) -> Encryption:
    return Encryption(key_command=(sys.executable, "-c", f"print({text!r})"))


def test_a_key_comes_from_a_variable_or_from_a_command() -> None:
    by_variable = KeyedSealer(BY_VARIABLE, environ={"STATE_KEY": f" {TEXT}\n"})
    by_command = KeyedSealer(printing(TEXT), environ={})
    assert by_command.open("a", by_variable.seal("a", b"content")) == b"content"


def test_during_a_rotation_the_former_key_reads() -> None:
    old = KeyedSealer(BY_VARIABLE, environ={"STATE_KEY": FORMER_TEXT})
    both = KeyedSealer(BY_VARIABLE, environ={"STATE_KEY": TEXT, "STATE_KEY_OLD": FORMER_TEXT})
    new = KeyedSealer(BY_VARIABLE, environ={"STATE_KEY": TEXT})
    assert both.open("a", old.seal("a", b"content")) == b"content"
    assert new.open("a", both.seal("a", b"content")) == b"content"
    with pytest.raises(StateRefused, match="a key that is not given"):
        new.open("a", old.seal("a", b"content"))


def test_a_command_is_run_once_and_not_before_it_is_needed(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = f"open({str(count)!r}, 'a').write('x'); print({TEXT!r})"
    sealer = KeyedSealer(Encryption(key_command=(sys.executable, "-c", program)), environ={})
    assert not count.exists()
    for _ in range(3):
        sealer.seal("a", b"content")
    assert count.read_text() == "x"


@pytest.mark.parametrize("text", ["", "c2hvcnQ=", TEXT[:-4], TEXT + "AAAA", "not base64 at all!"])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as caught:
        KeyedSealer(BY_VARIABLE, environ={"STATE_KEY": text}).seal("a", b"")
    shown = f"{caught.value.message} {caught.value.hint}"
    assert "STATE_KEY" in shown
    assert "openssl rand -base64 32" in shown
    assert not text or text not in shown


def test_a_command_that_prints_no_key_is_named_and_not_quoted() -> None:
    with pytest.raises(InputError, match="key_command") as caught:
        KeyedSealer(printing("a-secret"), environ={}).seal("a", b"")
    assert "a-secret" not in caught.value.message
    failing = Encryption(key_command=(sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(ReconcileError, match="exit code 3"):
        KeyedSealer(failing, environ={}).seal("a", b"")


def test_keys_are_neither_shown_nor_passed_on() -> None:
    sealer = KeyedSealer(BY_VARIABLE, environ={"STATE_KEY": TEXT})
    sealer.seal("a", b"")
    assert repr(sealer) == "KeyedSealer()"
    with pytest.raises(TypeError):
        pickle.dumps(sealer)
