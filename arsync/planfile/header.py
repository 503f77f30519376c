"""What a plan was made for: the operands and which directories they were, who asked, the options.

Owns the first line of a plan file and whether it still holds here and now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from arsync.errors import FileError, SelectionError, StalePlanError, describe, quoted
from arsync.manifest.identity import Identity, identify
from arsync.options import SyncOptions
from arsync.uring import Identity as UserIdentity

__all__ = ["Header", "Place", "as_dry_run", "check_header", "header_of", "told_as", "within"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Hold an operand and the directory that it is, or is in.

    Args:
        path: as the user wrote it.
        identity: None where no such directory could be opened.
    """

    path: bytes
    identity: Identity | None


@dataclass(frozen=True, kw_only=True)
class Header:
    """Hold the first line of a plan file: docs/formats.md has the table."""

    arsync: str
    created: int
    directory: bytes
    user: UserIdentity
    sources: tuple[Place, ...]
    destination: Place
    options: SyncOptions

    @property
    def operands(self) -> list[bytes]:
        """Return the sources as the user wrote them."""
        return [one.path for one in self.sources]


def header_of(version: str, sources: Sequence[bytes], dst: bytes, options: SyncOptions) -> Header:
    """Return the header of a plan that is made now.

    Args:
        version: of arsync.
        options: of the run that it is for; how much is told of that is its own business.
    """
    return Header(
        arsync=version,
        created=int(time.time()),
        directory=os.getcwdb(),
        user=UserIdentity.current(),
        sources=tuple(_place(path) for path in sources),
        destination=_place(dst),
        options=_repeatable(options),
    )


def _repeatable(options: SyncOptions) -> SyncOptions:
    """Return options with which two runs do the same.

    With -H one thread walks: the first name of a file that is found is the one that is copied.
    """
    engine = options.engine
    if options.preserve.hard_links:
        engine = replace(engine, scan_threads=1)
    write = replace(options.write, dry_run=False)
    plain = replace(options, write=write, engine=engine)
    return told_as(plain, SyncOptions())


def as_dry_run(options: SyncOptions) -> SyncOptions:
    """Return the options with which a plan is made."""
    return replace(options, write=replace(options.write, dry_run=True))


def told_as(options: SyncOptions, told: SyncOptions) -> SyncOptions:
    """Return options of which as much is told as of others."""
    return replace(
        options, report_unchanged=told.report_unchanged, report_passed=told.report_passed
    )


def check_header(header: Header, name: str) -> None:
    """See that the operands are the directories that they were; in the plan's directory.

    Args:
        name: of the plan file, for messages.
    Raises: StalePlanError.
    """
    if UserIdentity.current() != header.user:
        raise StalePlanError(
            f"the plan {quoted(name)} was made by another user, or with other groups or another "
            "umask: it would not do the same now"
        )
    for one in (*header.sources, header.destination):
        now = _place(one.path).identity
        same = now.is_same(one.identity) if now and one.identity else now is one.identity
        if not same:
            raise StalePlanError(
                f"{quoted(one.path)} is not the directory that it was when the plan "
                f"{quoted(name)} was made (is a disk not mounted?)"
            )


@contextmanager
def within(directory: bytes) -> Iterator[None]:
    """Work in a directory for a block.

    Raises: SelectionError where it cannot be entered.
    """
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.chdir(directory)
        except OSError as error:
            reason = describe("enter the directory", directory, error.errno or 0)
            raise SelectionError(f"{reason} (the plan was made there)") from None
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def _place(path: bytes) -> Place:
    directory = path if os.path.isdir(path) else os.path.dirname(path.rstrip(b"/")) or b"."
    try:
        return Place(path=path, identity=identify(directory))
    except FileError:
        return Place(path=path, identity=None)
