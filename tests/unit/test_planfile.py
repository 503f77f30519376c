"""Plan files: options survive them, damage is seen, and what differs is found."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from arsync.cli.fold import fold
from arsync.cli.words import read_words
from arsync.errors import FileError, PlanFileError, StalePlanError, UsageError
from arsync.model import Change, Kind, Report, Stat, State, Why
from arsync.options import RANGES, Preserve, SyncOptions
from arsync.planfile.differences import Difference, Sorter, compare
from arsync.planfile.header import as_dry_run, check_header, header_of, told_as, within
from arsync.planfile.lines import Digest, EntryLines, PlanWriter, read_plan
from arsync.planfile.values import decode, encode

SEEN = Stat(0o100644, 0, 0, 5, 11, 12, 13)
CHANGES = (
    Change(b"a", Kind.DATA, Why.SIZE | Why.CONTENT, src=SEEN, dst=SEEN._replace(size=6)),
    Change(b"\xff", Kind.SYMLINK, Why.NEW, link=b"\xfe", src=SEEN._replace(mode=0o120777)),
    Change(b"gone", Kind.DELETE, Why.EXTRA, dst=SEEN),
)


def options_of(words: Sequence[str]) -> SyncOptions:
    """Return what a command line asks for."""
    return fold(read_words(words).given, 0o022).sync


def read_back(options: SyncOptions) -> SyncOptions:
    """Send options through JSON."""
    found = decode(SyncOptions, json.loads(json.dumps(encode(options))))
    assert isinstance(found, SyncOptions)
    return found


def entry_lines(changes: Sequence[Change], *words: str) -> list[str]:
    """Return the lines of changes in a plan with these options and one source."""
    return list(EntryLines(header_of("1", [b"."], b".", options_of(words))).of(changes, b"src"))


# ------------------------------------------------------------------------ values

LINES = (
    "",
    "-aHAXUOJS -x -R -m --inplace --preallocate --mkpath -n -u --existing --ignore-existing",
    "-d -I --size-only -c --modify-window=-1 --max-size=5M --min-size=3 -b --suffix=.\udcff --no-t",
    "-a --delete-before --force --ignore-errors --max-delete=5 --allow-empty-source --no-manifest",
    "-a --delete --max-delete=7% --trash-dir=t\udcfe --state-dir=/state/\udcfd --bwlimit=5",
    "-rL -k -K --copy-unsafe-links --safe-links --numeric-ids --usermap=0-9:7,*:8 --groupmap=:1",
    "-a --chmod=D2755,u+rwX,go-w,g=u --temp-dir=t --backup-dir=/b -vv --remove-source-files",
    "-a --exclude=*.o --include=/a/b/ --filter=:e-_.r --filter=P_x --filter=-/!_/abs -C -F -F",
    "-a --filter=-x_user.* --filter=dir-merge,n_/.rules --from0 --delete-excluded",
    "-a --engine=sync --cpu-count=2 --queue-depth=3 --max-files-in-flight=4 --buffer-size=8K",
    "-a --max-memory=32M --scan-threads=5 --copy-method=splice --reflink=never",
    "-a -xx --exclude=\udcff --rehash --ignore-ctime --ignore-inode --accept-source=\udcff/a",
)


@pytest.mark.parametrize("line", LINES)
def test_options_survive_a_plan(line: str) -> None:
    """Whatever a command line asks for is the same again, names that are not UTF-8 too."""
    options = options_of(line.split())
    assert read_back(options) == options


def test_a_list_of_files_survives_a_plan(tmp_path: Path) -> None:
    """The lines of --files-from are in the plan, not the file's name."""
    (tmp_path / "list").write_bytes(b"a\n\xff/b\n")
    options = options_of([f"--files-from={tmp_path}/list"])
    assert options.files_from == (b"a", b"\xff/b")
    assert read_back(options) == options


