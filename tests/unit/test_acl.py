"""The ids inside ACLs, mapped in C: on the bytes that the kernel hands out."""

from __future__ import annotations

import ctypes
import struct

import pytest

from arsync.options import OwnerPolicy, Preserve, SyncOptions
from arsync.owners import IdMap, IdRange
from arsync.uring import Identity, Rules, _native
from arsync.uring._native import ffi
from tests.kit import acl

# What the C files share is no business of Python's, so it is not in the header that cffi reads.
ar_acl_map = ctypes.CDLL(_native.__file__).ar_acl_map
ar_acl_map.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
ar_acl_map.restype = None

EVERYBODY = IdMap((IdRange(0, 2**32 - 2, 7),))
SWAPPED = IdMap((IdRange(1, 1, 60), IdRange(50, 50, 2)))
ACL = "u::rw-,u:1:r--,u:20:-w-,u:50:--x,g::r--,g:1:r--,g:50:-wx,m::rwx,o::---"


def mapped(
    value: bytes,
    users: IdMap | None = None,
    groups: IdMap | None = None,
    *,
    recursive: bool = True,
    numeric_ids: bool = False,
    is_root: bool = True,
) -> bytes:
    """Return what these options make of an ACL."""
    options = SyncOptions(
        preserve=Preserve(acls=True, recursive=recursive),
        owners=OwnerPolicy(numeric_ids=numeric_ids, users=users, groups=groups),
    )
    rules = Rules(options, 1, Identity(0o022, is_root, ()))
    buffer = ctypes.create_string_buffer(value, len(value) + 1)
    ar_acl_map(int(ffi.cast("uintptr_t", rules.raw)), buffer, len(value))
    return buffer.raw[: len(value)]


def entries(value: bytes) -> list[tuple[int, int, int]]:
    """Return the entries as (tag, permissions, id)."""
    return list(struct.iter_unpack("<HHI", value[4:]))


def test_without_a_map_an_acl_stays_as_it_is() -> None:
    """Also when its entries are not in order."""
    (users := entries(acl(ACL))).reverse()
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in users)
    assert mapped(value) == value


def test_each_map_is_for_its_own_kind() -> None:
    """Users have theirs and groups have theirs; owner, mask and others have no id."""
    both = acl("u::rw-,u:60:r--,u:20:-w-,u:2:--x,g::r--,g:60:r--,g:2:-wx,m::rwx,o::---")
    users = acl("u::rw-,u:60:r--,u:20:-w-,u:2:--x,g::r--,g:1:r--,g:50:-wx,m::rwx,o::---")
    assert mapped(acl(ACL), SWAPPED, SWAPPED) == both
    assert mapped(acl(ACL), SWAPPED) == users


def test_entries_of_one_id_keep_their_order() -> None:
    """Two ids may become one; the entry that came first is the one that counts."""
    users = [entry for entry in entries(mapped(acl(ACL), EVERYBODY)) if entry[0] == 2]
    assert users == [(2, 4, 7), (2, 2, 7), (2, 1, 7)]


@pytest.mark.parametrize(
    ("recursive", "numeric_ids", "is_root", "maps_users", "maps_groups"),
    [
        (True, False, True, True, True),
        (True, True, True, False, False),
        (True, True, False, False, True),
        (False, True, True, True, True),
    ],
)
def test_numeric_ids_with_recursion(
    recursive: bool, numeric_ids: bool, is_root: bool, maps_users: bool, maps_groups: bool
) -> None:
    """As in rsync the ids stay with -r and --numeric-ids: the users', and for root the groups'."""
    value = mapped(
        acl(ACL),
        EVERYBODY,
        EVERYBODY,
        recursive=recursive,
        numeric_ids=numeric_ids,
        is_root=is_root,
    )
    ids = {tag: {number for kind, _, number in entries(value) if kind == tag} for tag in (2, 8)}
    assert ids == {2: {7} if maps_users else {1, 20, 50}, 8: {7} if maps_groups else {1, 50}}


@pytest.mark.parametrize(
    "value",
    [b"", b"\2", acl(ACL)[:-1], acl(ACL) + b"\0", struct.pack("<I", 3) + acl(ACL)[4:]],
    ids=["empty", "no header", "short", "long", "other version"],
)
def test_what_is_no_acl_stays_as_it_is(value: bytes) -> None:
    """A value that cannot be read is passed on as it is."""
    assert mapped(value, EVERYBODY, EVERYBODY) == value


def test_an_acl_without_entries() -> None:
    """A header alone is an ACL with nothing to map."""
    assert mapped(struct.pack("<I", 2), EVERYBODY) == struct.pack("<I", 2)
