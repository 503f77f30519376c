"""Fold the options in the order given into what the run and its reader are told.

Owns the fold, the default of -a, and what -v says about options without effect. It must not know
how options are spelled nor run anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arsync.cli.draft import Draft
from arsync.cli.table import MODE_OPTIONS
from arsync.cli.words import Given
from arsync.options import OutputOptions, SyncOptions

__all__ = ["Folded", "fold"]


@dataclass(frozen=True)
class Folded:
    """Hold what a command line means.

    Args:
        notes: a sentence for each option that has no effect here, for -v.
    """

    sync: SyncOptions
    output: OutputOptions
    notes: tuple[str, ...]


def fold(given: Sequence[Given], umask: int) -> Folded:
    """Fold options in their order: later ones change what earlier ones made.

    Args:
        umask: the process's own, which --chmod needs.
    Raises: UsageError for a value that makes no sense or options that exclude one another.
    """
    draft = Draft(umask=umask)
    if not any(item.option.key in MODE_OPTIONS for item in given):
        draft.archive()
    for item in given:
        change = item.option.negate if item.negated else item.option.apply
        if change:
            change(draft, item.value)
    return Folded(draft.sync_options(), draft.output_options(), _notes(given, draft))


def _notes(given: Sequence[Given], draft: Draft) -> tuple[str, ...]:
    notes = {
        item.spelled: f"{item.spelled} has no effect: {item.option.help}"
        for item in given
        if item.option.no_effect
    }
    for name in draft.silent_info:
        notes[name] = f"--info={name} has no effect: arsync has no such messages"
    return tuple(notes.values())
