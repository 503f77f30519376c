"""Hypothesis strategies: trees as people do not make them, edits of trees, rsync's options.

Every node has a time, a mode and an owner of its own, so that a tree made twice is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.kit.attributes import CAPABILITY, acl, capability
from tests.kit.filesystems import LIMITS, Limits
from tests.kit.tree import (
    Content,
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Node,
    Pattern,
    Socket,
    Sparse,
    Symlink,
    Tree,
)

AnyNode = TypeVar("AnyNode", bound=Node)
Nodes = dict[bytes, Node]

SECOND = 10**9
_MIB = 1 << 20

PLAIN_NAMES = ("a", "b", "c", "d", "e", "f.txt", "name with space", "x-1")
ODD_NAMES = (
    b"-rf",
    b"--",
    b" ",
    b"trailing ",
    b"new\nline",
    b"quote'\"`$",
    b"back\\slash\\#012",
    b"tab\t\x7f\x1b[1m",
    b"\xff\xfe",
    b"\xc3\xa4",
    b"a\xcc\x88",
    b"...",
    b"*?[x]",
    b"colon:name",
    b".hidden",
    b"n" * 255,
    b"\xe2\x82\xac" * 85,
)

SIZES = (0, 1, 4095, 4096, 4097, 65536, 131_071, 131_073, _MIB + 1)
MODES = (0o644, 0o600, 0o755, 0o444, 0o000, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o666)
DIR_MODES = (0o755, 0o700, 0o555, 0o1777, 0o2775, 0o000, 0o7777)
IDS = (0, 1, 1000, 65534, 4_000_000_000)
# rsync does not send a group entry that equals the mask, and gives one of two directories that
# share such an ACL an empty group: so no ACL here has it.
ACLS = (
    "u::rw-,u:1:r--,g::-w-,m::r--,o::---",
    "u::rwx,u:1:rwx,u:60000:---,g::r-x,g:5:-w-,m::rwx,o::r-x",
    "u::---,g::r--,g:1000:rwx,m::---,o::rwx",
)

# ext4 and xfs hold times up to 2446 and 2486, from 1901; what lies outside the kernel clamps.
TIMES = (
    0,
    1,
    -1,
    -(10**17) - 1,
    1_000_000_000 * SECOND + 999_999_999,
    (2**31 - 1) * SECOND + 500_000_000,
    2**31 * SECOND,
    2**32 * SECOND + 7,
    13 * 10**9 * SECOND + 123_456_789,
)


@functools.cache
def names() -> st.SearchStrategy[bytes]:
    """Draw names of any bytes, plain ones most often."""
    plain = st.sampled_from(PLAIN_NAMES).map(str.encode)
    random_bytes = st.binary(min_size=1, max_size=12).map(
        lambda name: name.replace(b"\0", b"0").replace(b"/", b"|")
    )
    return st.one_of(plain, plain, st.sampled_from(ODD_NAMES), random_bytes).filter(
        lambda name: name not in (b".", b"..")
    )


@functools.cache
def plain_names() -> st.SearchStrategy[bytes]:
    """Draw names that every program prints as they are."""
    return st.sampled_from(PLAIN_NAMES).map(str.encode)


@functools.cache
def times_ns() -> st.SearchStrategy[int]:
    """Draw times before 1970, after 2038 and between, with their nanoseconds."""
    return st.one_of(st.sampled_from(TIMES), st.integers(-(10**18), 14 * 10**18))


@functools.cache
def contents() -> st.SearchStrategy[Content]:
    """Draw contents of the sizes at which copying changes its way, and sparse ones."""
    patterns = st.builds(Pattern, st.sampled_from(SIZES), st.integers(0, 3))
    ranges = st.dictionaries(
        st.sampled_from((0, 1, 4096, 65_536, 999_999, 5 * _MIB)), patterns, max_size=2
    )
    holes = st.builds(
        lambda data, tail: Sparse(_end(data) + tail, data), ranges, st.sampled_from((0, 1, _MIB))
    )
    zeros = st.sampled_from((bytes(1), bytes(4096), bytes(70_000)))
    return st.one_of(st.binary(max_size=20), patterns, holes, zeros)


def _end(data: dict[int, Pattern]) -> int:
    return max((offset + pattern.size for offset, pattern in data.items()), default=0)


@functools.cache
def xattrs(limit_bytes: int, *, user: bool) -> st.SearchStrategy[dict[str, bytes]]:
    """Draw extended attributes; only files and directories can have `user` ones."""
    spaces = ("user.", "trusted.") if user else ("trusted.",)
    short = st.builds(str.__add__, st.sampled_from(spaces), st.sampled_from(("a", "b.c", "ä")))
    values = st.one_of(
        st.just(b""), st.binary(max_size=10), st.just(b"v" * (limit_bytes // 4)), st.just(b"\0")
    )
    return st.dictionaries(short, values, max_size=2)


@dataclass(frozen=True)
class Kinds:
    """Say what the drawn trees hold."""

    names: Callable[[], st.SearchStrategy[bytes]] = names
    limits: Limits = LIMITS["ext4"]
    hard_links: bool = True
    attributes: bool = True
    acls: bool = True
    privileges: bool = True
    max_entries: int = 10


DEFAULT_KINDS = Kinds()


@st.composite
def trees(draw: st.DrawFn, kinds: Kinds = DEFAULT_KINDS) -> Tree:
    """Draw a tree.

    A symlink that leads to a directory of the tree leads to one without symlinks: so options that
    follow links come to an end.
    """
    nodes: Nodes = {}
    directories = [b""]
    for _ in range(draw(st.integers(0, kinds.max_entries))):
        path = _new_path(draw, kinds, directories, nodes)
        if draw(st.integers(0, 2)) == 0:
            nodes[path] = draw(_directories(kinds))
            directories.append(path)
        else:
            nodes[path] = draw(_others(kinds))
    leading = _add_symlinks(draw, kinds, directories, nodes)
    if kinds.hard_links:
        targets = [path for path in nodes if path not in leading.union(directories)]
        _add_hard_links(draw, kinds, directories, targets, nodes)
    return Tree.flat(nodes, draw(_directories(kinds)))


def _new_path(draw: st.DrawFn, kinds: Kinds, directories: list[bytes], nodes: Nodes) -> bytes:
    parent = draw(st.sampled_from(directories))
    name = draw(kinds.names())
    path = parent + b"/" + name if parent else name
    while path in nodes:
        name = (b"%d" % len(nodes) + name)[:255]
        path = parent + b"/" + name if parent else name
    return path


def _add_symlinks(
    draw: st.DrawFn, kinds: Kinds, directories: list[bytes], nodes: Nodes
) -> set[bytes]:
    """Add symlinks; return the paths of those that lead somewhere."""
    leading: set[bytes] = set()
    followed: list[bytes] = []
    for _ in range(draw(st.integers(0, 2))):
        path = _new_path(draw, kinds, directories, nodes)
        choices = [target for target in nodes if not _holds_symlink(nodes, target)]
        if any(_is_within(path, directory) for directory in followed):
            continue
        leads_somewhere = draw(st.booleans())
        if choices and leads_somewhere:
            inside = draw(st.sampled_from(choices))
            followed.append(inside)
            leading.add(path)
            target = b"../" * path.count(b"/") + inside
        else:
            target = draw(_dangling(kinds.limits.symlink_bytes))
        nodes[path] = draw(_with_metadata(st.just(Symlink(target)), kinds, MODES, user=False))
    return leading


def _dangling(limit_bytes: int) -> st.SearchStrategy[bytes]:
    longest = (b"nowhere/" * 600)[:limit_bytes]
    return st.sampled_from(
        (b"nowhere", b"/nonexistent/place", b"../../../x", b"\xff\n", longest[:200], longest)
    )


def _is_within(path: bytes, directory: bytes) -> bool:
    return path.startswith(directory + b"/")


def _holds_symlink(nodes: Nodes, directory: bytes) -> bool:
    return any(
        isinstance(node, Symlink) and (path == directory or _is_within(path, directory))
        for path, node in nodes.items()
    )


def _add_hard_links(
    draw: st.DrawFn, kinds: Kinds, directories: list[bytes], targets: list[bytes], nodes: Nodes
) -> None:
    for _ in range(draw(st.integers(0, 3)) if targets else 0):
        path = _new_path(draw, kinds, directories, nodes)
        nodes[path] = HardLink(draw(st.sampled_from(targets)))


@functools.cache
def _others(kinds: Kinds) -> st.SearchStrategy[Node]:
    return st.one_of(_files(kinds), _files(kinds), _files(kinds), _specials(kinds))


@functools.cache
def _files(kinds: Kinds) -> st.SearchStrategy[File]:
    bare = st.builds(File, contents())
    return _with_metadata(bare, kinds, MODES, user=True).flatmap(
        lambda node: (
            _with_capability(node) if kinds.attributes and kinds.privileges else st.just(node)
        )
    )


def _with_capability(node: File) -> st.SearchStrategy[File]:
    capable = replace(node, xattrs={**node.xattrs, CAPABILITY: capability(1 << 10)})
    return st.sampled_from((node, node, node, capable))


@functools.cache
def _directories(kinds: Kinds) -> st.SearchStrategy[Dir]:
    acls = st.sampled_from((None, None, None, *map(acl, ACLS)))
    bare = st.builds(
        lambda value: Dir(default_acl=value), acls if kinds.attributes and kinds.acls else st.none()
    )
    return _with_metadata(bare, kinds, DIR_MODES, user=True)


@functools.cache
def _specials(kinds: Kinds) -> st.SearchStrategy[Node]:
    devices = st.builds(Device, st.sampled_from("cb"), st.integers(0, 300), st.integers(0, 70_000))
    bare = st.one_of(st.just(Fifo()), st.just(Socket()), devices)
    return _with_metadata(bare, kinds, MODES, user=False)


@functools.cache
def _modes(kinds: Kinds, modes: tuple[int, ...]) -> st.SearchStrategy[int]:
    return st.sampled_from([mode if kinds.privileges else mode & 0o1777 for mode in modes])


def _with_metadata(
    bare: st.SearchStrategy[AnyNode], kinds: Kinds, modes: tuple[int, ...], *, user: bool
) -> st.SearchStrategy[AnyNode]:
    return st.builds(
        lambda node, mode, uid, gid, fields: replace(node, mode=mode, uid=uid, gid=gid, **fields),
        bare,
        _modes(kinds, modes),
        st.sampled_from(IDS),
        st.sampled_from(IDS),
        _times_and_attributes(kinds, user=user),
    )


@st.composite
def _times_and_attributes(draw: st.DrawFn, kinds: Kinds, *, user: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"mtime_ns": draw(times_ns()), "atime_ns": draw(times_ns())}
    if kinds.attributes and draw(st.integers(0, 2)) == 0:
        fields["xattrs"] = draw(xattrs(kinds.limits.xattr_bytes, user=user))
    if kinds.attributes and kinds.acls and user and draw(st.integers(0, 4)) == 0:
        fields["acl"] = acl(draw(st.sampled_from(ACLS)))
    return fields


@st.composite
def edited(draw: st.DrawFn, tree: Tree, kinds: Kinds = DEFAULT_KINDS) -> Tree:
    """Draw what a destination of this tree may hold: nothing, all of it, or all of it with changes.

    An entry that is changed is no hard link of others any more, so that no result depends on the
    order in which a program goes through the names of one inode.
    """
    if draw(st.integers(0, 4)) == 0:
        return Tree(root=draw(_directories(kinds)))
    nodes = dict(tree.nodes)
    for _ in range(draw(st.integers(0, 6))):
        if nodes and draw(st.integers(0, 4)) > 0:
            _edit(draw, kinds, nodes, draw(st.sampled_from(sorted(nodes))))
        else:
            directories = [b"", *(path for path, node in nodes.items() if isinstance(node, Dir))]
            nodes[_new_path(draw, kinds, directories, nodes)] = draw(_others(kinds))
    return Tree.flat(nodes, draw(st.sampled_from((tree.root, draw(_directories(kinds))))))


def _edit(draw: st.DrawFn, kinds: Kinds, nodes: Nodes, path: bytes) -> None:
    _detach(nodes, path)
    node = nodes[path]
    match draw(st.sampled_from(("remove", "replace", "content", "time", "mode", "owner", "rest"))):
        case "remove":
            _remove(nodes, path)
        case "replace":
            _remove(nodes, path)
            _put_another(draw, kinds, nodes, path)
        case "content" if isinstance(node, File):
            nodes[path] = replace(node, content=draw(_other_content(node.content)))
        case "content" if isinstance(node, Symlink):
            nodes[path] = replace(node, target=b"nowhere/else")
        case "content" if isinstance(node, Device):
            nodes[path] = replace(node, minor=node.minor + 1)
        case "time" | "content":
            nodes[path] = replace(node, mtime_ns=draw(times_ns()))
        case "mode":
            nodes[path] = replace(node, mode=draw(_modes(kinds, MODES)))
        case "owner":
            ids = st.sampled_from(IDS)
            nodes[path] = replace(node, uid=draw(ids), gid=draw(ids))
        case "rest":
            fields = draw(_times_and_attributes(kinds, user=isinstance(node, (File, Dir))))
            nodes[path] = replace(replace(node, xattrs={}, acl=None), **fields)


def _other_content(content: Content) -> st.SearchStrategy[Content]:
    """Draw a content of the same size, or any other."""
    size = len(content) if isinstance(content, bytes) else content.size
    return st.just(Pattern(size, seed=99)) | contents()


def _put_another(draw: st.DrawFn, kinds: Kinds, nodes: Nodes, path: bytes) -> None:
    """Put an entry of any type at a path, also a directory that is not empty."""
    link = _with_metadata(st.just(Symlink(b"nowhere/else")), kinds, MODES, user=False)
    node = draw(st.one_of(_others(kinds), link, _directories(kinds)))
    nodes[path] = node
    if isinstance(node, Dir) and draw(st.booleans()):
        nodes[path + b"/in the way"] = draw(_files(kinds))


def _remove(nodes: Nodes, path: bytes) -> None:
    for each in [each for each in nodes if each == path or _is_within(each, path)]:
        _detach(nodes, each)
        del nodes[each]


def _detach(nodes: Nodes, path: bytes) -> None:
    """Make an entry of its own of a path that may be one of several hard links."""
    node = nodes[path]
    if isinstance(node, HardLink):
        assert isinstance(node.target, bytes)
        nodes[path] = nodes[node.target]
        return
    others = [
        other for other, link in nodes.items() if isinstance(link, HardLink) and link.target == path
    ]
    if others:
        nodes[others[0]] = node
        nodes.update((other, HardLink(others[0])) for other in others[1:])
