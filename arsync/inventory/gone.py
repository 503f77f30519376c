"""Find stores whose destination is gone, and remove one.

Owns when a destination counts as gone. A disk that is not mounted is not gone: it may lie in a
drawer. Gone is a directory whose filesystem is mounted and does not have it any more.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from arsync.errors import ArsyncError, FileError, describe, quoted
from arsync.inventory.stores import Located, known_stores
from arsync.manifest import lock
from arsync.manifest.identity import Identity, identify
from arsync.manifest.places import damaged_stores, entries
from arsync.mounts import Mount, read_mounts

__all__ = ["Candidate", "Fate", "Leftover", "candidates", "leftovers", "remove"]

_FILES: Final = ("data.mdb", "lock.mdb", "destination.new", "lock")
_IDENTITY_FILE: Final = "destination.json"

# Opening what these mount may wait for a server for ever; their identity is their name.
_REMOTE_KINDS: Final = frozenset(
    {"9p", "afs", "autofs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"}
    | {"ocfs2", "smb3"}
)

_SUBVOLUME_INODE: Final = 256  # of the root of a btrfs subvolume


class Fate(enum.Enum):
    """Say what became of a destination that is not where it was."""

    DELETED = "its filesystem is mounted, and the directory is not there any more"
    AWAY = "its filesystem is not mounted"


@dataclass(frozen=True)
class Candidate:
    """Hold a store whose destination is not to be found."""

    located: Located
    fate: Fate
    bytes: int
    holder: str


def candidates(state: Path) -> list[Candidate]:
    """Return the stores whose destinations are not to be found.

    Raises: FileError.
    """
    found = []
    mounts = list(read_mounts())
    for one in known_stores(state):
        if one.root is not None:
            continue
        fate = _fate(one.identity, mounts)
        if fate is not None:
            found.append(Candidate(one, fate, _bytes(one.store), _holder(one.store)))
    return found


@dataclass(frozen=True)
class Leftover:
    """Hold a store that belongs to no destination any more, or nobody can tell to which."""

    store: Path
    trouble: str
    bytes: int
    holder: str


def leftovers(state: Path) -> list[Leftover]:
    """Return the stores that are damaged, and those that a rebuild has put aside.

    Raises: FileError.
    """
    found = [(path, str(error)) for path, error in damaged_stores(state)]
    for path in entries(state):
        is_aside = ".damaged-" in path.name and not os.path.lexists(path / _IDENTITY_FILE)
        if is_aside and path.is_dir():
            found.append((path, "a rebuild has put it aside"))
    return [Leftover(path, text, _bytes(path), _holder(path)) for path, text in found]


def remove(store: Path) -> None:
    """Remove a store that no run holds; what is not a store's file keeps its directory.

    Raises: LockHeldError; FileError.
    """
    lock_fd, _ = lock.hold(store / "lock", os.fsencode(store))
    try:
        # First what it is found by: what is left of it then belongs to nobody.
        for name in (_IDENTITY_FILE, *_FILES):
            (store / name).unlink(missing_ok=True)
        store.rmdir()
    except OSError as error:
        raise FileError(describe("remove", store, error.errno or 0)) from error
    finally:
        lock.release(lock_fd, clean=False)


def _fate(identity: Identity, mounts: list[Mount]) -> Fate | None:
    """Return what became of a destination, None where another mount shows it."""
    is_mounted = False
    for mount in mounts:
        seen = _seen_at(identity, mount)
        if seen is None:
            continue
        if seen:
            return None
        is_mounted = True
    return Fate.DELETED if is_mounted else Fate.AWAY


def _seen_at(identity: Identity, mount: Mount) -> bool | None:
    """Tell whether a mount shows a directory; None where it need not, if the directory is there."""
    is_remote = mount.kind in _REMOTE_KINDS or mount.kind.startswith("fuse")
    if is_remote and identity.filesystem != f"{mount.kind}:{mount.device}":
        return None
    try:
        here = identify(mount.point)
    except ArsyncError:
        return None
    if here.filesystem != identity.filesystem or len({here.device, identity.device} - {""}) > 1:
        return None
    if any(_is_there(identity, path) for path in _places(identity, mount)):
        return True
    shows_all = mount.root == b"/" or (identity.subvolume and here.inode == _SUBVOLUME_INODE)
    return False if shows_all and here.subvolume == identity.subvolume else None


def _places(identity: Identity, mount: Mount) -> Iterator[bytes]:
    """Yield where a directory may be in a mount: at every end of the path that it had."""
    names = os.fsencode(identity.path).strip(b"/").split(b"/")
    yield mount.point
    for index in range(len(names)):
        yield os.path.join(mount.point, *names[index:])


def _is_there(identity: Identity, path: bytes) -> bool:
    """Tell whether a directory is at a path, or may be where nobody can look."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        return identify(path).is_same(identity)
    except ArsyncError:
        return not os.access(path, os.R_OK, effective_ids=True)


def _bytes(store: Path) -> int:
    with suppress(OSError):
        return (store / "data.mdb").stat().st_size
    return 0


def _holder(store: Path) -> str:
    state = lock.look(store / "lock")
    return str(state.holder or f"another run holds {quoted(store)}") if state.is_held else ""
