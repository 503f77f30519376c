"""Compile --usermap and --groupmap into ranges of ids.

Owns the grammar of the maps and what an id becomes. Names are looked up here, once, at the start;
what C gets are numbers only. It must not know whose owner is changed.

On one machine a name means the same id on both sides, so without a map every id stays what it is,
with --numeric-ids or without.
"""

from __future__ import annotations

import functools
import grp
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from arsync.errors import UsageError

__all__ = ["IdMap", "IdRange", "NameTable", "groups", "parse_map", "users"]

LARGEST_ID = 2**32 - 2  # 2**32 - 1 is chown's "leave it alone"


class IdRange(NamedTuple):
    """Map the ids from `low` to `high`, both included, to `to`."""

    low: int
    high: int
    to: int


@dataclass(frozen=True)
class IdMap:
    """Hold ranges in rising order that do not overlap; an id in none of them stays what it is."""

    ranges: tuple[IdRange, ...] = ()

    def __getitem__(self, number: int) -> int:
        """Return what an id becomes."""
        for low, high, to in self.ranges:
            if low <= number <= high:
                return to
        return number


@dataclass(frozen=True)
class NameTable:
    """Hold the names of users or of groups.

    Args:
        kind: "user" or "group", for messages.
        names: id to name, the name that a lookup of the id gives.
        ids: name to id, the id that a lookup of the name gives.
    """

    kind: str
    names: dict[int, str]
    ids: dict[str, int]


@functools.cache
def users() -> NameTable:
    """Read the machine's users, once."""
    return _name_table("user", ((entry.pw_name, entry.pw_uid) for entry in pwd.getpwall()))


@functools.cache
def groups() -> NameTable:
    """Read the machine's groups, once."""
    return _name_table("group", ((entry.gr_name, entry.gr_gid) for entry in grp.getgrall()))


def parse_map(text: str, option: str, table: NameTable, *, numeric_ids: bool = False) -> IdMap:
    """Compile FROM:TO pairs; the first that matches an id wins.

    FROM is an id, a range LOW-HIGH, a name, a pattern for names, or empty for ids without a name;
    `*` matches every id. TO is an id or a name. Where names are looked up through a directory
    service that does not list them, a name in full works and a pattern does not see them.

    Args:
        text: what stands on the command line.
        option: "--usermap", "--groupmap" or "--chown", for the message.
        table: the names that FROM and TO may use.
        numeric_ids: no id has a name then, so only numbers, `*` and an empty FROM match.
    Raises: UsageError that names the pair; for an unknown TO too, where rsync goes on without it.
    Source: rsync(1), --usermap; compared with rsync 3.5.0 by the tests.
    """
    if numeric_ids:
        table = NameTable(table.kind, {}, table.ids)
    claimed: list[IdRange] = []
    for pair in text.split(","):
        for wanted in _parse_pair(pair, option, table):
            claimed += _unclaimed(wanted, sorted(claimed))
    return IdMap(_merged(sorted(claimed)))


def _name_table(kind: str, entries: Iterable[tuple[str, int]]) -> NameTable:
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for name, number in entries:
        names.setdefault(number, name)
        ids.setdefault(name, number)
    return NameTable(kind, names, ids)


def _parse_pair(pair: str, option: str, table: NameTable) -> list[IdRange]:
    source, colon, target = pair.partition(":")
    if not colon:
        raise UsageError(f"{option}: {pair!r} has no colon (write FROM:TO)")
    if not target:
        raise UsageError(f"{option}: {pair!r} names nothing after the colon (write FROM:TO)")
    to = _target_id(target, option, table)
    return [IdRange(low, high, to) for low, high in _source_ids(source, option, table)]


def _target_id(text: str, option: str, table: NameTable) -> int:
    if text.isascii() and text.isdigit():
        return _id(text, option)
    known = _lookup(text, table)
    if known is None:
        raise UsageError(f"{option}: there is no {table.kind} {text!r} on this machine")
    return known


