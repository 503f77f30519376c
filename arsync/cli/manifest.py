"""The commands `arsync manifest show|export|import|rebuild|stat|gc`.

Owns their options, their printing and the question before something is removed. What they print is
the inventory's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arsync.cli.messages import say, show
from arsync.cli.state import (
    encoded,
    reader_of,
    say_if_held,
    state_option,
    terminal_width,
    writer_to,
)
from arsync.errors import (
    ArsyncError,
    FileError,
    PartialTransferError,
    SelectionError,
    UsageError,
    quoted,
)

if TYPE_CHECKING:
    from arsync.inventory.gone import Candidate, Leftover
    from arsync.inventory.stores import Located
    from arsync.manifest.reader import Reader

__all__ = ["command"]

FORMATS = ("jsonl", "mtree", "xxhsum")

HELP = """Read what arsync remembers of a destination.

DST is the destination, also where it was while it is not mounted, or a directory below it, or the
manifest's own directory. A run that is at work is not disturbed: what it has recorded so far is
shown.
"""

_dst = click.argument("dst", metavar="DST", type=click.Path())
_tree = click.option(
    "--tree",
    metavar="N",
    type=click.IntRange(0, 2**16 - 1),
    default=0,
    help="0 the destination, which is the default; others are sources, see stat.",
)


# No help on bare words: what is missing is said, as for all other commands.
@click.group("manifest", help=HELP, no_args_is_help=False)
def command() -> None:
    """Hold the commands about manifests."""


SHOW_HELP = """List what is recorded of DST, or of PATH below it.

\b
Before the name stand mode, links, owner, group, size and time, as in ls -l, then
  the state     h hashed, r racy, d dirty, u unstable, v volatile,
                c hashed by chunks of 4 MiB
  a day         on which the content was last verified
  8 digits      with which its XXH3-128 begins
For a file all that is recorded is shown.
"""


@command.command("show", help=SHOW_HELP)
@_dst
@click.argument("path", metavar="[PATH]", required=False, default="", type=click.Path())
@_tree
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as export does.")
def show_command(dst: str, path: str, tree: int, state: Path, as_json: bool) -> int:
    """List what is recorded."""
    from arsync.inventory.export import json_line
    from arsync.inventory.listing import entry_text, list_rows
    from arsync.inventory.rows import entries_of

    with _reading(dst, state) as (located, reader):
        wanted = _below(located.below, path)
        for sheet in entries_of(reader, tree, wanted):
            if as_json:
                show("".join(json_line(reader, tree, sheet, row) for row in sheet.rows))
            elif sheet.is_single:
                row = sheet.rows[0]
                (chunks,) = reader.chunks_of([(sheet.directory, row.name)])
                show(entry_text(sheet, row, len(chunks or b"") // 16, terminal_width()))
            else:
                show(list_rows(sheet.rows))
    return 0


EXPORT_HELP = """Write all that is recorded of DST, or of a directory below it.

\b
  jsonl   an object a line with everything that is known of an entry
  mtree   a specification as mtree(5) has it; hashes are comments
  xxhsum  a sum file: xxhsum -c FILE, in DST, reads the files and compares

The recorded hash of a file above 4 MiB is one of its chunks' hashes, which xxhsum cannot check: a
sum file leaves such files out, and names them, unless --read reads them again.
"""


@command.command("export", help=EXPORT_HELP)
@_dst
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="jsonl",
    help="Which form; jsonl if not given.",
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), help="Write FILE, whole or not at all."
)
@click.option("--read", is_flag=True, help="Read files that have no recorded sum of their own.")
@_tree
@state_option
def export_command(
    dst: str, form: str, output: str | None, read: bool, tree: int, state: Path
) -> int:
    """Write all that is recorded."""
    from arsync.inventory.export import Sums, json_lines, mtree_lines

    if read and form != "xxhsum":
        raise UsageError("--read is for --format xxhsum only")
    if read and tree:
        raise UsageError("--read reads the destination, which is --tree 0")
    with _reading(dst, state) as (located, reader), writer_to(output) as write:
        start = reader.find_directory(located.below)
        if start is None:
            raise SelectionError(f"nothing is recorded of {quoted(dst)}")
        if form != "xxhsum":
            lines = {"jsonl": json_lines, "mtree": mtree_lines}[form]
            for text in lines(reader, tree, start):
                write(text)
            return 0
        sums = Sums(say, _root_to_read(located) if read else None)
        for text in sums.lines(reader, tree, start):
            write(text)
    return _left_out(sums.big, sums.unhashed, sums.failed)


@command.command("stat", help="Say how much the manifest of DST holds, and how old it is.")
@_dst
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def stat_command(dst: str, state: Path, as_json: bool) -> int:
    """Say how much a manifest holds."""
    from arsync.inventory.report import stat_object, stat_text
    from arsync.inventory.stores import locate
    from arsync.inventory.summary import stat_store

    found = stat_store(locate(state, encoded(dst)))
    if as_json:
        show(json.dumps(stat_object(found), indent=2) + "\n")
    else:
        show(stat_text(found, time.time(), terminal_width()))
    return 0


IMPORT_HELP = """Put hashes from FILE back into the manifest of DST; - is standard input.

