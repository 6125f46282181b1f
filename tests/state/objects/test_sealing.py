"""Objects that are compressed and encrypted: nobody reads them, and nothing stands for another."""

from __future__ import annotations

import os
import pickle
import zlib

import pytest

from reconciler.errors import StateRefused
from reconciler.state.objects.sealing import KEY_BYTES, ObjectSealer

KEY, NEW_KEY = os.urandom(KEY_BYTES), os.urandom(KEY_BYTES)
NAME, CONTENT = "id/log/000000000001", b'{"holder":"ann","body":"jane@example.com"}' * 20


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_what_was_sealed_is_opened(key: bytes | None) -> None:
    sealer = ObjectSealer(key)
    for content in (b"", CONTENT):
        assert sealer.open(NAME, sealer.seal(NAME, content)) == content
    assert len(sealer.seal(NAME, CONTENT)) < len(CONTENT) / 2


def test_a_sealed_object_shows_nothing_and_never_repeats() -> None:
    sealer = ObjectSealer(KEY)
    sealed = sealer.seal(NAME, CONTENT)
    assert b"jane" not in sealed
    assert b"ann" not in sealed
    assert KEY not in sealed
    with pytest.raises(zlib.error):
        zlib.decompress(sealed[5:])
    assert sealer.seal(NAME, CONTENT) != sealed


REFUSALS: dict[str, tuple[ObjectSealer, ObjectSealer, str]] = {
    "no key": (ObjectSealer(KEY), ObjectSealer(), "a key, and none is given"),
    "another key": (ObjectSealer(KEY), ObjectSealer(NEW_KEY), "a key that is not given"),
    "plain under a key": (ObjectSealer(), ObjectSealer(KEY), "is not encrypted, although a key"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_the_wrong_key_is_refused(case: str) -> None:
    by, opener, words = REFUSALS[case]
    with pytest.raises(StateRefused, match=words):
        opener.open(NAME, by.seal(NAME, CONTENT))


def test_an_older_key_reads_and_no_longer_writes() -> None:
    rotated = ObjectSealer(NEW_KEY, older=[KEY])
    assert rotated.open(NAME, ObjectSealer(KEY).seal(NAME, CONTENT)) == CONTENT
    written = rotated.seal(NAME, CONTENT)
    assert ObjectSealer(NEW_KEY).open(NAME, written) == CONTENT
    with pytest.raises(StateRefused):
        ObjectSealer(KEY).open(NAME, written)


def test_no_object_stands_for_another() -> None:
    sealer = ObjectSealer(KEY)
    with pytest.raises(StateRefused, match="another one's"):
        sealer.open("id/log/000000000002", sealer.seal(NAME, CONTENT))


def test_each_byte_that_flips_is_noticed() -> None:
    sealer = ObjectSealer(KEY)
    sealed = sealer.seal(NAME, os.urandom(200))
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(StateRefused):
            sealer.open(NAME, bytes(altered))


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_what_is_cut_off_or_longer_is_noticed(key: bytes | None) -> None:
    sealer = ObjectSealer(key)
    sealed = sealer.seal(NAME, CONTENT)
    for length in range(len(sealed)):
        with pytest.raises(StateRefused):
            sealer.open(NAME, sealed[:length])
    with pytest.raises(StateRefused):
        sealer.open(NAME, sealed + b"x")


def test_a_small_object_cannot_become_a_large_one() -> None:
    """A megabyte of zeros takes five kilobytes."""
    bomb = ObjectSealer(KEY).seal(NAME, bytes(1_000_000))
    assert len(bomb) < 6_000
    small = ObjectSealer(KEY, most=999_999)
    with pytest.raises(StateRefused, match="larger than one may be"):
        small.open(NAME, bomb)
    with pytest.raises(StateRefused, match="larger than one may be"):
        small.seal(NAME, bytes(1_000_000))
    assert len(ObjectSealer(KEY, most=1_000_000).open(NAME, bomb)) == 1_000_000


def test_a_key_is_neither_shown_nor_passed_on() -> None:
    sealer = ObjectSealer(KEY)
    assert repr(sealer) == "ObjectSealer(encrypts=True)"
    with pytest.raises(TypeError):
        pickle.dumps(sealer)


def test_an_object_of_a_later_version_is_named_as_such() -> None:
    later = bytearray(ObjectSealer().seal(NAME, CONTENT))
    later[4] = 9
    with pytest.raises(StateRefused, match="does not know"):
        ObjectSealer().open(NAME, bytes(later))
