"""Lines of -i, -v and --out-format: the installed rsync says what they must be."""

from __future__ import annotations

import itertools
import os
import re
import socket
import stat
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import xxhash

from arsync.errors import UsageError
from arsync.itemize import (
    ITEMIZE_FORMAT,
    NAME_FORMAT,
    LineFormat,
    escape_name,
    is_shown,
    itemize,
)
from arsync.model import Change, Keep, Kind, State, Why
from tests.requirements import need_root, need_rsync, need_xattrs

OLD_S, NEW_S = 1_500_000_000, 1_600_000_000

ARCHIVE = (
    Keep.PERMS
    | Keep.OWNER
    | Keep.GROUP
    | Keep.TIMES
    | Keep.LINKS
    | Keep.DEVICES
    | Keep.SPECIALS
    | Keep.DIRS
)
PLAIN = Keep.DIRS | Keep.LINKS | Keep.DEVICES | Keep.SPECIALS

# What one entry of the destination differs in, for each type of entry.
EDITS = {
    "file": ("mtime", "mode", "uid", "gid", "atime", "size", "xattr", "acl"),
    "dir": ("mtime", "mode", "uid", "gid", "xattr", "acl"),
    "link": ("mtime", "uid", "gid", "target"),
    "fifo": ("mtime", "mode", "uid", "gid", "atime"),
    "sock": ("mtime", "mode", "uid", "gid"),
    "char": ("mtime", "mode", "uid", "gid", "target"),
    "block": ("mtime", "mode", "uid", "gid", "target"),
}

OPTIONS = {
    "-a": ARCHIVE,
    "-rlD": PLAIN,
    "-rlDp": PLAIN | Keep.PERMS,
    "-rlDog": PLAIN | Keep.OWNER | Keep.GROUP,
    "-aO": ARCHIVE | Keep.OMIT_DIR_TIMES,
    "-aJ": ARCHIVE | Keep.OMIT_LINK_TIMES,
    "-aU": ARCHIVE | Keep.ATIMES,
    "-aX": ARCHIVE | Keep.XATTRS,
    "-aAX": ARCHIVE | Keep.ACLS | Keep.XATTRS,
    "-aAXU": ARCHIVE | Keep.ACLS | Keep.XATTRS | Keep.ATIMES,
}

WHY = {
    "mtime": Why.MTIME,
    "mode": Why.MODE,
    "uid": Why.UID,
    "gid": Why.GID,
    "atime": Why.ATIME,
    "size": Why.SIZE | Why.CONTENT,
    "target": Why.TARGET,
    "xattr": Why.XATTR,
    "acl": Why.ACL,
    "missing": Why.NEW,
    "type": Why.TYPE,
}


def cases() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each type with each set of up to three differences, and those that replace it."""
    for kind, edits in EDITS.items():
        for count in range(4):
            yield from ((kind, chosen) for chosen in itertools.combinations(edits, count))
        yield kind, ("missing",)
        yield kind, ("type",)


def entry_name(kind: str, edits: Iterable[str]) -> str:
    """Name an entry after what it is for."""
    return "-".join([kind, *edits])


def make_entry(path: Path, kind: str, edits: tuple[str, ...]) -> None:
    """Make an entry that differs from the plain one of its type in what the edits say."""
    if "missing" in edits:
        return
    if "type" in edits:
        path.symlink_to("another type") if kind != "link" else path.write_bytes(b"")
        return
    make_plain(path, kind, "target" in edits, b"longer" if "size" in edits else b"short")
    if "xattr" in edits:
        os.setxattr(path, "user.test", b"1")
    if "acl" in edits:
        os.setxattr(path, "system.posix_acl_access", acl())
    if "uid" in edits or "gid" in edits:
        os.chown(
            path, 5 if "uid" in edits else 0, 6 if "gid" in edits else 0, follow_symlinks=False
        )
    if kind != "link":
        path.chmod((0o700 if kind == "dir" else 0o600) if "mode" in edits else 0o755)
    if "acl" in edits:  # chmod rewrites the mask
        os.setxattr(path, "system.posix_acl_access", acl(0 if "mode" in edits else 5))
    times = (NEW_S if "atime" in edits else OLD_S, NEW_S if "mtime" in edits else OLD_S)
    os.utime(path, times, follow_symlinks=False)


def make_plain(path: Path, kind: str, other: bool, content: bytes) -> None:
    """Make an entry of a type."""
    if kind == "file":
        path.write_bytes(content)
    elif kind == "dir":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere" if other else "target")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "sock":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.fspath(path))
    else:
        kinds = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}
        os.mknod(path, kinds[kind] | 0o755, os.makedev(1, 5 if other else 3))


def acl(mask: int = 5) -> bytes:
    """Return an access ACL with one named user, in the kernel's form."""
    nobody = 0xFFFFFFFF
    entries = [
        (1, 7, nobody),
        (2, 4, 1234),
        (4, 5 if mask else 0, nobody),
        (16, mask, nobody),
        (32, 5 if mask else 0, nobody),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)


