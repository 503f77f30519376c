"""The frozen values that flow between the stages and out to whoever reads them.

Owns the Python names of the numbers in `arsync.h` (a test holds the two equal) and the types that
leave a batch: changes, problems, counts, progress, the report. It does no I/O and knows neither
cffi nor how anything is worded.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple

__all__ = [
    "COPY_PHASE",
    "Change",
    "ChangeFlag",
    "Counts",
    "Failure",
    "Keep",
    "Kind",
    "Method",
    "MethodUse",
    "Op",
    "PageFlag",
    "PhaseTime",
    "Problem",
    "ProblemKind",
    "Progress",
    "Report",
    "RunWarning",
    "Side",
    "Stat",
    "State",
    "WarningKind",
    "Why",
    "count_found",
    "sum_tallies",
]


class Kind(enum.IntEnum):
    """Say what is done for an entry (AR_CHANGE_*)."""

    DATA = 1
    META = 2
    SYMLINK = 3
    SPECIAL = 4
    LINK = 5
    DIR = 6
    CHECK = 7
    NONE = 8
    DELETE = 9
    REMOVE = 10
    MOVE = 11


class Why(enum.IntFlag):
    """Say why it is done (AR_WHY_*)."""

    NEW = 1
    TYPE = 2
    SIZE = 4
    MTIME = 8
    MODE = 16
    UID = 32
    GID = 64
    ATIME = 128
    XATTR = 256
    ACL = 512
    TARGET = 1024
    LINK = 2048
    CONTENT = 4096
    CHECKSUM = 8192
    CTIME = 16384
    INODE = 32768
    NEWER = 65536
    EXISTS = 131072
    RACY = 262144
    EXTRA = 524288
    LARGE = 1048576
    SMALL = 2097152
    COPIED = 4194304
    MOVED = 8388608


class Keep(enum.IntFlag):
    """Say what of an entry is kept (AR_KEEP_*, and what modifies it)."""

    PERMS = 1
    OWNER = 2
    GROUP = 4
    TIMES = 8
    LINKS = 16
    DEVICES = 32
    SPECIALS = 64
    ACLS = 256
    XATTRS = 512
    ATIMES = 1024
    DIRS = 2048
    OMIT_DIR_TIMES = 4096
    OMIT_LINK_TIMES = 8192


class State(enum.IntEnum):
    """Say how far a change is (AR_STATE_*)."""

    PLANNED = 0
    LATER = 1
    DONE = 2
    FAILED = 3
    SKIPPED = 4
    BIG = 5


class Method(enum.IntEnum):
    """Say what moved the content (AR_METHOD_*)."""

    NONE = 0
    REFLINK = 1
    COPY_RANGE = 2
    SPLICE = 3
    READ_WRITE = 4
    DIRECT = 5


class ChangeFlag(enum.IntFlag):
    """Say what else is known of a change (the AR_CHANGE_* flags)."""

    HASHED = 1
    UNSTABLE = 2
    LEADER = 4
    KNOWS_SRC = 8
    KNOWS_DST = 16
    BACKED_UP = 32
    EXPECTS = 64
    PARTLY = 128


class PageFlag(enum.IntFlag):
    """Say where in its directory a recorded page stands, and if both sides agreed (AR_RECORD_*)."""

    FIRST = 1
    LAST = 2
    CONVERGED = 4


class ProblemKind(enum.IntEnum):
    """Say how bad a problem is (AR_PROBLEM_*)."""

    FAILED = 1
    VANISHED = 2
    CANNOT_HOLD = 3
    UNSTABLE = 4
    SKIPPED = 5
    LOOP = 6
    UNSAFE = 7
    KEPT = 8
    CHANGED = 9


class Side(enum.IntEnum):
    """Say in which of the two trees something failed."""

    SRC = 0
    DST = 1


class Op(enum.IntEnum):
    """Name the operation that failed (AR_OP_*)."""

    NONE = 0
    OPEN_FILE = 1
    OPEN_DIR = 2
    READ_DIR = 3
    STAT = 4
    READLINK = 5
    LIST_XATTR = 6
    GET_XATTR = 7
    READ = 8
    SEEK = 9
    CREATE = 10
    WRITE = 11
    TRUNCATE = 12
    ALLOCATE = 13
    REFLINK = 14
    COPY_RANGE = 15
    SPLICE = 16
    CHOWN = 17
    CHMOD = 18
    UTIMES = 19
    SET_XATTR = 20
    REMOVE_XATTR = 21
    SET_ACL = 22
    RENAME = 23
    LINK = 24
    SYMLINK = 25
    MKNOD = 26
    MKDIR = 27
    UNLINK = 28
    RMDIR = 29
    OPEN_TARGET = 30
    RING_SETUP = 31
    RING_SUBMIT = 32
    MEMORY = 33
    SPOOL = 34
    BACKUP = 35
    SYNC = 36
    BURY = 37
    VERIFY = 38


class Stat(NamedTuple):
    """Hold what was seen of an entry on one side."""

    mode: int
    uid: int
    gid: int
    size: int
    ino: int
    mtime_ns: int
    ctime_ns: int


class Change(NamedTuple):
    """Hold one changed entry, for those who print names; only then is one made for each.

    Args:
        path: below the source root, without a slash at either end; empty for the root. For
            Kind.DELETE it is below the destination's, and all that follows is of that entry.
        kind, why, state, method, flags: numbers of the enumerations above.
        mode: st_mode of the source, type bits included.
        link: target of a symlink; for Kind.LINK the first name's path below the root, with
            Why.MOVED the old one; else empty.
        size: of the source's file, or a symlink's length.
        done_bytes: of content written or shared; 0 until State.DONE.
        hash: XXH3-128 in canonical byte order; empty unless ChangeFlag.HASHED.
        src, dst: what was seen of it on each side, None where nothing is; both None unless asked
            for.
    """

    path: bytes
    kind: int
    why: int = 0
    state: int = State.DONE
    method: int = Method.NONE
    flags: int = 0
    mode: int = 0o100644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_s: int = 0
    mtime_n: int = 0
    link: bytes = b""
    done_bytes: int = 0
    hash: bytes = b""
    src: Stat | None = None
    dst: Stat | None = None


class Problem(NamedTuple):
    """Hold one trouble of one entry as it comes out of a batch.

    Args:
        path: below the root of its side.
        errno: positive; 0 where no call failed.
    """

    path: bytes
    kind: int
    op: int
    side: int
    errno: int


class Failure(NamedTuple):
    """Hold one entry that was not transferred.

    Args:
        path: below the root.
        op: number of an Op.
        errno: positive.
        side: number of a Side.
        root: the root of that side as the user wrote it; empty where nobody said.
    """

    path: bytes
    op: int
    errno: int
    side: int
    root: bytes = b""


class WarningKind(enum.Enum):
    """Name what is told once for all the files it happens to."""

    NO_XATTRS = "no_xattrs"
    NO_ACLS = "no_acls"
    NO_OWNERS = "no_owners"
    NO_MODES = "no_modes"
    NO_TIMES = "no_times"
    NO_SYMLINKS = "no_symlinks"
    NO_HARD_LINKS = "no_hard_links"
    NO_SPECIALS = "no_specials"
    NO_HOLES = "no_holes"
    NO_REFLINKS = "no_reflinks"
    NOT_HELD = "not_held"
    UNSTABLE = "unstable"
    SKIPPED = "skipped"
    LOOP = "loop"
    UNSAFE = "unsafe"
    KEPT = "kept"
    CHANGED = "changed"


@dataclass(frozen=True)
class RunWarning:
    """Hold a summarised warning: how often, and where first.

    Args:
        first: path below the root of its side.
        errno: of the first one; 0 where no call failed.
    """

    kind: WarningKind
    count: int
    first: bytes
    errno: int = 0


class MethodUse(NamedTuple):
    """Hold how many files, and bytes of them, one method moved."""

    method: Method
    files: int
    bytes: int


class PhaseTime(NamedTuple):
    """Hold how long one phase of a run took; phases overlap."""

    name: str
    seconds: float


_NO_METHODS: Final = (0,) * len(Method)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Hold the sums of all tallies; each field is the field of `struct ar_tally` of its name."""

    found_files: int = 0
    found_dirs: int = 0
    found_symlinks: int = 0
    found_devices: int = 0
    found_specials: int = 0
    found_bytes: int = 0
    found_dst: int = 0
    plan_files: int = 0
    plan_bytes: int = 0
    plan_metas: int = 0
    plan_checks: int = 0
    plan_check_bytes: int = 0
    plan_moves: int = 0
    plan_clones: int = 0
    new_files: int = 0
    new_dirs: int = 0
    new_symlinks: int = 0
    new_devices: int = 0
    new_specials: int = 0
    extra_files: int = 0
    extra_dirs: int = 0
    extra_symlinks: int = 0
    extra_devices: int = 0
    extra_specials: int = 0
    done_files: int = 0
    done_dirs: int = 0
    done_symlinks: int = 0
    done_specials: int = 0
    done_links: int = 0
    done_metas: int = 0
    done_moves: int = 0
    done_clones: int = 0
    checked_files: int = 0
    checked_bytes: int = 0
    deleted_files: int = 0
    deleted_dirs: int = 0
    deleted_symlinks: int = 0
    deleted_devices: int = 0
    deleted_specials: int = 0
    done_bytes: int = 0
    hole_bytes: int = 0
    matched_bytes: int = 0
    moved_bytes: int = 0
    in_flight: int = 0
    retries: int = 0
    rereads: int = 0
    failed: int = 0
    punted: int = 0
    method_files: tuple[int, ...] = _NO_METHODS
    method_bytes: tuple[int, ...] = _NO_METHODS

    @property
    def found(self) -> int:
        """Count the entries of every type in the source."""
        return count_found(self)

    @property
    def extra(self) -> int:
        """Count what only the destination has and can be deleted, once all of it is known."""
        return sum(getattr(self, f"extra_{kind}") for kind in _TYPES)

    @property
    def deleted(self) -> int:
        """Count the entries of every type that were deleted."""
        return sum(getattr(self, f"deleted_{kind}") for kind in _TYPES)


