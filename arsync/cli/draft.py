"""What the options given so far add up to, before it is frozen.

Owns the one mutable value of the command line: rsync folds its options in the order in which they
stand, so each occurrence changes a Draft, and at the end the Draft becomes frozen options. It must
not know how an option is spelled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from arsync.errors import UsageError, describe
from arsync.filters import Filters, Settings, parse_filters
from arsync.modes import ModeRule, parse_modes
from arsync.options import (
    DeletePolicy,
    EngineOptions,
    LinkPolicy,
    ManifestPolicy,
    OutputOptions,
    OwnerPolicy,
    Preserve,
    SyncOptions,
    UpdatePolicy,
    WritePolicy,
)
from arsync.owners import IdMap, groups, parse_map, users

__all__ = ["INFO_LEVELS", "SILENT_INFO", "Draft", "info_levels"]

INFO_LEVELS = {
    "backup": 1,
    "name": 2,
    "nonreg": 1,
    "progress": 2,
    "remove": 1,
    "skip": 2,
    "stats": 3,
    "symsafe": 1,
}
"""The --info names that arsync honours, with their highest level; more means that."""

SILENT_INFO = ("copy", "del", "flist", "misc", "mount")
"""The other names of rsync: arsync has no such messages."""

_PRESERVE = tuple(Preserve.__dataclass_fields__)
_LINKS = tuple(LinkPolicy.__dataclass_fields__)
_UPDATE = tuple(UpdatePolicy.__dataclass_fields__)
_WRITE = tuple(WritePolicy.__dataclass_fields__)
_ENGINE = tuple(EngineOptions.__dataclass_fields__)
_DELETE = tuple(DeletePolicy.__dataclass_fields__)
_MANIFEST = tuple(ManifestPolicy.__dataclass_fields__)

_TIMES = {"before": "before", "during": "before", "delay": "after", "after": "after"}
"""When arsync deletes for rsync's --delete-WHEN."""


