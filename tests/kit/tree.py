"""Trees as literals: what a test says it wants on disk, and the code that puts it there.

    Tree({"d": {"f": File(b"x", mode=0o644, mtime_ns=1), "l": Symlink("f")}, "h": HardLink("d/f")})

A tree is kept flat, path -> node, parents before what is in them, so that an edit of it is an edit
of a dict. Names are bytes (str is encoded as the system does). What a node leaves as None is not
set. Everything works relative to directory descriptors: trees deeper than PATH_MAX are fine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.kit.attributes import ACL_ACCESS, ACL_DEFAULT

Name = str | bytes
# Name -> Node or Entries; a Mapping's key type is invariant, so naming it would forbid literals.
Entries = Mapping[Any, Any]
AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# One openat takes less than PATH_MAX (4096) bytes; longer paths are walked in steps.
_STEP_BYTES = 4000

# Random bytes are dear. A prime: blocks that begin at two multiples of 2**n below 2**40 differ.
_PERIOD = 1_048_583


@dataclass(frozen=True)
class Pattern:
    """Stand for `size` pseudo-random bytes without holding (or printing) them."""

    size: int
    seed: int = 0

    def __bytes__(self) -> bytes:
        some = Random(self.seed).randbytes(min(self.size, _PERIOD))
        return (some * (self.size // _PERIOD + 1))[: self.size]


@dataclass(frozen=True)
class Sparse:
    """Stand for a file of `size` bytes that holds data only at the given offsets."""

    size: int
    data: Mapping[int, bytes | Pattern] = field(default_factory=dict)


Content = bytes | Pattern | Sparse


@dataclass(frozen=True, kw_only=True)
class Node:
    """Hold the metadata that an entry of any type can have."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    acl: bytes | None = None


@dataclass(frozen=True)
class File(Node):
    """Describe a regular file."""

    content: Content = b""


@dataclass(frozen=True)
class Dir(Node):
    """Describe a directory; a plain mapping means the same, with no metadata of its own."""

    entries: Entries = field(default_factory=dict)
    default_acl: bytes | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Symlink(Node):
    """Describe a symbolic link."""

    target: Name = b""


@dataclass(frozen=True)
class Fifo(Node):
    """Describe a named pipe."""


@dataclass(frozen=True)
class Socket(Node):
    """Describe a socket's name."""


@dataclass(frozen=True)
class Device(Node):
    """Describe a device node; `kind` is "c" or "b"."""

    kind: str = "c"
    major: int = 1
    minor: int = 3


@dataclass(frozen=True)
class HardLink(Node):
    """Describe a further name of the entry at `target`, a path from the tree's root."""

    target: Name = b""


class Tree:
    """Describe a directory and everything below it.

    Args:
        entries: name -> node, or name -> mapping for a directory.
        root: metadata of the tree's own directory.
    """

    def __init__(
        self,
        entries: Entries | None = None,
        root: Dir | None = None,
    ) -> None:
        self.root = replace(root or Dir(), entries={})
        self.nodes: dict[bytes, Node] = _flatten(entries or {})

    @classmethod
    def flat(cls, nodes: Mapping[bytes, Node], root: Dir | None = None) -> Tree:
        """Build a tree from path -> node, where directories have no entries of their own."""
        tree = cls(root=root)
        tree.nodes = dict(sorted(nodes.items(), key=lambda item: item[0].split(b"/")))
        return tree

    def at(self, mtime_ns: int) -> Tree:
        """Return the tree with this mtime wherever it says none: made twice, it is the same."""
        timed = {
            path: node if node.mtime_ns is not None else replace(node, mtime_ns=mtime_ns)
            for path, node in self.nodes.items()
        }
        root = (
            self.root if self.root.mtime_ns is not None else replace(self.root, mtime_ns=mtime_ns)
        )
        return Tree.flat(timed, root)

    def __repr__(self) -> str:
        return f"Tree.flat({self.nodes!r}, root={self.root!r})"


def make(tree: Tree, directory: AnyPath) -> None:
    """Put a tree on disk.

    Args:
        tree: what to make.
        directory: the tree's own directory; made when it is missing.
    """
    os.makedirs(directory, exist_ok=True)
    root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _make_entries(tree, root_fd)
        for path in reversed(tree.nodes):
            node = tree.nodes[path]
            if isinstance(node, Dir):
                with parent_of(root_fd, path) as (parent_fd, name):
                    _set_metadata(parent_fd, name, node)
        _set_metadata(root_fd, b".", tree.root)
    finally:
        os.close(root_fd)


