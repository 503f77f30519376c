"""Open roots and scan directories below them into batches.

Owns the life of `ar_root`, `ar_scan` and of the handles of giant directories. Which directory is
scanned when is the walk's business.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from arsync.errors import FileError, InternalError, OutOfMemoryError, SelectionError, describe
from arsync.filters import Filters
from arsync.mounts import mounts_below
from arsync.options import SyncOptions
from arsync.uring._native import ffi, lib
from arsync.uring.batch import Batch
from arsync.uring.rules import Rules
from arsync.uring.selection import Selection

if TYPE_CHECKING:
    from arsync.uring._native import CData

__all__ = ["GiantDirectory", "OutOfDescriptors", "Root", "Scanner", "scan_flags"]

_SCARCE: Final = (errno.EMFILE, errno.ENFILE)


class OutOfDescriptors(Exception):  # noqa: N818 - a state that passes, not an error
    """Say that no descriptor is free just now; nothing was scanned."""


class Root:
    """Hold an open directory that everything below is reached through.

    Args:
        path: followed where it is a symlink, as rsync follows its operands.
        create: make its last component when it is missing.
    Raises: SelectionError when it cannot be opened; FileError when it cannot be made.
    """

    def __init__(self, path: bytes, *, create: bool = False) -> None:
        out = ffi.new("ar_root **")
        result = lib.ar_root_open(path, lib.AR_ROOT_CREATE if create else 0, out)
        if result and create:
            raise FileError(describe("make the destination", path, result))
        if result:
            raise SelectionError(describe("open the directory", path, result))
        self.path = path
        self.raw: CData = ffi.gc(out[0], lib.ar_root_close)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exception: object) -> None:
        ffi.release(self.raw)

    def sync(self) -> None:
        """Wait until everything written to the tree is on its disks.

        Raises: FileError where a disk could not take it.
        Durability: what was written before is, on filesystems mounted below the root, too.
        Source: syncfs(2).
        """
        self._sync_filesystem()
        for mount in mounts_below(self.path):
            with suppress(SelectionError), Root(mount.point) as below:  # not to be opened
                below._sync_filesystem()

    def _sync_filesystem(self) -> None:
        result = lib.ar_root_sync(self.raw)
        if result:
            raise FileError(describe("write everything back to", self.path, -result))

    @property
    def fd(self) -> int:
        """Return the descriptor, which stays the root's."""
        return int(lib.ar_root_fd(self.raw))


class GiantDirectory:
    """Hold a directory of more rows than a page, between two of its pages."""

    __slots__ = ("raw",)

    def __init__(self, raw: CData) -> None:
        self.raw: CData = ffi.gc(raw, lib.ar_dir_close)

    def close(self) -> None:
        """Give back its names and descriptors."""
        ffi.release(self.raw)


