"""Match wildcards as rsync does: *, **, ?, classes, backslashes.

Owns nothing but the algorithm, in Python for those who read and for the tests; C has its own.

Source: rsync(1), "PATTERN MATCHING RULES".
"""

from __future__ import annotations

import string
from enum import Enum
from typing import Final

__all__ = ["ends_after_slash", "matches_from"]

_SLASH: Final = ord("/")
_STAR: Final = ord("*")

_CLASSES: Final = {
    b"alnum": string.ascii_letters + string.digits,
    b"alpha": string.ascii_letters,
    b"blank": " \t",
    b"cntrl": "".join(map(chr, range(32))) + "\x7f",
    b"digit": string.digits,
    b"graph": string.ascii_letters + string.digits + string.punctuation,
    b"lower": string.ascii_lowercase,
    b"print": string.ascii_letters + string.digits + string.punctuation + " ",
    b"punct": string.punctuation,
    b"space": string.whitespace,
    b"upper": string.ascii_uppercase,
    b"xdigit": string.hexdigits,
}
_MEMBERS: Final = {name: frozenset(text.encode()) for name, text in _CLASSES.items()}


class _Found(Enum):
    """Say how a match ended: where nothing further on can match either, and how far that goes."""

    YES = 1
    NO = 2
    NEVER = 3
    NOT_BEFORE_STARSTAR = 4


def matches_from(pattern: bytes, text: bytes, where: int) -> bool:
    """Tell whether a pattern matches a text to its end.

    Args:
        where: it begins: 0 at the start, -1 there or after any slash, n at the last n components.
    """
    if where > 0:
        start = _last_components(text, where)
        return start is not None and _match(pattern, text[start:]) is _Found.YES
    found = _match(pattern, text)
    if where == 0 or found in (_Found.YES, _Found.NEVER):
        return found is _Found.YES
    for at, sign in enumerate(text):
        if sign == _SLASH:
            found = _match(pattern, text[at + 1 :])
            if found in (_Found.YES, _Found.NEVER):
                break
    return found is _Found.YES


def ends_after_slash(text: bytes, tail: bytes) -> bool:
    """Tell whether the last components of a text are these."""
    return text == tail or text.endswith(b"/" + tail)


def _last_components(text: bytes, count: int) -> int | None:
    """Return where the last components begin, None where there are fewer."""
    slashes = text.count(b"/")
    if slashes < count:
        return 0 if slashes == count - 1 else None
    at = len(text)
    for _ in range(count):
        at = text.rfind(b"/", 0, at)
    return at + 1


def _match(pattern: bytes, text: bytes) -> _Found:
    at = 0
    t = 0
    while at < len(pattern):
        sign = pattern[at]
        if t == len(text) and sign != _STAR:
            return _Found.NEVER
        if sign == _STAR:
            return _match_star(pattern, at, text[t:])
        if sign == ord("["):
            end, is_in = _in_class(pattern, at + 1, text[t])
            if end is None:
                return _Found.NEVER
            if not is_in or text[t] == _SLASH:
                return _Found.NO
            at = end
        elif sign == ord("?"):
            if text[t] == _SLASH:
                return _Found.NO
        else:
            if sign == ord("\\"):
                at += 1
            if pattern[at : at + 1] != text[t : t + 1]:
                return _Found.NO
        at += 1
        t += 1
    return _Found.YES if t == len(text) else _Found.NO


def _match_star(pattern: bytes, at: int, text: bytes) -> _Found:
    rest = pattern[at:].lstrip(b"*")
    spans = len(pattern) - at - len(rest) > 1
    if not rest:
        return _Found.YES if spans or b"/" not in text else _Found.NO
    for t, sign in enumerate(text):
        found = _match(rest, text[t:])
        if found is not _Found.NO:
            if not spans or found is not _Found.NOT_BEFORE_STARSTAR:
                return found
        elif not spans and sign == _SLASH:
            return _Found.NOT_BEFORE_STARSTAR
    return _Found.NEVER


def _in_class(pattern: bytes, at: int, sign: int) -> tuple[int | None, bool]:
    """Return where a class ends, None for one that does not, and whether a byte is in it."""
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    is_in = False
    before = 0
    while True:
        if at >= len(pattern):
            return None, False
        this = pattern[at]
        if this == ord("\\"):
            at += 1
            if at >= len(pattern):
                return None, False
            this = pattern[at]
            is_in |= sign == this
        elif this == ord("-") and before and pattern[at + 1 : at + 2] not in (b"", b"]"):
            at += 1
            if pattern[at] == ord("\\"):
                at += 1
                if at >= len(pattern):
                    return None, False
            is_in |= before <= sign <= pattern[at]
            this = 0
        elif this == ord("[") and pattern[at + 1 : at + 2] == b":":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                return None, False
            name = pattern[at + 2 : end]
            if name.endswith(b":"):
                if name[:-1] not in _MEMBERS:
                    return None, False
                is_in |= sign in _MEMBERS[name[:-1]]
                this, at = 0, end
            else:
                is_in |= sign == this
        else:
            is_in |= sign == this
        before = this
        at += 1
        if pattern[at : at + 1] == b"]":
            return at, is_in != negated
