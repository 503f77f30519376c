"""Check the operands: what can be said about SRC and DST without looking at them.

Owns the message for what rsync would take to another machine. Whether SRC is there is the run's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from arsync.errors import UsageError, quoted

__all__ = ["check_operands"]

_REMOTE = re.compile(r"rsync://|[^/]*:", re.IGNORECASE)


def check_operands(operands: Sequence[str], commands: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the sources and the destination.

    Args:
        operands: as they stand on the command line.
        commands: the commands there are, for a hint when one is misspelled.
    Raises: UsageError where one is missing, empty or on another machine.
    """
    if not operands:
        raise UsageError("SRC and DST are missing (arsync --help shows how it is used)")
    for operand in operands:
        _check_local(operand)
    if len(operands) == 1:
        raise UsageError(
            f"DST is missing after {quoted(operands[0])}{_hint(operands[0], commands)}"
        )
    return list(operands[:-1]), operands[-1]


def _check_local(operand: str) -> None:
    if not operand:
        raise UsageError("an operand is empty (write . for the current directory)")
    if _REMOTE.match(operand):
        raise UsageError(
            f"{quoted(operand)} is on another machine, and arsync is local "
            f"(a file of that name here is {quoted('./' + operand)})"
        )


def _hint(word: str, commands: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(commands), n=1, cutoff=0.6)
    if near:
        return f" (did you mean the command {near[0]!r}?)"
    return " (rsync would list it; that is not in arsync yet)"
