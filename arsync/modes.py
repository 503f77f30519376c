"""Compile --chmod into a table that C applies row by row.

Owns the grammar of --chmod and what each of its items does to a mode. It must not know where the
mode comes from. `apply_modes` is the definition; C does the same with the same rows.

A row changes a mode in this order: `mode & and_mask`, then `| or_mask` (without 0111 where the
row keeps X and the file had no x at first), then the copied bits are added or removed:
`((mode_before_row >> copy_shift) & 7) * 0111 & copy_mask`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from arsync.errors import UsageError

__all__ = ["CopyBits", "ModeRule", "apply_modes", "parse_modes"]

_ALL = 0o7777
_EXECUTE = 0o111
_CLASS_BITS = {"u": 0o100, "g": 0o010, "o": 0o001, "a": 0o111}
_SET_ID = {"u": 0o4000, "g": 0o2000, "o": 0, "a": 0o6000}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0o1000, "a": 0o7000}
_COPY_SHIFT = {"u": 6, "g": 3, "o": 0}
_ITEM = re.compile(
    r"(?P<octal>(?P<octal_who>[DF]*)0*(?P<digits>[0-7]{1,4}))"
    r"|(?P<who>[DFugoa]*)(?P<op>[-+=])(?:(?P<bits>[rwxXst]*)|(?P<copy>[ugo]))"
)


class CopyBits(IntEnum):
    """Say what becomes of the bits copied from another class."""

    NONE = 0
    ADD = 1
    REMOVE = 2


@dataclass(frozen=True)
class ModeRule:
    """Hold one compiled item of --chmod, as wide as C needs it.

    Args:
        to_dirs, to_files: what it applies to; everything but a directory is a file here.
        and_mask, or_mask: of 07777.
        keep_x: leave 0111 out of or_mask for a file that had no x bit before the first rule.
        copy: whether bits copied from another class are added, removed or not wanted.
        copy_shift: 6, 3 or 0: the class to copy from.
        copy_mask: the classes to copy to, as a mask of 0777.
    """

    to_dirs: bool
    to_files: bool
    and_mask: int
    or_mask: int
    keep_x: bool = False
    copy: CopyBits = CopyBits.NONE
    copy_shift: int = 0
    copy_mask: int = 0


def parse_modes(text: str, umask: int) -> tuple[ModeRule, ...]:
    """Compile one --chmod value.

    Args:
        text: items separated by commas, as chmod(1) has them, each with an optional D or F.
        umask: the process's own; an item that names no class leaves its bits alone.
    Returns: rules in the order in which they apply.
    Raises: UsageError that names the item.
    Source: rsync(1), --chmod; compared with rsync 3.5.0 by the tests.
    """
    return tuple(_parse_item(item, text, umask) for item in text.split(","))


def apply_modes(rules: Iterable[ModeRule], mode: int) -> int:
    """Return the mode (type bits included) that the rules make of a mode."""
    is_dir = stat.S_ISDIR(mode)
    had_x = is_dir or bool(mode & _EXECUTE)
    for rule in rules:
        if not (rule.to_dirs if is_dir else rule.to_files):
            continue
        copied = ((mode >> rule.copy_shift) & 7) * _EXECUTE & rule.copy_mask
        added = rule.or_mask if had_x or not rule.keep_x else rule.or_mask & ~_EXECUTE
        mode = mode & (rule.and_mask | ~_ALL) | added
        if rule.copy is CopyBits.ADD:
            mode |= copied
        elif rule.copy is CopyBits.REMOVE:
            mode &= ~copied
    return mode


def _parse_item(item: str, text: str, umask: int) -> ModeRule:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise UsageError(f"--chmod: cannot read {item!r} in {text!r} (write u+rwX, Dg+s or F644)")
    who = match["octal_who"] if match["octal"] else match["who"]
    if "D" in who and "F" in who:
        raise UsageError(f"--chmod: {item!r} says both D and F")
    applies = ("F" not in who, "D" not in who)
    if match["octal"]:
        return ModeRule(*applies, and_mask=0, or_mask=int(match["digits"], 8))
    classes = "".join(sorted(set(who) - set("DF")))
    if match["copy"]:
        return _copy_rule(applies, classes, match["op"], match["copy"], umask)
    return _bits_rule(applies, classes, match["op"], match["bits"], umask)


def _bits_rule(
    applies: tuple[bool, bool], classes: str, op: str, letters: str, umask: int
) -> ModeRule:
    where = _union(_CLASS_BITS, classes)
    set_id = _union(_SET_ID, classes)
    what = sum(
        {"r": 4, "w": 2, "x": 1}[letter] for letter in set(letters.replace("X", "x")) & set("rwx")
    )
    bits = where * what if where else (_EXECUTE * what) & ~umask
    top = (set_id or 0o4000) if "s" in letters else 0
    top |= 0o1000 if "t" in letters else 0
    keep_x = "X" in letters
    if op == "+":
        return ModeRule(*applies, and_mask=_ALL, or_mask=bits | top, keep_x=keep_x)
    if op == "-":
        return ModeRule(*applies, and_mask=_ALL & ~(bits | top), or_mask=0, keep_x=keep_x)
    cleared = (where or _EXECUTE) * 7 | (set_id if top else 0)
    return ModeRule(*applies, and_mask=_ALL & ~cleared, or_mask=bits | top, keep_x=keep_x)


def _copy_rule(
    applies: tuple[bool, bool], classes: str, op: str, source: str, umask: int
) -> ModeRule:
    target = _union(_CLASS_BITS, classes) * 7
    special = _union(_SPECIAL, classes or "a")
    cleared = (target or 0o777) | special if op == "=" else 0
    return ModeRule(
        *applies,
        and_mask=_ALL & ~cleared,
        or_mask=0,
        copy=CopyBits.REMOVE if op == "-" else CopyBits.ADD,
        copy_shift=_COPY_SHIFT[source],
        copy_mask=target or (0o777 & ~umask),
    )


def _union(table: dict[str, int], classes: str) -> int:
    union = 0
    for letter in classes:
        union |= table[letter]
    return union