@dataclass
class Draft:
    """Hold the value of every option after those read so far; starts as rsync starts.

    `flags` holds the fields of the options' dataclasses by name: what no option has set keeps the
    default of its class.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    chmod: list[ModeRule] = field(default_factory=list)
    info: dict[str, int] = field(default_factory=dict)
    silent_info: list[str] = field(default_factory=list)
    user_map: tuple[str, str] | None = None  # the option that set it, its text
    group_map: tuple[str, str] | None = None
    partial_dir: bool = False
    temp_dir: str | None = None
    backup_dir: str | None = None
    suffix: str | None = None
    trash_dir: str | None = None
    out_format: str | None = None
    log_file: str | None = None
    log_format: str = OutputOptions.log_format
    umask: int = 0o022
    filters: list[tuple[str, bytes]] = field(default_factory=list)
    files_from: str | None = None
    archived: bool = False
    deletes: bool = False
    delete_times: set[str] = field(default_factory=set)

    def archive(self) -> None:
        """Do what -a does: -rlptgoD, but with --files-from not -r."""
        for name in ("links", "perms", "times", "group", "owner"):
            self.flags[name] = True
        if not self.flags.get("recursive"):
            self.flags.pop("recursive", None)
        self.archived = True
        self.devices(True)

    def devices(self, wanted: bool) -> None:
        """Do what -D or --no-D does."""
        self.flags["devices"] = self.flags["specials"] = wanted

    def acls(self) -> None:
        """Do what -A does: ACLs, and permissions with them."""
        self.flags["acls"] = self.flags["perms"] = True

    def add_chmod(self, text: str) -> None:
        """Append the rules of one --chmod."""
        self.chmod += parse_modes(text, self.umask)

    def map_users(self, text: str, option: str = "--usermap") -> None:
        """Note --usermap, or the user of --chown, which implies --owner."""
        self.user_map = _only_once(self.user_map, option, text)
        self.flags["owner"] = True

    def map_groups(self, text: str, option: str = "--groupmap") -> None:
        """Note --groupmap, or the group of --chown, which implies --group."""
        self.group_map = _only_once(self.group_map, option, text)
        self.flags["group"] = True

    def chown(self, text: str) -> None:
        """Note --chown as the two maps that it is."""
        user, _, group = text.partition(":")
        if user:
            self.map_users(f"*:{user}", "--chown")
        if group:
            self.map_groups(f"*:{group}", "--chown")

    def add_filter(self, option: str, text: str) -> None:
        """Note one rule, or one file of rules, in the order given."""
        self.filters.append((option, os.fsencode(text)))

    def delete(self, time: str = "") -> None:
        """Note --delete, or one of rsync's --delete-WHEN: before, during, delay, after.

        As in rsync, --delete-delay is a kind of --delete-during.
        """
        self.deletes = True
        if time:
            self.delete_times -= {"during", "delay"} if time in ("during", "delay") else set()
            self.delete_times.add(time)

    def keep_extras(self) -> None:
        """Take back what --delete and its kin have said."""
        self.deletes = False
        self.delete_times.clear()

    def limit_deletions(self, text: str) -> None:
        """Note the number or the share of --max-delete; below zero counts as zero, as in rsync.

        Raises: UsageError.
        """
        number = text.removesuffix("%")
        if not number.removeprefix("-").isdecimal():
            raise UsageError(f"--max-delete: {text!r} is not a number (write 1000 or 5%)")
        is_share = text.endswith("%")
        self.flags["max_percent"] = max(int(number), 0) if is_share else None
        self.flags["max_delete"] = None if is_share else max(int(number), 0)

    def add_info(self, text: str) -> None:
        """Note the levels of one --info.

        Raises: UsageError for a name that rsync does not have.
        """
        for name, level in info_levels(text):
            if name in ("all", "none"):
                wanted = 0 if name == "none" else level
                self.info.update((known, min(wanted, top)) for known, top in INFO_LEVELS.items())
            elif name in INFO_LEVELS:
                self.info[name] = min(level, INFO_LEVELS[name])
            elif name not in SILENT_INFO:
                known = ", ".join(sorted(INFO_LEVELS))
                raise UsageError(f"--info: there is no {name!r} (arsync has {known}, all and none)")
            elif level:
                self.silent_info.append(name)

    def sync_options(self) -> SyncOptions:
        """Freeze what the run needs.

        Raises: UsageError for what does not go together.
        """
        if self.counts.get("xattrs", 0) > 1:
            raise UsageError("-X given twice is rsync's, but not in arsync yet; write it once")
        if self.counts.get("atimes", 0) > 1:
            raise UsageError("-U given twice is rsync's, but not in arsync yet; write it once")
        if self.partial_dir and self.flags.get("inplace"):
            raise UsageError("--inplace cannot be used with --partial-dir")
        files_from = self._files_from()
        named = files_from is not None
        flags = {"recursive": self.archived and not named, "dirs": named, **self.flags}
        for name in ("xattrs", "atimes", "hard_links"):
            flags[name] = self.counts.get(name, 0) > 0
        for name in ("temp_dir", "backup_dir", "suffix", "trash_dir"):
            value = getattr(self, name)
            flags[name] = None if value is None else os.fsencode(value)
        return SyncOptions(
            preserve=Preserve(**_of(_PRESERVE, flags)),
            links=LinkPolicy(**_of(_LINKS, flags)),
            owners=self._owners(),
            update=UpdatePolicy(**_of(_UPDATE, flags)),
            write=WritePolicy(**_of(_WRITE, flags)),
            delete=self._delete_policy(flags),
            engine=EngineOptions(**_of(_ENGINE, flags)),
            manifest=ManifestPolicy(**_of(_MANIFEST, flags)),
            relative=bool(flags.get("relative", named)),
            one_file_system=min(self.counts.get("one_file_system", 0), 2),
            chmod=tuple(self.chmod),
            report_unchanged=self._itemize() > 1 or self._name_level() > 1,
            report_passed=self._skip_level() > 0,
            filters=self._filters(),
            prune_empty_dirs=bool(flags.get("prune_empty_dirs")),
            files_from=files_from,
        )

    def output_options(self) -> OutputOptions:
        """Freeze what the reader wants.

        Raises: UsageError for a format that arsync cannot fill.
        """
        verbosity = self.counts.get("verbose", 0)
        return OutputOptions(
            verbosity=verbosity,
            quiet=self.counts.get("quiet", 0) > 0,
            json=bool(self.flags.get("json")),
            human_readable=min(self.counts.get("human_readable", 1), 3),
            itemize=self._itemize(),
            name_level=self._name_level(),
            progress_level=self.info.get("progress", int(bool(self.flags.get("progress")))),
            skip_level=self._skip_level(),
            stats_level=self._stats_level(verbosity),
            summary=self.info.get("stats", 1) > 0,
            live_view=self.info.get("progress", 1) > 0,
            removals=self.info.get("remove", int(verbosity > 1)) > 0,
            backups=self.info.get("backup", int(verbosity > 1)) > 0,
            nonreg=self.info.get("nonreg", 1) > 0,
            symsafe=self.info.get("symsafe", verbosity) > 0,
            out_format=self._out_format(),
            log_file=None if self.log_file is None else os.fsencode(self.log_file),
            log_format=self._log_format(),
        )

    def _filters(self) -> Filters:
        cvs_exclude = bool(self.flags.get("cvs_exclude"))
        if not self.filters and not cvs_exclude and not self._protected_backups():
            return Filters()
        from arsync.uring.selection import read_rules

        settings = Settings(
            null_separated=bool(self.flags.get("from0")),
            delete_excluded=bool(self.flags.get("delete_excluded")),
        )
        given = [*self.filters, *self._protected_backups()]
        return parse_filters(given, read_rules, cvs_exclude=cvs_exclude, settings=settings)

    def _protected_backups(self) -> list[tuple[str, bytes]]:
        """Return the rule that keeps backups beside what they are of from being deleted."""
        excluded = self.flags.get("delete_excluded")
        if not self._deletes() or excluded or not self.flags.get("backup") or self.backup_dir:
            return []
        suffix = "~" if self.suffix is None else self.suffix
        return [("filter", b"P *" + os.fsencode(suffix))]

    def _deletes(self) -> bool:
        return bool(self.deletes or self.delete_times or self.flags.get("delete_excluded"))

    def _files_from(self) -> tuple[bytes, ...] | None:
        if self.files_from is None:
            return None
        from arsync.filelist import read_lines
        from arsync.uring.selection import read_rules

        path = os.fsencode(self.files_from)
        try:
            text = read_rules(path)
        except OSError as error:
            reason = describe("read the list", path, error.errno or 0)
            raise UsageError(f"--files-from: {reason}") from None
        return read_lines(text, null_separated=bool(self.flags.get("from0")))

    def _delete_policy(self, flags: dict[str, Any]) -> DeletePolicy:
        if len(self.delete_times) > 1:
            raise UsageError("only one of the --delete-WHEN options can be given")
        when = "after" if self._deletes() else "never"
        for time in self.delete_times:
            when = _TIMES[time]
        return DeletePolicy(**_of(_DELETE, {**flags, "when": when}))

    def _owners(self) -> OwnerPolicy:
        numeric = bool(self.flags.get("numeric_ids"))
        maps: list[IdMap | None] = []
        for given, table in ((self.user_map, users), (self.group_map, groups)):
            if given is None:
                maps.append(None)
            else:
                option, text = given
                maps.append(parse_map(text, option, table(), numeric_ids=numeric))
        return OwnerPolicy(numeric_ids=numeric, users=maps[0], groups=maps[1])

    def _itemize(self) -> int:
        return min(self.counts.get("itemize_changes", 0), 2)

    def _name_level(self) -> int:
        named = max(min(self.counts.get("verbose", 0), 2), int(bool(self.flags.get("progress"))))
        return self.info.get("name", named)

    def _skip_level(self) -> int:
        return self.info.get("skip", int(self.counts.get("verbose", 0) > 1))

    def _stats_level(self, verbosity: int) -> int:
        level = min(verbosity, 1)
        if self.flags.get("stats"):
            level = 3 if verbosity > 1 else 2
        return self.info.get("stats", level)

    def _log_format(self) -> str:
        if self.log_format == OutputOptions.log_format:
            return self.log_format
        return _checked(self.log_format, "--log-file-format")

    def _out_format(self) -> str | None:
        if self.out_format is not None:
            if self.flags.get("json"):
                raise UsageError("--json cannot be used with --out-format")
            return _checked(self.out_format, "--out-format")
        if self._itemize():
            return "%i %n%L"
        return "%n%L" if self._name_level() else None


def info_levels(text: str) -> Iterator[tuple[str, int]]:
    """Yield each name of an --info with its level, as written."""
    for word in filter(None, text.lower().split(",")):
        name = word.rstrip("0123456789")
        yield name, int(word[len(name) :] or 1)


def _only_once(earlier: tuple[str, str] | None, option: str, text: str) -> tuple[str, str]:
    """Refuse a second map: rsync does, since only the first match of one list would count."""
    if earlier is None:
        return option, text
    if earlier[0] == option:
        raise UsageError(f"{option} can be given once only")
    raise UsageError(f"{option} conflicts with {earlier[0]} before it")


def _checked(text: str, option: str) -> str:
    """Return a format when every escape in it can be filled, before anything is done."""
    from arsync.itemize import LineFormat

    LineFormat(text, 0, option=option)
    return text


def _of(names: tuple[str, ...], flags: dict[str, Any]) -> dict[str, Any]:
    return {name: flags[name] for name in names if name in flags}
