"""Run batches on one lane: one thread, one ring, its own buffers.

Owns the life of a `struct ar_lane` and of the big files that lanes share. Which batch runs when,
and on which lane, is not its business.
"""

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from arsync.errors import InternalError, OutOfMemoryError
from arsync.model import Method, Problem, Side, State
from arsync.uring._native import ffi, lib
from arsync.uring.batch import Batch

if TYPE_CHECKING:
    from arsync.uring._native import CData
    from arsync.uring.rules import Rules

__all__ = [
    "Backup",
    "BigFile",
    "Executor",
    "ExecutorSettings",
    "Limit",
    "RingRefused",
    "WritingRefused",
    "new_run_name",
]

_REFUSALS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def new_run_name() -> str:
    """Return a random 96-bit name for a run, 24 hex digits: part of its temporary names."""
    return secrets.token_hex(12)


class RingRefused(Exception):  # noqa: N818 - a refusal that the caller answers with the sync engine
    """Say that the kernel lets this process have no ring; `errno` says why."""

    def __init__(self, error: int) -> None:
        super().__init__(error)
        self.errno = error


class WritingRefused(Exception):  # noqa: N818 - a refusal that the run words before it ends
    """Say that nothing more can be written, as the disk is full or read-only; `errno` says why."""

    def __init__(self, error: int, batch: Batch) -> None:
        super().__init__(error)
        self.errno = error
        self._batch = batch

    def problem(self) -> Problem | None:
        """Return what could not be written; ask when no lane works on the batch any more."""
        problems = [
            one
            for one in self._batch.problems()
            if one.side == Side.DST and one.errno == self.errno
        ]
        return problems[-1] if problems else None


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """Say how the lanes of one run work; all lanes share one.

    Args:
        ring: the uring engine, else plain calls.
        queue_depth: entries of the ring.
        files_in_flight: files open at the same time.
        buffer_bytes: of one buffer, a multiple of 4096.
        memory_bytes: of all buffers of a lane.
        method, big_method: what moves content, below and from `AR_BIG_BYTES`.
        reflink: to be tried first; reflink_always: a file that cannot be cloned fails.
        updates_chunks: of a big file that is replaced only chunks that differ are written.
        inplace, sparse, preallocate, dry_run: as `WritePolicy` says; a dry run compares contents.
        temp_dir_fd: where temporary files are made, -1 for beside their targets.
        bytes_per_s: limit over all lanes, 0 for none.
        backup: where what is replaced is kept, None for nowhere.
        trash: where what is deleted goes, None for nowhere.
        run: name of the run, from `new_run_name`.
    """

    ring: bool
    queue_depth: int
    files_in_flight: int
    buffer_bytes: int
    memory_bytes: int
    method: Method
    big_method: Method
    reflink: bool
    reflink_always: bool
    inplace: bool
    sparse: bool
    preallocate: bool
    dry_run: bool
    updates_chunks: bool
    temp_dir_fd: int
    bytes_per_s: int
    run: str
    backup: Backup | None = None
    trash: Backup | None = None

    def without_ring(self) -> ExecutorSettings:
        """Return the same for plain calls."""
        big = Method.READ_WRITE if self.big_method == Method.DIRECT else self.big_method
        return replace(self, ring=False, big_method=big)


class BigFile:
    """Hold a file that all lanes copy together, from `Executor.open_big`."""

    __slots__ = ("batch", "raw")

    def __init__(self, raw: CData, batch: Batch) -> None:
        self.raw = raw
        self.batch = batch

    @property
    def bytes(self) -> int:
        """Return how many bytes are to be copied: 0 once a reflink has done it."""
        return int(lib.ar_big_bytes(self.raw))


class Backup:
    """Hold where entries are kept that are replaced or deleted; all lanes share it.

    Args:
        directory: a path, made when it is first needed; empty for beside each entry.
        suffix: of their names there; not empty without a directory.
    Raises: OutOfMemoryError.
    """

    __slots__ = ("raw",)

    def __init__(self, directory: bytes, suffix: bytes) -> None:
        out = ffi.new("ar_backup **")
        if lib.ar_backup_open(directory, suffix, out):
            raise OutOfMemoryError("out of memory for backups")
        self.raw: CData = ffi.gc(out[0], lib.ar_backup_close)


class Limit:
    """Hold the token bucket of --bwlimit, which all lanes draw from."""

    __slots__ = ("raw",)

    def __init__(self, bytes_per_s: int) -> None:
        self.raw: CData = ffi.NULL
        if bytes_per_s:
            self.raw = ffi.new("struct ar_limit *", {"bytes_per_s": bytes_per_s})


