"""Read back what runs have recorded of a destination, for tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import lmdb

from arsync.manifest.contents import key_of
from arsync.manifest.format import Page, PageFlag, RowState
from arsync.manifest.places import find
from arsync.manifest.reader import Reader

DST = 0


@dataclass(frozen=True)
class Row:
    """Hold what is recorded of one entry."""

    seen: dict[str, int]
    target: bytes
    state: RowState
    hash: bytes
    verified: int


@dataclass(frozen=True)
class Directory:
    """Hold what is recorded of one directory; its own row has the name b""."""

    rows: dict[bytes, Row]
    is_converged: bool


def recorded(state: Path, dst: Path, tree: int = DST) -> dict[bytes, Directory]:
    """Return what is recorded of a tree, by the path of each directory."""
    found: dict[bytes, Directory] = {}
    with Reader(find(state, bytes(dst)).store) as reader:
        for one in reader.tree(tree):
            page = Page.decode(one.data, one.place)
            before = found.get(one.path, Directory({}, True))
            rows = {name: _row(page, index) for index, name in enumerate(page.names)}
            converged = before.is_converged and bool(page.flags & PageFlag.CONVERGED)
            found[one.path] = Directory({**before.rows, **rows}, converged)
    return found


def recorded_chunks(state: Path, dst: Path) -> dict[bytes, bytes]:
    """Return the lists of chunk hashes by the path of each file, whatever its row says."""
    store = find(state, bytes(dst)).store
    with Reader(store) as reader:
        paths = {one.place.directory: one.path for one in reader.tree(DST)}
    found = {}
    with lmdb.open(str(store), readonly=True, lock=False, max_dbs=8) as environment:
        chunks = environment.open_db(b"chunks", create=False)
        with environment.begin(db=chunks) as txn:
            for key, hashes in txn.cursor():
                directory, name = key_of(key)
                if directory in paths:
                    found[os.path.join(paths[directory], name)] = hashes
    return found


def history(state: Path, dst: Path) -> list[dict[str, object]]:
    """Return the lines of the history, oldest first."""
    with Reader(find(state, bytes(dst)).store) as reader:
        return [line for _, line in reader.runs()]


def _row(page: Page, index: int) -> Row:
    return Row(
        {name: values[index] for name, values in page.seen.items()},
        page.targets[index],
        RowState(page.states[index]),
        page.hashes[index],
        page.verified[index],
    )
