"""Calls of a copying program, drawn by hypothesis: options, and how the source is named.

A call goes to several programs, each with a destination of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.kit.tree import Tree

MODE_FLAGS = ("-r", "-l", "-p", "-t", "-g", "-o", "-D", "-d")
FURTHER_FLAGS = (
    "-H",
    "-A",
    "-X",
    "-S",
    "-U",
    "-O",
    "-J",
    "-k",
    "-K",
    "-L",
    "-W",
    "-x",
    "-c",
    "--safe-links",
    "--copy-unsafe-links",
    "--numeric-ids",
    "--inplace",
    "--no-perms",
    "--no-times",
    "--no-group",
    "--no-links",
    "--no-devices",
    "--no-specials",
    "--preallocate",
    "--force",
)
DELETING = ("--delete", "--delete-before", "--delete-after", "--delete-delay", "--delete-excluded")
CHMODS = ("u+rwX,go-w", "D2755,F640", "a=rX", "Du+rwx,Fo-rwx", "ug=rw,+X", "0600", "F+x,g+s")
OWNERS = (
    ("--chown=1:2",),
    ("--chown=:5",),
    ("--chown=daemon:bin",),
    ("--usermap=0-999:7,*:8",),
    ("--groupmap=1000:3,65534:root",),
    ("--usermap=1:2", "--groupmap=*:9"),
    ("--usermap=1:70000,60000:0", "--groupmap=1000:2"),
)
# With nanoseconds, which all other calls compare, rsync -u overwrites what is newer by a second.
UPDATES = (
    ("-u", "-@0"),
    ("-u", "-@2"),
    ("-I",),
    ("--size-only",),
    ("--existing",),
    ("--ignore-existing",),
    ("--existing", "-I"),
    ("-@0",),
    ("--modify-window=2",),
)
BACKUPS = (("-b",), ("-b", "--suffix=.old"))


@dataclass(frozen=True)
class Call:
    """Hold one way to copy `src` into `dst`.

    `sources` are relative to the directory that holds `src`; `placed` is where in `dst` the content
    of the source comes to lie, which is where an older state of it belongs.
    """

    options: tuple[str, ...]
    sources: tuple[bytes, ...]
    placed: bytes

    def args(self, dst: str) -> list[str | bytes]:
        """Return the command line for a destination; "rsync" is the one of rsync."""
        own = ["--allow-empty-source"] if self.deletes and dst != "rsync" else []
        return [*self.options, *own, *self.sources, dst]

    @property
    def deletes(self) -> bool:
        """Tell whether it deletes what only the destination has."""
        return not set(DELETING).isdisjoint(self.options)

    @property
    def backs_up(self) -> bool:
        """Tell whether it keeps what it replaces."""
        return "-b" in self.options

    def aspects(self) -> dict[str, int]:
        """Return what must be equal after two runs of the same call."""
        # rsync sends access times in whole seconds.
        return {"atimes": "-U" in self.options, "atime_granularity_ns": 10**9}


def keeps_times(options: list[str]) -> bool:
    """Tell whether the options ask for mtimes."""
    return "--no-times" not in options and ("-a" in options or "-t" in options)


def keeps_perms(options: list[str]) -> bool:
    """Tell whether the options ask for modes."""
    return "--no-perms" not in options and ("-a" in options or "-p" in options)


@st.composite
def calls(draw: st.DrawFn, tree: Tree) -> Call:
    """Draw a call that copies this tree, which is called `src`."""
    mode = draw(
        st.one_of(
            st.just(["-a"]),
            st.lists(st.sampled_from(MODE_FLAGS), min_size=1, unique=True),
            st.lists(st.sampled_from(MODE_FLAGS), unique=True).map(lambda flags: ["-r", *flags]),
        )
    )
    further = draw(st.lists(st.sampled_from(FURTHER_FLAGS), max_size=5, unique=True))
    if tree.nodes and {"-a", "-r", "-d"}.intersection(mode):  # an empty source deletes nothing
        further += draw(st.sampled_from(((), *((word,) for word in DELETING))))
    chmod = draw(st.sampled_from((None, None, None, *CHMODS)))
    owners = draw(st.sampled_from(((), (), (), *OWNERS)))
    updates = draw(st.sampled_from(((), (), (), (), *UPDATES)))
    if "-U" in further and not keeps_times([*mode, *further]):
        # rsync -U without -t sets mtimes within a second of 1970.
        further.remove("-U")
    if "-X" in further and {"-k", "-L", "--copy-unsafe-links"}.intersection(further):
        # rsync gives what it reached through a link the attributes of the link itself.
        further.remove("-X")
    if "-X" in further and not keeps_perms([*mode, *further]):
        # rsync gives a directory whose attributes it changed the source's mode, without -p too.
        further.remove("-X")
    if "-K" in further and {"-k", "-L"}.intersection(further):
        # rsync cannot set the mode of a file that it reached through a link that -K kept.
        further.remove("-K")
    # With --inplace rsync makes a backup of what the options keep, arsync of all attributes.
    backups = () if "--inplace" in further else draw(st.sampled_from(((), (), (), *BACKUPS)))
    options = (
        *mode,
        *further,
        *updates,
        *backups,
        *owners,
        *((f"--chmod={chmod}",) if chmod else ()),
    )
    return draw(_named(options, tree))


def _named(options: tuple[str, ...], tree: Tree) -> st.SearchStrategy[Call]:
    """Draw how the source is named: its content, itself, entries of it, with -R or without."""
    whole = [
        Call(options, (b"src/",), b""),
        Call(options, (b"src/",), b""),
        Call(options, (b"src",), b"src"),
        Call((*options, "-R"), (b"src/./",), b""),
        Call((*options, "-R"), (b"src",), b"src"),
    ]
    if not tree.nodes:
        return st.sampled_from(whole)
    top = sorted(path for path in tree.nodes if b"/" not in path)
    some = st.lists(st.sampled_from(top), min_size=1, max_size=3, unique=True)
    entries = some.map(lambda names: Call(options, _within(b"src/", names), b""))
    deep = st.lists(st.sampled_from(sorted(tree.nodes)), min_size=1, max_size=3, unique=True)
    relative = deep.map(lambda paths: Call((*options, "-R"), _within(b"src/./", paths), b""))
    return st.one_of(st.sampled_from(whole), entries, relative)


def _within(prefix: bytes, paths: list[bytes]) -> tuple[bytes, ...]:
    return tuple(os.path.join(prefix, path) for path in paths)