def others(name: str, hint: Any, default: Any) -> Iterator[Any]:
    """Yield values of a type that are not the default; none for what LINES has to show."""
    if hint is bool:
        yield not default
    elif hint is int:
        yield from (end for end in RANGES[name] if end != default)
    elif hint is bytes:
        yield b"\xff"
    elif hint is str:
        yield "\udcff"
    elif get_origin(hint) is Literal:
        yield from (one for one in get_args(hint) if one != default)
    elif get_origin(hint) is tuple and get_args(hint)[0] is bytes:
        yield (b"a", b"\xff")
    elif get_origin(hint) is UnionType:
        yield from (one for part in get_args(hint) for one in others(name, part, default))


def each_changed(options: Any) -> Iterator[tuple[str, Any]]:
    """Yield the options with one field changed, for every field, however deep."""
    hints = get_type_hints(type(options))
    for one in fields(options):
        value = getattr(options, one.name)
        changed = (
            each_changed(value)
            if is_dataclass(value)
            else ((one.name, other) for other in others(one.name, hints[one.name], value))
        )
        for name, other in changed:
            yield name, replace(options, **{one.name: other})


def test_every_option_survives_a_plan() -> None:
    """Each field of the options, one that is added tomorrow too, is read back as it was."""
    tried = set()
    for name, options in each_changed(SyncOptions(preserve=Preserve(recursive=True))):
        assert read_back(options) == options
        tried.add(name)
    assert {"trash_dir", "engine", "files_from", "modify_window", "state_dir"} <= tried
    assert len(tried) > 60


@pytest.mark.parametrize(
    "members",
    [
        [],
        {"relative": 1},
        {"one_file_system": "1"},
        {"no_such_option": True},
        {"preserve": {"recursive": None}},
        {"write": {"temp_dir": 3}},
        {"write": {"temp_dir": "x", "temp_dir_b64": "*"}},
        {"engine": {"engine": "warp"}},
        {"filters": {"entries": [{"include": True}]}},
        {"filters": {"entries": [{"pattern": "x", "no": 1}]}},
        {"owners": {"users": {"ranges": [[1, 2]]}}},
        {"files_from": "x"},
    ],
)
def test_what_is_no_option_is_refused(members: Any) -> None:
    """An unknown member or a value of another type is an error, never a default."""
    with pytest.raises(ValueError, match=r"is not|missing|base64"):
        decode(SyncOptions, members)


# -------------------------------------------------------------------------- file


def written(tmp_path: Path, changes: Sequence[Change] = CHANGES, name: str = "plan") -> Path:
    """Write a plan of made-up changes."""
    text = io.StringIO()
    header = header_of("1", [bytes(tmp_path)], bytes(tmp_path / "dst"), options_of(["-aH"]))
    writer = PlanWriter(text.write, header)
    writer.add(changes, b"")
    writer.end(Report(dry_run=True))
    path = tmp_path / name
    path.write_text(text.getvalue())
    return path


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Header and entries come back, and the digest is that of the lines."""
    plan = read_plan(str(written(tmp_path)))
    assert plan.header.operands == [bytes(tmp_path)]
    assert plan.header.destination.path == bytes(tmp_path / "dst")
    assert plan.header.options == options_of(["-aH", "--scan-threads=1"])
    lines = [line.encode() for line in entry_lines(CHANGES)]
    assert list(plan.lines()) == lines
    digest = Digest()
    for line in reversed(lines):
        digest.add(line)
    assert plan.digest == digest
    assert plan.digest.count == 3


def test_an_entry_says_what_was_seen() -> None:
    """Both sides' stat are in a line, under the names that `manifest export` uses."""
    first, second, third = (json.loads(line) for line in entry_lines(CHANGES))
    assert first["reasons"] == ["size", "content"]
    assert first["src"] == {
        "type": "file",
        "mode": "0644",
        "uid": 0,
        "gid": 0,
        "size": 5,
        "ino": 11,
        "mtime_ns": 12,
        "ctime_ns": 13,
    }
    assert first["dst"]["size"] == 6
    assert (second["path_b64"], second["link_b64"], second["dst"]) == ("/w==", "/g==", None)
    assert (third["kind"], third["src"]) == ("delete", None)


