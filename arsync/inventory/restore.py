"""Put hashes that were exported back into a store whose rows have none.

Owns when an exported hash counts: for a file that is recorded with the type, the size, the mtime
and the inode that it had. Where its ctime has moved since, the row becomes racy: the next run reads
it. What a store knows already is newer and stays.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

import xxhash

from arsync.errors import SelectionError, quoted
from arsync.inventory.rows import FILE, HASHED, WORTH
from arsync.manifest.format import Page, RowState
from arsync.manifest.records import ROOT
from arsync.manifest.store import Group, Store

__all__ = ["Imported", "import_hashes"]

_GROUP_PAGES: Final = 256
_IMPORTED: Final = int(RowState.HASHED | RowState.CHUNKED | RowState.RACY | RowState.VOLATILE)


@dataclass
class Imported:
    """Count what became of the exported hashes.

    Args:
        added: rows that had none.
        known: rows that had one, or whose content is in doubt.
        changed: rows of another type, size, time or inode.
        missing: files that are not recorded.
        trouble: which line export did not write; its directory and what follows is left out.
    """

    added: int = 0
    known: int = 0
    changed: int = 0
    missing: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class _Hash:
    """Hold one exported file that has a hash."""

    directory: bytes
    name: bytes
    stat: tuple[int, int, int]
    ctime_ns: int
    state: int
    hash: bytes
    verified: int
    chunks: bytes


def import_hashes(store: Store, lines: Iterable[bytes], below: bytes = b"") -> Imported:
    """Read what `arsync manifest export --format=jsonl` has written.

    Args:
        below: path of the directory to which its paths belong.
    Durability: on disk when it returns; where it raises, some directories may be.
    Raises: SelectionError where nothing is recorded of `below`; ManifestCorruptError; FileError.
    """
    counts = Imported()
    start = _find(store, ROOT, below)
    if start is None:
        raise SelectionError(f"nothing is recorded of {quoted(below)}")
    group = Group()
    page_count = 0
    try:
        for path, hashes in groupby(_hashes(lines), key=lambda one: one.directory):
            directory = _find(store, start, path)
            # A directory that comes twice is read again with what it got the first time.
            is_again = any(directory == other for _, other, _ in group.pages)
            if page_count >= _GROUP_PAGES or is_again:
                store.commit(group)
                group, page_count = Group(), 0
            page_count += _add_directory(store, group, directory, list(hashes), counts)
    except _BadLineError as error:
        counts.trouble = str(error)
    store.commit(group)
    return counts


class _BadLineError(Exception):
    """Say which line it is that export did not write."""


def _find(store: Store, start: int, path: bytes) -> int | None:
    found: int | None = start
    for name in filter(None, path.split(b"/")):
        if found is None:
            return None
        (found,) = store.directory_ids([(found, name)])
    return found


def _add_directory(
    store: Store, group: Group, directory: int | None, hashes: list[_Hash], counts: Imported
) -> int:
    """Put the hashes of one directory into a group; return how many pages that adds to it."""
    if directory is None:
        counts.missing += len(hashes)
        return 0
    waiting = {one.name: one for one in hashes}
    page_count = 0
    for tree in store.destinations():
        pages, before = [], counts.added
        for one in store.records_of(tree, directory):
            page = Page.decode(one.data, one.place)
            added = _matches(page, waiting, counts)
            pages.append((one.place.first, _with(page, added).encode(one.place)))
            group.chunks += [
                ((directory, it.name), it.chunks) for it in added.values() if it.chunks
            ]
        if counts.added > before:
            group.pages.append((tree, directory, pages))
            page_count += len(pages)
    counts.missing += len(waiting)
    return page_count


def _matches(page: Page, waiting: dict[bytes, _Hash], counts: Imported) -> dict[int, _Hash]:
    """Return the hashes that rows of a page get, by the rows' indices; take them from `waiting`."""
    added = {}
    for index, name in enumerate(page.names):
        exported = waiting.pop(name, None) if name else None
        if exported is None:
            continue
        seen = {column: values[index] for column, values in page.seen.items()}
        if seen["type"] != FILE or exported.stat != (
            seen["size"],
            seen["mtime_s"] * 10**9 + seen["mtime_n"],
            seen["ino"],
        ):
            counts.changed += 1
        elif page.states[index] & WORTH:
            counts.known += 1
        else:
            counts.added += 1
            is_touched = exported.ctime_ns != seen["ctime_s"] * 10**9 + seen["ctime_n"]
            state = exported.state | page.states[index] | RowState.RACY * is_touched
            added[index] = replace(exported, state=state)
    return added


def _with(page: Page, added: dict[int, _Hash]) -> Page:
    states, hashes, verified = list(page.states), list(page.hashes), list(page.verified)
    for index, one in added.items():
        states[index], hashes[index], verified[index] = one.state, one.hash, one.verified
    return replace(page, states=tuple(states), hashes=tuple(hashes), verified=tuple(verified))


# ------------------------------------------------------------------------- the lines


def _hashes(lines: Iterable[bytes]) -> Iterator[_Hash]:
    """Yield the files that have a hash which is their content's."""
    for number, line in enumerate(lines, 1):
        try:
            found = _read(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            text = f"cannot import line {number}: export did not write it"
            raise _BadLineError(text) from error
        if found is not None:
            yield found


def _read(line: dict[str, Any]) -> _Hash | None:
    """Return a line's hash, None where it has none.

    Raises: ValueError, KeyError, TypeError or AttributeError for a line that is not export's.
    """
    if line["tree"] != 0:
        raise ValueError("the row of a source")
    path = _path(line)
    state = sum(int(RowState[name.upper()]) for name in line["state"])
    if line["type"] != "file" or state & WORTH != HASHED:
        return None
    numbers = [line[name] for name in ("size", "mtime_ns", "ino", "ctime_ns", "verified_s")]
    if not all(type(number) is int for number in numbers):
        raise ValueError("no number")
    size, mtime_ns, inode, ctime_ns, verified = numbers
    digest = bytes.fromhex(line["xxh128"])
    chunks = bytes.fromhex("".join(line.get("chunks", ())))
    if len(digest) != xxhash.xxh3_128().digest_size or not 0 <= verified < 2**63:
        raise ValueError("no hash")
    if bool(chunks) != bool(state & RowState.CHUNKED):
        raise ValueError("chunks of a file that has none, or none of one that has")
    if chunks and xxhash.xxh3_128_digest(chunks) != digest:
        raise ValueError("not the hash of its chunks' hashes")
    directory, name = os.path.split(path)
    state &= _IMPORTED
    stat = (size, mtime_ns, inode)
    return _Hash(directory, name, stat, ctime_ns, state, digest, verified, chunks)


def _path(line: dict[str, Any]) -> bytes:
    if "path_b64" not in line:
        return str(line["path"]).encode()
    try:
        return base64.b64decode(line["path_b64"], validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
