"""What one include or exclude rule is compared with, and whether it takes effect.

Owns the meaning of a pattern. Where rules come from and which of them counts is the business of
filters.py.

Source: rsync(1), "PATTERN MATCHING RULES".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag

from arsync.wildcards import ends_after_slash, matches_from

__all__ = ["Rule", "Scope", "Side"]


class Side(IntFlag):
    """Say on which side a rule counts: hiding from the transfer, or protecting from deletion."""

    SENDER = 1
    RECEIVER = 2
    BOTH = 3


class Scope(Enum):
    """Say what a pattern is compared with."""

    NAME = 0  # the last component
    PATH = 1  # the path from the root of the transfer
    SLASHED = 2  # the same with a slash before it, which a leading ** may match
    FULL = 3  # the absolute path, without its first slash
    BELOW = 4  # the path from the directory of the rule's merge file


@dataclass(frozen=True)
class Rule:
    """Hold one include or exclude rule.

    Args:
        pattern: without the slash at its end.
        only_dirs: there was such a slash.
        negate: it takes effect where the pattern does not match (!).
        absolute: paths are compared from / on (the modifier /).
        perishable: it does not count in a directory that is being deleted.
        base: the absolute path of the merge file's directory, for a pattern that begins with /.
        xattr: it is for names of extended attributes, not for paths (the modifier x).
    """

    pattern: bytes
    include: bool = False
    sides: Side = Side.BOTH
    only_dirs: bool = False
    negate: bool = False
    absolute: bool = False
    perishable: bool = False
    base: bytes | None = None
    xattr: bool = False

    @property
    def is_anchored(self) -> bool:
        """Tell whether the pattern begins where the paths begin."""
        return self.pattern.startswith(b"/")

    @property
    def body(self) -> bytes:
        """Return the pattern without the slash that anchors it."""
        return self.pattern[1:] if self.is_anchored else self.pattern

    @property
    def is_wild(self) -> bool:
        """Tell whether it has wildcards, and backslashes escape therefore."""
        return any(sign in self.pattern for sign in (b"*", b"[", b"?"))

    @property
    def takes_content(self) -> bool:
        """Tell whether it ends in ***: a directory and all that is in it."""
        return self.pattern.endswith(b"***")

    def scope(self, root: bytes) -> Scope:
        """Return what the pattern is compared with, in a transfer of an absolute root."""
        spans_slashes = b"**" in self.pattern
        if self.base is not None:
            return Scope.BELOW
        if b"/" not in self.pattern and not spans_slashes:
            return Scope.NAME
        if self.absolute and root != b"/":
            return Scope.FULL
        return Scope.SLASHED if self.pattern.startswith(b"**") else Scope.PATH

    @property
    def where(self) -> int:
        """Return where the match begins: 0 at the start, -1 after any slash, n at the last n."""
        if self.is_anchored:
            return 0
        if b"**" in self.pattern:
            return 0 if self.pattern.startswith(b"**") else -1
        slashes = self.pattern.count(b"/")
        return slashes + 1 if slashes else 0

    def applies(self, root: bytes, path: bytes, *, is_dir: bool) -> bool:
        """Tell whether it takes effect on a path.

        Args:
            root: the absolute path of the root of the transfer.
            path: below it.
        """
        if self.only_dirs and not is_dir:
            return self.negate
        text = _text(self, self.scope(root), root, path)
        if is_dir and self.takes_content:
            text += b"/"
        return self._matches(text) is not self.negate

    def _matches(self, text: bytes) -> bool:
        if self.is_wild:
            return matches_from(self.body, text, self.where)
        return ends_after_slash(text, self.body) if self.where else text == self.body


def _text(rule: Rule, scope: Scope, root: bytes, path: bytes) -> bytes:
    full = root.rstrip(b"/") + b"/" + path
    if scope is Scope.NAME:
        return path.rpartition(b"/")[2]
    if scope is Scope.SLASHED:
        return b"/" + path
    if scope is Scope.FULL:
        return full[1:]
    if scope is Scope.BELOW:
        return full[len((rule.base or b"").rstrip(b"/")) + 1 :]
    return path
