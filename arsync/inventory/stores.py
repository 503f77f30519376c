"""Find the store that somebody means: by its destination, by a directory below that, by itself.

Owns the ways to name a store. It makes none: a state directory that is missing stays so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from arsync.errors import ArsyncError, FileError, SelectionError, describe, quoted
from arsync.manifest.identity import Identity, identify
from arsync.manifest.places import damaged_stores, find, identity_in, stores

__all__ = ["Located", "known_stores", "locate", "root_of"]


@dataclass(frozen=True)
class Located:
    """Hold which store is meant.

    Args:
        identity: of its destination, as recorded.
        root: where the destination is now, None while it is not there.
        below: path below the destination of the directory asked for.
    """

    store: Path
    identity: Identity
    root: bytes | None
    below: bytes = b""


def locate(state: Path, dst: bytes) -> Located:
    """Find a store.

    Args:
        state: where stores are kept.
        dst: the destination, also where it was when it is not mounted; a directory below it; or
            the store's own directory.
    Raises: SelectionError where there is none; ManifestError where two match; FileError.
    """
    itself = Path(os.fsdecode(dst))
    if all(os.path.isfile(itself / name) for name in ("destination.json", "data.mdb")):
        identity = identity_in(itself)
        return Located(itself, identity, root_of(identity))
    if not _is_directory(state):
        raise SelectionError(f"no manifest is kept in {quoted(state)}: there is no such directory")
    try:
        is_directory = itself.stat() and itself.is_dir()
    except (FileNotFoundError, NotADirectoryError):
        return _last_seen(state, dst)
    except OSError as error:
        raise SelectionError(describe("find", dst, error.errno or 0)) from error
    if not is_directory:
        raise SelectionError(f"{quoted(dst)} is no directory (name DST, then PATH below it)")
    found = find(state, dst, make=False)
    if found.is_new:
        raise SelectionError(_no_store(state, dst))
    root = os.fsencode(found.destination.path)
    return Located(found.store, identity_in(found.store), root, found.below)


def _is_directory(state: Path) -> bool:
    try:
        return state.is_dir()
    except OSError as error:
        raise FileError(describe("read", state, error.errno or 0)) from error


def root_of(identity: Identity) -> bytes | None:
    """Return where a destination was last seen if it is still there, None elsewhere."""
    path = os.fsencode(identity.path)
    try:
        return path if identify(path).is_same(identity) else None
    except ArsyncError:
        return None


def known_stores(state: Path) -> list[Located]:
    """Return all stores below a state directory, in the order of their destinations' paths.

    Raises: FileError.
    """
    found = [Located(store, one, root_of(one)) for store, one in stores(state)]
    return sorted(found, key=lambda one: one.identity.path)


def _last_seen(state: Path, dst: bytes) -> Located:
    """Find the store of a destination that is away by the path where it was seen."""
    fits = _seen_at(state, dst)
    if len(fits) > 1:
        names = " and ".join(quoted(one.store) for one in fits)
        raise SelectionError(f"{quoted(dst)} was the place of {names} (name the one that is meant)")
    if not fits:
        for _, damage in damaged_stores(state):  # it might be the one
            raise damage
        raise SelectionError(_no_store(state, dst))
    return fits[0]


def _seen_at(state: Path, dst: bytes) -> list[Located]:
    path = os.path.realpath(dst)
    found = []
    for store, identity in stores(state):
        top = os.fsencode(identity.path)
        if path == top or path.startswith(top.rstrip(b"/") + b"/"):
            below = os.path.relpath(path, top) if path != top else b""
            found.append(Located(store, identity, None, below))
    return found


def _no_store(state: Path, dst: bytes) -> str:
    text = f"there is no manifest of {quoted(dst)} in {quoted(state)}"
    away = _seen_at(state, dst)
    if away:
        return f"{text} (that of another directory, last seen there, is {quoted(away[0].store)})"
    return f"{text} (the first run of arsync makes one)"