def test_what_is_not_believed_is_not_in_a_plan() -> None:
    """With --ignore-ctime and --ignore-inode a line has neither number, so neither can differ."""
    other = CHANGES[0]._replace(src=SEEN._replace(ino=99, ctime_ns=98))
    words = ("-a", "--ignore-ctime", "--ignore-inode")
    assert entry_lines([other], *words) == entry_lines(CHANGES[:1], *words)
    assert entry_lines([other], *words[:2]) != entry_lines(CHANGES[:1], *words[:2])
    assert json.loads(entry_lines([other], *words)[0])["src"]["ino"] is None


def test_what_is_not_planned_has_no_line() -> None:
    """Entries that need nothing, are left alone or cannot be read are not in a plan."""
    others = (
        Change(b"same", Kind.META),
        Change(b"newer", Kind.NONE, Why.NEWER),
        Change(b"failed", Kind.CHECK, Why.CHECKSUM, State.FAILED),
    )
    assert entry_lines(others) == []


def positions(whole: bytes) -> Iterator[int]:
    """Yield every byte's place, of the long first line some."""
    header = whole.index(b"\n")
    yield from range(0, header - 9, 29)
    yield from range(header - 9, len(whole))


def test_every_cut_is_seen(tmp_path: Path) -> None:
    """A plan that ends early anywhere is refused."""
    path = written(tmp_path)
    whole = path.read_bytes()
    for end in positions(whole):
        path.write_bytes(whole[:end])
        with pytest.raises((UsageError, PlanFileError)):
            read_plan(str(path))


def test_every_changed_byte_is_seen(tmp_path: Path) -> None:
    """A plan with one byte of another value anywhere is refused."""
    path = written(tmp_path)
    whole = path.read_bytes()
    for at in positions(whole):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((UsageError, PlanFileError)):
            read_plan(str(path))


