"""Stores for tests: a tree on disk, recorded row by row in plain Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

import xxhash

from arsync.manifest.contents import Key, name_key
from arsync.manifest.format import CHUNK_BYTES, MOST_ROWS, SEEN, Page, Place, RowState
from arsync.manifest.places import find, settle
from arsync.manifest.store import Group, Store
from arsync.model import PageFlag

StateOf = Callable[[bytes], int]
"""Returns the state of a file by its path from the root; without HASHED it gets no hash."""

VERIFIED = 1_700_000_000

_HOLDER = """
import sys
from pathlib import Path
from arsync.manifest.store import Store
with Store(Path(sys.argv[1]), b"/backup"):
    print("open", flush=True)
    sys.stdin.read()
"""


def hashed(_path: bytes) -> int:
    """Say that every file is hashed."""
    return int(RowState.HASHED)


def record(
    dst: Path,
    state: Path,
    state_of: StateOf = hashed,
    *,
    runs: tuple[dict[str, object], ...] = (),
    sources: tuple[str, ...] = (),
) -> Path:
    """Record a destination, and for each source the same rows; return the store's directory."""
    found = find(state, bytes(dst))
    settle(found)
    with Store(found.store, bytes(dst)) as store:
        trees = [0]
        for number, path in enumerate(sources):
            identity = {**found.destination.as_json(), "inode": number, "path": path}
            trees.append(store.tree_of(identity, same=identity.__eq__))
        _record_directory(store, os.fsencode(dst), b"", 1, state_of, trees)
        store.commit(Group(runs=list(runs)))
    return found.store


def make_directories(store: Store, keys: Sequence[Key]) -> list[int]:
    """Return the ids of directories and give one to each that has none, in one transaction."""
    known = dict(zip(keys, store.directory_ids(keys), strict=True))
    new = [key for key, one in known.items() if one is None]
    ids = dict(zip(new, count(store.next_directory())))
    if new:
        store.commit(Group(directories=[(name_key(key), one) for key, one in ids.items()]))
    return [known[key] or ids[key] for key in keys]


@contextmanager
def run_of(store: Path, program: str = _HOLDER) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold a store; it ends with the block, if it has not been killed.

    Args:
        program: Python that opens the store in its first argument, and says so by "open".
    """
    command = [sys.executable, "-c", program, str(store)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "open\n"
        yield run


def _record_directory(
    store: Store, root: bytes, path: bytes, directory: int, state_of: StateOf, trees: list[int]
) -> None:
    here = os.path.join(root, path)
    names = sorted(os.listdir(here))
    group = Group()
    for tree in trees:
        pages = []
        starts = range(0, max(len(names), 1), MOST_ROWS)
        for start in starts:
            some = [b""] * (start == 0) + names[start : start + MOST_ROWS]
            flags = PageFlag.FIRST * (start == 0) | PageFlag.LAST * (start == starts[-1])
            if tree and path:
                flags |= PageFlag.CONVERGED
            page, chunks = _page(here, path, some, PageFlag(flags), state_of)
            first = b"" if start == 0 else some[0]
            pages.append((first, page.encode(Place(tree, directory, first))))
            if not tree:
                group.chunks += [((directory, name), hashes) for name, hashes in chunks]
        group.pages.append((tree, directory, pages))
    store.commit(group)
    below = [name for name in names if os.path.isdir(os.path.join(here, name))]
    below = [name for name in below if not os.path.islink(os.path.join(here, name))]
    ids = make_directories(store, [(directory, name) for name in below])
    for name, child in zip(below, ids, strict=True):
        _record_directory(store, root, os.path.join(path, name), child, state_of, trees)


def _page(
    here: bytes, path: bytes, names: list[bytes], flags: PageFlag, state_of: StateOf
) -> tuple[Page, list[tuple[bytes, bytes]]]:
    seen: dict[str, list[int]] = {name: [] for name in SEEN}
    targets, states, hashes, verified, chunks = [], [], [], [], []
    for name in names:
        entry = os.path.join(here, name) if name else here
        found = os.lstat(entry)
        values = {
            "type": found.st_mode >> 12,
            "mode": found.st_mode,
            "uid": found.st_uid,
            "gid": found.st_gid,
            "nlink": found.st_nlink,
            "size": found.st_size,
            "ino": found.st_ino,
            "rdev_major": os.major(found.st_rdev),
            "rdev_minor": os.minor(found.st_rdev),
        }
        for time in ("mtime", "ctime", "atime"):
            values[f"{time}_s"], values[f"{time}_n"] = divmod(
                getattr(found, f"st_{time}_ns"), 10**9
            )
        if name and S_ISDIR(found.st_mode):  # all else stands in its own page
            values = {column: values[column] for column in ("type", "ino")}
            values["mode"] = S_IFMT(found.st_mode)
        for column, filled in seen.items():
            filled.append(values.get(column, 0))
        targets.append(os.readlink(entry) if S_ISLNK(found.st_mode) else b"")
        known = state_of(os.path.join(path, name)) if S_ISREG(found.st_mode) else 0
        digest = bytes(16)
        if known & RowState.HASHED:
            digest, hashes_of_chunks = hash_of(Path(os.fsdecode(entry)).read_bytes())
            if hashes_of_chunks:
                known |= RowState.CHUNKED
                chunks.append((name, hashes_of_chunks))
        states.append(known)
        hashes.append(digest)
        verified.append(VERIFIED + len(name) if known & RowState.HASHED else 0)
    columns = {name: tuple(values) for name, values in seen.items()}
    page = Page(
        flags,
        tuple(names),
        tuple(targets),
        columns,
        tuple(states),
        tuple(hashes),
        tuple(verified),
    )
    return page, chunks


def hash_of(content: bytes) -> tuple[bytes, bytes]:
    """Return the hash of content, and its chunks' hashes where it is that of those."""
    if len(content) <= CHUNK_BYTES:
        return xxhash.xxh3_128_digest(content), b""
    starts = range(0, len(content), CHUNK_BYTES)
    chunks = b"".join(xxhash.xxh3_128_digest(content[at : at + CHUNK_BYTES]) for at in starts)
    return xxhash.xxh3_128_digest(chunks), chunks
