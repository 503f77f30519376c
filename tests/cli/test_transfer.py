"""Real runs by the command line: what is printed where, and with which exit code."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit import File, Symlink, Tree, make
from tests.kit.programs import run_arsync, run_rsync
from tests.requirements import need_root, need_rsync, need_unprivileged

TREE = Tree({"a": File(b"one\n"), "d": {"b": File(b"two and two\n"), "l": Symlink("b")}})


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Make a directory with a small tree called src in it."""
    (tmp_path / "src").mkdir()
    make(TREE, tmp_path / "src")
    os.utime(tmp_path / "src", (1, 1))
    return tmp_path


def arsync(where: Path, *words: str | bytes, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a directory, with nobody watching."""
    command = [sys.executable, "-m", "arsync", *words]
    result = subprocess.run(
        command, cwd=where, capture_output=True, check=False, env=environment(**variables)
    )
    # Decoded here, since subprocess would turn the carriage returns of progress into newlines.
    out, err = os.fsdecode(result.stdout), os.fsdecode(result.stderr)
    return subprocess.CompletedProcess(command, result.returncode, out, err)


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which the checkout is found from anywhere."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "LC_ALL": "C.UTF-8", **variables}


def copied(where: Path) -> bool:
    """Tell whether dst holds the tree."""
    return (where / "dst/a").read_bytes() == b"one\n" and (where / "dst/d/l").is_symlink()


@pytest.mark.parametrize("words", [[], ["-a"], ["-q"], ["-qv"], ["-aq", "--stats"], ["sync"]])
def test_a_clean_run_that_nobody_watches_prints_nothing(where: Path, words: list[str]) -> None:
    """Without -v nothing is said, and -q silences what -v asks for."""
    result = arsync(where, *words, "src/", "dst")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert copied(where)


def test_verbose_names_what_changes_and_sums_up(where: Path) -> None:
    """-v prints names as rsync does, its two closing lines, and a summary."""
    result = arsync(where, "-v", "src/", "dst")
    lines = result.stdout.splitlines()
    assert {"./", "a", "d/", "d/b", "d/l -> b"} <= set(lines)
    assert any(re.match(r"sent [\d,]+ bytes  received 0 bytes", line) for line in lines)
    assert any(line.startswith("copied 2 files, 16 bytes") for line in lines)
    assert result.stderr == ""


def test_itemized_lines_are_those_of_rsync(where: Path) -> None:
    """-i prints the eleven columns for what changes, and nothing the second time."""
    (where / "dst").mkdir()
    result = arsync(where, "-ai", "src/", "dst")
    assert set(result.stdout.splitlines()) == {
        ".d..t...... ./",
        ">f+++++++++ a",
        "cd+++++++++ d/",
        ">f+++++++++ d/b",
        "cL+++++++++ d/l -> b",
    }
    assert arsync(where, "-ai", "src/", "dst").stdout == ""
    assert "          a" in arsync(where, "-aii", "src/", "dst").stdout.replace(".f ", "   ")


def test_a_dry_run_says_the_same_and_changes_nothing(where: Path) -> None:
    """-n prints what a run prints, and nothing is made."""
    (where / "dst").mkdir()
    planned = arsync(where, "-ain", "src/", "dst")
    assert not list((where / "dst").iterdir())
    assert arsync(where, "-an", "src/", "dst2").returncode == 0
    assert not (where / "dst2").exists()
    assert sorted(planned.stdout.splitlines()) == sorted(
        arsync(where, "-ai", "src/", "dst").stdout.splitlines()
    )


def test_out_format_fills_its_escapes(where: Path) -> None:
    """A format of one's own replaces the line, with widths."""
    result = arsync(where, "--out-format=%o %-5n|%l %B", "src/a", "dst")
    assert result.stdout == "send a    |4 rw-r--r--\n"


def test_json_is_one_event_a_line_and_nothing_else(where: Path) -> None:
    """--json starts with the start, ends with the summary, and -v adds nothing to it."""
    result = arsync(where, "-v", "--stats", "--json", "src/", "dst")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "summary"
    assert events[-1]["exit_code"] == 0
    assert {event["path"] for event in events if event["event"] == "entry"} >= {"a", "d", "d/b"}
    assert {event["schema"] for event in events} == {1}


def test_stats_are_rsyncs_table(where: Path) -> None:
    """--stats prints the lines that scripts read."""
    text = arsync(where, "--stats", "--no-h", "src/", "dst").stdout
    assert "Number of files: 5 (reg: 2, dir: 2, link: 1)\n" in text
    assert "Total transferred file size: 16 bytes\n" in text


def test_devices_are_counted_apart_as_rsyncs(where: Path) -> None:
    """--stats has dev: for devices and special: for fifos and sockets, found and made."""
    need_root()
    need_rsync()
    os.mkfifo(where / "src/p")
    os.mknod(where / "src/tty", 0o20600, os.makedev(4, 5))
    os.mknod(where / "src/disk", 0o60600, os.makedev(7, 9))
    for dst in ("dst", "dst2"):
        (where / dst).mkdir()
    ours, theirs = (
        [line for line in ran.stdout.splitlines() if b"(reg:" in line or b"dev:" in line]
        for ran in (
            run_arsync(["-a", "--stats", "src/", "dst"], cwd=where),
            run_rsync(["-a", "--stats", "src/", "dst2"], cwd=where),
        )
    )
    assert len(ours) == 2
    assert ours == theirs
    assert b"dev: 2, special: 1" in ours[0]


@pytest.mark.parametrize("words", ["src/", "src", "-n src/", "-n src", "-r src/a src/", "src/a"])
def test_a_new_destination_is_one_of_the_created_directories(where: Path, words: str) -> None:
    """Where SRC stands for it; it is there by the time that it is compared."""
    need_rsync()
    args = ["-a", "--stats", *words.split()]
    ours, theirs = (
        [line for line in ran.stdout.splitlines() if b"created files" in line]
        for ran in (
            run_arsync([*args, "dst"], cwd=where),
            run_rsync([*args, "dst2"], cwd=where),
        )
    )
    assert ours == theirs


@pytest.mark.parametrize("existing", [False, True])
def test_a_long_directory_is_one_directory(where: Path, existing: bool) -> None:
    """It is read in pages of 1,024 names, which nobody is to count."""
    long = where / "long"
    long.mkdir()
    for number in range(2500):
        (long / str(number)).touch()
    if existing:
        (where / "dst/long").mkdir(parents=True)
    ran = run_arsync(["-a", "--json", "long", "dst"], cwd=where)
    counts = json.loads(ran.stdout.splitlines()[-1])["counts"]
    new = 0 if existing else 1
    assert (counts["found_dirs"], counts["new_dirs"], counts["done_dirs"]) == (1, new, new)


def test_progress_without_a_terminal_is_rsyncs(where: Path) -> None:
    """--progress has a line for each file, --info=progress2 one for the run; -n has none."""
    each = arsync(where, "--progress", "src/", "dst").stdout
    assert re.search(r"^d/b\n\r +12 100% .*\(xfr#\d, ..-chk=\d+/\d+\)$", each, re.MULTILINE)
    whole = arsync(where, "--info=progress2", "src/", "dst2").stdout
    assert re.fullmatch(r"(\r +\d+ +\d+% [^\n]*)+\(xfr#2, to-chk=0/5\)\n", whole)
    assert "%" not in arsync(where, "-n", "--progress", "src/", "dst3").stdout


def test_progress_counts_down_to_the_last_entry_as_rsyncs(where: Path) -> None:
    """Behind each file stands how many entries are still to come of how many."""
    need_rsync()
    flat = where / "flat"
    flat.mkdir()
    for number in range(9):
        (flat / str(number)).write_text("x")
    seen = [
        re.findall(rb"\(xfr#(\d), ..-chk=(\d+)/(\d+)\)", ran.stdout)
        for ran in (
            run_arsync(["-a", "--progress", "flat/", "dst"], cwd=where),
            run_rsync(["-a", "--progress", "flat/", "dst2"], cwd=where),
        )
    ]
    assert seen[0] == seen[1]
    assert seen[0][-1] == (b"9", b"0", b"10")


def test_progress_counts_what_needs_nothing_as_done(where: Path) -> None:
    """What is equal already has been looked at; each directory's files count down to the rest."""
    assert arsync(where, "src/", "dst").returncode == 0
    (where / "src/d/b").write_text("something new")
    text = arsync(where, "--progress", "src/", "dst").stdout
    assert re.findall(r"\(xfr#(\d), ..-chk=(\d+)/(\d+)\)", text) == [("1", "0", "5")]


def test_a_log_is_appended_with_time_and_process(where: Path) -> None:
    """--log-file holds a line for each change with its own format, whatever -q says."""
    arsync(where, "-q", "--log-file=log", "src/", "dst")
    arsync(where, "--log-file=log", "--log-file-format=%n", "src/a", "dst2")
    lines = (where / "log").read_text().splitlines()
    assert all(re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\d+\] ", line) for line in lines)
    texts = [line.partition("] ")[2] for line in lines]
    assert ">f+++++++++ a" in texts
    assert "a" in texts
    assert sum(text.startswith("total size is") for text in texts) == 2


def test_a_log_without_a_format_holds_no_names(where: Path) -> None:
    """An empty --log-file-format leaves only the totals."""
    arsync(where, "--log-file=log", "--log-file-format=", "src/", "dst")
    assert "a\n" not in (where / "log").read_text()


def test_a_log_that_cannot_be_opened_is_done_without(where: Path) -> None:
    """A sentence says so and everything is copied, as with rsync."""
    need_rsync()
    result = arsync(where, "--log-file=/no/such/log", "src/", "dst")
    assert (result.returncode, result.stderr) == (
        0,
        "arsync: cannot open the log file '/no/such/log': No such file or directory; "
        "copying goes on without it\n",
    )
    assert run_rsync(["-a", "--log-file=/no/such/log", "src/", "dst2"], cwd=where).code == 0
    assert copied(where)


def test_a_missing_source_is_named_and_the_others_are_copied(where: Path) -> None:
    """A SRC that is not there is 23, one line on standard error, and an event."""
    result = arsync(where, "src/", "nix", "dst")
    assert result.returncode == 23
    assert result.stderr.startswith("arsync: cannot ")
    assert "'nix': No such file or directory" in result.stderr
    assert result.stdout == ""
    assert copied(where)
    again = arsync(where, "--json", "nix", "dst")
    errors = [json.loads(line) for line in again.stdout.splitlines() if '"error"' in line]
    assert [(error["path"], error["errno_name"]) for error in errors] == [("nix", "ENOENT")]


def test_an_unreadable_file_is_told_even_when_quiet() -> None:
    """-q keeps quiet about everything but what failed."""
    need_unprivileged()
    with tempfile.TemporaryDirectory(prefix="arsync-test-") as name:  # pytest's own are root's
        place = Path(name)
        for path in (place, place / "src", place / "dst"):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        (place / "src/a").touch(mode=0)
        result = run_arsync(["-rq", "src/", "dst"], cwd=place, as_nobody=True)
    assert result.code == 23
    assert b"cannot open 'src/a': Permission denied" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [(["-r"], True), (["-rq"], False), (["-r", "--info=nonreg0"], False)],
)
def test_what_the_options_leave_out_is_told_as_rsync_tells_it(
    where: Path, words: list[str], told: bool
) -> None:
    """A symlink without -l is skipped, said once, unless -q or --info=nonreg0; the code is 0."""
    result = arsync(where, *words, "src/", "dst")
    assert result.returncode == 0
    assert ("d/l" in result.stderr) == told