def change_of(path: Path, kind: str, edits: tuple[str, ...], keep: int) -> Change:
    """Return what the comparison says of an entry, worked out from what was done to it."""
    why = Why(0)
    for edit in edits:
        if counts(kind, edit, keep):
            why |= WHY[edit]
    if kind == "file" and "mtime" in edits:
        why |= Why.CONTENT  # whatever is kept, another time means other content
    if why & (Why.NEW | Why.TYPE):
        why |= Why.CONTENT
    found = path.lstat()
    link = os.readlink(os.fsencode(path)) if kind == "link" else b""
    written = why & (Why.CONTENT | Why.TARGET | Why.NEW | Why.TYPE)
    made = {"file": Kind.DATA, "link": Kind.SYMLINK}.get(kind, Kind.SPECIAL)
    change = made if written else Kind.META
    if kind == "dir":
        change = Kind.DIR
    return Change(os.fsencode(path.name), change, why, mode=found.st_mode, link=link)


def counts(kind: str, edit: str, keep: int) -> bool:
    """Tell whether a difference is one under these options."""
    if edit == "mtime":
        omit = {"dir": Keep.OMIT_DIR_TIMES, "link": Keep.OMIT_LINK_TIMES}.get(kind, Keep(0))
        return kind == "file" or bool(keep & Keep.TIMES and not keep & omit)
    needed = {
        "mode": Keep.PERMS,
        "uid": Keep.OWNER,
        "gid": Keep.GROUP,
        "atime": Keep.ATIMES,
        "xattr": Keep.XATTRS,
        "acl": Keep.ACLS,
    }
    return edit not in needed or bool(keep & needed[edit])


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a source of plain entries, and a destination where each differs as its name says."""
    need_root()
    need_rsync()
    base = tmp_path_factory.mktemp("itemize")
    need_xattrs(base)
    src, dst = base / "src", base / "dst"
    for root in (src, dst):
        root.mkdir()
    for kind, edits in cases():
        name = entry_name(kind, edits)
        make_entry(src / name, kind, ())
        make_entry(dst / name, kind, edits)
    for root in (src, dst):
        os.utime(root, (OLD_S, OLD_S))
    return src, dst


def rsync_lines(*words: str | Path) -> list[str]:
    """Return what rsync prints."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(["rsync", *words], capture_output=True, check=True, env=environment)
    return ran.stdout.decode("utf-8", "surrogateescape").splitlines()


@pytest.mark.parametrize("option", OPTIONS)
def test_columns_are_those_of_rsync(trees: tuple[Path, Path], option: str) -> None:
    """Every type, with every set of up to three differences, has rsync's line."""
    src, dst = trees
    keep = OPTIONS[option]
    reset_times(src, dst)
    theirs = rsync_lines(option, "-ni", f"{src}/", f"{dst}/")
    writer = LineFormat(ITEMIZE_FORMAT, keep)
    changes = [change_of(src / entry_name(*case), *case, keep) for case in cases()]
    ours = [writer.line(change) for change in changes if is_shown(change, itemized=True)]
    assert sorted(ours) == sorted(line for line in theirs if not line.endswith(" ./"))
    assert len(ours) > 80


@pytest.mark.parametrize("option", ["-a", "-rlD", "-aAXU"])
def test_names_of_v_are_those_of_rsync(trees: tuple[Path, Path], option: str) -> None:
    """Without %i, a file whose attributes alone change has no line, a directory has."""
    src, dst = trees
    keep = OPTIONS[option]
    reset_times(src, dst)
    theirs = rsync_lines(option, "-n", f"--out-format={NAME_FORMAT}", f"{src}/", f"{dst}/")
    writer = LineFormat(NAME_FORMAT, keep)
    changes = [change_of(src / entry_name(*case), *case, keep) for case in cases()]
    ours = [writer.line(change) for change in changes if is_shown(change, itemized=False)]
    assert sorted(ours) == sorted(line for line in theirs if line != "./")


