"""Open a scanner for each source of a run, which knows what the others give.

Owns what a scan is told beside its two roots: the rules, the sources before and after it, and the
directories at the destination that are arsync's own. It scans nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from arsync.options import SyncOptions
from arsync.roots import Transfer
from arsync.uring.scanner import Root, Scanner, scan_flags

__all__ = ["Sources", "own_directories"]


@dataclass(frozen=True)
class Sources:
    """Hold all sources of a run, with their roots, and which of them it is at.

    Args:
        new_root: the run has made the destination, and none has given it attributes yet.
        spared: paths of directories that stay at the destination whatever is deleted there.
        hidden: device and inode of directories that are in no tree.
    """

    transfers: Sequence[Transfer]
    roots: Sequence[Root]
    index: int
    new_root: bool = False
    spared: tuple[bytes, ...] = ()
    hidden: tuple[tuple[int, int], ...] = ()

    @property
    def transfer(self) -> Transfer:
        """Return the one it is at."""
        return self.transfers[self.index]

    @property
    def are_all(self) -> bool:
        """Tell whether no further one follows."""
        return self.index + 1 == len(self.transfers)

    def open_scanner(
        self, dst: Root | None, options: SyncOptions, *, as_root: bool, extras: bool
    ) -> Scanner:
        """Return a scanner that leaves out what the rules hide, and what an earlier source gave.

        Args:
            extras: it finds what none of the sources has, too.
        Raises: UsageError, FileError for merge files of the root; OutOfMemoryError.
        """
        flags = scan_flags(options, as_root=as_root, new_root=self.new_root, extras=extras)
        scanner = Scanner(self.roots[self.index], dst, flags)
        scanner.select(options.filters, whole=self.transfer.paths is None)
        for dev, ino in self.hidden:
            scanner.hide(dev, ino)
        for index, (other, root) in enumerate(zip(self.transfers, self.roots, strict=True)):
            if index == self.index or not self.transfer.may_meet(other):
                continue
            if index < self.index:
                scanner.add_earlier(root, other.paths, gives_root=other.gives_root)
            elif extras:
                scanner.add_further(root, other.paths)
        if extras:
            for path in self.spared:
                below = _below(dst.path, path) if dst else None
                if below:
                    scanner.spare(below)
        return scanner


def own_directories(options: SyncOptions, dst: bytes) -> tuple[bytes, ...]:
    """Return the paths of what a run keeps for itself, inside DST or not; manifests are hidden."""
    write = options.write
    named = filter(None, (write.temp_dir, write.backup_dir, options.delete.trash_dir))
    return tuple(os.path.join(dst, path) for path in named)


def _below(root: bytes, path: bytes) -> bytes | None:
    """Return a path as seen from a directory that it is in; None where it is not in it."""
    root, path = os.path.realpath(root), os.path.realpath(path)
    return os.path.relpath(path, root) if path.startswith(root.rstrip(b"/") + b"/") else None
