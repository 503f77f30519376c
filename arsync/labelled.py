"""Lay out labelled lines under a heading, wrapped to the terminal.

Owns the layout of what `arsync doctor`, `arsync status` and `arsync manifest` tell people.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Line", "group"]

_LABEL_WIDTH: Final = 14
_NARROWEST: Final = 40


@dataclass(frozen=True)
class Line:
    """Hold what is said, and of what."""

    label: str
    text: str


def group(heading: str, lines: Iterable[Line], width: int) -> str:
    """Return a heading and the lines below it, as text that ends in a newline.

    Args:
        width: columns of the terminal; less than 40 are taken as 40.
    """
    return heading + "\n" + "".join(_wrapped(line, max(width, _NARROWEST)) for line in lines)


def _wrapped(line: Line, width: int) -> str:
    label = f"  {line.label:<{_LABEL_WIDTH}}"
    return (
        textwrap.fill(
            line.text,
            width,
            initial_indent=label,
            subsequent_indent=" " * len(label),
            break_on_hyphens=False,
            break_long_words=False,  # a path that is copied from there has to be one
        )
        + "\n"
    )
