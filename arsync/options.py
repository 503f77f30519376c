"""What a run is asked to do, as frozen values that are validated once.

Owns every setting that a stage reads, with its default and its range. It must not know the
command line (cli/ folds options into these) nor look at the filesystem. Nothing is clamped
silently: a value out of range raises UsageError with the option's name and the range.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

from arsync.errors import UsageError
from arsync.filters import Filters
from arsync.modes import ModeRule
from arsync.owners import IdMap

__all__ = [
    "ARCHIVE",
    "CopyMethod",
    "DeletePolicy",
    "DeleteTime",
    "Engine",
    "EngineOptions",
    "LinkPolicy",
    "ManifestPolicy",
    "OutputOptions",
    "OwnerPolicy",
    "Preserve",
    "ReflinkPolicy",
    "SyncOptions",
    "UpdatePolicy",
    "WritePolicy",
]

Engine = Literal["auto", "uring", "sync"]
CopyMethod = Literal["auto", "reflink", "copy_file_range", "splice", "read_write", "direct"]
ReflinkPolicy = Literal["auto", "always", "never"]
DeleteTime = Literal["never", "before", "after"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
LARGEST_SIZE: Final = 2**63 - 1

RANGES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "cpu_count": (1, 1024),
        "queue_depth": (1, 32768),
        "files_in_flight": (1, 65536),
        "buffer_bytes": (4 * KIB, GIB),
        "memory_bytes": (16 * MIB, 1024 * GIB),
        "scan_threads": (1, 256),
        "one_file_system": (0, 2),
        "bwlimit_bytes": (0, 2**63 - 1),
        "modify_window": (-1, 2**31 - 1),
        "min_size": (0, LARGEST_SIZE),
        "max_size": (0, LARGEST_SIZE),
        "max_delete": (0, 2**63 - 1),
        "max_percent": (0, 100),
        "human_readable": (0, 3),
        "itemize": (0, 2),
        "name_level": (0, 2),
        "progress_level": (0, 2),
        "skip_level": (0, 2),
        "stats_level": (0, 3),
    }
)
"""The lowest and highest value of each number, both included."""

OPTION_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cpu_count": "--cpu-count",
        "queue_depth": "--queue-depth",
        "files_in_flight": "--max-files-in-flight",
        "buffer_bytes": "--buffer-size",
        "memory_bytes": "--max-memory",
        "scan_threads": "--scan-threads",
        "one_file_system": "--one-file-system",
        "bwlimit_bytes": "--bwlimit",
        "modify_window": "--modify-window",
        "min_size": "--min-size",
        "max_size": "--max-size",
        "max_delete": "--max-delete",
        "max_percent": "--max-delete",
        "delete": "--delete",
        "human_readable": "--human-readable",
        "itemize": "--itemize-changes",
        "name_level": "--info=name",
        "progress_level": "--info=progress",
        "skip_level": "--info=skip",
        "stats_level": "--info=stats",
        "engine": "--engine",
        "copy_method": "--copy-method",
        "reflink": "--reflink",
    }
)
"""The option that sets a field, for messages."""


@dataclass(frozen=True, kw_only=True)
class Preserve:
    """Say what is copied and what is kept of it; rsync's options of the same names.

    Args:
        recursive: -r, and with it directories.
        dirs: -d, directories without what is in them.
        links, hard_links, devices, specials: -l, -H, --devices, --specials.
        perms, times, group, owner: -p, -t, -g, -o.
        acls, xattrs, atimes: -A, -X, -U.
        omit_dir_times, omit_link_times: -O, -J; they take directories or symlinks out of times.
    """

    recursive: bool = False
    dirs: bool = False
    links: bool = False
    perms: bool = False
    times: bool = False
    group: bool = False
    owner: bool = False
    devices: bool = False
    specials: bool = False
    hard_links: bool = False
    acls: bool = False
    xattrs: bool = False
    atimes: bool = False
    omit_dir_times: bool = False
    omit_link_times: bool = False


ARCHIVE: Final = Preserve(
    recursive=True,
    links=True,
    perms=True,
    times=True,
    group=True,
    owner=True,
    devices=True,
    specials=True,
)
"""What -a keeps."""


@dataclass(frozen=True, kw_only=True)
class LinkPolicy:
    """Say which symlinks are followed or left out.

    Args:
        copy_links: -L, every symlink of SRC is followed; supersedes the others on that side.
        copy_unsafe_links: symlinks that point out of the tree are followed.
        safe_links: symlinks that point out of the tree are left out; copy_unsafe_links supersedes.
        copy_dirlinks: -k, symlinks to directories are followed in SRC.
        keep_dirlinks: -K, a symlink in DST to a directory stands for the directory.
    """

    copy_links: bool = False
    copy_unsafe_links: bool = False
    safe_links: bool = False
    copy_dirlinks: bool = False
    keep_dirlinks: bool = False


@dataclass(frozen=True, kw_only=True)
class OwnerPolicy:
    """Say how owners and groups of SRC become those of DST.

    Args:
        numeric_ids: ids are compared and set as numbers (on one machine they always are).
        users, groups: None where nothing is mapped.
    """

    numeric_ids: bool = False
    users: IdMap | None = None
    groups: IdMap | None = None


@dataclass(frozen=True, kw_only=True)
class UpdatePolicy:
    """Say which entries that differ are brought up to date, and when two mtimes are equal.

    Args:
        update: -u, a file that is newer in DST stays.
        checksum: -c, files of equal size are read and compared; it is stronger than the next two.
        ignore_times: -I, files of equal size and mtime are copied too.
        size_only: files of equal size are equal; it is stronger than ignore_times.
        existing: nothing is made that DST does not have.
        ignore_existing: what DST has stays as it is; only its directories are entered.
        modify_window: mtimes that differ by so many seconds are equal; 0 compares whole seconds,
            -1 nanoseconds, None as finely as both filesystems keep them.
        min_size, max_size: regular files that are smaller or larger are left alone.
    """

    update: bool = False
    checksum: bool = False
    ignore_times: bool = False
    size_only: bool = False
    existing: bool = False
    ignore_existing: bool = False
    modify_window: int | None = None
    min_size: int = 0
    max_size: int = LARGEST_SIZE

    def __post_init__(self) -> None:
        """Check the window and the sizes.

        Raises: UsageError that names the option.
        """
        for name in ("modify_window", "min_size", "max_size"):
            _check_range(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class WritePolicy:
    """Say how files are put into place.

    Args:
        dry_run: nothing is changed; everything is reported as if.
        inplace: files are written where they stand, without a temporary name.
        sparse: runs of zeros become holes. Holes of SRC stay holes without it.
        preallocate: the space of a file is allocated before its data.
        whole_file: all chunks of a file are written, also those that its old one has.
        mkpath: missing directories of DST's path are made.
        temp_dir: where temporary files are made, relative to DST; None beside their target.
        backup: what is replaced or deleted is kept under another name.
        backup_dir: where, relative to DST and made as needed; None beside it.
        suffix: of that name; None for "~" beside it, and none in backup_dir.
        remove_source_files: what DST has is removed from SRC at the end, but for directories.
        bwlimit_bytes: a second, over all lanes; 0 for no limit.
    """

    dry_run: bool = False
    inplace: bool = False
    sparse: bool = False
    preallocate: bool = False
    whole_file: bool = False
    mkpath: bool = False
    temp_dir: bytes | None = None
    backup: bool = False
    backup_dir: bytes | None = None
    suffix: bytes | None = None
    remove_source_files: bool = False
    bwlimit_bytes: int = 0

    def __post_init__(self) -> None:
        """Check each value.

        Raises: UsageError that names the option.
        """
        _check_range("bwlimit_bytes", self.bwlimit_bytes)
        if self.temp_dir is not None and not self.temp_dir:
            raise UsageError("--temp-dir: the name of the directory is empty")
        if self.backup_dir is not None and not self.backup_dir:
            raise UsageError("--backup-dir: the name of the directory is empty")
        if b"/" in self.backup_suffix:
            raise UsageError("--suffix: a suffix cannot hold a slash")
        if self.backup and self.backup_dir is None and not self.backup_suffix:
            raise UsageError("--suffix: it can be empty only with --backup-dir")

    @property
    def backup_suffix(self) -> bytes:
        """Return what is appended to the names of backups."""
        if self.suffix is None:
            return b"~" if self.backup_dir is None else b""
        return self.suffix

    def backup_name(self, path: bytes) -> bytes:
        """Return the path of a backup, below DST where backup_dir is relative."""
        name = path + self.backup_suffix
        return name if self.backup_dir is None else os.path.join(self.backup_dir, name)


@dataclass(frozen=True, kw_only=True)
class ManifestPolicy:
    """Say what is remembered of earlier runs.

    Args:
        manifest: whether anything is.
        state_dir: where manifests are kept; None for $ARSYNC_STATE_DIR or XDG's directory.
        ignore_ctime: a ctime that moved since it was recorded is no reason to read a file.
        ignore_inode: nor is another inode.
        rehash: no recorded hash counts.
        accept_source: paths below DST whose sources may have lost the content that is recorded.
        trust_dst: a directory whose source is as recorded is not looked at in DST.
        detect_renames: what SRC has under a new name is renamed in DST, not copied and deleted.
    """

    manifest: bool = True
    state_dir: str | None = None
    ignore_ctime: bool = False
    ignore_inode: bool = False
    rehash: bool = False
    accept_source: tuple[bytes, ...] = ()
    trust_dst: bool = False
    detect_renames: bool = True

    def __post_init__(self) -> None:
        """Check what only the whole can show.

        Raises: UsageError that names the option.
        """
        if self.trust_dst and not self.manifest:
            raise UsageError("--trust-dst goes by the manifest (leave --no-manifest out)")


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Say how the work is done; None leaves it to what was measured on this machine.

    Args:
        engine: "uring", "sync", or "auto" for what probing finds.
        cpu_count: lanes, one a core.
        queue_depth: entries of each lane's ring.
        files_in_flight: files open at the same time in a lane.
        buffer_bytes: size of one read or write.
        memory_bytes: budget of all buffers and queues together.
        scan_threads: threads that walk.
        copy_method: one method for every file, or "auto" from the table.
        reflink: "always" fails where a file cannot be cloned, "never" copies the bytes.
    """

    engine: Engine = "auto"
    cpu_count: int | None = None
    queue_depth: int | None = None
    files_in_flight: int | None = None
    buffer_bytes: int | None = None
    memory_bytes: int | None = None
    scan_threads: int | None = None
    copy_method: CopyMethod = "auto"
    reflink: ReflinkPolicy = "auto"

    def __post_init__(self) -> None:
        """Check each value and what does not go together.

        Raises: UsageError that names the option.
        """
        _check_choice("engine", self.engine, get_args(Engine))
        _check_choice("copy_method", self.copy_method, get_args(CopyMethod))
        _check_choice("reflink", self.reflink, get_args(ReflinkPolicy))
        for name in (
            "cpu_count",
            "queue_depth",
            "files_in_flight",
            "buffer_bytes",
            "memory_bytes",
            "scan_threads",
        ):
            _check_range(name, getattr(self, name))
        self._check_methods()
        if self.buffer_bytes and self.memory_bytes and self.buffer_bytes > self.memory_bytes:
            raise UsageError(
                f"--buffer-size: {self.buffer_bytes} bytes do not fit "
                f"into --max-memory={self.memory_bytes}"
            )

    def _check_methods(self) -> None:
        if self.reflink == "never" and self.copy_method == "reflink":
            raise UsageError("--copy-method=reflink and --reflink=never contradict each other")
        if self.reflink == "always" and self.copy_method not in ("auto", "reflink"):
            raise UsageError(
                f"--copy-method={self.copy_method} and --reflink=always contradict each other"
            )


