"""`arsync plan` and `arsync apply`: what is planned is done, and nothing else ever."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from arsync.cli.completion import SHELLS
from arsync.cli.run import load_command, run
from arsync.model import Op
from arsync.planfile.differences import is_current
from arsync.planfile.header import within
from arsync.planfile.lines import read_plan
from arsync.uring.faults import paused_at
from tests.kit import File, Symlink, Tree, assert_same, make, read
from tests.kit.programs import Outcome, run_arsync

NEW = {"a": File(b"new"), "d": {"b": File(b"1"), "l": Symlink(b"b")}, "x": {"y": File(b"2")}}
OLD = {"a": File(b"old one"), "d": {"extra": File(b"e")}, "x": File(b"in the way")}
LONG_AGO_NS = 10**18


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a directory with a source and a destination that differ."""
    make(Tree(NEW).at(LONG_AGO_NS), tmp_path / "src")
    make(Tree(OLD).at(LONG_AGO_NS), tmp_path / "dst")
    return tmp_path


def plan(place: Path, *options: str, file: str = "../plan") -> Path:
    """Plan to make dst equal src, from within the place; return the plan file."""
    outcome = run_arsync(["plan", *options, "src/", "dst", "-o", file], cwd=place)
    assert outcome == Outcome(0, b"", b"")
    return (place / file).resolve()


def apply(path: Path, *options: str) -> Outcome:
    """Apply a plan, from another directory than the plan's."""
    return run_arsync(["apply", *options, str(path)], cwd=Path("/"))


def test_a_plan_is_applied_from_anywhere(place: Path) -> None:
    """The lines of -i are those of the dry run, and the destination equals the source."""
    dry = run_arsync(["-nia", "--delete", "src/", "dst"], cwd=place)
    path = plan(place, "-a", "--delete")
    outcome = apply(path, "-i")
    assert (outcome.code, outcome.stderr) == (0, b"")
    assert outcome.lines == dry.lines
    assert_same(place / "src", place / "dst")


def test_a_plan_is_shown(place: Path) -> None:
    """Without -o it is what -n -i prints, or --json, and nothing is changed."""
    before = read(place / "dst")
    dry = run_arsync(["-nia", "src/", "dst"], cwd=place)
    assert run_arsync(["plan", "-a", "src/", "dst"], cwd=place).lines == dry.lines
    assert run_arsync(["plan", "-av", "--info=stats0", "src/", "dst"], cwd=place).lines == dry.lines
    names = run_arsync(["plan", "-a", "--out-format=%n", "src/", "dst"], cwd=place)
    assert names.lines == [line.split(b" ")[1] for line in sorted(dry.lines, key=_name)]
    events = run_arsync(["plan", "-a", "--json", "src/", "dst"], cwd=place).stdout.splitlines()
    paths = [json.loads(line)["path"] for line in events if b'"event":"entry"' in line]
    assert sorted(paths) == sorted(os.fsdecode(_name(line)).rstrip("/") for line in dry.lines)
    assert_same(before, place / "dst")


def _name(line: bytes) -> bytes:
    return line.split(b" ")[1].replace(b"./", b".")


def test_a_plan_goes_to_standard_output(place: Path) -> None:
    """`-o -` prints the plan and nothing else, which can be applied."""
    outcome = run_arsync(["plan", "-aiv", "--stats", "src/", "dst", "-o", "-"], cwd=place)
    path = place.parent / "printed"
    path.write_bytes(outcome.stdout)
    assert apply(path).code == 0
    assert (place / "dst/a").read_bytes() == b"new"
    both = run_arsync(["plan", "--json", "src/", "dst", "-o", "-"], cwd=place)
    assert both.code == 1


def test_what_is_printed_beside_a_plan_file_is_asked_for(place: Path) -> None:
    """-i prints the lines, and the plan is the same as without."""
    args = ["plan", "-a", "-ii", "--info=skip2", "--existing", "src/", "dst", "-o"]
    loud = run_arsync([*args, "../loud"], cwd=place)
    assert b">f.s....... a" in loud.lines
    plan(place, "-a", "--existing", file="../quiet")
    entries = [(place.parent / name).read_text().splitlines()[1:-1] for name in ("loud", "quiet")]
    assert sorted(entries[0]) == sorted(entries[1])


def rewrite(place: Path) -> None:
    """Write a source file again, with its size and time put back."""
    path = place / "src/a"
    path.write_bytes(b"NEW")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def touch_what_goes(place: Path) -> None:
    """Append to a file of the destination that is to be deleted."""
    with (place / "dst/d/extra").open("ab") as file:
        file.write(b"precious")


def touch_what_is_displaced(place: Path) -> None:
    """Append to a file of the destination that a directory takes the place of."""
    with (place / "dst/x").open("ab") as file:
        file.write(b"precious")