def test_a_line_more_or_less_is_seen(tmp_path: Path) -> None:
    """Lines cannot be added, taken out, put elsewhere or follow the last one."""
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for edited in (
        [*lines[:2], *lines[1:]],
        [*lines[:1], *lines[2:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, lines[-1]],
        [*lines, b"\n"],
    ):
        path.write_bytes(b"".join(edited))
        with pytest.raises(PlanFileError, match="cut short or edited"):
            read_plan(str(path))


def test_what_is_no_plan_is_said(tmp_path: Path) -> None:
    """Another file, a device, a directory and a missing file are named as such."""
    other = tmp_path / "other"
    other.write_text("{}\n")
    with pytest.raises(UsageError, match="other' is not a plan"):
        read_plan(str(other))
    with pytest.raises(UsageError, match="is not a plan: it is not a regular file"):
        read_plan("/dev/null")
    with pytest.raises(FileError, match="Is a directory"):
        read_plan(str(tmp_path))
    with pytest.raises(FileError, match="No such file"):
        read_plan(str(tmp_path / "missing"))


@pytest.mark.parametrize("number", [2, 99])
def test_a_later_format_is_named(number: int, tmp_path: Path) -> None:
    """A plan of a later arsync is refused by its number, whatever else is in it."""
    path = tmp_path / "plan"
    path.write_text(f'{{"arsync_plan":{number},"of":"tomorrow"}}\nwhatever\n')
    with pytest.raises(PlanFileError, match=f"has format {number}, this arsync reads up to 1"):
        read_plan(str(path))


# ------------------------------------------------------------------------ header


def test_a_header_holds_only_in_the_same_directories(tmp_path: Path) -> None:
    """A directory that was replaced by another of its name is not the one that was planned."""
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.mkdir()
    header = header_of("1", [bytes(src)], bytes(dst), SyncOptions())
    check_header(header, "plan")
    dst.mkdir()
    with pytest.raises(StalePlanError, match="dst' is not the directory"):
        check_header(header, "plan")
    header = header_of("1", [bytes(src)], bytes(dst), SyncOptions())
    dst.rename(tmp_path / "old")
    dst.mkdir()
    with pytest.raises(StalePlanError, match="dst' is not the directory"):
        check_header(header, "plan")


def test_a_header_holds_only_for_the_same_umask(tmp_path: Path) -> None:
    """With another umask files would get other modes."""
    header = header_of("1", [bytes(tmp_path)], bytes(tmp_path / "dst"), SyncOptions())
    before = os.umask(0o077)
    try:
        with pytest.raises(StalePlanError, match="another umask"):
            check_header(header, "plan")
    finally:
        os.umask(before)


def test_a_plan_with_hard_links_is_made_by_one_thread() -> None:
    """Which name comes first must not depend on threads; without -H nothing is changed."""
    options = header_of("1", [b"."], b".", options_of(["-aH", "-n", "-vv"])).options
    assert options.engine.scan_threads == 1
    assert not options.write.dry_run
    assert not options.report_unchanged
    assert header_of("1", [b"."], b".", options_of(["-a"])).options == options_of(["-a"])
    assert as_dry_run(options).write.dry_run
    assert told_as(options, options_of(["-vv"])).report_unchanged


def test_the_working_directory_comes_back(tmp_path: Path) -> None:
    """A plan's own directory is only lent, also where it cannot be entered."""
    before = os.getcwdb()
    with within(bytes(tmp_path)):
        assert os.getcwdb() == bytes(tmp_path)
    with pytest.raises(Exception, match="cannot enter the directory"), within(b"/no/such"):
        pytest.fail("it is not there")
    assert os.getcwdb() == before


# ------------------------------------------------------------------- differences


def differing(planned: Sequence[Change], now: Sequence[Change]) -> list[Difference]:
    """Compare two plans by way of sorters that hold three lines."""
    sides = []
    for changes in (planned, now):
        sorter = Sorter(3)
        for line in entry_lines(changes):
            sorter.add(line.encode())
        sides.append(sorter)
    return list(compare(*sides))


def test_lines_are_sorted_in_files() -> None:
    """More lines than fit come out in order, each as often as it went in."""
    lines = [b"%d\n" % (number % 37) for number in range(100)]
    random.Random(1).shuffle(lines)
    sorter = Sorter(7)
    for line in lines:
        sorter.add(line)
    assert list(sorter) == sorted(lines)


def test_the_order_of_a_plan_is_no_difference() -> None:
    """Two threads may find the same in another order."""
    assert differing(CHANGES, CHANGES[::-1]) == []


def test_each_difference_has_its_words() -> None:
    """What is new, gone and changed is told apart, and on which side."""
    a, link, gone = CHANGES
    moved = a._replace(src=SEEN._replace(mtime_ns=99, ctime_ns=98), dst=None)
    found = differing([a, gone], [moved, link, gone._replace(dst=SEEN._replace(mode=0o100600))])
    assert found == [
        Difference(b"\xff", "new"),
        Difference(b"a", "changed", ("ctime", "mtime"), ("missing",)),
        Difference(b"gone", "changed", (), ("mode",)),
    ]
    assert [str(one) for one in found] == [
        "new      \\#377 (not in the plan)",
        "changed  a (SRC: ctime, mtime; DST: missing)",
        "changed  gone (DST: mode)",
    ]
    assert differing([link], []) == [Difference(b"\xff", "gone")]


def test_another_reason_is_a_difference() -> None:
    """The same stat and another action is named too."""
    (found,) = differing(CHANGES[:1], [CHANGES[0]._replace(why=Why.MTIME)])
    assert found == Difference(b"a", "changed", action=True)
    assert str(found) == "changed  a (what is to be done)"


def test_a_displaced_entry_belongs_to_what_takes_its_place() -> None:
    """A file in the way of a directory is compared as one path with it."""
    file = Change(b"x", Kind.DELETE, Why.TYPE, dst=SEEN)
    folder = Change(b"x", Kind.DIR, Why.TYPE, src=SEEN._replace(mode=0o40755))
    (found,) = differing([file, folder], [file._replace(dst=SEEN._replace(size=9)), folder])
    assert found == Difference(b"x", "changed", (), ("size",))
