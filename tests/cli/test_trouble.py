"""What a person and a script are told when something goes wrong, beside standard error."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from arsync.cli.run import run
from arsync.model import Op
from arsync.uring.faults import FOREVER, Action, Pause, fault, paused_at
from tests.kit.programs import run_arsync


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Make a directory with three files in src."""
    for name in ("a", "b", "c"):
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / name).write_text(name)
    return tmp_path


def events(output: bytes) -> list[dict[str, Any]]:
    """Return the events of --json."""
    return [json.loads(line) for line in output.splitlines()]


def of(kind: str, output: bytes) -> list[dict[str, Any]]:
    """Return the events of one kind."""
    return [event for event in events(output) if event["event"] == kind]


def test_a_failure_stands_in_the_log_too(where: Path) -> None:
    """Each line with time and process, whatever -q keeps from the screen."""
    with fault(Op.OPEN_FILE, Action.ERROR, errno.EIO):
        ran = run_arsync(["-a", "-q", "--log-file=log", "--engine=sync", "src/", "dst"], cwd=where)
    assert ran.code == 23
    (failed,) = [line for line in (where / "log").read_text().splitlines() if "cannot" in line]
    assert failed.split("] ", 1)[1] in ran.stderr.decode()
    assert os.strerror(errno.EIO) in failed


def test_a_log_that_takes_no_more_is_named_once(where: Path) -> None:
    """What cannot be written down is not silently lost, nor is the copy."""
    ran = run_arsync(["-a", "--log-file=/dev/full", "src/", "dst"], cwd=where)
    assert ran.code == 0
    assert ran.stderr == (
        b"arsync: cannot write to the log file '/dev/full': No space left on device; "
        b"copying goes on without it\n"
    )
    assert sorted(os.listdir(where / "dst")) == ["a", "b", "c"]


def test_a_failure_is_an_event(where: Path) -> None:
    """With the path, the operation and the error, and a message for people beside it."""
    with fault(Op.OPEN_FILE, Action.ERROR, errno.EIO):
        ran = run_arsync(["-a", "--json", "--engine=sync", "src/", "dst"], cwd=where)
    assert ran.code == 23
    (failed,) = of("error", ran.stdout)
    assert failed["path"] in ("a", "b", "c")
    assert failed["errno"] == errno.EIO
    assert failed["path"].encode() in ran.stderr
    assert of("summary", ran.stdout)[0]["exit_code"] == 23


def test_what_vanishes_is_an_event(where: Path) -> None:
    """It has no error number, and the run ends with 24."""
    with fault(Op.OPEN_FILE, Action.ERROR, errno.ENOENT):
        ran = run_arsync(["-a", "--json", "--engine=sync", "src/", "dst"], cwd=where)
    assert ran.code == 24
    (vanished,) = of("error", ran.stdout)
    assert vanished["op"] == "vanished"
    assert "errno" not in vanished
    assert b"vanished" in ran.stderr


def test_what_is_left_out_is_an_event(where: Path) -> None:
    """A fifo that -r leaves out is a warning with its count, and a line for people."""
    os.mkfifo(where / "src" / "pipe")
    ran = run_arsync(["-r", "--json", "src/", "dst"], cwd=where)
    assert ran.code == 0
    (warning,) = of("warning", ran.stdout)
    assert warning["count"] == 1
    assert ran.stderr.startswith(b"arsync: left out")
    assert ran.stderr.endswith(b"1 entry, first 'pipe'\n")


def test_a_second_interrupt_ends_the_run_at_once(where: Path) -> None:
    """The first one waits for what is in flight; whoever presses again waits for nothing."""
    pid = os.fork()
    if pid == 0:
        os.chdir(where)
        with paused_at(Op.WRITE, count=FOREVER) as pause:
            threading.Thread(target=press_again_and_again, args=[pause], daemon=True).start()
            os._exit(run(["-a", "--copy-method=read_write", "src/", "dst"]) + 100)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 20


def press_again_and_again(pause: Pause) -> None:
    """Send Ctrl-C to this process until it ends, ten seconds at most."""
    pause.wait()
    for _ in range(200):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
    pause.resume()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_doctor_names_a_path_that_cannot_be_examined(tmp_path: Path, form: list[str]) -> None:
    """A loop of symlinks leads nowhere: one sentence and exit code 11."""
    (tmp_path / "loop").symlink_to("loop")
    ran = run_arsync(["doctor", *form, "loop/x"], cwd=tmp_path)
    assert (ran.code, ran.stdout) == (11, b"")
    path = f"{tmp_path}/loop/x"
    assert ran.stderr.decode() == (f"arsync: cannot examine '{path}': {os.strerror(errno.ELOOP)}\n")
