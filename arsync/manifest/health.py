"""Look at a database file before it is mapped, and let a child process walk it.

A file that is shorter than LMDB believes is a SIGBUS for whoever reads behind its end, and some
damage makes LMDB abort: so what is in doubt is read by a child first. Owns the two meta pages as
LMDB 0.9 writes them on 64-bit machines, and nothing else of its format.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from struct import Struct
from typing import Final

from arsync.errors import ArsyncError, ManifestCorruptError

__all__ = ["extend", "is_whole", "survives"]

_META: Final = Struct("<16xII16xI92xQQ")
"""Magic, version, page size, last page and transaction of a meta page (mdb.c, MDB_meta)."""

_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_SMALLEST_PAGE: Final = 512
_LARGEST_PAGE: Final = 65536


def is_whole(path: Path) -> bool:
    """Tell whether a database file has the length that its own meta pages give.

    False is no proof of damage: pages that a transaction took and gave back may never be written.
    """
    needed = _needed_bytes(path)
    return needed is not None and path.stat().st_size >= needed


def extend(path: Path) -> None:
    """Make a file that survived a walk as long as its meta pages say, with a hole.

    The pages in it are free: nobody reads them before they are written.
    """
    needed = _needed_bytes(path)
    if needed is not None and path.stat().st_size < needed:
        os.truncate(path, needed)


def _needed_bytes(path: Path) -> int | None:
    """Return the length by the newer meta page, None where one cannot be read."""
    with path.open("rb") as file:
        first = _read_meta(file.read(_META.size))
        if first is None:
            return None
        file.seek(first[0])
        second = _read_meta(file.read(_META.size))
    if second is None or second[0] != first[0]:
        return None
    page_bytes, last, _ = max(first, second, key=lambda meta: meta[2])
    return (last + 1) * page_bytes


def _read_meta(data: bytes) -> tuple[int, int, int] | None:
    if len(data) < _META.size:
        return None
    magic, version, page_bytes, last, transaction = _META.unpack(data)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    if not _SMALLEST_PAGE <= page_bytes <= _LARGEST_PAGE or page_bytes & (page_bytes - 1):
        return None
    return page_bytes, last, transaction


def survives(walk: Callable[[], object]) -> None:
    """Run a function that reads a store in a child process; no thread may be running yet.

    Raises: ManifestCorruptError where the child died of it; what it raised of arsync's own.
    """
    fork = multiprocessing.get_context("fork")
    reader, writer = fork.Pipe(duplex=False)
    child = fork.Process(target=_walk_in_child, args=(walk, writer))
    child.start()
    writer.close()
    try:
        kind, text = reader.recv()
    except EOFError:
        kind, text = None, ""
    reader.close()
    child.join()
    if kind is None:
        raise ManifestCorruptError(
            f"cannot read the manifest: its database is damaged ({_ending(child.exitcode or 0)} "
            "while it was walked; 'arsync manifest rebuild' makes it anew)"
        )
    if kind is not _Whole:
        raise kind(text)


class _Whole:
    """Stand for a walk that found nothing wrong."""


def _ending(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit {exit_code}"


def _walk_in_child(walk: Callable[[], object], writer: Connection) -> None:
    # LMDB's assertions go to standard error: the parent says it in a sentence.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    faulthandler.disable()
    try:
        walk()
    except ArsyncError as error:
        writer.send((type(error), str(error)))
    except Exception as error:
        writer.send((ManifestCorruptError, f"cannot read the manifest: {error}"))
    else:
        writer.send((_Whole, ""))