FILE is what export --format=jsonl has written of the same directory. A hash counts for a file that
is recorded with the type, size, time and inode that it had; it is not trusted, but read again by
the next run, where the ctime has moved. What the manifest knows already stays. A destination that
has no manifest gets one by its next run.
"""


@command.command("import", help=IMPORT_HELP)
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@_dst
@state_option
def import_command(file: str, dst: str, state: Path) -> int:
    """Put exported hashes back."""
    from arsync.figures import counted, grouped
    from arsync.inventory.restore import import_hashes
    from arsync.inventory.stores import locate
    from arsync.manifest.store import Store

    located = locate(state, encoded(dst))
    with reader_of(file) as lines, Store(located.store, encoded(dst)) as store:
        done = import_hashes(store, lines, located.below)
    show(f"imported the hashes of {counted(done.added, 'file')}\n")
    others = {
        "had one, or are in doubt": done.known,
        "are not what they were": done.changed,
        "are not recorded": done.missing,
    }
    for text, count in others.items():
        if count:
            show(f"  {grouped(count)} {text}\n")
    if done.trouble:
        raise FileError(done.trouble)
    return 0


REBUILD_HELP = """Make the manifest of DST anew, from what is there and what can still be read.

For a manifest that is damaged: that one is moved aside, and named. Recorded hashes stay with
files of the type, size, mtime and inode that they had; where ctime or inode has moved the next run
reads the file. All others have no hash. What was recorded of sources stays where it can be read.
The next run compares everything once. A manifest of a newer format is left alone (exit code 42).
"""


@command.command("rebuild", help=REBUILD_HELP)
@_dst
@state_option
def rebuild_command(dst: str, state: Path) -> int:
    """Make a manifest anew."""
    from arsync.inventory.rebuild import rebuild
    from arsync.inventory.report import rebuilt_text
    from arsync.inventory.stores import locate

    located = locate(state, encoded(dst))
    show(rebuilt_text(located, rebuild(located)))
    return 0


GC_HELP = """Remove manifests whose destinations are gone.

Gone is a destination whose filesystem is mounted and does not have it where it was. One whose
filesystem is not mounted may be a disk in a drawer: its manifest is named and kept, unless
--unmounted is given. So are manifests so damaged that nobody can tell whose they are, and what a
rebuild has put aside, unless --damaged is given. Nothing is removed without --yes, or a yes at the
terminal, and never what a run is at.
"""


@command.command("gc", help=GC_HELP)
@state_option
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--unmounted", is_flag=True, help="Also of filesystems that are not mounted now.")
@click.option("--damaged", is_flag=True, help="Also damaged ones, and what a rebuild put aside.")
def gc_command(state: Path, yes: bool, unmounted: bool, damaged: bool) -> int:
    """Remove manifests whose destinations are gone."""
    from arsync.inventory.gone import Fate, candidates, leftovers

    found = candidates(state)
    rest = leftovers(state)
    gone = [one for one in found if not one.holder and (unmounted or one.fate is Fate.DELETED)]
    doomed = [one.located.store for one in gone]
    doomed += [one.store for one in rest if damaged and not one.holder]
    for one in found:
        show(_candidate_text(one, is_kept=one not in gone))
    for other in rest:
        show(_leftover_text(other, is_kept=other.store not in doomed))
    if not (found or rest):
        show(f"no manifest in {quoted(state)} has lost its destination\n")
    if not doomed or not (yes or _agreed(len(doomed))):
        return 0
    return max(map(_removed, doomed))


def _candidate_text(one: Candidate, *, is_kept: bool) -> str:
    from arsync.figures import size

    fate = f"kept: {one.holder}" if one.holder else one.fate.value
    kept = "kept: " if is_kept and not one.holder else ""
    where = f"  {quoted(one.located.store)}, {size(one.bytes)}"
    return f"{quoted(one.located.identity.path)}\n{where}\n  {kept}{fate}\n"


def _leftover_text(one: Leftover, *, is_kept: bool) -> str:
    from arsync.figures import size

    kept = f"kept: {one.holder or one.trouble}" if is_kept else one.trouble
    return f"{quoted(one.store)}, {size(one.bytes)}\n  {kept}\n"


def _agreed(count: int) -> bool:
    """Ask whoever sits at the terminal; nobody there is no."""
    from arsync.figures import counted

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        show(f"nothing is removed: {counted(count, 'manifest')} would be with --yes\n")
        return False
    show(f"remove {counted(count, 'manifest')}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _removed(store: Path) -> int:
    from arsync.inventory.gone import remove

    try:
        remove(store)
    except ArsyncError as error:
        say(str(error))
        return error.exit_code
    show(f"removed {quoted(store)}\n")
    return 0


# --------------------------------------------------------------------------- shared


@contextmanager
def _reading(dst: str, state: Path) -> Iterator[tuple[Located, Reader]]:
    from arsync.inventory.stores import locate
    from arsync.manifest.reader import Reader

    located = locate(state, encoded(dst))
    with Reader(located.store) as reader:
        say_if_held(reader.lock)
        yield located, reader


def _below(top: bytes, path: str) -> bytes:
    """Return the path of an entry below the destination's root."""
    wanted = os.path.normpath(os.path.join(top, os.fsencode(path)))
    if wanted.startswith((b"/", b"../")) or wanted == b"..":
        raise SelectionError(f"{quoted(path)} does not lie below DST (write it as seen from there)")
    return b"" if wanted == b"." else wanted


def _root_to_read(located: Located) -> bytes:
    if located.root is None:
        raise SelectionError(f"{quoted(located.identity.path)} is not there to be read")
    return os.path.join(located.root, located.below)


def _left_out(big: int, unhashed: int, failed: int) -> int:
    from arsync.figures import counted

    if big:
        say(f"left out {counted(big, 'file')} above 4 MiB (--read reads them again)")
    if unhashed:
        say(f"left out {counted(unhashed, 'file')} without a hash (--read reads them)")
    if failed:
        say(f"left out {counted(failed, 'file')} that could not be read or have changed")
    return PartialTransferError.exit_code if failed else 0
