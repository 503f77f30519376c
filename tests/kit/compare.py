"""Two trees, entry by entry: what differs, in words that say it without a debugger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.kit.attributes import ACL_ACCESS, ACL_DEFAULT
from tests.kit.snapshot import Entry, Snapshot, read
from tests.kit.tree import AnyPath

Side = AnyPath | Snapshot

_SHOWN_DIFFERENCES = 40
_ACLS = (ACL_ACCESS, ACL_DEFAULT)


@dataclass(frozen=True)
class Aspects:
    """Say what must be equal; names, types, content, link targets and devices always must.

    `times` covers every mtime; `dir_times` and `link_times` are those of directories and symlinks
    within it. `atimes` are those of everything but directories, as rsync's -U has it. `root` is the
    tree's own directory. Two times within one granule are equal.
    """

    modes: bool = True
    owners: bool = True
    times: bool = True
    dir_times: bool = True
    link_times: bool = True
    atimes: bool = False
    xattrs: bool = True
    acls: bool = True
    links: bool = True
    holes: bool = False
    root: bool = True
    granularity_ns: int = 1
    atime_granularity_ns: int = 1


def assert_same(a: Side, b: Side, **aspects: int) -> None:
    """Fail with a readable list when two trees differ.

    Args:
        a: a directory or a snapshot of one.
        b: the same.
        aspects: fields of Aspects.
    """
    found = differences(_snapshot(a), _snapshot(b), Aspects(**aspects))  # type: ignore[arg-type]
    if found:
        shown = "\n  ".join(found[:_SHOWN_DIFFERENCES])
        raise AssertionError(f"{len(found)} differences (first side, then second side):\n  {shown}")


def differences(a: Snapshot, b: Snapshot, aspects: Aspects) -> list[str]:
    """List what differs between two snapshots, a line each, in the order of the paths."""
    lines: list[str] = []
    for path in sorted(a.keys() | b.keys()):
        if path == b"" and not aspects.root:
            continue
        shown = repr(path)[1:] if path else "the root itself"
        if path not in b:
            lines.append(f"{shown}: only on the first side ({a[path].kind})")
        elif path not in a:
            lines.append(f"{shown}: only on the second side ({b[path].kind})")
        else:
            lines += [f"{shown}: {text}" for text in _entry_differences(a[path], b[path], aspects)]
    return lines


def _snapshot(side: Side) -> Snapshot:
    return side if isinstance(side, dict) else read(side)


def _entry_differences(a: Entry, b: Entry, aspects: Aspects) -> Iterator[str]:
    if a.kind != b.kind:
        yield f"{a.kind} != {b.kind}"
        return
    yield from _differs("content (size, digest, start)", a.content, b.content)
    yield from _differs("target", a.target, b.target)
    yield from _differs("device", a.device, b.device)
    if aspects.modes:
        yield from _differs("mode", oct(a.mode), oct(b.mode))
    if aspects.owners:
        yield from _differs("owner", (a.uid, a.gid), (b.uid, b.gid))
    yield from _time_differences(a, b, aspects)
    if aspects.xattrs:
        yield from _differs("xattrs", _plain_xattrs(a), _plain_xattrs(b))
    if aspects.acls:
        for name in _ACLS:
            yield from _differs(name, a.xattrs.get(name), b.xattrs.get(name))
    if aspects.links:
        yield from _differs("hard links", a.links, b.links)
    if aspects.holes:
        yield from _differs("data ranges", a.data, b.data)


def _time_differences(a: Entry, b: Entry, aspects: Aspects) -> Iterator[str]:
    of_this_kind = {"directory": aspects.dir_times, "symlink": aspects.link_times}
    if aspects.times and of_this_kind.get(a.kind, True):
        yield from _time_differs("mtime", a.mtime_ns, b.mtime_ns, aspects.granularity_ns)
    if aspects.atimes and a.kind != "directory":
        yield from _time_differs("atime", a.atime_ns, b.atime_ns, aspects.atime_granularity_ns)


def _time_differs(what: str, a_ns: int, b_ns: int, granularity_ns: int) -> Iterator[str]:
    if a_ns // granularity_ns != b_ns // granularity_ns:
        yield f"{what} in ns {a_ns} != {b_ns}"


def _plain_xattrs(entry: Entry) -> dict[str, bytes]:
    return {name: value for name, value in sorted(entry.xattrs.items()) if name not in _ACLS}


def _differs(what: str, a: object, b: object) -> Iterator[str]:
    if a != b:
        yield f"{what} {_short(a)} != {_short(b)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}... ({len(text)} characters)"
