"""Copy what is sound in a store, however damaged that is, into a new one.

Owns what is believed of a damaged store: entries whose own checksum is right, and nothing of how
LMDB has put them together. Reading may kill the process, so a child reads, a database at a time
from its start and, where that ends early, from its end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import lmdb

from arsync.errors import ManifestCorruptError
from arsync.manifest import health
from arsync.manifest.contents import FORMAT, check_version
from arsync.manifest.environment import (
    DATABASES,
    MAP_BYTES,
    entries_of,
    open_environment,
    present_in,
    told,
    value_of,
)
from arsync.manifest.format import Page, Place, damage, page_facts, without_convergence
from arsync.manifest.identity import Identity
from arsync.manifest.records import ID, PAGE_KEY, ROOT, id_of, seal, unseal
from arsync.manifest.walk import walk
from arsync.model import PageFlag
from arsync.uring.records import are_sound

__all__ = ["Salvaged", "salvage"]

_GROUP: Final = 64
"""Entries of a transaction: so many may be lost before one that kills the process."""

_DIGEST_BYTES: Final = 16


@dataclass
class Salvaged:
    """Say what could not be read.

    Args:
        damage: what is wrong with the store, "" for one that is whole.
        lost: names of the databases of which something is missing.
    """

    damage: str = ""
    lost: list[str] = field(default_factory=list)


def salvage(old: Path, new: Path) -> Salvaged:
    """Copy the sound entries of a store; no directory of the copy has converged.

    Args:
        old: a store, which the caller holds; it stays as it is.
        new: an empty directory, which becomes one.
    Raises: ManifestError for a newer format; FileError.
    """
    found = Salvaged()
    data = old / "data.mdb"
    if data.exists() and data.stat().st_size:
        _try(partial(_refuse_newer, old))
        found.damage = _try(partial(walk, old))
        for name in DATABASES:
            if _try(partial(_copy, old, new, name, backwards=False)):
                _try(partial(_copy, old, new, name, backwards=True))
                found.lost.append(name)
    else:
        found.damage = "its database is missing"
        found.lost = list(DATABASES)
    with told(new):
        _finish(new)
    return found


def _try(read: Callable[[], object]) -> str:
    """Return what is wrong, "" for nothing."""
    try:
        health.survives(read)
    except ManifestCorruptError as error:
        return str(error)
    return ""


def _refuse_newer(old: Path) -> None:
    """Raise ManifestError for a format that is newer; what cannot be read is none."""
    try:
        with told(old):
            env = open_environment(old, MAP_BYTES, readonly=True)
            if "meta" not in present_in(env):
                return
            meta = env.open_db(b"meta", create=False)
            with env.begin() as txn:
                stored = value_of(txn, meta, b"format")
        if stored is not None:
            check_version(stored)
    except ManifestCorruptError:
        return


def _copy(old: Path, new: Path, name: str, *, backwards: bool) -> None:
    """Copy one database until it ends, or the process.

    Raises: ManifestCorruptError where something was left out.
    """
    with told(old):
        source = open_environment(old, MAP_BYTES, readonly=True)
        if name not in present_in(source):
            raise damage(f"the database '{name}' is missing")
        read_from = source.open_db(name.encode(), create=False)
        target = open_environment(new, MAP_BYTES)
        put_into = target.open_db(name.encode())
        left_out = 0
        group: list[tuple[bytes, bytes]] = []
        with source.begin() as txn:
            for key, stored in _entries(txn, read_from, backwards=backwards):
                value = _sound(name, key, stored)
                left_out += value is None
                if value is not None:
                    group.append((key, value))
                if len(group) >= _GROUP:
                    _put(target, put_into, group)
                    group = []
            _put(target, put_into, group)
            count = int(txn.stat(read_from)["entries"])
        with target.begin() as txn:
            left_out = max(left_out, count - int(txn.stat(put_into)["entries"]))
        target.close()
    if left_out > 0:
        raise damage(f"{left_out} entries of '{name}' are damaged")


def _entries(
    txn: lmdb.Transaction, database: Any, *, backwards: bool
) -> Iterator[tuple[bytes, bytes]]:
    if not backwards:
        yield from entries_of(txn, database)
        return
    cursor: Any = txn.cursor(database)
    if cursor.last():
        yield from cursor.iterprev()


def _put(env: lmdb.Environment, database: Any, entries: list[tuple[bytes, bytes]]) -> None:
    with told(Path(os.fsdecode(env.path()))), env.begin(write=True) as txn:
        for key, value in entries:
            txn.put(key, value, db=database)


def _sound(name: str, key: bytes, stored: bytes) -> bytes | None:
    """Return what is kept of an entry, None for one that is damaged."""
    try:
        return _KEPT[name](key, stored)
    except (ManifestCorruptError, ValueError):
        return None


def _meta(key: bytes, stored: bytes) -> bytes:
    unseal("meta", key, stored)
    return stored


def _tree(key: bytes, stored: bytes) -> bytes:
    Identity.from_json(json.loads(unseal("trees", key, stored)))
    return stored


def _directory(key: bytes, stored: bytes) -> bytes:
    id_of("dirs", key, stored)
    return stored


def _chunks(_key: bytes, stored: bytes) -> bytes:
    if len(stored) % _DIGEST_BYTES:
        raise ValueError("no list of hashes")
    return stored


def _run(key: bytes, stored: bytes) -> bytes:
    json.loads(unseal("runs", key, stored))
    return stored


def _page(key: bytes, stored: bytes) -> bytes:
    if len(key) < PAGE_KEY.size:
        raise ValueError("no key of a page")
    tree, directory = PAGE_KEY.unpack_from(key)
    place = Place(tree, directory, key[PAGE_KEY.size :])
    if bool(page_facts(stored)[0] & PageFlag.FIRST) == bool(place.first):
        raise ValueError("a page under the key of another")
    if place.first:
        Page.decode(stored, place)
    elif not are_sound([(tree, directory)], [stored])[0]:
        raise ValueError("a page that is not sound")
    return without_convergence(stored, place)


_KEPT: Final[dict[str, Callable[[bytes, bytes], bytes]]] = {
    "meta": _meta,
    "trees": _tree,
    "dirs": _directory,
    "pages": _page,
    "chunks": _chunks,
    "runs": _run,
}


def _finish(new: Path) -> None:
    """Give the copy its header, and each directory an id of its own."""
    env = open_environment(new, MAP_BYTES)
    databases = {name: env.open_db(name.encode()) for name in DATABASES}
    with env.begin(write=True) as txn:
        meta = databases["meta"]
        stored = value_of(txn, meta, b"next directory")
        known = {ROOT}
        most = ROOT if stored is None else id_of("meta", b"next directory", stored) - 1
        for key, value in list(entries_of(txn, databases["dirs"])):
            one = id_of("dirs", key, value)
            if one in known:
                txn.delete(key, db=databases["dirs"])
            known.add(one)
        for key, _ in entries_of(txn, databases["pages"]):
            most = max(most, PAGE_KEY.unpack_from(key)[1])
        values = {
            b"format": FORMAT.to_bytes(4, "little"),
            b"next directory": ID.pack(max(most, *known) + 1),
        }
        for key, value in values.items():
            txn.put(key, seal("meta", key, value), db=meta)
    env.close()