@dataclass(frozen=True, kw_only=True)
class DeletePolicy:
    """Say what is deleted of what only DST has, and when.

    Args:
        when: "before" the first copy, "after" the last one, or "never".
        force: a directory gives way to what is none, with all that is in it, in any case.
        ignore_errors: read errors in SRC do not keep anything.
        max_delete: where more entries would go, nothing is deleted; None for no limit.
        max_percent: the same as a share of the entries in DST.
        trash_dir: what is deleted is moved there, relative to DST; None for nowhere.
        allow_empty_source: a source with nothing in it empties DST.
    """

    when: DeleteTime = "never"
    force: bool = False
    ignore_errors: bool = False
    max_delete: int | None = None
    max_percent: int | None = None
    trash_dir: bytes | None = None
    allow_empty_source: bool = False

    def __post_init__(self) -> None:
        """Check each value.

        Raises: UsageError that names the option.
        """
        _check_choice("delete", self.when, get_args(DeleteTime))
        _check_range("max_delete", self.max_delete)
        _check_range("max_percent", self.max_percent)
        if self.trash_dir is not None and not self.trash_dir:
            raise UsageError("--trash-dir: the name of the directory is empty")

    @property
    def wanted(self) -> bool:
        """Tell whether anything is deleted."""
        return self.when != "never"

    @property
    def makes_way(self) -> bool:
        """Tell whether a directory gives way to what is none, with all that is in it."""
        return self.wanted or self.force

    @property
    def is_limited(self) -> bool:
        """Tell whether there is a limit to what is deleted."""
        return self.max_delete is not None or self.max_percent is not None


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """Hold everything that a run is told; without arguments it is `arsync -a SRC DST`.

    Args:
        preserve, links, owners, update, write, delete, engine: see there.
        relative: -R, the whole path of SRC is made below DST.
        one_file_system: -x; 1 makes an empty directory at a mount point, 2 (-xx) leaves it out.
        chmod: changes to modes, in order.
        report_unchanged: entries that need nothing are reported too (-ii, -vv).
        report_passed: entries that the update rules leave alone are reported too (--info=skip).
        filters: what is left out, from parse_filters.
        prune_empty_dirs: -m, directories without anything but directories below them are left out.
        files_from: what of the only SRC is copied, from read_lines; None for all of it.
    """

    preserve: Preserve = ARCHIVE
    links: LinkPolicy = field(default_factory=LinkPolicy)
    owners: OwnerPolicy = field(default_factory=OwnerPolicy)
    update: UpdatePolicy = field(default_factory=UpdatePolicy)
    write: WritePolicy = field(default_factory=WritePolicy)
    delete: DeletePolicy = field(default_factory=DeletePolicy)
    engine: EngineOptions = field(default_factory=EngineOptions)
    manifest: ManifestPolicy = field(default_factory=ManifestPolicy)
    relative: bool = False
    one_file_system: int = 0
    chmod: tuple[ModeRule, ...] = ()
    report_unchanged: bool = False
    report_passed: bool = False
    filters: Filters = field(default_factory=Filters)
    prune_empty_dirs: bool = False
    files_from: tuple[bytes, ...] | None = None

    @property
    def updates_chunks(self) -> bool:
        """Tell whether of a big file that is replaced only chunks that differ are written."""
        write = self.write
        shares = self.engine.reflink != "never" and not write.preallocate
        return not write.whole_file and (write.inplace or shares)

    def __post_init__(self) -> None:
        """Check what only the whole can show.

        Raises: UsageError that names the option.
        """
        _check_range("one_file_system", self.one_file_system)
        if self.delete.wanted and not (self.preserve.recursive or self.preserve.dirs):
            raise UsageError("--delete does not work without --recursive (-r) or --dirs (-d)")
        if self.manifest.trust_dst and self.write.remove_source_files:
            raise UsageError("--remove-source-files has to look at DST (leave --trust-dst out)")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Say what a person or a program wants to read; no stage knows it.

    Args:
        verbosity: how often -v stands there, less what --no-v took back.
        quiet: errors only.
        json: one event a line on standard output, and nothing else there.
        human_readable: 0 plain digits, 1 grouped, 2 units of 1000, 3 units of 1024.
        itemize: 1 changed entries, 2 unchanged ones too.
        name_level: 1 names of what changes, 2 of what does not too.
        progress_level: 1 for each file, 2 for the whole run.
        skip_level: 1 names what the update rules leave alone, 2 says how it differs too.
        stats_level: 0 nothing, 1 the last two lines, 2 and 3 the table.
        summary, live_view: show them where somebody sits at the terminal.
        removals: say what has been removed from SRC.
        backups: say what has been backed up, and under which name.
        nonreg: say which entries were skipped because they are not regular files.
        symsafe: say which symlinks were left out because they point out of the tree.
        out_format: the line for each change, None for none.
        log_file: where the log is appended.
        log_format: the line for each change in it; empty for none.
    """

    verbosity: int = 0
    quiet: bool = False
    json: bool = False
    human_readable: int = 1
    itemize: int = 0
    name_level: int = 0
    progress_level: int = 0
    skip_level: int = 0
    stats_level: int = 0
    summary: bool = True
    live_view: bool = True
    removals: bool = False
    backups: bool = False
    nonreg: bool = True
    symsafe: bool = False
    out_format: str | None = None
    log_file: bytes | None = None
    log_format: str = "%i %n%L"

    def __post_init__(self) -> None:
        """Check each number.

        Raises: UsageError that names the option.
        """
        for name in (
            "human_readable",
            "itemize",
            "name_level",
            "progress_level",
            "skip_level",
            "stats_level",
        ):
            _check_range(name, getattr(self, name))


def _check_range(name: str, value: int | None) -> None:
    low, high = RANGES[name]
    if value is not None and not low <= value <= high:
        raise UsageError(f"{OPTION_OF[name]}: {value} is out of range ({low} to {high})")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{OPTION_OF[name]}: {value!r} is not one of {', '.join(choices)}")
