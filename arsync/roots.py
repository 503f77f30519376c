"""Find out what the operands mean: which roots, where the walk starts, what must be refused.

Owns rsync's rules about trailing slashes, files as operands and destinations that are not there
yet, and the refusal of a copy into itself. It looks at the operands only and changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from arsync.errors import FileError, SelectionError, UsageError, describe, quoted
from arsync.filelist import Listed, find_listed
from arsync.filters import Filters, absolute_root, check
from arsync.model import Op, Problem, ProblemKind, Side
from arsync.mounts import walk_would_enter
from arsync.options import SyncOptions
from arsync.scan import Chain, Named, Start, Whole
from arsync.uring.selection import Matcher

__all__ = ["Target", "Transfer", "resolve"]


@dataclass(frozen=True)
class Transfer:
    """Hold one source root and where the walk of it starts.

    Args:
        root: a directory.
        starts: below it.
    """

    root: bytes
    starts: tuple[Start, ...]

    @property
    def paths(self) -> frozenset[bytes] | None:
        """Return what is copied, below the root, links that lead on with a slash; None for all."""
        paths: set[bytes] = set()
        for start in self.starts:
            if isinstance(start, Whole):
                return None
            named = start.end if isinstance(start, Chain) else start
            end = b"/" if named.follow else b""
            paths.update(os.path.join(named.path, name) + end for name in named.names)
        return frozenset(paths)

    @property
    def gives_root(self) -> bool:
        """Tell whether the destination's root gets attributes, too."""
        return any(_gives_root(start) for start in self.starts)

    def and_root(self) -> Transfer:
        """Return the same with the root, which adding names to it would give another time."""
        first = self.starts[0]
        if isinstance(first, Named):
            first = replace(first, with_own=True)
        elif isinstance(first, Chain):
            first = replace(first, with_root=True)
        return Transfer(self.root, (first, *self.starts[1:]))

    @property
    def operand(self) -> bytes:
        """Return what people know it by: its only name below the root, or the root."""
        paths = self.paths
        return os.path.join(self.root, *paths) if paths and len(paths) == 1 else self.root

    @property
    def start_count(self) -> int:
        """Count the entries that it starts with."""
        return sum(
            len(start.above) + 1
            if isinstance(start, Chain)
            else len(start.names)
            if isinstance(start, Named)
            else 1
            for start in self.starts
        )

    def may_meet(self, other: Transfer) -> bool:
        """Tell whether both may hold an entry of one name, or give the root its attributes."""
        mine, theirs = self.paths, other.paths
        if mine is None or theirs is None or (self.gives_root and other.gives_root):
            return True
        return not _tops(mine).isdisjoint(_tops(theirs))


def _gives_root(start: Start) -> bool:
    if isinstance(start, Whole):
        return True
    return start.with_root if isinstance(start, Chain) else start.with_own


def _tops(paths: Iterable[bytes]) -> set[bytes]:
    return {path.partition(b"/")[0] for path in paths}


@dataclass(frozen=True)
class Target:
    """Hold the destination.

    Args:
        root: the directory that everything goes below.
        missing: it is not there yet and is to be made.
    """

    root: bytes
    missing: bool


@dataclass(frozen=True)
class _Source:
    """Hold one SRC as it was found: its root, and its path below that in components."""

    operand: bytes
    root: bytes
    names: tuple[bytes, ...]
    is_dir: bool
    with_root: bool = False

    @property
    def is_whole(self) -> bool:
        """Tell whether its content is meant, not itself."""
        return not self.names


