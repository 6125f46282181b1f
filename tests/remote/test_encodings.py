"""Bodies that came compressed are read within bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest

from reconciler.remote.encodings import decoded

TEXT = b'{"a": 1}' * 10
RAW_DEFLATE = zlib.compress(TEXT)[2:-4]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", TEXT),
        ("", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        (" X-GZIP ", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", RAW_DEFLATE),
        ("deflate, gzip", gzip.compress(zlib.compress(TEXT), mtime=0)),
        ("identity, gzip", gzip.compress(TEXT, mtime=0)),
    ],
)
def test_a_known_encoding_is_decoded(encoding: str, body: bytes) -> None:
    assert decoded(body, encoding, limit=1000) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", TEXT),
        ("gzip, zstd", gzip.compress(TEXT, mtime=0)),
        ("gzip", TEXT),
        ("gzip", b""),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-1]),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"x"),
        ("deflate", TEXT),
        ("gzip", gzip.compress(bytes(1001), mtime=0)),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(100 << 20), 1, mtime=0), mtime=0)),
        ("gzip, gzip, gzip, gzip", TEXT),
    ],
)
def test_what_cannot_be_decoded_within_bounds_is_nothing(encoding: str, body: bytes) -> None:
    assert decoded(body, encoding, limit=1000) is None