class Scanner:
    """Scan directories of a source root and what the destination root has beside them.

    Several threads may call it at the same time, each with a batch of its own.

    Args:
        src: the source root.
        dst: the destination root; None where there is none yet.
        flags: from `scan_flags`.
    Raises: OutOfMemoryError.
    Source: getdents64(2), statx(2).
    """

    def __init__(self, src: Root, dst: Root | None, flags: int) -> None:
        self.src = src
        self.dst = dst
        self._rules: Rules | None = None  # C reads them as long as it scans
        out = ffi.new("ar_scan **")
        _check(lib.ar_scan_open(src.raw, dst.raw if dst else ffi.NULL, flags, out))
        self.raw: CData = ffi.gc(out[0], lib.ar_scan_close)
        self._selection: Selection | None = None

    def select(self, filters: Filters, *, whole: bool) -> None:
        """Leave out what the rules hide; to be said before the first scan.

        Args:
            whole: the walk enters the root itself.
        Raises: UsageError, FileError for merge files of the root; OutOfMemoryError.
        """
        if filters:
            dst_fd = self.dst.fd if self.dst else -1
            self._selection = Selection(self.raw, filters, self.src.path, self.src.fd, dst_fd)
            if whole:
                self._selection.enter_root()

    def map_acls(self, rules: Rules) -> None:
        """Compare source ACLs as the rules map their ids; to be said before the first scan."""
        self._rules = rules
        lib.ar_scan_map_acls(self.raw, rules.raw)

    def add_earlier(self, root: Root, paths: frozenset[bytes] | None, *, gives_root: bool) -> None:
        """Say what was copied to the same destination before: its entries count, not this one's.

        Args:
            root: a source root, which the caller keeps open.
            paths: what was copied of it, below the root; None for all of it. One that may be a
                link to a directory, and then stands for that, ends in a slash.
            gives_root: the destination's root has its attributes.
        Raises: OutOfMemoryError.
        """
        joined = b"".join(path + b"\0" for path in paths or ())
        _check(lib.ar_scan_earlier(self.raw, root.raw, joined, len(joined), gives_root))

    def add_further(self, root: Root, paths: frozenset[bytes] | None) -> None:
        """Say what will be copied to the same destination after this one: that is no extra.

        Args, Raises: as for `add_earlier`.
        """
        joined = b"".join(path + b"\0" for path in paths or ())
        _check(lib.ar_scan_further(self.raw, root.raw, joined, len(joined)))

    def spare(self, path: bytes) -> None:
        """Take a directory for no extra, also when it is made after the walk began.

        Args:
            path: below the destination's root.
        Raises: OutOfMemoryError.
        """
        _check(lib.ar_scan_spare(self.raw, path, len(path)))

    def hide(self, dev: int, ino: int) -> None:
        """Leave a directory out on both sides, by whatever path it is met.

        Args:
            dev: as stat(2) has it.
        """
        _check(lib.ar_scan_hide(self.raw, os.major(dev) << 32 | os.minor(dev), ino))

    def trust_destination(self) -> None:
        """Leave it to `recall` which directories of the destination are looked at."""
        lib.ar_scan_trust(self.raw)

    def scan_root(self, batch: Batch) -> GiantDirectory | None:
        """Scan the root directory itself.

        Returns: the rest of it, when it has more rows than a page.
        Raises: OutOfDescriptors, OutOfMemoryError.
        """
        more = ffi.new("ar_dir **")
        _check(lib.ar_scan_root(self.raw, batch.raw, more))
        return _giant(more)

    def scan_names(  # noqa: PLR0913 (what a start says has as many parts)
        self,
        batch: Batch,
        path: bytes,
        names: Sequence[bytes],
        alias: bytes | None = None,
        *,
        with_own: bool = False,
        implied: bool = False,
    ) -> None:
        """Scan only these names of the directory at path.

        Args:
            path: below both roots, empty for the roots themselves; a component that ends in NUL is
                a link of the source that is followed.
            alias: what the only name is called at the destination.
            with_own: the directory itself, which is the root, gets its attributes, too.
            implied: no filter rule hides them.
        Raises: OutOfDescriptors, OutOfMemoryError.
        """
        joined = b"".join(name + b"\0" for name in names)
        target = ffi.NULL if alias is None else ffi.new("char[]", alias)
        flags = lib.AR_PAIR_ROOT if with_own else 0
        flags |= lib.AR_PAIR_IMPLIED if implied else 0
        _check(
            lib.ar_scan_names(
                self.raw, path, len(path), joined, len(joined), target, flags, batch.raw
            )
        )

    def scan_through(self, batch: Batch, path: bytes, name: bytes, *, implied: bool) -> None:
        """Scan one name of the directory at path; a link to a directory stands for that.

        Args:
            path: as for `scan_names`.
            implied: it is a directory on the way of -R, which no filter rule hides.
        Raises: OutOfDescriptors, OutOfMemoryError.
        """
        flags = lib.AR_PAIR_FOLLOW | (lib.AR_PAIR_IMPLIED if implied else 0)
        _check(
            lib.ar_scan_names(
                self.raw, path, len(path), name, len(name), ffi.NULL, flags, batch.raw
            )
        )

    def scan_children(
        self, batch: Batch, parent: Batch, first: int, count: int
    ) -> tuple[int, GiantDirectory | None]:
        """Scan child directories of a compared batch until this one is full.

        Returns: how many were scanned, none where it was full before, and the rest of the last one
            when it has more rows than a page.
        Raises: OutOfDescriptors, OutOfMemoryError; UsageError, FileError for merge files of filter
            rules.
        """
        more = ffi.new("ar_dir **")
        while True:
            done = int(lib.ar_scan_children(self.raw, parent.raw, first, count, batch.raw, more))
            _check(min(done, 0))
            asks = done < count and parent.asks_for_filter(first + done)
            if asks and self._selection:
                path, inherited = parent.child_place(first + done)
                in_dst = parent.is_extra(first + done)
                table = self._selection.answer(inherited, path, in_dst=in_dst)
                parent.set_child_filter(first + done, table)
            if done or not asks:
                return done, _giant(more)

    def scan_more(self, batch: Batch, giant: GiantDirectory) -> bool:
        """Scan the next page of a giant directory.

        Returns: True when another one follows.
        Raises: OutOfDescriptors, OutOfMemoryError.
        """
        result = lib.ar_scan_more(self.raw, giant.raw, batch.raw)
        _check(min(int(result), 0))
        return bool(result)


def scan_flags(
    options: SyncOptions, *, as_root: bool, new_root: bool = False, extras: bool = False
) -> int:
    """Return the AR_SCAN_* bits that the options ask for.

    Args:
        new_root: the run has made the destination, and no scan has said so yet.
        extras: find what only the destination has, too.
    """
    preserve, links = options.preserve, options.links
    wanted = {
        lib.AR_SCAN_XDEV: options.one_file_system > 0,
        lib.AR_SCAN_SKIP_MOUNTS: options.one_file_system > 1,
        lib.AR_SCAN_ATIME: preserve.atimes,
        lib.AR_SCAN_XATTR: preserve.xattrs,
        lib.AR_SCAN_ALL_XATTRS: as_root,
        lib.AR_SCAN_ACL: preserve.acls,
        lib.AR_SCAN_COPY_LINKS: links.copy_links,
        lib.AR_SCAN_COPY_DIRLINKS: links.copy_dirlinks,
        lib.AR_SCAN_COPY_UNSAFE: links.copy_unsafe_links,
        lib.AR_SCAN_SAFE: links.safe_links,
        lib.AR_SCAN_KEEP_DIRLINKS: links.keep_dirlinks,
        lib.AR_SCAN_RECURSE: preserve.recursive,
        lib.AR_SCAN_DRY_RUN: options.write.dry_run,
        lib.AR_SCAN_LET_IN: preserve.perms and not (as_root or options.write.dry_run),
        lib.AR_SCAN_NEW_ROOT: new_root,
        lib.AR_SCAN_OLD_MODES: not preserve.perms,
        lib.AR_SCAN_DELETE: extras,
        lib.AR_SCAN_RELATIVE: options.relative,
    }
    return sum(bit for bit, is_wanted in wanted.items() if is_wanted)


def _giant(more: CData) -> GiantDirectory | None:
    return None if more[0] == ffi.NULL else GiantDirectory(more[0])


def _check(result: int) -> None:
    if not result:
        return
    if -result in _SCARCE:
        raise OutOfDescriptors
    if result == -errno.ENOMEM:
        raise OutOfMemoryError("out of memory for a batch of directories")
    raise InternalError(f"a scan was asked for what cannot be: error {-result}")
