"""Rsync's filter rules: parse them, inherit them from directory to directory, find what decides.

Owns which rules are in force; what one of them matches is in patterns.py. It must not look at the
filesystem: whoever calls says how files are read. The matcher here is the plain one; what C applies
to whole directories is made of the same rules by uring/selection.py and must decide the same.

Source: rsync(1), "FILTER RULES"; the installed rsync is the oracle of the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from arsync.errors import FileError, UsageError, describe, quoted
from arsync.patterns import Rule, Side

__all__ = [
    "DirMerge",
    "Directory",
    "Entry",
    "Filters",
    "Settings",
    "absolute_root",
    "check",
    "check_xattr",
    "enter",
    "inherit",
    "parse_filters",
]

CVS_IGNORED: Final = b"""
    RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* _$* *$
    *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core
    .svn/ .git/ .hg/ .bzr/
"""
"""What -C leaves out before anybody's .cvsignore."""

ReadFile = Callable[[bytes], bytes]
"""Return what is in a file, or raise OSError."""

_NO_SIDE: Final = Side(0)


@dataclass(frozen=True)
class _Head:
    """Hold what stands before a pattern: the rule's name and its modifiers."""

    kind: bytes = b"-"
    include: bool = False
    sides: Side = _NO_SIDE
    negate: bool = False
    absolute: bool = False
    perishable: bool = False
    xattr: bool = False
    no_prefixes: bool = False
    word_split: bool = False
    no_inherit: bool = False
    cvs: bool = False
    exclude_self: bool = False

    @property
    def is_merge(self) -> bool:
        """Tell whether a file name follows, not a pattern."""
        return self.kind in (b".", b":")


@dataclass(frozen=True)
class Settings:
    """Say how all rules of a run are read.

    Args:
        null_separated: those in files end with a NUL, not with LF, CR or both (-0).
        delete_excluded: one that does not say its side hides, and does not protect.
    """

    null_separated: bool = False
    delete_excluded: bool = False


_PLAIN: Final = Settings()


@dataclass(frozen=True)
class DirMerge:
    """Hold a per-directory merge file, and its rules in one directory.

    Args:
        name: of the file.
        head: what the rules in it take over.
        settings: of the run.
        start: the directory from which the parents of the transfer are looked at too; None when
            that is done, or not asked for.
        rules: the directory's own before the inherited ones.
    """

    name: bytes
    head: _Head
    settings: Settings = _PLAIN
    start: bytes | None = None
    rules: tuple[Entry, ...] = ()


Entry = Rule | DirMerge


@dataclass(frozen=True)
class Filters:
    """Hold the rules of a run, in the order in which they count."""

    entries: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.entries)

    @property
    def xattr_rules(self) -> tuple[Rule, ...]:
        """Return the rules for names of extended attributes."""
        return tuple(one for one in self.entries if isinstance(one, Rule) and one.xattr)


@dataclass(frozen=True)
class Directory:
    """Hold where a directory is that a walk enters.

    Args:
        root: the absolute path of the root of the transfer.
        path: the absolute path of the directory.
    """

    root: bytes
    path: bytes


def absolute_root(root: bytes) -> bytes:
    """Return the absolute path of a root, as rules see it: links are not resolved."""
    return os.path.normpath(os.path.join(os.getcwdb(), root)).replace(b"//", b"/")


# ------------------------------------------------------------------- matching


def check(  # noqa: PLR0913 (what is asked has as many parts)
    entries: Iterable[Entry],
    root: bytes,
    path: bytes,
    *,
    is_dir: bool,
    side: Side = Side.SENDER,
    perishable: bool = True,
) -> bool | None:
    """Find the first rule that takes effect on a path, in the directory whose entries these are.

    Args:
        perishable: False in a directory that is being deleted.
    Returns: True where it includes, False where it excludes, None where there is none.
    """
    for entry in entries:
        if isinstance(entry, DirMerge):
            found = check(entry.rules, root, path, is_dir=is_dir, side=side, perishable=perishable)
            if found is not None:
                return found
        elif (
            not entry.xattr
            and entry.sides & side
            and (perishable or not entry.perishable)
            and entry.applies(root, path, is_dir=is_dir)
        ):
            return entry.include
    return None


