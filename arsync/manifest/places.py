"""Find the store of a destination, or the place for a new one.

Owns where stores are kept, which filesystems may hold them, and the choice between several. A
store is found by the identity that its `destination.json` has, never by its name.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from arsync.errors import (
    FileError,
    ManifestCorruptError,
    ManifestError,
    NotSupportedError,
    describe,
    quoted,
)
from arsync.manifest.identity import Identity, identify, identify_above
from arsync.uring.origin import probe_origin

__all__ = [
    "STATE_VARIABLE",
    "Found",
    "damaged_stores",
    "entries",
    "find",
    "identity_in",
    "put_in_place",
    "settle",
    "state_directory",
    "stores",
]

STATE_VARIABLE: Final = "ARSYNC_STATE_DIR"
"""Says where stores are kept where no option does."""

_IDENTITY_FILE: Final = "destination.json"

# statfs(2), linux/magic.h and the projects' own headers. LMDB maps the file and locks it: neither
# is sound between machines, and FUSE need not do it at all.
_REFUSED: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "CIFS",
    0x0BD00BD0: "Lustre",
    0x00C36400: "Ceph",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x47504653: "GPFS",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x73757245: "Coda",
}


@dataclass(frozen=True)
class Found:
    """Hold where the store of a destination is.

    Args:
        store: its directory; nothing is there yet where `is_new`.
        destination: the recorded tree as it is seen now.
        below: path of the directory asked for below that tree, b"" for itself.
        clones: stores of trees that look the same on another medium, of which it may be a copy.
        above: stores of trees that this one's tree is a part of.
        inside: stores of trees that were last seen in the directory asked for.
    """

    store: Path
    destination: Identity
    below: bytes
    is_new: bool
    clones: tuple[Path, ...] = ()
    above: tuple[Path, ...] = ()
    inside: tuple[Path, ...] = ()


def state_directory(option: str | None = None) -> Path:
    """Return where stores are kept: the option, else ARSYNC_STATE_DIR, else XDG's directory.

    Args:
        option: what --state-dir says; None and "" say nothing.
    Raises: NotSupportedError for a user without a home directory.
    """
    given = option or os.environ.get(STATE_VARIABLE, "")
    if given:
        return Path(os.path.abspath(given))
    return _usual_directory()


def _usual_directory() -> Path:
    home = os.environ.get("XDG_STATE_HOME", "")
    # A relative path is to be ignored, says the specification.
    try:
        base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise NotSupportedError(
            "cannot keep a manifest: there is no home directory (use --state-dir)"
        ) from error
    return base / "arsync"


def stores(state: Path) -> list[tuple[Path, Identity]]:
    """Return each store below a state directory, with the destination that it belongs to.

    Stores of other users, which cannot be looked into, are left out, and damaged ones.

    Raises: FileError.
    """
    return _survey(state)[0]


def damaged_stores(state: Path) -> list[tuple[Path, ManifestCorruptError]]:
    """Return the stores of which nobody can tell whose they are, and what is wrong with each.

    Raises: FileError.
    """
    return _survey(state)[1]


def _survey(
    state: Path,
) -> tuple[list[tuple[Path, Identity]], list[tuple[Path, ManifestCorruptError]]]:
    known, damaged = [], []
    for path in entries(state):
        if os.path.lexists(path / _IDENTITY_FILE):
            try:
                known.append((path, identity_in(path)))
            except ManifestCorruptError as error:
                damaged.append((path, error))
    return known, damaged


def entries(state: Path) -> list[Path]:
    """Return everything that is in a state directory; nothing where there is none.

    Raises: FileError.
    """
    try:
        return [state / name for name in sorted(os.listdir(state))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FileError(describe("read", state, error.errno or 0)) from error


def find(state: Path, dst: bytes, *, make: bool = True) -> Found:
    """Find the store of a destination, else the nearest one of a tree that it is a part of.

    Args:
        state: where stores are kept.
        dst: a directory.
        make: the state directory (0700) where it is missing.
    Raises: ManifestError where two stores match, which it names; NotSupportedError for a state
        directory on a network filesystem; ManifestCorruptError where nobody can tell whose a
        store is, and none of the others is this destination's; FileError.
    """
    if make or os.path.exists(state):
        _prepare(state)
    known, damaged = _survey(state)
    found: Found | None = None
    above: list[Path] = []
    for identity, below in identify_above(dst):
        same = [path for path, one in known if one.is_same(identity)]
        if len(same) > 1:
            names = " and ".join(map(quoted, same))
            raise ManifestError(
                f"cannot choose a manifest: {names} both belong to {quoted(dst)} (remove one)"
            )
        if same and found:
            above += same
        elif same:
            found = Found(same[0], identity, below, is_new=False)
    if found is None:
        if damaged:  # it might be the one
            raise damaged[0][1]
        identity = identify(dst)
        clones = tuple(path for path, one in known if one.looks_like(identity))
        found = Found(state / secrets.token_hex(8), identity, b"", is_new=True, clones=clones)
    top = os.path.join(os.path.realpath(dst), b"")
    inside = [path for path, one in known if os.fsencode(one.path).startswith(top)]
    return replace(found, above=tuple(above), inside=tuple(inside))


def settle(found: Found) -> None:
    """Write into a store whose it is and where that was last seen, where it does not say so yet.

    Durability: on disk when it returns.
    Raises: FileError.
    """
    path = found.store / _IDENTITY_FILE
    draft = path.with_suffix(".new")
    if not found.is_new and identity_in(found.store) == found.destination:
        return
    try:
        found.store.mkdir(mode=0o700, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            json.dump(found.destination.as_json(), file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        _sync_directory(found.store)
    except OSError as error:
        raise FileError(describe("write", path, error.errno or 0)) from error


def put_in_place(new: Path, old: Path, aside: Path) -> None:
    """Give a destination another store; the one that it had goes aside.

    Args:
        new: a store without a destination, in the same state directory.
        old: the store that there is, whose name it gets.
    Durability: on disk when it returns; before that the destination has one of the two.
    Raises: FileError.
    """
    try:
        old.rename(aside)
        new.rename(old)
        (aside / _IDENTITY_FILE).rename(old / _IDENTITY_FILE)
        for path in (old, aside, old.parent):
            _sync_directory(path)
    except OSError as error:
        raise FileError(describe("replace", old, error.errno or 0)) from error


def _make(state: Path) -> None:
    """Make the state directory; above one that somebody named nothing is made: it may be a slip."""
    try:
        state.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        if not _is_usual(state):
            raise
        state.mkdir(mode=0o700, parents=True, exist_ok=True)


def _is_usual(state: Path) -> bool:
    try:
        return state == _usual_directory()
    except NotSupportedError:
        return False


def _prepare(state: Path) -> None:
    try:
        _make(state)
        directory_fd = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        number = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno or 0
        raise FileError(describe("keep manifests in", state, number)) from error
    try:
        magic = probe_origin(directory_fd).magic
    finally:
        os.close(directory_fd)
    if magic in _REFUSED:
        raise NotSupportedError(
            f"cannot keep the manifest in {quoted(state)}: it is on {_REFUSED[magic]}, where its "
            "database is not safe (use --state-dir with a directory on a local disk)"
        )


def identity_in(store: Path) -> Identity:
    """Return the destination that a store belongs to.

    Raises: ManifestCorruptError; FileError.
    """
    path = store / _IDENTITY_FILE
    try:
        text = path.read_text(encoding="utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise _not_told(path, "is no text") from error
    except OSError as error:
        raise FileError(describe("read", path, error.errno or 0)) from error
    try:
        return Identity.from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise _not_told(path, "is not JSON") from error
    except ManifestCorruptError as error:
        raise _not_told(path, "names no destination") from error


def _not_told(path: Path, what: str) -> ManifestCorruptError:
    return ManifestCorruptError(
        f"cannot read the manifest: {quoted(path)} {what} ('arsync manifest gc --damaged' removes "
        "what nobody can tell the destination of)"
    )


def _sync_directory(path: Path) -> None:
    directory_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)
