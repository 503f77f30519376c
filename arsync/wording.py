"""Say in words what happened to a file: each operation's verb, each warning, what to do.

Owns the sentences. It must not know where they are printed, nor how many there are.
Form: what failed first, the subject quoted, errno's text, then what to do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from arsync.errors import describe, quoted
from arsync.figures import counted
from arsync.model import Failure, Op, Problem, ProblemKind, RunWarning, Side, WarningKind

__all__ = [
    "VERBS",
    "WARNING_TEXTS",
    "advice_for",
    "failure_text",
    "joined",
    "problem_text",
    "sentence",
    "vanished_text",
    "warning_kind",
    "warning_text",
]

VERBS: Final[Mapping[Op, str]] = MappingProxyType(
    {
        Op.NONE: "copy",
        Op.OPEN_FILE: "open",
        Op.OPEN_DIR: "open the directory",
        Op.READ_DIR: "read the directory",
        Op.STAT: "stat",
        Op.READLINK: "read the symlink",
        Op.LIST_XATTR: "list the extended attributes of",
        Op.GET_XATTR: "read the extended attributes of",
        Op.READ: "read",
        Op.SEEK: "find the holes of",
        Op.CREATE: "create a temporary file for",
        Op.WRITE: "write",
        Op.TRUNCATE: "set the size of",
        Op.ALLOCATE: "allocate space for",
        Op.REFLINK: "reflink",
        Op.COPY_RANGE: "copy",
        Op.SPLICE: "splice",
        Op.CHOWN: "set the owner of",
        Op.CHMOD: "set the mode of",
        Op.UTIMES: "set the times of",
        Op.SET_XATTR: "set the extended attributes of",
        Op.REMOVE_XATTR: "remove extended attributes of",
        Op.SET_ACL: "set the ACL of",
        Op.RENAME: "put the finished copy in place as",
        Op.LINK: "hard-link",
        Op.SYMLINK: "create the symlink",
        Op.MKNOD: "create the special file",
        Op.MKDIR: "create the directory",
        Op.UNLINK: "remove",
        Op.RMDIR: "remove the directory",
        Op.OPEN_TARGET: "open the destination's",
        Op.RING_SETUP: "set up io_uring for",
        Op.RING_SUBMIT: "pass to io_uring",
        Op.MEMORY: "get memory for",
        Op.BURY: "move to the trash",
        Op.SPOOL: "write the temporary list of",
        Op.BACKUP: "back up",
        Op.SYNC: "write back to the disk",
        Op.VERIFY: "find the recorded content in",
    }
)
"""What could not be done, to be followed by the name."""

_ADVICE: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EIO: "the medium may be failing, see dmesg",
        errno.ENOSPC: "make room and run the same command again",
        errno.EDQUOT: "make room within the quota and run the same command again",
        errno.EMFILE: "raise ulimit -n or lower --max-files-in-flight",
        errno.ENFILE: "lower --max-files-in-flight",
        errno.ENOMEM: "lower --max-memory or --cpu-count",
        errno.ESTALE: "the network filesystem lost the file, run the same command again",
    }
)
"""What to do, whatever the operation was."""

_DST_ADVICE: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EPERM: "an immutable or append-only file cannot be changed, see lsattr",
        errno.EROFS: "the destination is mounted read-only",
        errno.EFBIG: "the destination's filesystem, or ulimit -f, allows no file of that size",
        errno.ENAMETOOLONG: "the destination's filesystem holds no name of that length",
        errno.ETXTBSY: "a program is running from it, leave out --inplace",
        errno.ENOTEMPTY: "the directory is not empty, move it away first",
        errno.EBUSY: "something is mounted there or uses it",
    }
)

_DECAY_ADVICE: Final = (
    "nobody has written to it since, and DST has it still: restore it, or see --accept-source"
)

_REFLINK_ADVICE: Final = "--reflink=auto copies what cannot be cloned"

_HOLDERS: Final[Mapping[Op, WarningKind]] = MappingProxyType(
    {
        Op.LIST_XATTR: WarningKind.NO_XATTRS,
        Op.GET_XATTR: WarningKind.NO_XATTRS,
        Op.SET_XATTR: WarningKind.NO_XATTRS,
        Op.REMOVE_XATTR: WarningKind.NO_XATTRS,
        Op.SET_ACL: WarningKind.NO_ACLS,
        Op.CHOWN: WarningKind.NO_OWNERS,
        Op.CHMOD: WarningKind.NO_MODES,
        Op.UTIMES: WarningKind.NO_TIMES,
        Op.SYMLINK: WarningKind.NO_SYMLINKS,
        Op.LINK: WarningKind.NO_HARD_LINKS,
        Op.MKNOD: WarningKind.NO_SPECIALS,
        Op.SEEK: WarningKind.NO_HOLES,
        Op.ALLOCATE: WarningKind.NO_HOLES,
        Op.REFLINK: WarningKind.NO_REFLINKS,
    }
)
"""What the destination cannot hold when this operation is refused."""

_KINDS: Final[Mapping[int, WarningKind]] = MappingProxyType(
    {
        ProblemKind.UNSTABLE: WarningKind.UNSTABLE,
        ProblemKind.SKIPPED: WarningKind.SKIPPED,
        ProblemKind.LOOP: WarningKind.LOOP,
        ProblemKind.UNSAFE: WarningKind.UNSAFE,
        ProblemKind.KEPT: WarningKind.KEPT,
        ProblemKind.CHANGED: WarningKind.CHANGED,
    }
)

WARNING_TEXTS: Final[Mapping[WarningKind, str]] = MappingProxyType(
    {
        WarningKind.NO_XATTRS: "the destination cannot hold some extended attributes",
        WarningKind.NO_ACLS: "the destination cannot hold some ACLs",
        WarningKind.NO_OWNERS: "the owner or group could not be set",
        WarningKind.NO_MODES: "the destination cannot hold some modes",
        WarningKind.NO_TIMES: "the destination cannot hold some times",
        WarningKind.NO_SYMLINKS: "the destination cannot hold symlinks",
        WarningKind.NO_HARD_LINKS: "the destination cannot hold some hard links",
        WarningKind.NO_SPECIALS: "the destination cannot hold some special files",
        WarningKind.NO_HOLES: "holes could not be kept",
        WarningKind.NO_REFLINKS: f"not cloned and not copied, {_REFLINK_ADVICE}",
        WarningKind.NOT_HELD: "the destination cannot hold everything",
        WarningKind.UNSTABLE: "changed while they were read, the last read was kept",
        WarningKind.SKIPPED: "left out, not of a type that is asked for"
        + ("" if os.geteuid() == 0 else " (device nodes need root)"),
        WarningKind.LOOP: "directories that contain themselves were not entered",
        WarningKind.UNSAFE: "symlinks that point out of the tree were left out",
        WarningKind.KEPT: "only DST has them, and they were not deleted",
        WarningKind.CHANGED: "changed since they were copied, and stay in the source",
    }
)
"""What each warning says before the number of its files."""


def failure_text(failure: Failure) -> str:
    """Return the sentence of a failure: `cannot open 'a/b': Permission denied`.

    The root as the user wrote it, where it is known, stands before the path.
    """
    advice = advice_for(failure)
    return f"{sentence(failure)}; {advice}" if advice else sentence(failure)


def sentence(failure: Failure) -> str:
    """Return the sentence of a failure without what to do."""
    return describe(VERBS[Op(failure.op)], joined(failure.root, failure.path), failure.errno)


def advice_for(failure: Failure) -> str:
    """Return what to do about a failure, empty where nothing can be said."""
    if failure.op == Op.REFLINK:
        return _REFLINK_ADVICE
    if failure.op == Op.VERIFY and failure.errno == errno.EBADMSG:
        return _DECAY_ADVICE
    if failure.op in (Op.RING_SETUP, Op.RING_SUBMIT):
        return "--engine=sync does without io_uring"
    if failure.side == Side.DST and failure.op == Op.OPEN_DIR and failure.errno == errno.EXDEV:
        return "a symlink there leads out of the destination: -K follows none that do"
    if failure.side == Side.DST and failure.errno in _DST_ADVICE:
        return _DST_ADVICE[failure.errno]
    return _ADVICE.get(failure.errno, "")


def vanished_text(path: bytes, root: bytes = b"") -> str:
    """Return the sentence of a file that went away before it was read."""
    return f"vanished before it was read: {quoted(joined(root, path))}"


def problem_text(problem: Problem, src: bytes = b"", dst: bytes = b"") -> str | None:
    """Return the sentence to print at once for a problem; None for what is summarised at the end.

    Args:
        src, dst: the roots as the user wrote them.
    """
    root = dst if problem.side == Side.DST else src
    if problem.kind == ProblemKind.VANISHED:
        return vanished_text(problem.path, root)
    if problem.kind != ProblemKind.FAILED:
        return None
    return failure_text(Failure(problem.path, problem.op, problem.errno, problem.side, root))


def warning_kind(problem: Problem) -> WarningKind:
    """Return under which kind a problem is summarised, one that is no failure and not vanished."""
    if problem.kind == ProblemKind.CANNOT_HOLD:
        return _HOLDERS.get(Op(problem.op), WarningKind.NOT_HELD)
    return _KINDS[problem.kind]


def warning_text(warning: RunWarning, level: int = 1) -> str:
    """Return the line of a warning: its kind, how many, the first of them and why.

    Args:
        level: of --human-readable.
    """
    entries = counted(warning.count, "entry", "entries", level=level)
    text = f"{WARNING_TEXTS[warning.kind]}: {entries}, "
    text += f"first {quoted(warning.first or b'.')}"
    return f"{text}: {os.strerror(warning.errno)}" if warning.errno else text


def joined(root: bytes, path: bytes) -> bytes:
    """Return root and path as one path to show; a single dot for nothing at all.

    What is below the current directory is shown as people write it: `a`, not `./a`.
    """
    if not path:
        return root or b"."
    if root in (b"", b"."):
        return path
    return root + path if root.endswith(b"/") else root + b"/" + path