def _source_ids(text: str, option: str, table: NameTable) -> list[tuple[int, int]]:
    if text[:1].isascii() and text[:1].isdigit():
        return [_numbers(text, option)]
    if text == "":
        return _nameless(table)
    if not any(char in text for char in "*?["):
        number = _lookup(text, table) if table.names else None
        return [] if number is None else _ids_named(text, number, table)
    try:
        pattern = _pattern(text)
    except re.error as error:
        raise UsageError(f"{option}: cannot read the pattern {text!r}: {error}") from None
    matched = [(number, number) for number, name in table.names.items() if pattern.fullmatch(name)]
    return matched + (_nameless(table) if pattern.fullmatch("") else [])


def _numbers(text: str, option: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = _id(low, option)
    last = _id(high, option) if dash else first
    if last < first:
        raise UsageError(f"{option}: the range {text!r} ends before it starts")
    return first, last


def _id(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{option}: {text!r} is not an id or a name")
    if len(text) > 10 or int(text) > LARGEST_ID:
        raise UsageError(f"{option}: the id {text} is out of range (0 to {LARGEST_ID})")
    return int(text)


def _lookup(name: str, table: NameTable) -> int | None:
    """Find a name that is listed, or one that only a lookup finds."""
    if name in table.ids:
        return table.ids[name]
    try:
        return pwd.getpwnam(name).pw_uid if table.kind == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _ids_named(name: str, number: int, table: NameTable) -> list[tuple[int, int]]:
    """Give the ids whose own name this is; an id with a second name answers to its first."""
    return [(number, number)] if table.names.get(number, name) == name else []


def _nameless(table: NameTable) -> list[tuple[int, int]]:
    gaps = []
    start = 0
    for number in sorted(table.names):
        if start < number:
            gaps.append((start, number - 1))
        start = number + 1
    return [*gaps, (start, LARGEST_ID)] if start <= LARGEST_ID else gaps


def _unclaimed(wanted: IdRange, claimed: list[IdRange]) -> list[IdRange]:
    """Give the parts of a range that no earlier range holds; `claimed` is sorted."""
    parts = []
    start = wanted.low
    for low, high, _ in claimed:
        if high < start or low > wanted.high:
            continue
        if start < low:
            parts.append(IdRange(start, low - 1, wanted.to))
        start = high + 1
    if start <= wanted.high:
        parts.append(IdRange(start, wanted.high, wanted.to))
    return parts


def _merged(ranges: list[IdRange]) -> tuple[IdRange, ...]:
    """Join neighbours with the same target; a `*` then is one range, not one for each name."""
    merged: list[IdRange] = []
    for low, high, to in ranges:
        if merged and merged[-1].to == to and merged[-1].high + 1 == low:
            merged[-1] = IdRange(merged[-1].low, high, to)
        else:
            merged.append(IdRange(low, high, to))
    return tuple(merged)


def _pattern(text: str) -> re.Pattern[str]:
    """Translate a shell pattern with rsync's `[^...]` and backslashes.

    A colon ends FROM, so a class like [:alpha:] cannot be in it.
    """
    parts = []
    at = 0
    while at < len(text):
        char = text[at]
        end = _bracket_end(text, at) if char == "[" else -1
        if char == "*":
            parts.append(".*")
        elif char == "?":
            parts.append(".")
        elif char == "\\" and at + 1 < len(text):
            at += 1
            parts.append(re.escape(text[at]))
        elif end > 0:
            parts.append(_bracket(text[at + 1 : end]))
            at = end
        else:
            parts.append(re.escape(char))
        at += 1
    return re.compile("".join(parts), re.DOTALL)


def _bracket_end(text: str, start: int) -> int:
    """Find the `]` that closes a set; one that comes first belongs to the set."""
    at = start + 1
    if text[at : at + 1] in ("!", "^"):
        at += 1
    return text.find("]", at + 1)


def _bracket(body: str) -> str:
    negated = body[:1] in ("!", "^")
    members = body[1:] if negated else body
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    return f"[{'^' if negated else ''}{escaped}]"