def _make_entries(tree: Tree, root_fd: int) -> None:
    for path, node in tree.nodes.items():
        with parent_of(root_fd, path) as (parent_fd, name):
            if isinstance(node, Dir):
                os.mkdir(name, dir_fd=parent_fd)
            elif not isinstance(node, HardLink):
                _create(parent_fd, name, node)
                _set_metadata(parent_fd, name, node)
    for path, node in tree.nodes.items():
        if isinstance(node, HardLink):
            _link(root_fd, os.fsencode(node.target), path)


def _flatten(entries: Entries) -> dict[bytes, Node]:
    nodes: dict[bytes, Node] = {}
    waiting: list[tuple[bytes, Entries]] = [(b"", entries)]
    while waiting:
        prefix, here = waiting.pop()
        for name, node in here.items():
            path = prefix + os.fsencode(name)
            if isinstance(node, Mapping):
                node = Dir(node)
            if isinstance(node, Dir):
                waiting.append((path + b"/", node.entries))
                node = replace(node, entries={})
            nodes[path] = node
    return nodes


@contextmanager
def opened(root_fd: int, path: bytes) -> Iterator[int]:
    """Open the directory at `path` beneath `root_fd`, however long the path is."""
    fd = os.dup(root_fd)
    try:
        for step in _steps(path):
            deeper_fd = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = deeper_fd
        yield fd
    finally:
        os.close(fd)


@contextmanager
def parent_of(root_fd: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """Open the directory that holds `path` and yield it with the last name of the path."""
    parent, _, name = path.rpartition(b"/")
    with opened(root_fd, parent) as parent_fd:
        yield parent_fd, name


def _steps(path: bytes) -> Iterator[bytes]:
    while len(path) > _STEP_BYTES:
        cut = path.rindex(b"/", 0, _STEP_BYTES)
        yield path[:cut]
        path = path[cut + 1 :]
    if path:
        yield path


def proc_path(parent_fd: int, name: bytes) -> bytes:
    """Name an entry of an open directory by a short path, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%s" % (parent_fd, name)


def _create(parent_fd: int, name: bytes, node: Node) -> None:
    if isinstance(node, File):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=parent_fd)
        try:
            _write(fd, node.content)
        finally:
            os.close(fd)
    elif isinstance(node, Symlink):
        os.symlink(os.fsencode(node.target), name, dir_fd=parent_fd)
    elif isinstance(node, Fifo):
        os.mkfifo(name, 0o666, dir_fd=parent_fd)
    elif isinstance(node, Socket):
        os.mknod(name, stat.S_IFSOCK | 0o666, dir_fd=parent_fd)
    elif isinstance(node, Device):
        kind = stat.S_IFCHR if node.kind == "c" else stat.S_IFBLK
        device = os.makedev(node.major, node.minor)
        os.mknod(name, kind | 0o666, device, dir_fd=parent_fd)
    else:
        raise TypeError(f"cannot make a {type(node).__name__} called {name!r}")


def _write(fd: int, content: Content) -> None:
    if isinstance(content, Sparse):
        os.ftruncate(fd, content.size)
        for offset, data in content.data.items():
            _write_at(fd, bytes(data), offset)
    else:
        _write_at(fd, bytes(content), 0)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def _link(root_fd: int, target: bytes, path: bytes) -> None:
    with (
        parent_of(root_fd, target) as (src_fd, src_name),
        parent_of(root_fd, path) as (dst_fd, dst_name),
    ):
        os.link(src_name, dst_name, src_dir_fd=src_fd, dst_dir_fd=dst_fd, follow_symlinks=False)


def _set_metadata(parent_fd: int, name: bytes, node: Node) -> None:
    """Set what the node says; chown first (it clears setuid and capabilities), times last."""
    if node.uid is not None or node.gid is not None:
        uid = -1 if node.uid is None else node.uid
        gid = -1 if node.gid is None else node.gid
        os.chown(name, uid, gid, dir_fd=parent_fd, follow_symlinks=False)
    if node.mode is not None and not isinstance(node, Symlink):
        os.chmod(name, node.mode, dir_fd=parent_fd)
    for attribute, value in _attributes(node).items():
        os.setxattr(proc_path(parent_fd, name), attribute, value, follow_symlinks=False)
    if node.mtime_ns is not None or node.atime_ns is not None:
        now = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        atime_ns = now.st_atime_ns if node.atime_ns is None else node.atime_ns
        mtime_ns = now.st_mtime_ns if node.mtime_ns is None else node.mtime_ns
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=parent_fd, follow_symlinks=False)


def _attributes(node: Node) -> dict[str, bytes]:
    attributes = dict(node.xattrs)
    if node.acl is not None:
        attributes[ACL_ACCESS] = node.acl
    if isinstance(node, Dir) and node.default_acl is not None:
        attributes[ACL_DEFAULT] = node.default_acl
    return attributes
