"""Bodies that came compressed, although we asked for none. Pure."""

from __future__ import annotations

import zlib

_MOST_LAYERS = 3
_GZIP = 16 + zlib.MAX_WBITS


def decoded(body: bytes, encoding: str, *, limit: int) -> bytes | None:
    """The body without its ``Content-Encoding``. ``None`` for an encoding that we do not know, for a body
    that is not complete or not of its encoding, and for more than ``limit`` bytes on any layer."""
    layers = [name.strip().lower() for name in encoding.split(",")]
    layers = [name for name in layers if name not in ("", "identity")]
    if len(layers) > _MOST_LAYERS:
        return None
    content: bytes | None = body
    for name in reversed(layers):
        if content is None:
            return None
        if name in ("gzip", "x-gzip"):
            content = _inflated(content, _GZIP, limit=limit)
        elif name == "deflate":  # with the header of zlib; many send it without
            plain = _inflated(content, zlib.MAX_WBITS, limit=limit)
            content = (
                plain if plain is not None else _inflated(content, -zlib.MAX_WBITS, limit=limit)
            )
        else:
            return None
    return content


def _inflated(body: bytes, window: int, *, limit: int) -> bytes | None:
    decompressor = zlib.decompressobj(window)
    try:
        content = decompressor.decompress(body, limit + 1)
    except zlib.error:
        return None
    is_whole = decompressor.eof and not decompressor.unused_data
    return content if is_whole and len(content) <= limit else None
