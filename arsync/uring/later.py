"""Keep what must wait for the whole tree in a file: names of files, directories' times, extras.

Owns the spool file and the lock around it. Which batch is added when is the planner's business.
"""

from __future__ import annotations

import enum
import errno
import os
import tempfile
import threading
from typing import TYPE_CHECKING

from arsync.errors import FileError, InternalError, OutOfMemoryError
from arsync.uring._native import ffi, lib
from arsync.uring.batch import Batch, Tally

if TYPE_CHECKING:
    from arsync.uring._native import CData

__all__ = ["ExtrasPass", "Later", "LaterKind"]


class LaterKind(enum.IntEnum):
    """Say what is kept (AR_LATER_*)."""

    LINKS = 1
    DIRS = 2
    EXTRAS = 3
    SOURCES = 4
    PLANNED_SOURCES = 5
    ALL_DIRS = 6


class ExtrasPass(enum.IntEnum):
    """Say which of the extras come (AR_EXTRAS_*)."""

    FILES = 1
    DIRS = 2
    WHOLE = 3
    CARRIED = 4


class Later:
    """Spool what waits, in an unlinked temporary file: memory does not grow with the tree.

    Serves one pair of roots. Several threads may add, then one reads. LINKS that were read to the
    end serve the next source of the same destination: its names are linked to those before it.
    A batch goes to LINKS before it goes to DIRS and before its tally is read, because a name that
    is linked again touches its directory and is not copied.

    Args:
        kind: what it takes out of a batch.
        directory: where the file is made; None for $TMPDIR or what stands for it.
    Raises: FileError where no file can be made there; OutOfMemoryError.
    """

    def __init__(self, kind: LaterKind, directory: str | None = None) -> None:
        self._lock = threading.Lock()
        self._directory = tempfile.gettempdir() if directory is None else directory
        out = ffi.new("ar_later **")
        try:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._trouble(error.errno or errno.EIO) from None
        result = lib.ar_later_open(self._file.fileno(), kind, out)
        if result:
            self._file.close()
            raise self._trouble(-result)
        self._raw: CData = ffi.gc(out[0], lib.ar_later_close)

    def __enter__(self) -> Later:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, batch: Batch) -> None:
        """Take out of a compared batch what must wait; it must not have been executed yet.

        For SOURCES it must be done: which names may leave the source depends on its outcome.
        PLANNED_SOURCES are those of a dry run, in which all goes well.

        Raises: FileError when the disk of the spool is full; OutOfMemoryError.
        """
        with self._lock:
            self._check(lib.ar_later_add(self._raw, batch.raw))

    def next(self, batch: Batch) -> bool:
        """Fill a batch with what comes next; nothing can be added until all has been read.

        Returns: False at the end, with the batch empty.
        Raises: FileError, OutOfMemoryError.
        """
        with self._lock:
            return bool(self._check(lib.ar_later_next(self._raw, batch.raw)))

    def settle(self, *, backups_stay: bool = False) -> Tally:
        """Find out which of the extras can go, once all are added, and count those.

        Args:
            backups_stay: each file leaves one in its directory, which therefore stays.
        Raises: FileError, OutOfMemoryError.
        """
        tally = Tally()
        with self._lock:
            self._check(lib.ar_later_settle(self._raw, backups_stay, tally.raw))
        return tally

    def start(self, what: ExtrasPass) -> None:
        """Have `next` give some of the settled extras, from the first of them on."""
        with self._lock:
            lib.ar_later_pass(self._raw, what)

    @property
    def count(self) -> int:
        """Count the names or directories that wait; of extras, those that cannot go too."""
        return int(lib.ar_later_count(self._raw))

    def close(self) -> None:
        """Give back the file and the memory; a second call does nothing."""
        with self._lock:
            if not self._file.closed:
                ffi.release(self._raw)
                self._file.close()

    def _check(self, result: int) -> int:
        if result < 0:
            raise self._trouble(-result)
        return result

    def _trouble(self, error: int) -> FileError | OutOfMemoryError | InternalError:
        if error == errno.ENOMEM:
            return OutOfMemoryError("out of memory for what waits for the whole tree")
        if error == errno.EINVAL:
            return InternalError("a batch of other roots, or one after reading began, was spooled")
        return FileError(
            f"cannot keep a temporary file in '{self._directory}': {os.strerror(error)} "
            "(TMPDIR selects another directory)"
        )