_TYPES: Final = ("files", "dirs", "symlinks", "devices", "specials")
_FOUND: Final = ("found_files", "found_dirs", "found_symlinks", "found_devices", "found_specials")
_ARRAYS: Final = ("method_files", "method_bytes")
_NUMBERS: Final = tuple(one.name for one in fields(Counts) if one.name not in _ARRAYS)


def count_found(tally: object) -> int:
    """Count the entries of every type that a tally has found in the source.

    Args:
        tally: cffi's `struct ar_tally`, or Counts.
    """
    return sum(getattr(tally, name) for name in _FOUND)


def sum_tallies(tallies: Iterable[object]) -> Counts:
    """Add up tallies: those of scan and diff, and those of the lanes.

    Args:
        tallies: cffi's `struct ar_tally` (or pointers to it), or Counts. A lane may be writing its
            own while it is read: each number is one that was true.
    """
    totals = dict.fromkeys(_NUMBERS, 0)
    arrays = {name: [0] * len(Method) for name in _ARRAYS}
    for tally in tallies:
        for name in _NUMBERS:
            totals[name] += getattr(tally, name)
        for name, sums in arrays.items():
            values = getattr(tally, name)
            for index in range(len(sums)):
                sums[index] += values[index]
    return Counts(
        **totals,
        method_files=tuple(arrays["method_files"]),
        method_bytes=tuple(arrays["method_bytes"]),
    )