MOVES: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "a source file is new": (lambda place: (place / "src/n").touch(), b"new      n (not in"),
    "a source file is gone": (lambda place: (place / "src/d/b").unlink(), b"gone     d/b (noth"),
    "a source file is rewritten": (rewrite, b"changed  a (SRC: ctime"),
    "a source file has another mode": (
        lambda place: (place / "src/a").chmod(0o600),
        b"changed  a (SRC: ctime, mode; what is to be done)",
    ),
    "an old file is rewritten": (
        lambda place: (place / "dst/a").write_bytes(b"old one"),
        b"changed  a (DST: ctime, mtime",
    ),
    "an extra is written": (touch_what_goes, b"changed  d/extra (DST: ctime, mtime, size)"),
    "what is displaced is written": (touch_what_is_displaced, b"changed  x (DST: ctime, mt"),
    "it is done already": (lambda place: run(["-a", f"{place}/src/", f"{place}/dst"]), b"gone"),
}


@pytest.mark.parametrize("how", MOVES)
def test_nothing_is_done_when_something_has_moved(how: str, place: Path) -> None:
    """Whatever has changed is named, the exit code is 23, and the destination stays."""
    path = plan(place, "-a", "--delete")
    move, line = MOVES[how]
    move(place)
    before = read(place / "dst")
    outcome = apply(path, "-v")
    assert outcome.code == 23
    assert b"arsync: nothing is done: " in outcome.stderr
    assert any(found.startswith(line) for found in outcome.lines), outcome.stdout
    assert_same(before, place / "dst")


def test_what_the_plan_does_not_touch_may_move(place: Path) -> None:
    """An entry that a filter leaves out, and one that is nobody's, are no differences."""
    path = plan(place, "-rl", "--exclude=*.o")
    (place / "src/d/x.o").write_bytes(b"left out")
    (place / "dst/unknown").write_bytes(b"mine")
    assert apply(path) == Outcome(0, b"", b"")
    assert sorted(os.listdir(place / "dst")) == ["a", "d", "unknown", "x"]


def test_differences_are_events(place: Path) -> None:
    """With --json each is an object, with -q nobody hears of them."""
    path = plan(place, "-a")
    rewrite(place)
    (event,) = map(json.loads, apply(path, "--json").stdout.splitlines())
    assert event == {
        "event": "difference",
        "schema": 1,
        "path": "a",
        "how": "changed",
        "src": ["ctime"],
        "dst": [],
        "action": False,
    }
    assert apply(path, "-q").stdout == b""


def test_an_applied_plan_says_what_a_run_says(place: Path) -> None:
    """--json gives the events of the run, and --log-file is relative to who applies."""
    path = plan(place, "-a", "--delete")
    outcome = run_arsync(["apply", "--json", "--log-file=../log", str(path)], cwd=place)
    events = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "summary"
    assert not events[-1]["dry_run"]
    assert b"*deleting   d/extra" in (place.parent / "log").read_bytes()


@pytest.mark.parametrize("options", [["-a"], ["-aH"], ["-a", "--existing"], ["-a", "--delete"]])
def test_what_leaves_the_source_is_planned(options: list[str], place: Path) -> None:
    """Each name that a run removes has a line, and apply removes it; one that came since is new."""
    os.link(place / "src" / next(_files(place)), place / "src/linked")
    options = [*options, "--remove-source-files"]
    shown = run_arsync(["plan", *options, "src/", "dst"], cwd=place)
    told = {line for line in shown.lines if line.startswith(b"sender removed ")}
    path = plan(place, *options)
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:-1]]
    listed = {one["path"] for one in lines if one["kind"] == "remove"}
    assert told == {f"sender removed {name}".encode() for name in listed}
    before = set(_files(place))
    (place / "src/since").write_bytes(b"")
    assert "--existing" in options or apply(path).code != 0
    (place / "src/since").unlink()
    os.utime(place / "src", ns=(0, 0))
    path = plan(place, *options)
    assert apply(path).code == 0
    assert before - set(_files(place)) == listed
    assert listed


def _files(place: Path) -> Iterator[str]:
    for where, _, names in os.walk(place / "src"):
        for name in sorted(names):
            yield os.path.relpath(os.path.join(where, name), place / "src")


def test_a_plan_with_nothing_to_do(place: Path) -> None:
    """It has no entries, and applying it does nothing, until there is something."""
    assert run(["-a", f"{place}/src/", f"{place}/dst"]) == 0
    path = plan(place, "-a")
    assert len(path.read_bytes().splitlines()) == 2
    assert apply(path, "-i") == Outcome(0, b"", b"")
    (place / "src/n").touch()
    assert apply(path).code == 23


