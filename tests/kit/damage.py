"""Damage to the file of a database, a page at a time."""

from __future__ import annotations

from random import Random
from typing import Final

__all__ = ["PAGE_BYTES", "damaged"]

PAGE_BYTES: Final = 4096


def damaged(whole: bytes, chance: Random, kind: int) -> bytes:
    """Return a database with one page damaged: noise, zeros, or a few flipped bits."""
    data = bytearray(whole)
    start = chance.randrange(len(whole) // PAGE_BYTES) * PAGE_BYTES
    if kind == 0:
        data[start : start + PAGE_BYTES] = chance.randbytes(PAGE_BYTES)
    elif kind == 1:
        data[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
    else:
        for _ in range(3):
            data[start + chance.randrange(PAGE_BYTES)] ^= 1 << chance.randrange(8)
    return bytes(data)