COPY_PHASE: Final = "walk and copy"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Hold one moment of a run.

    Args:
        counts: the sums at that moment.
        settled: how many of the entries found need nothing more but attributes of directories.
        elapsed_s: since the run began.
        exact: the walk is complete, so what is planned is all there will be.
        phase: what the run is at, a few words; COPY_PHASE for most of it.
    """

    counts: Counts = field(default_factory=Counts)
    settled: int = 0
    elapsed_s: float = 0.0
    exact: bool = False
    phase: str = COPY_PHASE


@dataclass(frozen=True, kw_only=True)
class Report:
    """Hold the result of a sync.

    Args:
        counts: the final sums.
        elapsed_s: of the whole run.
        phases: time of each phase, in order; they overlap.
        engine: "uring" or "sync".
        engine_note: why it is not the other one, where that needs saying; else empty.
        manifest_note: why nothing is remembered of this run, or why it does not trust the
            destination, where that needs saying; else empty.
        lanes: threads that copied.
        failures: the first of them, at most report.KEPT_FAILURES.
        failure_count: all of them.
        vanished: paths of source entries that went away before they were read, bounded likewise.
        vanished_count: all of them.
        warnings: one a kind, in the order in which they first appeared.
        kept_back: why extras were found and none of them was deleted, as a sentence; else empty.
        stopped: the error that ended the run early, as a sentence; else empty.
        stopped_code: its exit code; 0 where nothing did.
        interrupted: a signal ended the run.
        dry_run: nothing was changed; planned numbers stand for what a run would do.
    """

    counts: Counts = field(default_factory=Counts)
    elapsed_s: float = 0.0
    phases: tuple[PhaseTime, ...] = ()
    engine: str = "sync"
    engine_note: str = ""
    manifest_note: str = ""
    lanes: int = 1
    failures: tuple[Failure, ...] = ()
    failure_count: int = 0
    vanished: tuple[bytes, ...] = ()
    vanished_count: int = 0
    warnings: tuple[RunWarning, ...] = ()
    kept_back: str = ""
    stopped: str = ""
    stopped_code: int = 0
    interrupted: bool = False
    dry_run: bool = False

    @property
    def copied_files(self) -> int:
        """Count the regular files copied, or to be copied in a dry run."""
        return self.counts.plan_files if self.dry_run else self.counts.done_files

    @property
    def copied_bytes(self) -> int:
        """Count the bytes of their content; of files copied, holes left out."""
        return self.counts.plan_bytes if self.dry_run else self.counts.done_bytes

    @property
    def renames(self) -> int:
        """Count what was renamed at the destination, or would be in a dry run."""
        return self.counts.plan_moves if self.dry_run else self.counts.done_moves

    @property
    def clones(self) -> int:
        """Count what shares the blocks of an old name that stays, or would in a dry run."""
        return self.counts.plan_clones if self.dry_run else self.counts.done_clones

    @property
    def bytes_per_s(self) -> float:
        """Return the rate of content over the whole run."""
        return self.copied_bytes / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def methods(self) -> tuple[MethodUse, ...]:
        """Return what moved the content, the method of most bytes first."""
        uses = [
            MethodUse(method, self.counts.method_files[method], self.counts.method_bytes[method])
            for method in Method
            if self.counts.method_files[method]
        ]
        return tuple(sorted(uses, key=lambda use: (-use.bytes, -use.files)))

    @property
    def exit_code(self) -> int:
        """Return rsync's exit code: 20, the code of what stopped it, 23, 24, 25, or 0.

        What cannot be held counts as not transferred, as rsync has it; an unstable file, one that
        the options leave out, an unsafe link and an extra that had to stay do not.
        """
        if self.interrupted:
            return 20
        if self.stopped_code:
            return self.stopped_code
        if self.failure_count or any(one.kind in _PARTIAL for one in self.warnings):
            return 23
        if self.vanished_count:
            return 24
        return 25 if self.kept_back else 0


_PARTIAL: Final = frozenset(WarningKind) - {
    WarningKind.NO_HOLES,
    WarningKind.UNSTABLE,
    WarningKind.SKIPPED,
    WarningKind.UNSAFE,
    WarningKind.KEPT,
}
"""The warnings that make a transfer partial."""
