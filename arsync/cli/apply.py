"""The command `arsync apply FILE`.

Owns the order: read the plan, see that it still holds, only then run. What still holds is
planfile's to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from arsync.cli.fold import Folded
from arsync.cli.option import Topic
from arsync.cli.parser import WordsCommand
from arsync.cli.preliminaries import answered, folded_here
from arsync.cli.table import OPTIONS
from arsync.cli.words import CommandLine
from arsync.errors import StalePlanError, UsageError, quoted
from arsync.options import OutputOptions

if TYPE_CHECKING:
    from arsync.model import Progress
    from arsync.planfile.differences import Difference
    from arsync.planfile.lines import PlanFile

__all__ = ["command"]

_TOPICS = (Topic.OUTPUT, Topic.ABOUT)


def run_apply(line: CommandLine) -> int:
    """Run one command line.

    Returns: the exit code of the run.
    Raises: StalePlanError where the plan does not hold any more; other ArsyncErrors.
    """
    if answered(line, _help):
        return 0
    for item in line.given:
        if item.option.topic not in _TOPICS:
            raise UsageError(
                f"{item.spelled} belongs to the plan ('arsync plan' takes it): apply takes options "
                "about output only"
            )
    if len(line.operands) != 1:
        what = "more than one FILE is given" if line.operands else "FILE is missing"
        raise UsageError(f"{what}: apply takes one, which 'arsync plan -o FILE' has written")
    folded = folded_here(line.given)
    from arsync.planfile.lines import read_plan

    return _apply(read_plan(line.operands[0]), folded)


def _apply(plan: PlanFile, folded: Folded) -> int:
    from arsync.cli.transfer import transfer
    from arsync.planfile.header import check_header, within

    folded = _options_of(plan, folded)
    path = os.path.abspath(plan.path)
    with within(plan.header.directory):
        check_header(plan.header, plan.path)
        _check_entries(replace(plan, path=path), plan.path, folded)
        operands = [os.fsdecode(one) for one in plan.header.operands]
        return transfer(operands, os.fsdecode(plan.header.destination.path), folded)


def _options_of(plan: PlanFile, folded: Folded) -> Folded:
    """Return the plan's options, with what is told as this command line says it."""
    from arsync.planfile.header import told_as

    log_file = folded.output.log_file
    output = folded.output
    if log_file is not None:  # the run is at work in the plan's directory
        output = replace(output, log_file=os.path.abspath(log_file))
    return Folded(told_as(plan.header.options, folded.sync), output, folded.notes)


def _check_entries(plan: PlanFile, name: str, folded: Folded) -> None:
    """See that a plan made now is the same; else name what differs."""
    from arsync.planfile.differences import differences, is_current

    with _view(folded.output) as progress:
        if is_current(plan, progress):
            return
        found = differences(plan, progress)
    count = 0
    tell = _told_how(folded.output)
    for one in found:
        count += 1
        tell(one)
    what = f"{count:,} {'entry differs' if count == 1 else 'entries differ'}"
    if not count:  # it did when it was looked at first
        what = "something is changing, and differed"
    raise StalePlanError(
        f"nothing is done: {what} from the plan {quoted(name)} ('arsync plan' makes a new one)"
    )


@contextmanager
def _view(output: OutputOptions) -> Iterator[Callable[[Progress], None] | None]:
    """Show how far the comparison is, where a run would have a live view."""
    from arsync.cli.terminal import Terminal, is_dumb, is_watched

    if output.quiet or output.json or not output.live_view or not is_watched() or is_dumb():
        yield None
        return
    terminal = Terminal(live=True, level=output.human_readable)
    try:
        yield lambda progress: terminal.update(replace(progress, phase="comparison with the plan"))
    finally:
        terminal.close()


def _told_how(output: OutputOptions) -> Callable[[Difference], None]:
    from arsync.cli.messages import StandardOutput, tell
    from arsync.events import EventWriter

    if output.json:
        events = EventWriter(StandardOutput())
        return lambda one: events.difference(one.path, one.how, one.src, one.dst, action=one.action)
    if output.quiet:
        return lambda _one: None
    return lambda one: tell(f"{one}\n")


def _help() -> str:
    from arsync.cli.help import apply_help

    return apply_help()


_OWN = tuple(option for option in OPTIONS if option.topic in _TOPICS)

command = WordsCommand("apply", run_apply, _help, _OWN, OPTIONS)