def test_several_sources(place: Path) -> None:
    """Entries say of which source they are; a destination that is made is part of the plan."""
    make(Tree({"z": File(b"z")}), place / "other")
    args = ["plan", "-a", "src/", "other/", "made", "-o", "../plan"]
    assert run_arsync(args, cwd=place).code == 0
    lines = (place.parent / "plan").read_text().splitlines()[1:-1]
    sources = {json.loads(line)["path"]: json.loads(line)["source"] for line in lines}
    assert (sources["a"], sources["z"]) == ("src/", "other/")
    assert apply(place.parent / "plan") == Outcome(0, b"", b"")
    assert (place / "made/z").read_bytes() == b"z"
    assert apply(place.parent / "plan").code == 23


def test_hard_links_are_planned_the_same_each_time(place: Path) -> None:
    """Which name of a file comes first does not depend on threads."""
    for number in range(40):
        (place / f"src/d{number}").mkdir()
        for name in ("one", "two"):
            os.link(place / "src/a", place / f"src/d{number}/{name}")
    path = plan(place, "-aH", "--scan-threads=16")
    for _ in range(5):
        plan(place, "-aH", "--scan-threads=16", file="../again")
        again = (place.parent / "again").read_bytes().splitlines()[1:-1]
        assert sorted(path.read_bytes().splitlines()[1:-1]) == sorted(again)
    dry = run_arsync(["plan", "-aH", "src/", "dst"], cwd=place)
    assert apply(path, "-i").lines == dry.lines
    assert (place / "dst/a").stat().st_nlink == 81