def test_unchanged_entries_have_blanks_with_ii(trees: tuple[Path, Path]) -> None:
    """-ii lists what needs nothing, with blanks for columns."""
    src, _ = trees
    theirs = rsync_lines("-anii", f"{src}/", f"{src}/")
    unchanged = [change_of(src / entry_name(*case), case[0], (), ARCHIVE) for case in cases()]
    writer = LineFormat(ITEMIZE_FORMAT, ARCHIVE)
    shown = [one for one in unchanged if is_shown(one, itemized=True, unchanged=True)]
    assert sorted(map(writer.line, shown)) == sorted(one for one in theirs if one[12:] != "./")
    assert not any(is_shown(one, itemized=True) for one in unchanged)


def reset_times(src: Path, dst: Path) -> None:
    """Put access times back, which reading moves."""
    for kind, edits in cases():
        name = entry_name(kind, edits)
        if kind not in ("dir", "link"):
            os.utime(src / name, (OLD_S, OLD_S))
            if "missing" not in edits and "type" not in edits:
                times = (NEW_S if "atime" in edits else OLD_S, NEW_S if "mtime" in edits else OLD_S)
                os.utime(dst / name, times)


def test_hard_links_name_their_leader(tmp_path: Path) -> None:
    """A further name says what it is linked to, with + when new and with columns when replaced."""
    need_rsync()
    src, dst = tmp_path / "src", tmp_path / "dst"
    for root in (src, dst):
        root.mkdir()
    (src / "a").write_bytes(b"one")
    for name in ("b", "c", "d"):
        (src / name).hardlink_to(src / "a")
    (dst / "a").write_bytes(b"one")
    (dst / "c").write_bytes(b"longer")
    (dst / "d").write_bytes(b"one")
    for path in (src / "a", dst / "a", dst / "d"):
        os.utime(path, (OLD_S, OLD_S))
    os.utime(dst / "c", (NEW_S, NEW_S))
    whys = {b"b": Why.NEW, b"c": Why.SIZE | Why.MTIME | Why.LINK, b"d": Why.LINK}
    for option, keep in {"-aH": ARCHIVE, "-rH": Keep.DIRS}.items():
        writer = LineFormat(ITEMIZE_FORMAT, keep)
        ours = [writer.line(Change(name, Kind.LINK, why, link=b"a")) for name, why in whys.items()]
        theirs = rsync_lines(option, "-ni", f"{src}/", f"{dst}/")
        assert ours == [line for line in theirs if line.startswith("hf")]
        assert len(ours) == 3


def test_the_root_is_a_dot() -> None:
    """The root's own line names it as rsync does."""
    writer = LineFormat(ITEMIZE_FORMAT, ARCHIVE)
    assert writer.line(Change(b"", Kind.DIR, Why.NEW, mode=0o40755)) == "cd+++++++++ ./"
    assert writer.line(Change(b"", Kind.DIR, Why.MTIME, mode=0o40755)) == ".d..t...... ./"


def test_what_failed_has_no_line() -> None:
    """An entry that was not made is not listed as if it were."""
    for state in State:
        change = Change(b"f", Kind.DATA, Why.NEW, state)
        assert is_shown(change, itemized=True) == (state not in (State.FAILED, State.SKIPPED))


ODD_NAMES = [
    b"plain",
    b"sp ace",
    b"new\nline",
    b"tab\t",
    b"esc\x1b[2J",
    b"del\x7f",
    b"back\\slash",
    b"back\\#12",
    b"back\\#012",
    b"back\\#0123",
    b"back\\\\#999",
    b"latin\xe9",
    b"utf\xc3\xa9",
    b"cut\xe2\x80",
    b"mix\xe2\x28\xa1",
    b"sur\xed\xa0\x80",
    b"wide\xf0\x9f\x8e\x89",
    bytes(range(1, 32)),
    "漢字".encode(),
]


@pytest.mark.parametrize("eight_bit", [False, True])
def test_odd_names_are_escaped_as_rsync_does(tmp_path: Path, eight_bit: bool) -> None:
    """Control characters and bytes that are not UTF-8 are written in octal."""
    need_rsync()
    src = tmp_path / "src"
    src.mkdir()
    for name in ODD_NAMES:
        Path(os.fsdecode(os.fsencode(src) + b"/" + name)).write_bytes(b"")
    words = ["--8-bit-output"] if eight_bit else []
    theirs = rsync_lines("-rn", "--out-format=%n", *words, f"{src}/", f"{tmp_path}/dst/")
    ours = [escape_name(name, eight_bit=eight_bit) for name in ODD_NAMES]
    assert set(ours) <= set(theirs)


def test_second_control_block_is_escaped() -> None:
    """U+009B, which some terminals take for an escape sequence, is written in octal."""
    assert escape_name("a\x9bb".encode()) == "a\\#302\\#233b"


