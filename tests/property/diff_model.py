"""The comparison in plain Python: two dicts of names, rsync's questions in rsync's order.

The oracle of `uring/src/diff.c`. It knows neither pages nor a merge.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from arsync.model import Keep, Kind, Why
from arsync.options import UpdatePolicy
from tests.pages import BLK, CHR, DIR, FIFO, LNK, REG, SOCK, Row

CLASSES = {FIFO: "special", SOCK: "special", CHR: "device", BLK: "device"}
BAD = 4


@dataclass
class Expected:
    """Hold what the comparison of one pair finds, in the order of names."""

    changes: list[tuple[bytes, Kind, Why]] = field(default_factory=list)
    children: list[tuple[bytes, bool, bool]] = field(default_factory=list)
    skipped: list[bytes] = field(default_factory=list)
    touched: bool = False


@dataclass(frozen=True)
class Plain:
    """Hold the rules as plain values; owners are not mapped, modes not changed."""

    keep: Keep
    granule_ns: int = 1
    umask: int = 0o022
    root: bool = True
    update: UpdatePolicy = field(default_factory=UpdatePolicy)


def compare(rules: Plain, src: tuple[Row, ...], dst: tuple[Row, ...]) -> Expected:
    """Compare the entries of one directory."""
    expected = Expected()
    there = {row.name: row for row in dst}
    for row in sorted(src, key=lambda row: row.name):
        old = there.get(row.name)
        if row.flags & BAD or (old and old.flags & BAD):
            continue
        passed = passed_over(rules, row, old)
        if not wanted(rules, row.type) and (row.type == DIR or not passed):
            expected.skipped.append(row.name)
        elif passed:
            expected.changes.append((row.name, Kind.NONE, passed))
        elif row.type == DIR:
            is_dir = old is not None and old.type == DIR
            expected.children.append((row.name, is_dir, old is not None and not is_dir))
            expected.touched |= not is_dir
        else:
            why = reasons(rules, row, old)
            check = rules.update.checksum and row.type == REG and row.size > 0
            check = check and not why & (Why.NEW | Why.TYPE | Why.CONTENT)
            if why or check:
                kind = Kind.CHECK if check else kind_of(row.type, why)
                expected.changes.append((row.name, kind, why))
                expected.touched |= kind is not Kind.META
    return expected


def wanted(rules: Plain, kind: int) -> bool:
    """Tell whether the options copy entries of this type."""
    devices = rules.root and Keep.DEVICES in rules.keep
    return {
        REG: True,
        DIR: Keep.DIRS in rules.keep,
        LNK: Keep.LINKS in rules.keep,
        FIFO: Keep.SPECIALS in rules.keep,
        SOCK: Keep.SPECIALS in rules.keep,
        CHR: devices,
        BLK: devices,
    }[kind]


def passed_over(rules: Plain, src: Row, dst: Row | None) -> Why:
    """Say which update rule leaves an entry alone."""
    if dst is None and rules.update.existing:
        return Why.NEW
    if dst and rules.update.ignore_existing and (src.type, dst.type) != (DIR, DIR):
        return Why.EXISTS | reasons(rules, src, dst)
    if src.type == REG and src.size > rules.update.max_size:
        return Why.LARGE
    if src.type == REG and src.size < rules.update.min_size:
        return Why.SMALL
    if dst and rules.update.update and (src.type, dst.type) == (REG, REG):
        window = rules.update.modify_window
        if window is not None and window > 0:
            newer = src.mtime[0] - dst.mtime[0] < window
        else:
            newer = granule_of(rules, src) < granule_of(rules, dst)
        return Why.NEWER if newer else Why(0)
    return Why(0)


def reasons(rules: Plain, src: Row, dst: Row | None) -> Why:
    """Say why an entry changes."""
    content = Why.CONTENT if src.type == REG else Why(0)
    if dst is None:
        return Why.NEW | content
    if CLASSES.get(src.type, src.type) != CLASSES.get(dst.type, dst.type):
        return Why.TYPE | content
    why = attributes(rules, src, dst)
    if src.type == REG and src.size != dst.size:
        why |= Why.SIZE | Why.CONTENT
        why |= Why.CHECKSUM if rules.update.checksum else Why(0)
    elif src.type == REG and not is_quickly_equal(rules, src, dst):
        why |= Why.CONTENT
    if Why.CONTENT in why and not same_time(rules, src, dst):
        why |= Why.MTIME
    if (src.type, src.target, src.rdev) != (dst.type, dst.target, dst.rdev):
        why |= Why.TARGET
    return why


def is_quickly_equal(rules: Plain, src: Row, dst: Row) -> bool:
    """Tell whether two files of one size count as equal."""
    if rules.update.size_only or rules.update.checksum:
        return True
    return not rules.update.ignore_times and same_time(rules, src, dst)


def attributes(rules: Plain, src: Row, dst: Row) -> Why:
    """Say which attributes differ that the options keep."""
    keep = rules.keep
    times = not (src.type == DIR and Keep.OMIT_DIR_TIMES in keep)
    times = times and not (src.type == LNK and Keep.OMIT_LINK_TIMES in keep)
    differs = {
        Why.MODE: Keep.PERMS in keep and src.type != LNK and src.mode != dst.mode,
        Why.UID: Keep.OWNER in keep and rules.root and src.uid != dst.uid,
        Why.GID: Keep.GROUP in keep and src.gid != dst.gid,
        Why.MTIME: Keep.TIMES in keep and times and not same_time(rules, src, dst),
        Why.ATIME: Keep.ATIMES in keep
        and src.type not in (DIR, LNK)
        and src.atime[0] != dst.atime[0],
        Why.XATTR: Keep.XATTRS in keep and src.xattrs != dst.xattrs,
        Why.ACL: Keep.ACLS in keep and src.type != LNK and src.acls != dst.acls,
    }
    why = Why(0)
    for bit, is_different in differs.items():
        if is_different:
            why |= bit
    return why


def same_time(rules: Plain, src: Row, dst: Row) -> bool:
    """Tell whether both mtimes are in the same granule, or within the window."""
    window = rules.update.modify_window
    if window is not None and window > 0:
        return abs(src.mtime[0] - dst.mtime[0]) <= window
    return granule_of(rules, src) == granule_of(rules, dst)


def granule_of(rules: Plain, row: Row) -> int:
    """Return an mtime in the granules that are compared; --modify-window goes before them."""
    unit = {None: rules.granule_ns, 0: 10**9, -1: 1}[rules.update.modify_window]
    return (row.mtime[0] * 10**9 + row.mtime[1]) // unit


def kind_of(entry_type: int, why: Why) -> Kind:
    """Say what is done, from the reasons."""
    if not why & (Why.NEW | Why.TYPE | Why.CONTENT | Why.TARGET):
        return Kind.META
    return {REG: Kind.DATA, LNK: Kind.SYMLINK}.get(entry_type, Kind.SPECIAL)
