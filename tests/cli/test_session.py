"""A session of a new user: what a person types and does, against the real process."""

import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.kit.programs import run_arsync
from tests.requirements import need_unprivileged

ROOT = Path(__file__).parents[2]
TEMPORARY = re.compile(r"\.arsync\.[0-9a-f]{24}\..+")
SLOWLY = "--bwlimit=256k"
LOST = "arsync: cannot write to standard output: {}; copying goes on\n"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Make a directory with a tree of 40 files and 640 KiB in it, called src."""
    (tmp_path / "src/d").mkdir(parents=True)
    for number in range(40):
        (tmp_path / f"src/d/{number}").write_bytes(bytes([number]) * 16384)
    return tmp_path


def start(
    where: Path, *words: str, stdout: int = subprocess.PIPE, term: str = "xterm"
) -> subprocess.Popen[bytes]:
    """Start the program in a directory."""
    return subprocess.Popen(
        [sys.executable, "-m", "arsync", *words],
        cwd=where,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "TERM": term},
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Return the exit code and what was printed."""
    out, err = process.communicate(timeout=60)
    return process.returncode, os.fsdecode(out or b""), os.fsdecode(err)


def wait_until_copying(where: Path) -> None:
    """Return when a file has arrived in dst."""
    deadline = time.monotonic() + 30
    while not any(path.is_file() for path in (where / "dst").rglob("[0-9]*")):
        assert time.monotonic() < deadline, "nothing was copied in 30 s"
        time.sleep(0.01)


def same(where: Path) -> bool:
    """Tell whether every file of src is in dst."""
    return all(
        (where / "dst" / path.relative_to(where / "src")).read_bytes() == path.read_bytes()
        for path in (where / "src").rglob("[0-9]*")
    )


def temporary_names(where: Path) -> list[str]:
    """Return the names below dst that are not in src."""
    known = {path.name for path in (where / "src").rglob("*")}
    return [path.name for path in (where / "dst").rglob("*") if path.name not in known]


def test_a_name_below_the_current_directory_is_told_as_it_is_written(where: Path) -> None:
    """A message about DST `.` says 'd/0', not './d/0'."""
    (where / "here/d/0/kept").mkdir(parents=True)
    code, _, err = finish(start(where / "here", "-a", "../src/", "."))
    assert code == 23
    assert "'d/0'" in err
    assert "./d" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_cleanly_and_the_next_run_finishes(where: Path, number: int) -> None:
    """Exit code 20, one line, no temporary file; the same command then completes it."""
    process = start(where, SLOWLY, "src/", "dst")
    wait_until_copying(where)
    process.send_signal(number)
    assert finish(process) == (20, "", "arsync: interrupted\n")
    assert temporary_names(where) == []
    assert len(list((where / "dst/d").iterdir())) < 40
    assert finish(start(where, "src/", "dst")) == (0, "", "")
    assert same(where)


