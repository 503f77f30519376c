"""Read sizes and rates as rsync writes them: `256M`, `1.5g`, `10kb`, `2g+1`.

Owns the grammar of a size. It must not know what the size is for, except its name in a message.
"""

from __future__ import annotations

import re
from decimal import Decimal

from arsync.errors import UsageError

__all__ = ["parse_block_size", "parse_count", "parse_rate", "parse_size"]

_SIZE = re.compile(r"(\d*(?:\.\d*)?)(?:([bkmgtp])(b|ib)?)?([+-]1)?", re.ASCII | re.IGNORECASE)
_POWERS = "bkmgtp"
_LARGEST = 2**63 - 1
_SMALLEST_RATE = 512
_LARGEST_BLOCK = 128 * 1024


def parse_size(text: str, option: str, *, unit: str = "b") -> int:
    """Read a size with an optional suffix.

    One letter, or a letter and `ib`, counts in 1024s; a letter and `b` counts in 1000s; `+1` or
    `-1` at the end moves the result by one byte. Fractions of a byte are dropped.

    Args:
        text: what stands on the command line.
        option: the option's name with its dashes, for the message.
        unit: the letter that is meant where none is given.
    Returns: bytes.
    Raises: UsageError where the text is no size, or one that no file can have.
    Source: rsync(1), --max-size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{option}: {text!r} is not a size (write 4096, 64K, 1.5M, 2GiB or 10MB)")
    number, letter, tail, step = match.groups()
    base = 1000 if (tail or "").lower() == "b" else 1024
    digits = number if number not in ("", ".") else "0"
    scaled = Decimal(digits) * base ** _POWERS.index((letter or unit).lower())
    size = int(scaled) + int(step or 0)
    if size < 0 or size > _LARGEST:
        raise UsageError(f"{option}: {text!r} is out of range (0 to {_LARGEST} bytes)")
    return size


def parse_rate(text: str, option: str) -> int:
    """Read a rate as --bwlimit has it: KiB a second where no suffix says otherwise.

    Returns: bytes a second, rounded to whole KiB as rsync rounds; 0 means no limit.
    Raises: UsageError where it is no rate, or one below 512 bytes a second.
    Source: rsync(1), --bwlimit.
    """
    size = parse_size(text, option, unit="k")
    if 0 < size < _SMALLEST_RATE:
        raise UsageError(
            f"{option}: {text!r} is too small (at least {_SMALLEST_RATE} bytes a second, "
            "or 0 for no limit)"
        )
    return (size + 512) // 1024 * 1024


def parse_block_size(text: str, option: str) -> int:
    """Read a size as --block-size has it.

    Raises: UsageError where it is none, or more than 128 KiB.
    Source: rsync(1), --block-size.
    """
    block = parse_size(text, option)
    if block > _LARGEST_BLOCK:
        raise UsageError(f"{option}: {text!r} is out of range (0 to {_LARGEST_BLOCK} bytes)")
    return block


def parse_count(text: str, option: str) -> int:
    """Read a whole number, of either sign; its range is checked where it is used.

    Raises: UsageError where the text is none.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise UsageError(f"{option}: {text!r} is not a whole number")
    return int(text)