def resolve(
    sources: Sequence[bytes], dst: bytes, options: SyncOptions
) -> tuple[list[Transfer], Target, list[Problem]]:
    """Turn operands into roots.

    Args:
        sources: SRC operands as given; a trailing slash means the content of a directory.
        dst: the DST operand.
    Returns: transfers in the order given, with neighbours of one directory joined; the
        destination; and a problem for each SRC that is not there, or that is a directory where
        the options ask for none.
    Raises: SelectionError where SRC and DST cannot be used together, and where the parent of a
        single file's new name is missing; FileError where that of a directory is; UsageError for
        operands that are missing or empty, and for a path that -R cannot take.
    Source: rsync(1), "USAGE" and --relative.
    """
    if not sources:
        raise UsageError("no SRC is given")
    if not all((*sources, dst)):
        raise UsageError("an operand is empty: '.' is this directory")
    if options.files_from is not None:
        return _resolve_list(sources, options.files_from, dst, options)
    found: list[_Source] = []
    problems: list[Problem] = []
    for operand in sources:
        one = _find(operand, options)
        if isinstance(one, Problem):
            problems.append(one)
        else:
            found.append(one)
    if not found:
        return [], Target(dst, missing=False), problems
    target, alias = _find_target(found, len(sources), dst, options)
    for one in found:
        _refuse_copy_into_itself(one, target, alias, options)
    if options.relative and options.filters:
        found = [one for one in found if not _is_hidden(one, options.filters)]
    return _join(found, alias, recursive=options.preserve.recursive), target, problems


def _resolve_list(
    sources: Sequence[bytes], lines: Sequence[bytes], dst: bytes, options: SyncOptions
) -> tuple[list[Transfer], Target, list[Problem]]:
    """Turn the lines of --files-from into roots; with -R, which it implies, by directories."""
    if len(sources) != 1:
        raise UsageError("--files-from takes one SRC and one DST")
    (src,) = sources
    _must_be_directory(src)
    if not options.relative:
        operands = [os.path.join(src, line) for line in lines]
        if not operands:
            return [], Target(dst, missing=False), []
        return resolve(operands, dst, replace(options, files_from=None))
    found, problems = find_listed(src, lines, options, _Hidden(options.filters))
    if not found:
        return [], Target(dst, missing=False), problems
    only = found[0].only_file if len(found) == 1 else None
    alone = _Source(src, found[0].root, (only,) if only else (), is_dir=not only)
    target, alias = _find_target([alone], 1 if only else 2, dst, options)
    recursive = options.preserve.recursive
    for one in found:
        _refuse_list_into_itself(one, target, alias, options)
    transfers = [Transfer(one.root, one.starts(recursive=recursive)) for one in found]
    if only and alias is not None:
        transfers = [Transfer(alone.root, (Named(b"", (only,), alias),))]
    return transfers, target, problems


