"""Build `struct ar_rules`, what decides equality and what is set, out of the options.

Owns the translation of options into tables and keeps their memory alive. It must not know how
files are compared.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arsync.model import Keep
from arsync.modes import CopyBits, ModeRule
from arsync.options import ManifestPolicy, SyncOptions, UpdatePolicy
from arsync.owners import IdMap
from arsync.patterns import Rule
from arsync.uring._native import ffi, lib
from arsync.uring.selection import RuleTable

if TYPE_CHECKING:
    from arsync.uring._native import CData

__all__ = ["Identity", "Rules"]


@dataclass(frozen=True)
class Identity:
    """Hold what the kernel lets this process do to files.

    Args:
        umask: of new files, where modes are not kept.
        is_root: owners can be changed and device nodes made.
        groups: those a file may be given to; root may give it to any.
    """

    umask: int
    is_root: bool
    groups: tuple[int, ...]

    @classmethod
    def current(cls) -> Identity:
        """Read this process's own.

        Source: proc_pid_status(5); umask(2) can only be read by setting it, which other threads
        would notice.
        """
        status = Path("/proc/self/status").read_bytes()
        umask = re.search(rb"^Umask:\s*([0-7]+)$", status, re.MULTILINE)
        return cls(
            umask=int(umask[1], 8) if umask else 0o022,
            is_root=os.geteuid() == 0,
            groups=tuple(sorted({os.getegid(), *os.getgroups()})),
        )


class Rules:
    """Hold a `struct ar_rules` as `raw`; it never changes, so all threads may share it.

    Args:
        options: what to keep, maps of owners, changes of modes.
        granule_ns: times are compared in units of this, at least 1: the coarser granularity of the
            two filesystems; --modify-window goes before it.
        identity: who runs.
        make_way: a directory where the source has something else is emptied first.
    """

    def __init__(
        self,
        options: SyncOptions,
        granule_ns: int,
        identity: Identity,
        *,
        make_way: bool = False,
    ) -> None:
        groups = ffi.NULL
        if not identity.is_root:
            groups = ffi.new("uint32_t[]", list(identity.groups))
        tables = {
            "groups": groups,
            "uidmap": _id_table(options.owners.users),
            "gidmap": _id_table(options.owners.groups),
            "chmods": _mode_table(options.chmod),
        }
        xattr_filter, kept = _xattr_table(options.filters.xattr_rules)
        self._alive = (*tables.values(), xattr_filter, kept)
        self.raw: CData = ffi.new(
            "struct ar_rules *",
            {
                "keep": _keep(options)
                | _reach(options, identity)
                | (lib.AR_MAKE_WAY if make_way else 0),
                "update": _update(options.update, options.manifest),
                "min_size": options.update.min_size,
                "max_size": options.update.max_size,
                "umask": identity.umask,
                **_window(options.update.modify_window, granule_ns),
                "group_count": lib.AR_NONE if identity.is_root else len(identity.groups),
                "uidmap_count": len(tables["uidmap"]),
                "gidmap_count": len(tables["gidmap"]),
                "chmod_count": len(tables["chmods"]),
                "xattr_filter": xattr_filter,
                **tables,
            },
        )


def _keep(options: SyncOptions) -> int:
    preserve = options.preserve
    wanted = {
        Keep.PERMS: preserve.perms,
        Keep.OWNER: preserve.owner,
        Keep.GROUP: preserve.group,
        Keep.TIMES: preserve.times,
        Keep.LINKS: preserve.links,
        Keep.DEVICES: preserve.devices,
        Keep.SPECIALS: preserve.specials,
        Keep.ACLS: preserve.acls,
        Keep.XATTRS: preserve.xattrs,
        Keep.ATIMES: preserve.atimes,
        # -R makes the directories on the way, whatever is copied below them
        Keep.DIRS: preserve.recursive or preserve.dirs or options.relative,
        # a backup moves the time of its directory: rsync would set that at every run
        Keep.OMIT_DIR_TIMES: preserve.omit_dir_times
        or (options.write.backup and options.write.backup_dir is None),
        Keep.OMIT_LINK_TIMES: preserve.omit_link_times,
    }
    return sum(bit for bit, is_wanted in wanted.items() if is_wanted)


def _reach(options: SyncOptions, identity: Identity) -> int:
    """Say what the kernel allows, and which maps of owners reach into ACLs: as in rsync.

    Source: rsync 3.5.0, by experiment. Its maps reach into ACLs with -o and -g or without. But with
    -r and --numeric-ids it leaves the users in ACLs alone, and where root runs it the groups.
    """
    maps_users = not (options.owners.numeric_ids and options.preserve.recursive)
    wanted = {
        lib.AR_AS_ROOT: identity.is_root,
        lib.AR_MAP_ACL_USERS: options.owners.users is not None and maps_users,
        lib.AR_MAP_ACL_GROUPS: options.owners.groups is not None
        and (maps_users or not identity.is_root),
    }
    return sum(bit for bit, is_wanted in wanted.items() if is_wanted)


def _update(policy: UpdatePolicy, manifest: ManifestPolicy) -> int:
    wanted = {
        lib.AR_UPDATE_OLDER: policy.update,
        lib.AR_UPDATE_ALWAYS: policy.ignore_times,
        lib.AR_UPDATE_SIZE_ONLY: policy.size_only,
        lib.AR_UPDATE_EXISTING: policy.existing,
        lib.AR_UPDATE_MISSING: policy.ignore_existing,
        lib.AR_UPDATE_CONTENT: policy.checksum,
        lib.AR_UPDATE_IGNORE_CTIME: manifest.ignore_ctime,
        lib.AR_UPDATE_IGNORE_INODE: manifest.ignore_inode,
        lib.AR_UPDATE_REHASH: manifest.rehash,
    }
    return sum(bit for bit, is_wanted in wanted.items() if is_wanted)


def _window(modify_window: int | None, granule_ns: int) -> dict[str, int]:
    """Say how mtimes are compared; 0 means rsync's whole seconds, -1 nanoseconds."""
    if modify_window is None:
        return {"granule_ns": granule_ns, "window_s": 0}
    if modify_window > 0:
        return {"granule_ns": 1, "window_s": modify_window}
    return {"granule_ns": 1 if modify_window else 10**9, "window_s": 0}


def _xattr_table(rules: tuple[Rule, ...]) -> tuple[CData, object]:
    """Return the table of rules for names of xattrs, which are as paths below /."""
    if not rules:
        return ffi.NULL, None
    return RuleTable(tuple(replace(rule, xattr=False) for rule in rules), b"/", lib.AR_NONE).build()


def _id_table(ids: IdMap | None) -> CData:
    ranges = ids.ranges if ids else ()
    return ffi.new("struct ar_idmap[]", [tuple(one) for one in ranges])


def _mode_table(rules: tuple[ModeRule, ...]) -> CData:
    return ffi.new("struct ar_chmod[]", [_mode_row(rule) for rule in rules])


def _mode_row(rule: ModeRule) -> dict[str, int]:
    flags = {
        lib.AR_CHMOD_DIRS: rule.to_dirs,
        lib.AR_CHMOD_FILES: rule.to_files,
        lib.AR_CHMOD_X: rule.keep_x,
        lib.AR_CHMOD_COPY: rule.copy is not CopyBits.NONE,
    }
    return {
        "flags": sum(bit for bit, is_set in flags.items() if is_set),
        "and_mode": rule.and_mask,
        "or_mode": rule.or_mask,
        "copy_from": rule.copy_shift,
        "copy_to": rule.copy_mask,
        "copy_minus": int(rule.copy is CopyBits.REMOVE),
    }