class Executor:
    """Run batches on the calling thread; open it on the thread that uses it.

    A ring belongs to the thread that made it (IORING_SETUP_SINGLE_ISSUER), so only `stop` and
    `tally` may be called from another one.

    Args:
        settings: of the run.
        rules: what is set; kept alive here.
        limit: shared by all lanes of the run.
        lane: number of this one, part of its temporary names.
    Raises: RingRefused where there is no ring to be had; OutOfMemoryError.
    Source: io_uring_setup(2).
    """

    def __init__(
        self, settings: ExecutorSettings, rules: Rules, limit: Limit, lane: int = 0
    ) -> None:
        self._alive = (rules, limit, settings.backup, settings.trash)
        config = ffi.new(
            "struct ar_lane_config *",
            {
                "engine": lib.AR_ENGINE_URING if settings.ring else lib.AR_ENGINE_SYNC,
                "flags": _flags(settings),
                "queue_depth": settings.queue_depth,
                "files_in_flight": settings.files_in_flight,
                "method": settings.method,
                "big_method": settings.big_method,
                "lane": lane,
                "buffer_bytes": settings.buffer_bytes,
                "memory_bytes": settings.memory_bytes,
                "run": settings.run.encode(),
                "temp_dir_fd": settings.temp_dir_fd,
                "rules": rules.raw,
                "limit": limit.raw,
                "backup": settings.backup.raw if settings.backup else ffi.NULL,
                "trash": settings.trash.raw if settings.trash else ffi.NULL,
            },
        )
        out = ffi.new("ar_lane **")
        result = lib.ar_lane_open(config, out)
        if result and settings.ring:
            raise RingRefused(-result)
        if result:
            raise OutOfMemoryError("out of memory for the buffers of a lane")
        self._raw: CData = ffi.gc(out[0], lib.ar_lane_close)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        ffi.release(self._raw)

    @property
    def tally(self) -> CData:
        """Return the lane's own `struct ar_tally`; it moves while the lane works."""
        return lib.ar_lane_tally(self._raw)

    def stop(self) -> None:
        """Make the lane end what is in flight and start nothing more; from any thread."""
        lib.ar_lane_stop(self._raw)

    def run(self, batch: Batch) -> bool:
        """Execute a batch and write the outcome of each change into it.

        Returns: False where `stop` cut it short; what was not done has State.SKIPPED.
        Raises: WritingRefused; what was finished before is in place. OutOfMemoryError.
        Durability: none; everything is in place and visible, and the kernel writes it back.
        """
        return _ended(lib.ar_lane_run(self._raw, batch.raw), batch)

    def big_changes(self, batch: Batch) -> list[tuple[int, int]]:
        """Return (pair, change) of the big files that `run` left for `open_big`."""
        raw = batch.raw
        if not raw.big_count:
            return []
        return [
            (pair, change)
            for pair in range(raw.pair_count)
            for change in range(
                raw.pairs[pair].change_first,
                raw.pairs[pair].change_first + raw.pairs[pair].change_count,
            )
            if raw.changes[change].state == State.BIG
        ]

    def open_big(self, batch: Batch, pair: int, change: int) -> BigFile | None:
        """Open a big file and make its temporary one; a reflink is tried here.

        Returns: None where that failed; the batch holds the problem.
        Raises: WritingRefused.
        """
        out = ffi.new("ar_big **")
        result = lib.ar_big_open(self._raw, batch.raw, pair, change, out)
        if -result in _REFUSALS:
            raise WritingRefused(-result, batch)
        return None if result else BigFile(out[0], batch)

    def copy_big(self, big: BigFile, offset: int, length: int) -> bool:
        """Copy one stretch of a big file; lanes may copy different ones at the same time.

        Args:
            offset: in bytes, a multiple of the hash chunk (4 MiB).
        Returns: False when it failed; `close_big` will say why.
        """
        return int(lib.ar_big_copy(self._raw, big.raw, offset, length)) == 0

    def close_big(self, big: BigFile, *, keep: bool) -> bool:
        """Put a big file in its place when every stretch is copied, or remove it.

        Returns: False when the source has changed meanwhile: it must be copied again, and closed
            again.
        Raises: WritingRefused.
        """
        result = lib.ar_big_close(self._raw, big.raw, keep)
        if -result in _REFUSALS:
            raise WritingRefused(-result, big.batch)
        return int(result) != 1


def _flags(settings: ExecutorSettings) -> int:
    wanted = {
        lib.AR_LANE_INPLACE: settings.inplace,
        lib.AR_LANE_SPARSE: settings.sparse,
        lib.AR_LANE_PREALLOCATE: settings.preallocate,
        lib.AR_LANE_REFLINK: settings.reflink,
        lib.AR_LANE_REFLINK_ALWAYS: settings.reflink_always,
        lib.AR_LANE_DRY_RUN: settings.dry_run,
        lib.AR_LANE_UPDATE: settings.updates_chunks,
    }
    return sum(bit for bit, is_wanted in wanted.items() if is_wanted)


def _ended(result: int, batch: Batch) -> bool:
    error = -result
    if error in (0, errno.EINTR):
        return error == 0
    if error in _REFUSALS:
        raise WritingRefused(error, batch)
    if error == errno.ENOMEM:
        raise OutOfMemoryError("out of memory for the work of a lane")
    raise InternalError(f"a lane ended with error {error} ({errno.errorcode.get(error, '?')})")