def _must_be_directory(src: bytes) -> None:
    try:
        path_stat = os.stat(src)
        if not stat.S_ISDIR(path_stat.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise SelectionError(describe("open the directory", src, error.errno or 0)) from None


class _Hidden:
    """Tell what filter rules leave out of a list."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._matchers: dict[bytes, Matcher] = {}

    def __call__(self, root: bytes, path: bytes, is_dir: bool) -> bool:
        if not self._filters:
            return False
        if root not in self._matchers:
            self._matchers[root] = Matcher(self._filters.entries, root)
        return self._matchers[root].check(path, is_dir=is_dir) is False


# ------------------------------------------------------------------------- SRC


def _find(operand: bytes, options: SyncOptions) -> _Source | Problem:
    try:
        followed = _names_content(operand) or options.links.copy_links
        followed |= options.links.copy_dirlinks and os.path.isdir(operand)
        path_stat = os.stat(operand) if followed else os.lstat(operand)
        if _names_content(operand) and not stat.S_ISDIR(path_stat.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        number = error.errno or errno.EIO
        return Problem(operand, ProblemKind.FAILED, Op.STAT, Side.SRC, number)
    is_dir = stat.S_ISDIR(path_stat.st_mode)
    if is_dir and not (options.preserve.recursive or options.preserve.dirs):
        return Problem(operand, ProblemKind.SKIPPED, Op.NONE, Side.SRC, 0)
    if options.relative:
        root, names = _split_relative(operand)
        # rsync takes the dot of ./a for a directory on the way
        return _Source(operand, root, names, is_dir, with_root=operand.startswith(b"./"))
    if _names_content(operand):
        return _Source(operand, operand, (), is_dir)
    parent, name = os.path.split(operand)
    return _Source(operand, parent or b".", (name,), is_dir)


def _names_content(operand: bytes) -> bool:
    """Tell whether an operand means what is in a directory: `d/`, `.`, `..`."""
    return os.path.basename(operand) in (b"", b".", b"..")


def _split_relative(operand: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Split a -R operand at its first /./ or where its path begins."""
    head, mark, tail = operand.partition(b"/./")
    if mark:
        root, path = head or b"/.", tail  # not /, which names would begin with
    else:
        root, path = (b"/" if operand.startswith(b"/") else b"."), operand
    names = tuple(name for name in path.split(b"/") if name not in (b"", b"."))
    if b".." in names:
        raise UsageError(f"--relative cannot take a path with '..' in it: {quoted(operand)}")
    return root, names


# ------------------------------------------------------------------------- DST


def _find_target(
    found: Sequence[_Source], operand_count: int, dst: bytes, options: SyncOptions
) -> tuple[Target, bytes | None]:
    """Return the destination, and the new name when a single file is copied to a name."""
    only = found[0] if operand_count == 1 else None
    # with -R directories on the way make a tree of it
    as_file = only is not None and not only.is_dir and len(only.names) == 1 and not only.with_root
    try:
        dst_stat = os.stat(dst)
    except FileNotFoundError:
        return _find_missing(as_file, dst, options)
    except OSError as error:
        number = error.errno or 0
        if options.write.mkpath and not os.path.lexists(dst):
            raise FileError(describe("make the destination", dst, number)) from None
        raise SelectionError(describe("use the destination", dst, number)) from None
    if stat.S_ISDIR(dst_stat.st_mode):
        return Target(dst, missing=False), None
    if as_file and not dst.endswith(b"/"):
        parent, name = os.path.split(dst)
        return Target(parent or b".", missing=False), name
    raise SelectionError(f"the destination {quoted(dst)} is not a directory")


def _find_missing(as_file: bool, dst: bytes, options: SyncOptions) -> tuple[Target, bytes | None]:
    parent, name = os.path.split(dst.rstrip(b"/"))
    parent = parent or b"."
    if not os.path.isdir(parent) and not options.write.mkpath:
        reason = describe("make the destination", dst, errno.ENOENT)
        kind = SelectionError if as_file and not dst.endswith(b"/") else FileError  # as in rsync
        raise kind(f"{reason} (its parent {quoted(parent)} is not there: --mkpath makes it)")
    if as_file and not dst.endswith(b"/"):
        return Target(parent, missing=not os.path.isdir(parent)), name
    return Target(dst, missing=True), None


# -------------------------------------------------------------------- refusals


def _refuse_copy_into_itself(
    source: _Source, target: Target, alias: bytes | None, options: SyncOptions
) -> None:
    """Refuse SRC == DST, and a DST that the walk of SRC would come to.

    A single file onto itself is refused as well: its copy would replace what is being read.
    """
    origin = os.path.join(source.root, *source.names)
    last = alias if alias is not None else (source.names[-1] if source.names else b"")
    place = os.path.join(
        target.root, *(source.names if options.relative and alias is None else (last,))
    )
    if _same_file(origin, place.rstrip(b"/") or b"/"):
        raise SelectionError(
            f"SRC and DST are the same: {quoted(source.operand)} would be copied onto itself"
        )
    if source.is_dir and options.preserve.recursive:
        _refuse_inside(origin, source.operand, target, options)


def _refuse_list_into_itself(
    listed: Listed, target: Target, alias: bytes | None, options: SyncOptions
) -> None:
    if alias is None and _same_file(listed.root, target.root):
        raise SelectionError(
            f"SRC and DST are the same: {quoted(listed.root)} would be copied onto itself"
        )
    if listed.only_file and alias is not None:
        source = _Source(listed.only_file, listed.root, (listed.only_file,), is_dir=False)
        _refuse_copy_into_itself(source, target, alias, options)
    one_file_system = options.one_file_system > 0
    if not options.preserve.recursive or not walk_would_enter(
        listed.root, target.root, one_file_system=one_file_system
    ):
        return
    for path in [b""] if listed.whole else sorted(listed.dirs):
        _refuse_inside(os.path.join(listed.root, path), path or listed.root, target, options)


def _refuse_inside(origin: bytes, operand: bytes, target: Target, options: SyncOptions) -> None:
    stays = options.one_file_system > 0
    if walk_would_enter(origin, target.root, one_file_system=stays):
        helps = not stays and not walk_would_enter(origin, target.root, one_file_system=True)
        hint = " (-x keeps out of other filesystems)" if helps else ""
        raise SelectionError(
            f"DST {quoted(target.root)} is inside SRC {quoted(operand)}: "
            f"the copy would contain itself{hint}"
        )


def _same_file(one: bytes, other: bytes) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other)) or (
            os.path.isdir(one) and os.path.samefile(one, other)
        )
    except OSError:
        return False