def test_a_signal_that_is_ignored_stays_so(where: Path) -> None:
    """What nohup keeps from a run does not end it."""
    command = ["nohup", sys.executable, "-m", "arsync", SLOWLY, "src/", "dst"]
    process = subprocess.Popen(
        command,
        cwd=where,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_until_copying(where)
    process.send_signal(signal.SIGHUP)
    assert finish(process) == (0, "", "")
    assert same(where)


def test_a_killed_run_leaves_only_its_own_names_and_the_next_run_finishes(where: Path) -> None:
    """After SIGKILL whatever is not of src is called .arsync.<24 hex>.*; whole files are whole."""
    process = start(where, SLOWLY, "src/", "dst")
    wait_until_copying(where)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert all(TEMPORARY.fullmatch(name) for name in temporary_names(where))
    assert {path.stat().st_size for path in (where / "dst/d").glob("[0-9]*")} <= {16384}
    assert finish(start(where, "src/", "dst")) == (0, "", "")
    assert same(where)


def test_two_runs_at_once_into_one_destination_both_succeed(where: Path) -> None:
    """Neither trips over the other's files, and nothing is left of them."""
    runs = [start(where, "src/", "dst") for _ in range(2)]
    assert [finish(run) for run in runs] == [(0, "", "")] * 2
    assert same(where)
    assert temporary_names(where) == []


def test_a_reader_that_goes_away_does_not_end_the_copy(where: Path) -> None:
    """`arsync -v SRC DST | head -1` copies everything, says so once, and succeeds as rsync does."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start(where, "-v", "src/", "dst", stdout=writer)
    os.close(writer)
    code, _, err = finish(process)
    assert (code, err) == (0, LOST.format("Broken pipe"))
    assert same(where)


@pytest.mark.parametrize("option", ["-v", "--json", "--stats", "--progress"])
def test_a_full_standard_output_does_not_end_the_copy(where: Path, option: str) -> None:
    """Whatever is printed, and whether it is noticed at a line or only at the end."""
    full_fd = os.open("/dev/full", os.O_WRONLY)
    process = start(where, option, "src/", "dst", stdout=full_fd)
    os.close(full_fd)
    code, _, err = finish(process)
    assert (code, err) == (0, LOST.format("No space left on device"))
    assert same(where)


@pytest.mark.parametrize(
    ("closed", "said"),
    [(">&-", LOST.format("Bad file descriptor")), (">&- 2>&-", ""), ("<&- >&- 2>&-", "")],
)
def test_streams_that_are_closed_from_the_start_harm_nothing(
    where: Path, closed: str, said: str
) -> None:
    """No file of the copy gets the number of one and is written into."""
    command = f'exec "$0" -m arsync -av src/ dst {closed}'
    ran = subprocess.run(
        ["sh", "-c", command, sys.executable],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr.decode()) == (0, b"", said)
    assert same(where)


def test_a_full_standard_error_does_not_change_the_exit_code(where: Path) -> None:
    """A message that nobody takes is no bug."""
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "arsync", "-a", "src/", "missing", "dst"],
            cwd=where,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=full,
            check=False,
        )
    assert ran.returncode == 23
    assert same(where)


def test_bwlimit_limits(where: Path) -> None:
    """640 KiB at 256 KiB a second take about two and a half seconds."""
    began = time.monotonic()
    assert finish(start(where, SLOWLY, "src/", "dst"))[0] == 0
    assert 1.5 < time.monotonic() - began < 20


def test_the_live_view_leaves_room_for_the_echo_of_ctrl_c(where: Path) -> None:
    """At 40 columns no line of the view is longer than 38, the bar too: ^C would wrap it."""
    shown = watched(where, 40)
    lines = [line for line in re.split(r"[\r\n]+", shown) if "━" in line]
    assert lines, shown
    assert max(map(len, lines)) == 38
    assert "copied 40 files" in shown


def test_a_dumb_terminal_gets_rsyncs_line_for_the_run(where: Path) -> None:
    """A view cannot be drawn there, and silence until the end is no progress."""
    shown = watched(where, 80, "dumb")
    assert shown.count("\r") > 5
    assert "100%" in shown
    assert "copied 40 files" in shown
    assert "━" not in shown


def test_files_that_all_lanes_share_are_in_flight(where: Path) -> None:
    """A big file belongs to no lane, and is counted all the same."""
    (where / "src/big").write_bytes(bytes(64 << 20))
    code, out, _ = finish(start(where, "--json", "--bwlimit=96M", "src/big", "dst"))
    events = [json.loads(line) for line in out.splitlines()]
    told = [event for event in events if event["event"] == "progress"]
    assert (code, max(event["counts"]["in_flight"] for event in told)) == (0, 1)
    assert told[0]["phase"] == "walk and copy"


def watched(where: Path, columns: int, term: str = "xterm") -> str:
    """Return what a run prints on a terminal, without its escape sequences."""
    control, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = start(where, SLOWLY, "src/", "dst", stdout=terminal, term=term)
    os.close(terminal)
    shown = b""
    while piece := read_terminal(control):
        shown += piece
    os.close(control)
    assert finish(process)[0] == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def read_terminal(control: int) -> bytes:
    """Read what there is; nothing once the program has gone."""
    try:
        return os.read(control, 65536)
    except OSError:
        return b""


def test_a_destination_that_may_not_be_made_is_refused_as_by_rsync() -> None:
    """Exit code 11 and a sentence about the destination; a dry run makes nothing and is fine."""
    need_unprivileged()
    with tempfile.TemporaryDirectory(prefix="arsync-test-") as name:  # pytest's own are root's
        place = Path(name)
        (place / "src").mkdir()
        place.chmod(0o755)
        refused = run_arsync(["-a", "src/", "dst"], cwd=place, as_nobody=True)
        planned = run_arsync(["-an", "src/", "dst"], cwd=place, as_nobody=True)
    assert refused.code == 11
    assert refused.stderr == b"arsync: cannot make the destination 'dst': Permission denied\n"
    assert (planned.code, planned.stderr) == (0, b"")
