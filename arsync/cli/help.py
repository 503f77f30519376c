"""The help: options by topic, readable at 80 columns.

Owns the layout, and the command `arsync help [COMMAND]`. What it says of an option is in the table.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import click

from arsync.cli.draft import SILENT_INFO
from arsync.cli.messages import show
from arsync.cli.option import Option, Topic, Value
from arsync.cli.run import COMMANDS, load_command
from arsync.cli.table import OPTIONS, PLAN_FILE
from arsync.errors import UsageError, quoted

__all__ = ["apply_help", "command", "info_help", "plan_help", "sync_help"]

WIDTH = 80
COLUMN = 31

USAGE = """\
Usage: arsync [OPTION]... SRC... DST
       arsync COMMAND [ARGUMENT]...

Make DST equal SRC, as rsync does it, on one Linux machine. SRC/ means what is
in SRC, SRC means SRC itself. The options are rsync's and are read in order:
-a --no-o is all of -a but the owner. --no-NAME and --no-LETTER take one back.
"""

COMMANDS_NOTE = (
    "A word is a command only as the first argument; a directory of that name is ./NAME."
)
ENDING = "Exit codes are rsync's. The manual, docs/manual.md, has every option in full.\n"

PLAN_USAGE = """\
Usage: arsync plan [OPTION]... SRC... DST [-o FILE]

Say what arsync [OPTION]... SRC... DST would do, and change nothing. Without -o
the plan is printed, as -n -i print it, or with --json; with -o it is written to
FILE, and arsync apply FILE does what it says, if nothing has changed since.
"""

PLAN_ENDING = """\
The options are those of arsync SRC... DST (arsync --help), but that the word -o
is FILE here: --owner is --owner, and the o in -rlptgoD.
"""

APPLY_USAGE = """\
Usage: arsync apply [OPTION]... FILE

Do what a plan says that arsync plan -o FILE has written. The plan is made again
first: where anything has changed since, at either side, nothing is done, what
has changed is named, and the exit code is 23.
"""

INFO_HELP = """\
NAME or NAME1 is level 1, NAME2 level 2, ...; NAME0 is silence.

backup     what has been backed up, and under which name
name       1) names of what changes, 2) of what does not too
nonreg     what is left out because it is no regular file (without being asked)
progress   1) for each file, 2) for the whole run
remove     what has been removed from SRC
skip       1) what -u, --existing and the like leave alone, 2) how it differs
stats      1) two lines at the end, 2) and 3) the table of --stats
symsafe    symlinks that are left out because they point out of SRC

all        all of these (all2)
none       none of these (all0)
help       this text
"""


def info_help() -> str:
    """Return the text of --info=help."""
    silent = f"rsync's {', '.join(SILENT_INFO)} are accepted: arsync has no such messages."
    return f"{INFO_HELP}\n{textwrap.fill(silent, WIDTH)}\n"


def sync_help() -> str:
    """Return the text of `arsync --help`."""
    parts = [USAGE, *(_topic(topic) for topic in Topic), _commands(), ENDING]
    return "\n".join(parts)


def plan_help() -> str:
    """Return the text of `arsync plan --help`."""
    return f"{PLAN_USAGE}\n{_entries([PLAN_FILE])}\n\n{PLAN_ENDING}"


def apply_help() -> str:
    """Return the text of `arsync apply --help`."""
    return f"{APPLY_USAGE}\n{_topic(Topic.OUTPUT)}"


def _names_like(_context: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in COMMANDS if name.startswith(incomplete)]


@click.command("help", help="Show the help of arsync or of a command.")
@click.argument("name", metavar="[COMMAND]", required=False, shell_complete=_names_like)
def command(name: str | None) -> int:
    """Show the help of arsync or of a command."""
    if name in (None, "sync"):
        show(sync_help())
        return 0
    if name not in COMMANDS:
        raise UsageError(f"there is no command {quoted(name or '')} (there are {_names()})")
    with click.Context(load_command(name), info_name=f"arsync {name}") as context:
        show(context.get_help() + "\n")
    return 0


def left_side(option: Option) -> str:
    """Return an option as help shows it: `-T, --temp-dir=DIR`."""
    long = f"--{option.names[0]}" if option.names else ""
    value = {Value.NONE: "", Value.REQUIRED: "={}", Value.OPTIONAL: "[={}]"}[option.value]
    letter = option.short or option.alone
    short = f"-{letter}" if letter else ""
    joined = ", ".join(filter(None, (short, long + value.format(option.metavar))))
    return joined if short else f"    {joined}"


def _topic(topic: Topic) -> str:
    lines = [f"{topic.value}:"]
    if topic is Topic.ACCEPTED:
        names = ", ".join(left_side(option).strip() for option in _of(topic))
        lines += textwrap.wrap(
            names, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )
    else:
        lines.append(_entries(_of(topic)))
    return "\n".join(lines) + "\n"


def _entries(options: Sequence[Option]) -> str:
    return "\n".join(line for option in options for line in _entry(left_side(option), option.help))


def _entry(left: str, text: str) -> Iterator[str]:
    wrapped = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False)
    head = f"  {left}".ljust(COLUMN)
    if len(head) > COLUMN:
        yield head
        head = " " * COLUMN
    yield head + wrapped[0]
    for line in wrapped[1:]:
        yield " " * COLUMN + line


def _commands() -> str:
    lines = ["Commands:"]
    for name, text in COMMANDS.items():
        lines += _entry(name, text)
    lines += textwrap.wrap(COMMANDS_NOTE, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def _of(topic: Topic) -> list[Option]:
    return [option for option in OPTIONS if option.topic is topic]


def _names() -> str:
    return ", ".join(COMMANDS)