# ------------------------------------------------------------------- transfers


def _is_hidden(source: _Source, filters: Filters) -> bool:
    """Tell whether a rule leaves out what -R names; the directories on the way are not made then.

    The scan finds that out by itself, but only after it has made them.
    """
    path = b"/".join(source.names)
    root = absolute_root(source.root)
    found = check(filters.entries, root, path, is_dir=source.is_dir) if path else None
    return found is False


def _join(found: Sequence[_Source], alias: bytes | None, *, recursive: bool) -> list[Transfer]:
    """Make transfers; names of one directory that follow each other share a root."""
    transfers: list[Transfer] = []
    for index, source in enumerate(found):
        if recursive and _is_covered(source, found[:index], found[index + 1 :]):
            continue
        start = _start(source, alias)
        last = transfers[-1] if transfers else None
        if last and last.root == source.root and not source.is_whole:
            transfers[-1] = Transfer(last.root, _add_start(last.starts, start))
        else:
            transfers.append(Transfer(source.root, (start,)))
    return _keep_root(transfers)


def _keep_root(transfers: Sequence[Transfer]) -> list[Transfer]:
    """Have the root finished again where names come into it after it got its attributes."""
    kept: list[Transfer] = []
    for transfer in transfers:
        is_given = any(other.gives_root for other in kept)
        kept.append(transfer.and_root() if is_given else transfer)
    return kept


def _is_covered(source: _Source, before: Sequence[_Source], after: Sequence[_Source]) -> bool:
    """Tell whether the walk of another source of the same root comes to this one.

    Of one name twice the first counts, but a directory rather than a symlink to it.
    """
    return any(
        _comes_to(other, source) and (other in before or not _comes_to(source, other))
        for other in (*before, *after)
        if other.root == source.root and not other.is_whole
    )


def _comes_to(walked: _Source, other: _Source) -> bool:
    """Tell whether the walk of one makes the other at the destination, or what replaces it."""
    depth = min(len(walked.names), len(other.names))
    if walked.names[:depth] != other.names[:depth]:
        return False
    if len(walked.names) > depth:  # the other may be a symlink that its path leads through
        return not other.is_dir
    return walked.is_dir or (walked.names == other.names and not other.is_dir)


def _start(source: _Source, alias: bytes | None) -> Start:
    if source.is_whole:
        return Whole()
    above, name = source.names[:-1], source.names[-1]
    # without -R the content of a directory is a root of its own
    follow = _names_content(source.operand)
    if not above:
        return Named(b"", (name,), alias, with_own=source.with_root, follow=follow)
    return Chain(above, Named(b"/".join(above), (name,), alias, follow=follow), source.with_root)


_NAMES_AT_ONCE: Final = 100_000


def _add_start(starts: tuple[Start, ...], start: Start) -> tuple[Start, ...]:
    last = starts[-1]
    if not (isinstance(last, Named) and isinstance(start, Named) and last.path == start.path):
        return (*starts, start)
    if last.follow or start.follow:
        return (*starts, start)
    if len(last.names) >= _NAMES_AT_ONCE:
        return (*starts, start)
    own = last.with_own or start.with_own
    return (*starts[:-1], replace(last, names=last.names + start.names, with_own=own))