def test_accepted_options_say_so_with_v_only(where: Path) -> None:
    """-z and -e are read, have no effect, and -v has a line for each."""
    assert arsync(where, "-az", "-e", "ssh", "src/", "dst").stderr == ""
    err = arsync(where, "-avz", "-e", "ssh", "src/", "dst2").stderr.splitlines()
    assert [line.partition(" has no effect: ")[0] for line in err] == ["arsync: -z", "arsync: -e"]


def test_odd_names_are_escaped_everywhere(where: Path) -> None:
    """A name with an escape sequence and a byte that is no UTF-8 is printed on one line."""
    odd = b"x\x1b[31m\n\xff"
    (Path(os.fsdecode(bytes(where / "src") + b"/" + odd))).write_bytes(b"")
    out = arsync(where, "-i", "src/", "dst", LC_ALL="C").stdout
    assert ">f+++++++++ x\\#033[31m\\#012\\#377\n" in out
    err = arsync(where, b"no/" + odd, "dst").stderr
    assert err.count("\n") == 1
    assert "x\\#033[31m\\#012\\#377" in err


def test_names_are_printed_as_their_bytes_in_any_locale(where: Path) -> None:
    """A locale without UTF-8 neither changes nor loses a letter."""
    (where / "src" / "grüße").write_bytes(b"")
    out = arsync(where, "-v", "src/", "dst", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "grüße\n" in out.stdout


def on_terminal(where: Path, *words: str, size: Sequence[int] = (24, 80)) -> tuple[int, str]:
    """Run the program on a pseudo-terminal; return the exit code and what it showed."""
    master, slave = pty.openpty()
    os.set_blocking(master, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "arsync", *words],
        cwd=where,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(TERM="xterm", COLUMNS=str(size[1]), LINES=str(size[0])),
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not block:
            break
        shown += block
    os.close(master)
    return process.wait(), shown.decode()


def test_a_terminal_gets_a_summary(where: Path) -> None:
    """Somebody who watches reads a summary, unless -q or --info=stats0."""
    code, shown = on_terminal(where, "src/", "dst")
    assert code == 0
    assert "copied 2 files, 16 bytes" in shown
    assert on_terminal(where, "-q", "src/", "dst2") == (0, "")
    assert on_terminal(where, "--info=stats0", "src/", "dst3") == (0, "")


def test_a_long_run_has_a_live_view_on_a_terminal(where: Path) -> None:
    """The view shows counts while it runs, names scroll above it, and it is gone at the end."""
    (where / "src/big").write_bytes(b"x" * 400_000)
    code, shown = on_terminal(where, "-v", "--bwlimit=400", "src/", "dst")
    assert code == 0
    assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] 0:0\d", shown)
    assert "big" in shown
    assert shown.rstrip().splitlines()[-1].startswith("  engine")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_20(where: Path, kind: signal.Signals) -> None:
    """Ctrl-C, a kill and a hang-up clean up, say so in a line and return 20."""
    (where / "src/big").write_bytes(b"x" * 4_000_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "arsync", "--bwlimit=100", "src/", "dst"],
        cwd=where,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 20
    while not any((where / "dst").glob(".arsync.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kind)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 20
    assert err.startswith("arsync: interrupted")
    assert err.count("\n") == 1
    assert not list((where / "dst").rglob(".arsync.*"))
    assert not (where / "dst/big").exists()


def test_a_reader_that_leaves_is_named_once_without_buffers_too(where: Path) -> None:
    """`arsync -v ... | head -0` copies everything and returns 0, as rsync does."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = subprocess.run(
        [sys.executable, "-m", "arsync", "-v", "src/", "dst"],
        cwd=where,
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    os.close(write_end)
    assert result.returncode == 0
    assert result.stderr == (
        b"arsync: cannot write to standard output: Broken pipe; copying goes on\n"
    )
    assert (where / "dst").is_dir()


def test_doctor_answers_in_text_and_json(where: Path) -> None:
    """`arsync doctor` knows its paths, as text within 80 columns and as JSON.

    Only a path that is longer by itself stands out: it is there to be copied in one piece.
    """
    text = arsync(where, "doctor", "src", "dst", COLUMNS="80").stdout
    path = str(where.resolve())
    for line in text.splitlines():
        assert len(line) <= 80 or line.strip().startswith(path) or line.split()[1].startswith(path)
    assert "what arsync will use" in text
    found = json.loads(arsync(where, "doctor", "--json", "src").stdout)
    assert [path["path"] for path in found["paths"]] == ["src"]
    assert found["use"]["engine"]["name"] in ("uring", "sync")


def test_a_command_named_as_a_source(where: Path) -> None:
    """A directory called doctor is ./doctor, or comes after the word sync."""
    (where / "doctor").mkdir()
    (where / "doctor/x").write_bytes(b"")
    assert arsync(where, "./doctor", "dst").returncode == 0
    assert arsync(where, "sync", "doctor", "dst2").returncode == 0
    assert arsync(where, "-a", "doctor", "dst3").returncode == 0
    for name in ("dst", "dst2", "dst3"):
        assert (where / name / "doctor/x").exists()