FORMATS = [
    "%i|%n|%L|%f|%l|%M|%B|%U|%G|%o|100%%",
    "[%10l] [%-10l] [%'l] [%''l] [%'''l] [%'10l] [%-10'l] [%10''l]",
    "[%20n] [%-20n] [%5L] [%-25L] [%3n] [%15i] [%40M] [%20B] [%6U] [%12G] [%8o]",
    "%%n %n%%",
    "%C %n",
    "plain %n text",
]


@pytest.mark.parametrize("option", ["-aH", "-rlH"])
@pytest.mark.parametrize("text", FORMATS)
def test_formats_are_filled_as_rsync_does(tmp_path: Path, text: str, option: str) -> None:
    """Each escape, with width, sign and apostrophes, gives what rsync prints."""
    need_rsync()
    src = tmp_path / "src"
    make_format_tree(src)
    keep = ARCHIVE if option == "-aH" else PLAIN
    words = ["--checksum-choice=xxh128", option, f"--out-format={text}"]
    theirs = rsync_lines(*words, f"{src}/", f"{tmp_path}/dst/")
    writer = LineFormat(text, keep)
    root = os.fsencode(f"{src}/")
    ours = [writer.line(change, root) for change in format_changes(src)]
    assert sorted(ours) == sorted(line for line in theirs if not line.startswith("created "))


def make_format_tree(src: Path) -> None:
    """Make a directory, a file of some size, a further name of it and a symlink."""
    (src / "d").mkdir(parents=True)
    (src / "d" / "file").write_bytes(bytes(1_234_567))
    (src / "d" / "file").chmod(0o4711)
    os.utime(src / "d" / "file", (OLD_S, OLD_S))
    (src / "link").symlink_to("some target")
    (src / "other").hardlink_to(src / "d" / "file")


def format_changes(src: Path) -> list[Change]:
    """Return the changes that make the tree anew."""
    content = xxhash.xxh3_128_digest((src / "d" / "file").read_bytes())
    return [
        fresh(src, "", Kind.DIR),
        fresh(src, "d", Kind.DIR),
        fresh(src, "d/file", Kind.DATA)._replace(hash=content),
        fresh(src, "link", Kind.SYMLINK)._replace(link=b"some target"),
        fresh(src, "other", Kind.LINK)._replace(link=b"d/file"),
    ]


def fresh(src: Path, name: str, kind: Kind) -> Change:
    """Return the change that makes an entry."""
    found = (src / name).lstat()
    return Change(
        name.encode(),
        kind,
        Why.NEW,
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        mtime_s=int(found.st_mtime),
    )


def test_full_names_begin_with_the_root() -> None:
    """%f is the path as the user would reach it, without a slash in front."""
    writer = LineFormat("%f", ARCHIVE)
    names = {
        (b"src/", b""): "src/.",
        (b"src/", b"d/f"): "src/d/f",
        (b".", b"d/f"): "d/f",
        (b".", b""): ".",
        (b"/", b"etc/f"): "etc/f",
        (b"//a/./b", b"f"): "a/b/f",
    }
    for (root, path), name in names.items():
        assert writer.line(Change(path, Kind.DATA, Why.NEW), root) == name


def test_moment_process_and_bytes() -> None:
    """%t is the time of day, %p the process, %b what was written."""
    writer = LineFormat("%t %p %b %'b", ARCHIVE)
    line = writer.line(Change(b"f", Kind.DATA, Why.NEW, done_bytes=12345))
    pattern = rf"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d {os.getpid()} 12345 12,345"
    assert re.fullmatch(pattern, line)


def test_time_out_of_range_is_a_number() -> None:
    """A year that the C library cannot write is no reason to stop."""
    assert LineFormat("%M", 0).line(Change(b"f", Kind.DATA, mtime_s=2**62)) == str(2**62)


@pytest.mark.parametrize("text", ["%z", "%h", "%a", "%m", "%u", "%P", "%c", "50%", "%-5", "%'"])
def test_unknown_escapes_are_refused(text: str) -> None:
    """What cannot be filled is a usage error that names escape and option."""
    with pytest.raises(UsageError, match=r"--log-file-format: .%"):
        LineFormat(text, ARCHIVE, option="--log-file-format")


def test_a_format_knows_whether_it_itemizes() -> None:
    """Only %i makes a format list changes of attributes."""
    assert LineFormat("%12i %n", 0).itemized
    assert not LineFormat("%n %%i", 0).itemized


def test_itemize_alone() -> None:
    """The columns are at hand without a format."""
    assert itemize(Change(b"f", Kind.DATA, Why.NEW), ARCHIVE) == ">f+++++++++"
