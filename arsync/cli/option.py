"""What an option of the command line is, and the few kinds there are.

Owns the description of an option and its constructors. It must not know which options exist
(table.py) nor how words are taken apart (words.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from arsync.cli.draft import Draft
from arsync.sizes import parse_count, parse_size

__all__ = ["Option", "Topic", "Value", "accepted", "choice", "count", "flag", "number", "size"]

Apply = Callable[[Draft, str], None]
"""Change the draft for one occurrence, given its value ("" where it has none)."""

Check = Callable[[str, str], object]
"""Read a value, given with the option's name for the UsageError."""


class Topic(Enum):
    """Name a group of options in the help and the manual."""

    WHAT = "What is copied"
    KEPT = "What is kept of it"
    SELECTION = "What is left out"
    UPDATE = "What is brought up to date"
    DELETION = "What is deleted at DST"
    LINKS = "Symlinks that are followed or left out"
    OWNERS = "Modes and owners"
    WRITING = "How files are written"
    MANIFEST = "What is remembered"
    ENGINE = "Engine"
    OUTPUT = "Output"
    ABOUT = "About arsync"
    ACCEPTED = "Accepted for scripts written for rsync, without effect here"


class Value(Enum):
    """Say whether an option takes a value."""

    NONE = 0
    REQUIRED = 1
    OPTIONAL = 2  # only as --option=value


@dataclass(frozen=True)
class Option:
    """Describe one option.

    Args:
        names: long names without dashes; help shows the first; none for -D and -P.
        short: its letter, or "".
        help: one line; for an accepted option the reason why it does nothing.
        apply: what an occurrence does.
        negate: what --no-NAME does; None where there is no such form.
        metavar, choices: what stands for the value in help and completion.
        ends: nothing after it is read (--help, --version).
        alone: a letter that means it only as a word of its own: among others it is another one.
    """

    names: tuple[str, ...]
    short: str
    topic: Topic
    help: str
    apply: Apply
    negate: Apply | None = None
    value: Value = Value.NONE
    metavar: str = ""
    choices: tuple[str, ...] = ()
    ends: bool = False
    alone: str = ""

    @property
    def key(self) -> str:
        """Return what it is called in messages: --name, or -X where it has no long name."""
        return f"--{self.names[0]}" if self.names else f"-{self.short}"

    @property
    def no_effect(self) -> bool:
        """Tell whether it is only accepted."""
        return self.topic is Topic.ACCEPTED


def flag(names: str, short: str, topic: Topic, text: str) -> Option:
    """Describe a switch with a --no- form; the field it sets is called like its first name."""
    field = names.split()[0].replace("-", "_")
    return Option(
        tuple(names.split()),
        short,
        topic,
        text,
        apply=partial(_set, field, True),
        negate=partial(_set, field, False),
    )


def count(names: str, short: str, topic: Topic, text: str, start: int = 0) -> Option:
    """Describe a switch that means more when repeated; --no- sets its count to 0.

    Args:
        start: the count before the first occurrence.
    """
    field = names.split()[0].replace("-", "_")

    def more(draft: Draft, _value: str) -> None:
        draft.counts[field] = draft.counts.get(field, start) + 1

    def none(draft: Draft, _value: str) -> None:
        draft.counts[field] = 0

    return Option(tuple(names.split()), short, topic, text, apply=more, negate=none)


def number(name: str, field: str, text: str) -> Option:
    """Describe an option of the engine whose value is a whole number."""

    def apply(draft: Draft, value: str) -> None:
        draft.flags[field] = parse_count(value, f"--{name}")

    return _engine(name, text, apply, "N")


def size(name: str, field: str, text: str) -> Option:
    """Describe an option of the engine whose value is a size."""

    def apply(draft: Draft, value: str) -> None:
        draft.flags[field] = parse_size(value, f"--{name}")

    return _engine(name, text, apply, "SIZE")


def choice(name: str, choices: tuple[str, ...], text: str) -> Option:
    """Describe an option of the engine whose value is one of a few words."""

    def apply(draft: Draft, value: str) -> None:
        draft.flags[name.replace("-", "_")] = value

    return _engine(name, text, apply, "WORD", choices)


def accepted(
    names: str, short: str, why: str, metavar: str = "", check: Check | None = None
) -> Option:
    """Describe an option of rsync that changes nothing here; `why` is what -v says.

    Args:
        check: of its value, which rsync refuses when it is none.
    """
    return Option(
        tuple(names.split()),
        short,
        Topic.ACCEPTED,
        why,
        apply=partial(_only_check, check, f"--{names.split()[0]}") if check else _nothing,
        negate=None if metavar else _nothing,
        value=Value.REQUIRED if metavar else Value.NONE,
        metavar=metavar,
    )


def _engine(
    name: str, text: str, apply: Apply, metavar: str, choices: tuple[str, ...] = ()
) -> Option:
    return Option(
        (name,),
        "",
        Topic.ENGINE,
        text,
        apply=apply,
        value=Value.REQUIRED,
        metavar=metavar,
        choices=choices,
    )


def _set(field: str, value: bool, draft: Draft, _value: str) -> None:
    draft.flags[field] = value


def _only_check(check: Check, name: str, _draft: Draft, value: str) -> None:
    check(value, name)


def _nothing(_draft: Draft, _value: str) -> None:
    """Change nothing: that is what an accepted option does, and -v says it."""