def numbers(path: Path) -> dict[str, object] | None:
    """Return what a plan says of an entry, by lstat."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return {
        "mode": f"{found.st_mode & 0o7777:04o}",
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size,
        "ino": found.st_ino,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
    }


def test_a_plan_has_what_was_seen_of_each_entry(place: Path) -> None:
    """Of files, links to them, symlinks, directories, what goes and what is displaced."""
    os.link(place / "src/a", place / "src/d/again")
    (place / "dst/d/again").write_bytes(b"another file")
    (place / "src/d").chmod(0o700)
    path = plan(place, "-aH", "--delete")
    entries = [json.loads(line) for line in path.read_text().splitlines()[1:-1]]
    kinds = {(entry["path"], entry["kind"]) for entry in entries}
    assert kinds - {(".", "dir")} == {
        ("a", "data"),
        ("d", "dir"),
        ("d/again", "link"),
        ("d/b", "data"),
        ("d/extra", "delete"),
        ("d/l", "symlink"),
        ("x", "delete"),
        ("x", "dir"),
        ("x/y", "data"),
    }
    for entry in entries:
        for side in ("src", "dst"):
            seen = entry[side]
            if seen:
                seen.pop("type")
            expected = numbers(place / side / entry["path"])
            if (entry["path"], entry["kind"]) == ("x", "delete" if side == "src" else "dir"):
                expected = None  # the other line has it
            assert seen == expected, (side, entry)


def test_names_that_are_not_utf8(place: Path) -> None:
    """Operands, entries and options are the bytes that were given."""
    name = os.fsdecode(b"\xffsrc")
    (place / "src").rename(place / name)
    (place / name / os.fsdecode(b"\xfe")).write_bytes(b"odd")
    args = ["plan", "-a", f"--exclude={name}", f"--backup-dir={name}.old", f"{name}/", "dst", "-o"]
    assert run_arsync([*args, "../plan"], cwd=place).code == 0
    assert apply(place.parent / "plan") == Outcome(0, b"", b"")
    assert (place / "dst" / os.fsdecode(b"\xfe")).read_bytes() == b"odd"
    assert (place / "dst" / f"{name}.old/a").read_bytes() == b"old one"


def test_limits_hold_in_a_plan(place: Path) -> None:
    """What --max-delete keeps is not planned, and plan and apply both end with 25."""
    args = ["plan", "-a", "--delete", "--max-delete=0", "src/", "dst", "-o", "../plan"]
    assert run_arsync(args, cwd=place).code == 25
    assert apply(place.parent / "plan").code == 25
    assert (place / "dst/d/extra").exists()


def test_a_plan_inside_what_it_plans_is_warned_of(place: Path) -> None:
    """Writing it changes the tree: it says so, and apply sees it."""
    outcome = run_arsync(["plan", "-a", "src/", "dst", "-o", "src/plan"], cwd=place)
    assert outcome.stderr.count(b"is inside 'src/'") == 1
    assert apply(place / "src/plan").code == 23


def test_an_older_plan_stays_when_a_new_one_fails(place: Path) -> None:
    """FILE is replaced when all of the plan is there."""
    path = plan(place, "-a")
    before = path.read_bytes()
    assert run_arsync(["plan", "-a", "src/", "no/such/dst", "-o", "../plan"], cwd=place).code == 11
    assert path.read_bytes() == before
    assert [name for name in os.listdir(place.parent) if name.startswith(".plan")] == []


def test_o_alone_is_the_file_and_among_others_the_owner(place: Path) -> None:
    """`-rlptgoD` keeps its meaning, and --output says it in full."""
    args = ["plan", "-rlptgoD", "src/", "dst", "--output=../plan"]
    assert run_arsync(args, cwd=place).code == 0
    header = json.loads((place.parent / "plan").read_text().splitlines()[0])
    assert header["options"]["preserve"]["owner"]
    assert header["options"]["preserve"]["devices"]
    args = ["plan", "-rt", "src/", "dst", "--output=../plan"]
    assert run_arsync(args, cwd=place).code == 0
    header = json.loads((place.parent / "plan").read_text().splitlines()[0])
    assert not header["options"]["preserve"]["owner"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["plan"], 1, "SRC and DST are missing"),
        (["plan", "src"], 1, "DST is missing after 'src'"),
        (["plan", "src", "dst", "-o"], 1, "-o needs a value"),
        (["plan", "src", "dst", "-o", ""], 1, "--output: the name of the file is empty"),
        (["plan", "-r", "-o", "-p", "src", "dst"], 1, "--output: '-p' looks like an option"),
        (["plan", "src", "dst", "-o", "/no/such/plan"], 11, "cannot write '/no/such/plan'"),
        (["plan", "src", "dst", "-o", "-", "--json"], 1, "--json cannot be used with -o -"),
        (["plan", "missing", "dst"], 23, "missing"),
        (["apply"], 1, "FILE is missing"),
        (["apply", "one", "two"], 1, "more than one FILE is given"),
        (["apply", "--delete", "plan"], 1, "--delete belongs to the plan"),
        (["apply", "-n", "plan"], 1, "-n belongs to the plan"),
        (["apply", "--bogus", "plan"], 1, "there is no option '--bogus'"),
        (["apply", "no/such"], 11, "cannot read the plan 'no/such': No such file"),
        (["apply", "src/a"], 1, "'src/a' is not a plan"),
    ],
)
def test_wrong_use_is_a_sentence(words: list[str], code: int, message: str, place: Path) -> None:
    """A mistake is one line on standard error, with its exit code."""
    outcome = run_arsync(words, cwd=place)
    assert outcome.code == code
    (line,) = outcome.stderr.decode().splitlines()
    assert message in line


def test_damage_and_a_later_format_are_exit_42(place: Path) -> None:
    """An edited plan is refused as a whole."""
    path = plan(place, "-a")
    text = path.read_text()
    path.write_text(text.replace('"size":3', '"size":4'))
    assert apply(path).code == 42
    path.write_text(text.replace('{"arsync_plan":1', '{"arsync_plan":7'))
    outcome = apply(path)
    assert outcome.code == 42
    assert b"has format 7" in outcome.stderr
    assert (place / "dst/a").read_bytes() == b"old one"


def test_who_waits_sees_how_far_the_comparison_is(place: Path) -> None:
    """The plan that is made again tells its progress, as a run does."""
    found = read_plan(str(plan(place, "-a")))
    heard = Event()
    with within(bytes(place)), paused_at(Op.READ_DIR) as pause:
        thread = Thread(target=is_current, args=(found, lambda _moment: heard.set()))
        thread.start()
        try:
            pause.wait()
            assert heard.wait(10)
        finally:
            pause.resume()
            thread.join()


def test_a_tree_that_keeps_changing_is_said_to(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the second look finds what the plan says, nothing is done either."""
    path = plan(place, "-a")
    monkeypatch.setattr("arsync.planfile.differences.is_current", lambda *_: False)
    outcome = apply(path)
    assert outcome.code == 23
    assert b"nothing is done: something is changing" in outcome.stderr
    assert (place / "dst/a").read_bytes() == b"old one"


@pytest.mark.parametrize("name", ["plan", "apply"])
def test_help_and_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help, `help NAME` and --version answer as for every command."""
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: arsync {name} ")
    assert max(map(len, text.splitlines())) <= 80
    assert run(["help", name]) == 0
    assert capsys.readouterr().out == text
    assert run([name, "--version"]) == 0
    assert capsys.readouterr().out.startswith("arsync ")


def test_completion_knows_the_options() -> None:
    """`plan` completes every option and --output, `apply` those about output."""
    assert len(SHELLS) == 3
    names = {
        name: {word for param in load_command(name).params for word in param.opts}
        for name in ("plan", "apply")
    }
    assert {"--output", "-o", "--delete", "--archive"} <= names["plan"]
    assert {"--verbose", "--json", "--itemize-changes"} <= names["apply"]
    assert names["apply"].isdisjoint({"--delete", "--archive", "--output"})
