"""Find out what the lines of --files-from name: each of them once, directory by directory.

Owns rsync's rules about the lines of such a list and what they mean below the source: `..` cleaned
away, `/./`, a slash at the end. It changes nothing, and it must not know the destination.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from arsync.model import Op, Problem, ProblemKind, Side
from arsync.options import SyncOptions
from arsync.scan import Chain, Named, Start, Whole

__all__ = ["Listed", "find_listed", "read_lines"]

_NAMES_AT_ONCE: Final = 100_000
_DOTS: Final = (b"", b".")

Hides = Callable[[bytes, bytes, bool], bool]
"""Tell whether a rule leaves out a path below a root: the root, the path, whether it is one."""


def read_lines(text: bytes, *, null_separated: bool) -> tuple[bytes, ...]:
    """Take a list apart: paths below the source, which none of them leads out of.

    Args:
        null_separated: lines end with a NUL (-0), not with LF, CR or both.
    Source: rsync(1), --files-from. Empty lines and comments do not count, with -0 neither.
    """
    if not null_separated:
        text = text.replace(b"\r", b"\n")
    lines = text.split(b"\0" if null_separated else b"\n")
    return tuple(_inside(line) for line in lines if line and line[:1] not in (b"#", b";"))


def _inside(line: bytes) -> bytes:
    """Clean `..` and slashes away; dots stay, they have a meaning."""
    names: list[bytes] = []
    for name in line.split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name:
            names.append(name)
    is_open = line.endswith((b"/", b"/..")) and names
    return (b"/".join(names) or b".") + (b"/" if is_open else b"")


@dataclass(frozen=True)
class _Line:
    """Hold a line taken apart: which root, and what below it.

    Args:
        head: the root below the source.
        path: "" for the root itself.
        is_open: a slash or a dot at its end says that what is in the directory is meant, too.
        with_root: a dot at its beginning says that the root gets its attributes.
    """

    head: bytes
    path: bytes
    is_open: bool
    with_root: bool

    @classmethod
    def of(cls, line: bytes) -> _Line:
        """Take a line apart."""
        head, mark, tail = line.partition(b"/./")
        if not mark:
            head, tail = b"", line
        path = _without_dots(tail)
        return cls(
            head=_without_dots(head),
            path=path,
            is_open=tail.rpartition(b"/")[2] in _DOTS,
            with_root=bool(path) and tail.startswith(b"./"),
        )


def _without_dots(path: bytes) -> bytes:
    return b"/".join(name for name in path.split(b"/") if name not in _DOTS)


@dataclass
class Listed:
    """Hold what a list names below one root.

    Args:
        root: a directory.
        whole: all of it is.
        with_root: the root gets its attributes, too.
        paths: what is named, and whether a symlink stands for its directory.
        dirs: which of them are directories.
    """

    root: bytes
    whole: bool = False
    with_root: bool = False
    paths: dict[bytes, bool] = field(default_factory=dict)
    dirs: set[bytes] = field(default_factory=set)

    def add(self, path: bytes, *, is_open: bool, is_dir: bool) -> None:
        """Add a path; one that is open stands for a directory where it is a symlink to one."""
        if not path:
            self.whole = self.with_root = True
            return
        is_link = is_open and is_dir and os.path.islink(os.path.join(self.root, path))
        self.paths[path] = self.paths.get(path, False) or is_link
        if is_dir:
            self.dirs.add(path)

    def add_content(self, path: bytes) -> list[Problem]:
        """Add what is in a directory, one level of it."""
        folder = os.path.join(self.root, path)
        try:
            names = os.listdir(folder)
        except OSError as error:
            return [_failed(folder, Op.OPEN_DIR, error)]
        for name in names:
            self.paths.setdefault(os.path.join(path, name), False)
        return []

    @property
    def only_file(self) -> bytes | None:
        """Return the name of the only entry, where that is none in or of a directory."""
        if self.whole or self.with_root or self.dirs or len(self.paths) != 1:
            return None
        (path,) = self.paths
        return None if b"/" in path else path

    def starts(self, *, recursive: bool) -> tuple[Start, ...]:
        """Return where the walk starts, so that it comes to each entry once."""
        if self.whole and recursive:
            return (Whole(),)
        walked = self.dirs if recursive else set()
        paths = sorted(_without_covered(self.paths, walked))
        above = _above(paths)
        # a directory that others are in is made on the way to them
        paths = [path for path in paths if path not in above or path in walked]
        starts = [_start(folder, names) for folder, names in _by_folder(paths, self.paths)]
        if not self.with_root:
            return tuple(starts)
        first = next((one for one in starts if isinstance(one, Named)), Named(b"", ()))
        others = (one for one in starts if one is not first)
        return (replace(first, with_own=True), *others)


def _without_covered(paths: Iterable[bytes], walked: set[bytes]) -> Iterator[bytes]:
    """Yield the paths that are not below a directory that is walked."""
    covered: dict[bytes, bool] = {b"": False}

    def is_covered(folder: bytes) -> bool:
        if folder not in covered:
            covered[folder] = folder in walked or is_covered(os.path.dirname(folder))
        return covered[folder]

    return (path for path in paths if not is_covered(os.path.dirname(path)))


def _above(paths: Iterable[bytes]) -> set[bytes]:
    above = {b""}
    for path in paths:
        folder = os.path.dirname(path)
        while folder not in above:
            above.add(folder)
            folder = os.path.dirname(folder)
    return above


def _by_folder(
    paths: Iterable[bytes], follow: dict[bytes, bool]
) -> Iterator[tuple[bytes, tuple[bytes, ...] | bytes]]:
    """Yield directories with names in them; a name that stands for its directory comes alone."""
    folders: dict[bytes, list[bytes]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if follow[path]:
            yield folder, name
        else:
            folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        for first in range(0, len(names), _NAMES_AT_ONCE):
            yield folder, tuple(names[first : first + _NAMES_AT_ONCE])


def _start(folder: bytes, names: tuple[bytes, ...] | bytes) -> Start:
    follow = isinstance(names, bytes)
    named = Named(folder, (names,) if isinstance(names, bytes) else names, follow=follow)
    return Chain(tuple(folder.split(b"/")), named) if folder else named


def find_listed(
    src: bytes, lines: Sequence[bytes], options: SyncOptions, hides: Hides
) -> tuple[list[Listed], list[Problem]]:
    """Look at each path of a list.

    Args:
        src: the directory that they are below.
        lines: from `read_lines`.
        hides: applies the filter rules.
    Returns: what is there, root by root, in about 10 us a line; a problem for each path that is
        not there, or that is a directory where the options ask for none.
    """
    roots: dict[bytes, Listed] = {}
    problems: list[Problem] = []
    for text in lines:
        line = _Line.of(text)
        root = os.path.join(src, line.head) if line.head else src
        try:
            path_stat = _stat(root, line, options)
        except OSError as error:
            problems.append(_failed(os.path.join(root, line.path), Op.STAT, error))
            continue
        is_dir = stat.S_ISDIR(path_stat.st_mode)
        if line.path and hides(root, line.path, is_dir):
            continue
        if is_dir and not (options.preserve.recursive or options.preserve.dirs):
            path = os.path.join(root, line.path)
            problems.append(Problem(path, ProblemKind.SKIPPED, Op.NONE, Side.SRC, 0))
            continue
        listed = roots.setdefault(root, Listed(root))
        listed.add(line.path, is_open=line.is_open, is_dir=is_dir)
        listed.with_root |= line.with_root
        if is_dir and line.is_open and not options.preserve.recursive:
            problems += listed.add_content(line.path)
    return list(roots.values()), problems


def _stat(root: bytes, line: _Line, options: SyncOptions) -> os.stat_result:
    """Look at an entry: through a link where the options say so, or a slash behind a directory."""
    path = os.path.join(root, line.path)
    if not line.path or options.links.copy_links:
        return os.stat(path)
    if (line.is_open or options.links.copy_dirlinks) and os.path.isdir(path):
        return os.stat(path)
    return os.lstat(path)


def _failed(path: bytes, op: Op, error: OSError) -> Problem:
    return Problem(path, ProblemKind.FAILED, op, Side.SRC, error.errno or 0)