def check_xattr(rules: Iterable[Rule], name: bytes, side: Side = Side.SENDER) -> bool | None:
    """Find the first rule that takes effect on the name of an extended attribute.

    Args:
        side: SENDER for what is copied, RECEIVER for what may be removed.
    Returns: as check.
    """
    for rule in rules:
        if rule.sides & side and rule.applies(b"/", name, is_dir=False):
            return rule.include
    return None


# ---------------------------------------------------------- from directory to directory


def enter(entries: tuple[Entry, ...], directory: Directory, read: ReadFile) -> tuple[Entry, ...]:
    """Return the rules in a directory, given those in its parent.

    Raises: UsageError for a rule in a merge file that cannot be parsed.
    """
    return tuple(
        _enter_merge(entry, directory, read) if isinstance(entry, DirMerge) else entry
        for entry in entries
    )


def inherit(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the rules in a directory without merge files, given those in its parent."""
    return tuple(
        replace(entry, rules=() if entry.head.no_inherit else inherit(entry.rules))
        if isinstance(entry, DirMerge)
        else entry
        for entry in entries
    )


def _enter_merge(merge: DirMerge, directory: Directory, read: ReadFile) -> DirMerge:
    if merge.start is not None:
        merge = _from_parents(merge, directory, read)
    rules = () if merge.head.no_inherit else enter(merge.rules, directory, read)
    text = _read_if_there(read, os.path.join(directory.path, merge.name))
    if text:
        parser = _Parser(read, directory, merge.settings)
        parser.add_file(text, merge.head, directory.path + b"/" + merge.name)
        local = enter(tuple(parser.entries), directory, read)
        rules = local if parser.cleared else local + rules
    return replace(merge, rules=rules)


def _from_parents(merge: DirMerge, directory: Directory, read: ReadFile) -> DirMerge:
    """Read the merge file in each parent of the first directory, from its start on."""
    start = os.path.normpath(os.path.join(directory.path, merge.start or b"")).replace(b"//", b"/")
    merge = replace(merge, start=None)
    above: list[bytes] = []
    parent = directory.path
    while parent != b"/":
        parent = os.path.dirname(parent)
        if parent == start or parent.startswith(start.rstrip(b"/") + b"/"):
            above.append(parent)
    for path in reversed(above):
        merge = _enter_merge(merge, Directory(directory.root, path), read)
    return merge


def _read_if_there(read: ReadFile, path: bytes) -> bytes:
    try:
        return read(path)
    except OSError:
        return b""


# -------------------------------------------------------------------- parsing


def parse_filters(
    given: Sequence[tuple[str, bytes]],
    read: ReadFile,
    *,
    cvs_exclude: bool = False,
    settings: Settings = _PLAIN,
) -> Filters:
    """Parse options in the order in which they stand on the command line.

    Args:
        given: pairs of an option's name and its value: include, exclude, filter, include-from,
            exclude-from; F, whose value does not count.
        read: gives the content of a file; "-" may be one.
        cvs_exclude: -C, whose rules come after all others.
        settings: how all of them are read.
    Raises: UsageError for a rule that cannot be parsed, FileError for a file that cannot be read.
    """
    parser = _Parser(read, None, settings)
    merge_files_named = 0
    for option, value in given:
        parser.option = f"--{option}"
        if option == "F":
            merge_files_named += 1
            if merge_files_named <= len(_F_RULES):
                parser.add(_F_RULES[merge_files_named - 1], _Head())
        elif option == "filter":
            parser.add(value, _Head())
        elif option in ("include", "exclude"):
            parser.add(value, _Head(include=option == "include"), old_prefixes=True)
        else:
            head = _Head(include=option == "include-from")
            parser.add_named_file(value, head, value, old_prefixes=True)
    if cvs_exclude:
        parser.option = "--cvs-exclude"
        parser.add(b":C", _Head())
        parser.add(b"-C", _Head())
    return Filters(tuple(parser.entries))


_F_RULES: Final = (b": /.rsync-filter", b"- .rsync-filter")

_LONG_NAMES: Final = {
    b"clear": b"!",
    b"dir-merge": b":",
    b"exclude": b"-",
    b"hide": b"H",
    b"include": b"+",
    b"merge": b".",
    b"protect": b"P",
    b"risk": b"R",
    b"show": b"S",
}
_SIDE_OF: Final = {b"H": Side.SENDER, b"S": Side.SENDER, b"P": Side.RECEIVER, b"R": Side.RECEIVER}
_SIDE_SIGNS: Final = {b"r": Side.RECEIVER, b"s": Side.SENDER}
_INCLUDING: Final = (b"+", b"S", b"R")
_SPACES: Final = b" \t\n\v\f\r"


class _Parser:
    """Parse rules into a list.

    Args:
        directory: whose merge file is parsed; None on the command line.
    """

    def __init__(self, read: ReadFile, directory: Directory | None, settings: Settings) -> None:
        self.entries: list[Entry] = []
        self.cleared = False
        self.option = "--filter"
        self._read = read
        self._directory = directory
        self._settings = settings
        self._file: bytes | None = None

    def add_named_file(
        self, path: bytes, template: _Head, name: bytes, *, old_prefixes: bool = False
    ) -> None:
        """Add the rules of a file that must be there."""
        try:
            text = self._read(path)
        except OSError as error:
            raise FileError(describe("read the filter rules", path, error.errno or 0)) from None
        self.add_file(text, template, name, old_prefixes=old_prefixes)

    def add_file(
        self, text: bytes, template: _Head, name: bytes, *, old_prefixes: bool = False
    ) -> None:
        """Add the rules of a file."""
        before, self._file = self._file, name
        for line in self._lines(text, words=template.word_split):
            self.add(line, template, old_prefixes=old_prefixes)
        self._file = before

    def _lines(self, text: bytes, *, words: bool) -> list[bytes]:
        if words:
            return text.replace(b"\0", b" ").split()
        if self._settings.null_separated:
            lines = text.split(b"\0")
        else:
            lines = text.replace(b"\r", b"\n").split(b"\n")
        return [line for line in lines if line and line[:1] not in (b"#", b";")]

    def add(self, text: bytes, template: _Head, *, old_prefixes: bool = False) -> None:
        """Add one rule."""
        if not text:
            return
        head, pattern = self._split(text, template, old_prefixes=old_prefixes)
        if head.kind == b"!":
            self.entries.clear()
            self.cleared = True
        elif head.is_merge:
            self._merge(head, pattern or b".cvsignore")
        elif head.cvs:
            self._ignore_as_cvs(head)
        else:
            self._add_rule(head, pattern)

    def _split(self, text: bytes, template: _Head, *, old_prefixes: bool) -> tuple[_Head, bytes]:
        """Take a rule apart; a rule without a prefix is as its template says."""
        head = _Head(
            include=template.include,
            negate=template.negate,
            absolute=template.absolute,
            perishable=template.perishable,
        )
        rest = text
        if template.no_prefixes:
            if text == b"!" and template.cvs:
                head = replace(head, kind=b"!")
        elif old_prefixes:
            if text[:2] in (b"- ", b"+ "):
                head, rest = replace(head, include=text[:1] == b"+"), text[2:]
            elif text == b"!":
                head = replace(head, kind=b"!")
        else:
            head, rest = self._prefix(text, head)
        if head.kind != b"!" and not rest and not head.cvs:
            raise self._error("unexpected end of filter rule", text)
        return self._with_sides(head, template, text), rest

    def _with_sides(self, head: _Head, template: _Head, text: bytes) -> _Head:
        if template.sides and head.sides:
            raise self._error("the merge rule of this file says the side, its rules may not", text)
        return replace(head, sides=head.sides | template.sides)

    def _prefix(self, text: bytes, head: _Head) -> tuple[_Head, bytes]:
        kind, at = self._kind(text)
        if kind == b"!":
            if text[at:]:
                raise self._error("'!' rule has trailing characters", text)
            return replace(head, kind=kind), b""
        head = replace(
            head,
            kind=kind,
            include=head.include or kind in _INCLUDING,
            sides=_SIDE_OF.get(kind, Side(0)),
        )
        while at < len(text) and text[at : at + 1] not in (b" ", b"_"):
            head = self._modified(head, text, at)
            at += 1
        return head, text[at + 1 :]

    def _kind(self, text: bytes) -> tuple[bytes, int]:
        """Return a rule's short name and where its modifiers begin."""
        for name, short in _LONG_NAMES.items():
            after = text[len(name) : len(name) + 1]
            if text.startswith(name) and (after in (b"", b",", b"_") or after in _SPACES):
                return short, len(name) + (after == b",")
        kind = text[:1]
        if kind not in _LONG_NAMES.values():
            raise self._error("unknown filter rule", text)
        return kind, 2 if text[1:2] == b"," else 1

    def _modified(self, head: _Head, text: bytes, at: int) -> _Head:
        sign = text[at : at + 1]
        if sign == b"x" and self._directory:
            raise self._error("in a directory's own rules modifier x is not in arsync yet", text)
        is_side_free = head.kind not in _SIDE_OF
        allowed = {
            b"-": head.is_merge and not head.no_prefixes,
            b"+": head.is_merge and not head.no_prefixes,
            b"/": True,
            b"!": not head.is_merge,
            b"C": not head.no_prefixes and is_side_free,
            b"e": head.is_merge,
            b"n": head.is_merge,
            b"p": True,
            b"r": is_side_free,
            b"s": is_side_free,
            b"w": head.is_merge,
            b"x": not head.is_merge,
        }
        if not allowed.get(sign, False):
            what = f"invalid modifier '{quoted(sign)[1:-1]}' at position {at} in filter rule"
            raise self._error(what, text)
        return _with_modifier(head, sign)

    def _merge(self, head: _Head, name: bytes) -> None:
        if head.exclude_self:
            self.entries.append(Rule(name.rpartition(b"/")[2]))
        if head.kind == b":":
            folder, slash, last = name.rpartition(b"/")
            start = folder + slash if slash else None
            self.entries.append(DirMerge(last, head, self._settings, start))
            return
        self.add_named_file(self._beside(name), head, name)

    def _beside(self, name: bytes) -> bytes:
        """Return the path of a merged file: by the merging file's where it has a slash."""
        if not self._directory:
            return name
        folder = self._directory.path if b"/" in name else self._directory.root
        return os.path.join(folder, name)

    def _ignore_as_cvs(self, head: _Head) -> None:
        perishable = replace(head, perishable=True)
        self.add_file(CVS_IGNORED, perishable, b"the default of -C")
        home = os.environb.get(b"HOME")
        if home:
            path = os.path.join(home, b".cvsignore")
            self.add_file(_read_if_there(self._read, path), head, path)
        self.add_file(os.environb.get(b"CVSIGNORE", b""), head, b"$CVSIGNORE")

    def _add_rule(self, head: _Head, pattern: bytes) -> None:
        only_dirs = len(pattern) > 1 and pattern.endswith(b"/")
        pattern = pattern[:-1] if only_dirs else pattern
        unsaid = Side.SENDER if self._settings.delete_excluded else Side.BOTH
        base = None
        if self._directory and not head.absolute and pattern.startswith(b"/"):
            base = self._directory.path
        self.entries.append(
            Rule(
                pattern,
                head.include,
                head.sides or unsaid,
                only_dirs,
                head.negate,
                head.absolute,
                head.perishable,
                base,
                head.xattr,
            )
        )

    def _error(self, what: str, text: bytes) -> UsageError:
        place = f"in {quoted(self._file)}" if self._file else self.option
        return UsageError(f"{place}: {what}: {quoted(text)}")


def _with_modifier(head: _Head, sign: bytes) -> _Head:
    if sign in _SIDE_SIGNS:
        return replace(head, sides=head.sides | _SIDE_SIGNS[sign])
    if sign == b"C":
        return replace(head, no_prefixes=True, word_split=True, no_inherit=True, cvs=True)
    return replace(
        head,
        no_prefixes=head.no_prefixes or sign in (b"-", b"+"),
        include=head.include or sign == b"+",
        absolute=head.absolute or sign == b"/",
        negate=head.negate or sign == b"!",
        exclude_self=head.exclude_self or sign == b"e",
        no_inherit=head.no_inherit or sign == b"n",
        perishable=head.perishable or sign == b"p",
        word_split=head.word_split or sign == b"w",
        xattr=head.xattr or sign == b"x",
    )
