"""Open LMDB environments and turn LMDB's errors into arsync's.

Owns the databases' names, the size of the map and what LMDB has to be told. It must not know what
the entries mean.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import lmdb

from arsync.errors import FileError, OutOfMemoryError, quoted
from arsync.manifest.format import damage

__all__ = [
    "DATABASES",
    "MAP_BYTES",
    "MapFull",
    "entries_of",
    "open_environment",
    "present_in",
    "reserve",
    "starting_with",
    "told",
    "value_of",
    "values_of",
]

DATABASES: Final = ("meta", "trees", "dirs", "pages", "chunks", "runs")
MAP_BYTES: Final = 1 << 40

_SMALLEST_MAP_BYTES: Final = 1 << 24
_FEW_BLOCKS: Final = 256
_LOCK_BYTES: Final = 8192  # of LMDB's reader table for 126 readers
_FILE_ERRORS: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
)


class MapFull(Exception):  # noqa: N818 - it is no error
    """Say that a transaction needs a larger map."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the database's errors into arsync's.

    Raises: MapFull, which a larger map helps; FileError; OutOfMemoryError; ManifestCorruptError.
    """
    try:
        yield
    except lmdb.MapFullError as error:
        raise MapFull from error
    except OSError as error:
        raise _file_error(path, error.errno or 0) from error
    except lmdb.MemoryError as error:
        raise OutOfMemoryError(f"out of memory for the manifest in {quoted(path)}") from error
    except lmdb.Error as error:
        number = _errno_of(error)
        if number:
            raise _file_error(path, number) from error
        raise damage(f"its database is damaged: {error}") from error


def _errno_of(error: lmdb.Error) -> int:
    """Return the errno that LMDB put into words, 0 where it means damage."""
    text = str(error).rpartition(": ")[2]
    return next((number for number in _FILE_ERRORS if os.strerror(number) == text), 0)


def _file_error(path: Path, number: int) -> FileError:
    # LMDB says EIO for a write that came out short, which is what a full disk does first.
    if number == errno.EIO and os.statvfs(path).f_bavail < _FEW_BLOCKS:
        number = errno.ENOSPC
    return FileError(f"cannot keep the manifest in {quoted(path)}: {os.strerror(number)}")


def open_environment(
    path: Path, map_bytes: int, *, readonly: bool = False, shared: bool = False
) -> lmdb.Environment:
    """Open an environment, with a smaller map where the one asked for is refused.

    Args:
        shared: a run may write meanwhile; who only reads then stands in LMDB's table of readers.
    """
    while True:
        try:
            return lmdb.open(
                os.fspath(path),
                map_size=map_bytes,
                max_dbs=len(DATABASES),
                mode=0o600,
                readonly=readonly,
                lock=shared or not readonly,
                readahead=False,
            )
        except lmdb.MemoryError:
            # RLIMIT_AS, or a kernel that does not overcommit.
            if map_bytes <= _SMALLEST_MAP_BYTES:
                raise
            map_bytes //= 2


def reserve(path: Path) -> None:
    """Give LMDB's table of readers its blocks: it is mapped, and a full disk would be a SIGBUS."""
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(lock_fd, 0, _LOCK_BYTES)
    finally:
        os.close(lock_fd)


def present_in(env: lmdb.Environment) -> set[str]:
    """Return the names of the databases; none where a run died before its first transaction."""
    with env.begin() as txn:
        return {key.decode("ascii", "replace") for key, _ in txn.cursor()}


def starting_with(cursor: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries whose keys begin with a prefix."""
    if not cursor.set_range(prefix):
        return
    for key, value in cursor.iternext():
        if not key.startswith(prefix):
            return
        yield key, value


def entries_of(txn: lmdb.Transaction, database: Any) -> Iterator[tuple[bytes, bytes]]:
    """Yield all entries in the order of their keys."""
    return cast("Iterator[tuple[bytes, bytes]]", iter(txn.cursor(database)))


def value_of(txn: lmdb.Transaction, database: Any, key: bytes) -> bytes | None:
    """Return a copy of what is stored under a key."""
    return cast("bytes | None", txn.get(key, db=database))


def values_of(txn: lmdb.Transaction, database: Any, keys: Sequence[bytes]) -> list[bytes | None]:
    """Return copies of what is stored under keys, each of which costs 0.3 us."""
    return cast("list[bytes | None]", [txn.get(key, db=database) for key in keys])
