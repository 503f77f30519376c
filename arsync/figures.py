"""Write numbers as people and rsync's readers expect them: counts, sizes, rates, times.

Owns the four levels of rsync's --human-readable. It must not know what is counted.
"""

from __future__ import annotations

from typing import Final

__all__ = ["clock", "counted", "grouped", "human", "rate", "seconds", "size"]

_LETTERS: Final = "KMGTP"
_BASES: Final = {2: 1000, 3: 1024}


def human(number: int, level: int) -> str:
    """Write a number as rsync writes it.

    Args:
        level: 0 plain digits, 1 grouped by commas, 2 units of 1000, 3 units of 1024.
    Source: rsync(1), --human-readable.
    """
    base = _BASES.get(level)
    if base is None or number < base:
        return f"{number:,}" if level else str(number)
    value, letter = _scaled(number, base)
    return f"{value:.2f}{letter}"


def size(byte_count: int, level: int = 1) -> str:
    """Write a size for a sentence: `2.61 GB`, `2.43 GiB` at level 3, `2610000000 bytes` at 0."""
    if level == 0:
        return f"{byte_count} bytes"
    base = _BASES.get(level, 1000)
    if byte_count < base:
        return f"{byte_count} bytes" if byte_count != 1 else "1 byte"
    value, letter = _scaled(byte_count, base)
    if value >= 999.5 and letter != _LETTERS[-1]:  # would be written as four digits
        value, letter = value / base, _LETTERS[_LETTERS.index(letter) + 1]
    unit = f"{letter}iB" if base == 1024 else f"{'k' if letter == 'K' else letter}B"
    return f"{_three_digits(value)} {unit}"


def rate(bytes_per_s: float, level: int = 1) -> str:
    """Write a rate: `813 MB/s`, `813000000 B/s` at level 0."""
    text = size(int(bytes_per_s), level)
    return text.replace(" bytes", " B").replace(" byte", " B") + "/s"


def grouped(number: int, level: int = 1) -> str:
    """Write a count: with commas between groups of three digits, plain at level 0."""
    return human(number, min(level, 1))


def counted(number: int, one: str, many: str = "", *, level: int = 1) -> str:
    """Write a count with its noun: `1 file`, `2,000 files`, `2000 files` at level 0.

    Args:
        many: the plural, where it is more than an s.
    """
    return f"{grouped(number, level)} {one if number == 1 else many or one + 's'}"


def seconds(elapsed_s: float) -> str:
    """Write how long something took: `0.04 s`, `3.2 s`, `47 s`, `1:02:03`."""
    if elapsed_s < 0.995:
        return f"{elapsed_s:.2f} s"
    if elapsed_s < 9.95:
        return f"{elapsed_s:.1f} s"
    return f"{elapsed_s:.0f} s" if elapsed_s < 59.5 else clock(elapsed_s)


def clock(elapsed_s: float) -> str:
    """Write a time as on a clock: `0:07`, `12:34`, `1:02:03`, `3d 01:02:03`."""
    minutes, second = divmod(round(elapsed_s), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _scaled(number: int, base: int) -> tuple[float, str]:
    """Return a number of at least one unit in the largest unit that it fills."""
    power = 1
    while power < len(_LETTERS) and number >= base ** (power + 1):
        power += 1
    return number / base**power, _LETTERS[power - 1]


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
