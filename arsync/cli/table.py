"""Every option of `arsync SRC... DST`, in the order in which help shows them.

Owns the list, and the list of what rsync has beside it. The parser, the help, the completion and
the manual's test all read it: an option is added here and nowhere else.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Final, get_args

from arsync.cli.draft import Draft
from arsync.cli.option import Option, Topic, Value, accepted, choice, count, flag, number, size
from arsync.errors import UsageError
from arsync.options import CopyMethod, Engine, ReflinkPolicy
from arsync.sizes import parse_block_size, parse_count, parse_rate, parse_size

__all__ = ["MODE_OPTIONS", "NOT_YET", "NOT_YET_SHORT", "OPTIONS"]

MODE_OPTIONS: Final = frozenset(
    (
        *("--archive", "--recursive", "--dirs", "--links", "--perms"),
        *("--times", "--group", "--owner", "-D", "--relative"),
    )
)
"""Without any of these, in either form, `arsync SRC DST` means -a."""

NOT_YET: Final = frozenset(
    """
    8-bit-output append append-verify checksum-choice cc checksum-seed
    compare-dest config confine-root copy-as copy-dest copy-devices crtimes daemon debug
    delay-updates delete-missing-args detach dparam drop-D early-input executability
    fake-super fuzzy i-d iconv ignore-missing-args implied-dirs
    insecure-links link-dest list-only max-alloc
    msgs2stderr munge-links old-d old-dirs only-write-batch open-noatime outbuf
    qsort read-batch remote-option remove-sent-files sender server
    stderr stop-after stop-at super time-limit timeout write-batch write-devices
    """.split()  # noqa: SIM905 (a list of 90 lines would hide the options below)
)
"""Long names that rsync 3.5.0 has and arsync does not know yet."""

NOT_YET_SHORT: Final = frozenset("8EMNy")
"""And its letters."""


FSYNC_POLICIES: Final = ("file", "none")


def _archive(draft: Draft, _value: str) -> None:
    draft.archive()


def _devices(draft: Draft, _value: str) -> None:
    draft.devices(True)


def _no_devices(draft: Draft, _value: str) -> None:
    draft.devices(False)


def _acls(draft: Draft, _value: str) -> None:
    draft.acls()


def _no_acls(draft: Draft, _value: str) -> None:
    draft.flags["acls"] = False


def _temp_dir(draft: Draft, value: str) -> None:
    draft.temp_dir = value


def _backup_dir(draft: Draft, value: str) -> None:
    draft.backup_dir = value
    draft.flags["backup"] = True


def _suffix(draft: Draft, value: str) -> None:
    draft.suffix = value


def _state_dir(draft: Draft, value: str) -> None:
    if not value:
        raise UsageError("--state-dir: the name of the directory is empty")
    draft.flags["state_dir"] = value


def _accept_source(draft: Draft, value: str) -> None:
    if not value.strip("/"):
        raise UsageError("--accept-source: the path is empty")
    accepted = draft.flags.get("accept_source", ())
    draft.flags["accept_source"] = (*accepted, os.fsencode(value.strip("/")))


def _fsync(_draft: Draft, value: str) -> None:
    if value not in ("", *FSYNC_POLICIES):
        raise UsageError(f"--fsync: {value!r} is not one of {', '.join(FSYNC_POLICIES)}")


def _bwlimit(draft: Draft, value: str) -> None:
    draft.flags["bwlimit_bytes"] = parse_rate(value, "--bwlimit")


def _no_bwlimit(draft: Draft, _value: str) -> None:
    draft.flags["bwlimit_bytes"] = 0


def _size_limit(name: str, draft: Draft, value: str) -> None:
    draft.flags[name.replace("-", "_")] = parse_size(value, f"--{name}")


def _limit(name: str, text: str) -> Option:
    return Option(
        (name,),
        "",
        Topic.UPDATE,
        text,
        apply=partial(_size_limit, name),
        value=Value.REQUIRED,
        metavar="SIZE",
    )


def _modify_window(draft: Draft, value: str) -> None:
    draft.flags["modify_window"] = parse_count(value, "--modify-window")


def _partial_dir(draft: Draft, _value: str) -> None:
    draft.partial_dir = True


def _partial_progress(draft: Draft, _value: str) -> None:
    draft.flags["progress"] = True


def _out_format(draft: Draft, value: str) -> None:
    draft.out_format = value


def _log_file(draft: Draft, value: str) -> None:
    draft.log_file = value


def _log_format(draft: Draft, value: str) -> None:
    draft.log_format = value


def _nothing(_draft: Draft, _value: str) -> None:
    """Change nothing: the command shows something and ends, or -v says why."""


def _add_rule(option: str, draft: Draft, value: str) -> None:
    draft.add_filter(option, value)


def _files_from(draft: Draft, value: str) -> None:
    draft.files_from = value


def _cvs_exclude(draft: Draft, _value: str) -> None:
    draft.flags["cvs_exclude"] = True


def _delete(time: str, draft: Draft, _value: str) -> None:
    draft.delete(time)


def _trash_dir(draft: Draft, value: str) -> None:
    draft.trash_dir = value


def _no_delete(draft: Draft, _value: str) -> None:
    draft.keep_extras()


def _deleting(names: str, time: str, text: str) -> Option:
    apply = partial(_delete, time)
    return Option(tuple(names.split()), "", Topic.DELETION, text, apply, negate=_no_delete)


def _rule(name: str, short: str, text: str, metavar: str) -> Option:
    return Option(
        (name,),
        short,
        Topic.SELECTION,
        text,
        apply=partial(_add_rule, name),
        value=Value.REQUIRED,
        metavar=metavar,
    )


WHAT: Final = (
    Option(("archive",), "a", Topic.WHAT, "-rlptgoD; the default without any of these", _archive),
    flag("recursive", "r", Topic.WHAT, "directories and all that is in them"),
    flag("dirs", "d", Topic.WHAT, "directories without what is in them"),
    flag("links", "l", Topic.WHAT, "symlinks, as symlinks"),
    Option((), "D", Topic.WHAT, "--devices --specials", apply=_devices, negate=_no_devices),
    flag("devices", "", Topic.WHAT, "device nodes (needs root)"),
    flag("specials", "", Topic.WHAT, "fifos and sockets"),
    flag("relative", "R", Topic.WHAT, "make SRC's whole path below DST; /./ cuts it"),
    count("one-file-system", "x", Topic.WHAT, "stay on SRC's filesystem; -xx drops mount points"),
    flag("mkpath", "", Topic.WHAT, "make the missing directories of DST's path"),
    flag("dry-run", "n", Topic.WHAT, "change nothing, report as if"),
)

SELECTION: Final = (
    _rule("exclude", "", "leave out what matches", "PATTERN"),
    _rule("include", "", "do not leave out what matches", "PATTERN"),
    _rule("filter", "f", "add a rule: '- *.o', '+ /keep', 'P x', 'dir-merge .rules'", "RULE"),
    _rule("exclude-from", "", "patterns to leave out, one a line", "FILE"),
    _rule("include-from", "", "patterns not to leave out, one a line", "FILE"),
    Option(
        (),
        "F",
        Topic.SELECTION,
        "rules from each .rsync-filter; -FF leaves those files out",
        apply=partial(_add_rule, "F"),
    ),
    Option(
        ("cvs-exclude",),
        "C",
        Topic.SELECTION,
        "leave out what CVS ignores, and what .cvsignore says",
        apply=_cvs_exclude,
    ),
    Option(
        ("files-from",),
        "",
        Topic.SELECTION,
        "copy only the paths of SRC that are listed, one a line",
        apply=_files_from,
        value=Value.REQUIRED,
        metavar="FILE",
    ),
    flag("prune-empty-dirs", "m", Topic.SELECTION, "no directories without files below them"),
    flag("from0", "0", Topic.SELECTION, "lists, and files of rules, end their lines with a NUL"),
)

DELETION: Final = (
    _deleting("delete", "", "what SRC does not have, after the last copy"),
    _deleting("delete-before", "before", "the same before the first copy"),
    _deleting("delete-during del", "during", "the same as --delete-before"),
    _deleting("delete-delay", "delay", "the same as --delete"),
    _deleting("delete-after", "after", "the same as --delete"),
    flag("delete-excluded", "", Topic.DELETION, "what the rules leave out, too; implies --delete"),
    flag("force", "", Topic.DELETION, "what is in a directory that a file is to replace"),
    flag("ignore-errors", "", Topic.DELETION, "delete in spite of read errors in SRC"),
    Option(
        ("max-delete",),
        "",
        Topic.DELETION,
        "nothing, where more than N entries, or N% of DST's, would go",
        apply=Draft.limit_deletions,
        value=Value.REQUIRED,
        metavar="N|N%",
    ),
    Option(
        ("trash-dir",),
        "",
        Topic.DELETION,
        "move there what is deleted; relative to DST",
        apply=_trash_dir,
        value=Value.REQUIRED,
        metavar="DIR",
    ),
    flag("allow-empty-source", "", Topic.DELETION, "even where SRC has nothing in it"),
)

KEPT: Final = (
    flag("perms", "p", Topic.KEPT, "permissions"),
    flag("times", "t", Topic.KEPT, "modification times, to the nanosecond"),
    flag("group", "g", Topic.KEPT, "group"),
    flag("owner", "o", Topic.KEPT, "owner (needs root)"),
    count("hard-links", "H", Topic.KEPT, "hard links between the files copied"),
    Option(
        ("acls", "preserve-acl"),
        "A",
        Topic.KEPT,
        "POSIX ACLs; implies -p",
        apply=_acls,
        negate=_no_acls,
    ),
    count("xattrs preserve-xattr", "X", Topic.KEPT, "extended attributes"),
    count("atimes", "U", Topic.KEPT, "access times"),
    flag("omit-dir-times", "O", Topic.KEPT, "not the times of directories"),
    flag("omit-link-times", "J", Topic.KEPT, "not the times of symlinks"),
)

UPDATE: Final = (
    flag("update", "u", Topic.UPDATE, "leave files alone that are newer in DST"),
    flag("checksum", "c", Topic.UPDATE, "compare the contents of files of equal size, not times"),
    flag("ignore-times", "I", Topic.UPDATE, "copy files of equal size and time too"),
    flag("size-only", "", Topic.UPDATE, "files of equal size are equal, whatever their times"),
    flag("existing ignore-non-existing", "", Topic.UPDATE, "make nothing that DST does not have"),
    flag("ignore-existing", "", Topic.UPDATE, "leave everything alone that DST has"),
    Option(
        ("modify-window",),
        "@",
        Topic.UPDATE,
        "times so many seconds apart are equal; 0: whole seconds, -1: nanoseconds",
        apply=_modify_window,
        value=Value.REQUIRED,
        metavar="N",
    ),
    _limit("max-size", "leave files alone that are larger: 4096, 64K, 1.5M, 2GiB, 10MB"),
    _limit("min-size", "leave files alone that are smaller"),
)

LINKS: Final = (
    flag("copy-links", "L", Topic.LINKS, "follow every symlink of SRC"),
    flag("copy-dirlinks", "k", Topic.LINKS, "follow symlinks to directories of SRC"),
    flag("keep-dirlinks", "K", Topic.LINKS, "follow symlinks to directories of DST"),
    flag("copy-unsafe-links", "", Topic.LINKS, "follow symlinks that point out of SRC"),
    flag("safe-links", "", Topic.LINKS, "leave out symlinks that point out of SRC"),
)

OWNERS: Final = (
    Option(
        ("chmod",),
        "",
        Topic.OWNERS,
        "change permissions: D2775,F664,u+rwX,g=u",
        apply=Draft.add_chmod,
        value=Value.REQUIRED,
        metavar="CHANGES",
    ),
    flag("numeric-ids", "", Topic.OWNERS, "take ids as numbers, without names"),
    Option(
        ("usermap",),
        "",
        Topic.OWNERS,
        "FROM:TO,...: names, ids, ranges, patterns, *",
        apply=Draft.map_users,
        value=Value.REQUIRED,
        metavar="MAP",
    ),
    Option(
        ("groupmap",),
        "",
        Topic.OWNERS,
        "the same for groups",
        apply=Draft.map_groups,
        value=Value.REQUIRED,
        metavar="MAP",
    ),
    Option(
        ("chown",),
        "",
        Topic.OWNERS,
        "give everything to USER, GROUP or both",
        apply=Draft.chown,
        value=Value.REQUIRED,
        metavar="USER:GROUP",
    ),
)

WRITING: Final = (
    flag("inplace", "", Topic.WRITING, "write files where they stand, not beside and rename"),
    flag("sparse", "S", Topic.WRITING, "make holes of runs of zeros too"),
    flag("preallocate", "", Topic.WRITING, "allocate a file's space before its data"),
    flag("whole-file", "W", Topic.WRITING, "write a file whole, also what its old one has"),
    Option(
        ("temp-dir",),
        "T",
        Topic.WRITING,
        "make temporary files there, not beside",
        apply=_temp_dir,
        value=Value.REQUIRED,
        metavar="DIR",
    ),
    flag("remove-source-files", "", Topic.WRITING, "remove from SRC what DST has, at the end"),
    flag("backup", "b", Topic.WRITING, "keep what is replaced or deleted under another name"),
    Option(
        ("backup-dir",),
        "",
        Topic.WRITING,
        "keep it there, in DST or elsewhere; implies -b",
        apply=_backup_dir,
        value=Value.REQUIRED,
        metavar="DIR",
    ),
    Option(
        ("suffix",),
        "",
        Topic.WRITING,
        "of its name: ~ without --backup-dir, else none",
        apply=_suffix,
        value=Value.REQUIRED,
        metavar="SUFFIX",
    ),
    Option(
        ("bwlimit",),
        "",
        Topic.WRITING,
        "at most this, in KiB a second or 1.5m; 0: no limit",
        apply=_bwlimit,
        negate=_no_bwlimit,
        value=Value.REQUIRED,
        metavar="RATE",
    ),
)

MANIFEST: Final = (
    flag("manifest", "", Topic.MANIFEST, "remember what is there; the default"),
    Option(
        ("state-dir",),
        "",
        Topic.MANIFEST,
        "keep manifests there; else $ARSYNC_STATE_DIR",
        apply=_state_dir,
        value=Value.REQUIRED,
        metavar="DIR",
    ),
    flag("ignore-ctime", "", Topic.MANIFEST, "do not read files only because their ctime moved"),
    flag("ignore-inode", "", Topic.MANIFEST, "nor because they are another inode than recorded"),
    flag("trust-dst", "", Topic.MANIFEST, "do not look for changes that others made in DST"),
    flag("rehash", "", Topic.MANIFEST, "believe no recorded hash (with -c: read everything)"),
    Option(
        ("accept-source",),
        "",
        Topic.MANIFEST,
        "copy PATH although its recorded content is lost",
        apply=_accept_source,
        value=Value.REQUIRED,
        metavar="PATH",
    ),
    flag("detect-renames", "", Topic.MANIFEST, "rename in DST what SRC has renamed; the default"),
)

ENGINE: Final = (
    choice("engine", get_args(Engine), "auto, uring or sync"),
    number("cpu-count", "cpu_count", "lanes, one a core (1 to 1024)"),
    number("queue-depth", "queue_depth", "entries of a lane's ring (1 to 32768)"),
    number("max-files-in-flight", "files_in_flight", "files open at once in a lane (1 to 65536)"),
    number("scan-threads", "scan_threads", "threads that walk (1 to 256)"),
    size("buffer-size", "buffer_bytes", "one read or write (4K to 1G)"),
    size("max-memory", "memory_bytes", "all buffers and queues (16M to 1T)"),
    choice(
        "copy-method",
        get_args(CopyMethod),
        "auto, reflink, copy_file_range, splice, read_write or direct",
    ),
    choice("reflink", get_args(ReflinkPolicy), "auto, always or never"),
)

OUTPUT: Final = (
    count("verbose", "v", Topic.OUTPUT, "names of what changes, a summary; -vv says more"),
    count("quiet", "q", Topic.OUTPUT, "errors only"),
    count("itemize-changes", "i", Topic.OUTPUT, "what changes and why; -ii: and what does not"),
    count("human-readable", "h", Topic.OUTPUT, "numbers in units of 1000; -hh: of 1024", start=1),
    flag("stats", "", Topic.OUTPUT, "a table of counts at the end"),
    flag("progress", "", Topic.OUTPUT, "a live view; without a terminal a line a file"),
    Option(
        ("info",),
        "",
        Topic.OUTPUT,
        "name[0-2], progress[0-2], skip[0-2], stats[0-3]; --info=help: all of them",
        apply=Draft.add_info,
        value=Value.REQUIRED,
        metavar="FLAGS",
    ),
    Option(
        ("out-format", "log-format"),
        "",
        Topic.OUTPUT,
        "a line for each change: '%i %n%L'",
        apply=_out_format,
        value=Value.REQUIRED,
        metavar="FORMAT",
    ),
    Option(
        ("log-file",),
        "",
        Topic.OUTPUT,
        "append a log of changes and failures",
        apply=_log_file,
        value=Value.REQUIRED,
        metavar="FILE",
    ),
    Option(
        ("log-file-format",),
        "",
        Topic.OUTPUT,
        "its line for each change",
        apply=_log_format,
        value=Value.REQUIRED,
        metavar="FORMAT",
    ),
    flag("json", "", Topic.OUTPUT, "one JSON event a line on standard output"),
)

ABOUT: Final = (
    Option(("help",), "", Topic.ABOUT, "this text (-h too, on its own)", _nothing, ends=True),
    Option(("version",), "V", Topic.ABOUT, "the version", _nothing, ends=True),
)

PLAN_FILE: Final = Option(
    ("output",),
    "",
    Topic.OUTPUT,
    "write the plan to FILE, for arsync apply; - is standard output",
    _nothing,
    value=Value.REQUIRED,
    metavar="FILE",
    alone="o",
)
"""What `arsync plan` has beside all others."""

_BLOCKS: Final = "files are compared in chunks of 4 MiB"
_LOCAL: Final = "arsync is local, nothing is sent over a network"
_FSYNC: Final = "the kernel writes files back when it wants to; run sync(1) to wait for that"
_PARTIAL: Final = "what --partial is for is always on"

ACCEPTED: Final = (
    Option(
        (),
        "P",
        Topic.OUTPUT,
        "--partial --progress",
        apply=_partial_progress,
    ),
    accepted("partial", "", _PARTIAL),
    Option(
        ("partial-dir",),
        "",
        Topic.ACCEPTED,
        _PARTIAL,
        apply=_partial_dir,
        value=Value.REQUIRED,
        metavar="DIR",
    ),
    Option(
        ("fsync",),
        "",
        Topic.ACCEPTED,
        _FSYNC,
        apply=_fsync,
        negate=_nothing,
        value=Value.OPTIONAL,
        metavar="file|none",
        choices=FSYNC_POLICIES,
    ),
    accepted("block-size", "B", _BLOCKS, "SIZE", parse_block_size),
    accepted("inc-recursive i-r", "", "walking and copying always overlap"),
    accepted("compress old-compress new-compress", "z", _LOCAL),
    accepted("compress-choice zc", "", _LOCAL, "STR"),
    accepted("compress-level zl", "", _LOCAL, "NUM", parse_count),
    accepted("compress-threads zt", "", _LOCAL, "NUM", parse_count),
    accepted("skip-compress", "", _LOCAL, "LIST"),
    accepted("rsh", "e", _LOCAL, "COMMAND"),
    accepted("rsync-path", "", _LOCAL, "PROGRAM"),
    accepted("blocking-io", "", _LOCAL),
    accepted("secluded-args protect-args", "s", _LOCAL),
    accepted("old-args", "", _LOCAL),
    accepted("trust-sender", "", _LOCAL),
    accepted("protocol", "", _LOCAL, "NUM", parse_count),
    accepted("motd", "", _LOCAL),
    accepted("address", "", _LOCAL, "ADDRESS"),
    accepted("port", "", _LOCAL, "PORT", parse_count),
    accepted("sockopts", "", _LOCAL, "OPTIONS"),
    replace(accepted("contimeout", "", _LOCAL, "SECONDS", parse_count), negate=_nothing),
    accepted("password-file", "", _LOCAL, "FILE"),
    accepted("ipv4", "4", _LOCAL),
    accepted("ipv6", "6", _LOCAL),
)

OPTIONS: Final = (
    *WHAT,
    *SELECTION,
    *DELETION,
    *KEPT,
    *UPDATE,
    *LINKS,
    *OWNERS,
    *WRITING,
    *MANIFEST,
    *ENGINE,
    *OUTPUT,
    *ABOUT,
    *ACCEPTED,
)
"""All of them."""
