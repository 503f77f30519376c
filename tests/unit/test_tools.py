"""tools/arsync and its set-up: when it happens, when not, and what it leaves when it fails.

The checkouts here hold the real tools and sources, and a small program in the place of the
installed arsync; a whole installation is what `.ci/run` begins with.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.children import become_nobody
from tests.requirements import need_root, need_unprivileged

CHECKOUT = Path(__file__).resolve().parents[2]
INPUTS = ("pyproject.toml", "setup.py", "tools/setup.sh", "arsync/uring/_build.py")
SET_UP_FAILED = 43

PROGRAM = """#!/bin/sh
pwd
printf '%s\\n' "$@"
"""

# What the set-up itself calls; a PATH with only these has no compiler and no apt-get.
BASIC_COMMANDS = ("bash", "env", "readlink", "mkdir", "flock", "find", "rm", "mv", "touch", "tail")


def make_checkout(place: Path) -> Path:
    """Make a checkout with a blank in its path that is not set up."""
    copy = place / "check out"
    for name in INPUTS:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, target)
    shutil.copytree(CHECKOUT / "arsync/uring/src", copy / "arsync/uring/src")
    shutil.copy(CHECKOUT / "tools/arsync", copy / "tools/arsync")
    return copy


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a checkout that is not set up."""
    return make_checkout(tmp_path)


@pytest.fixture
def ready(checkout: Path) -> Path:
    """Make a checkout that counts as set up."""
    finish_set_up(checkout)
    return checkout


def finish_set_up(checkout: Path) -> None:
    """Leave what a successful set-up leaves, with a program that tells how it was called."""
    commands = checkout / ".venv/bin"
    commands.mkdir(parents=True, exist_ok=True)
    for name in ("python", "arsync"):
        (commands / name).write_text(PROGRAM)
        (commands / name).chmod(0o755)
    (checkout / "arsync/uring/_native.abi3.so").touch()
    (checkout / ".venv/.built").touch()
    (checkout / ".venv/.ready-run").write_text(str(checkout))


def is_ready(checkout: Path, kind: str = "run") -> bool:
    """Ask the shell functions whether the set-up is still good."""
    script = 'self=$1; source "${self%/*}/setup.sh"; is_ready "$2"'
    command = ["bash", "-c", script, "bash", str(checkout / "tools/arsync"), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode == 0


def run_arsync(
    program: Path, *arguments: str, cwd: Path, path: str | None = None, as_nobody: bool = False
) -> subprocess.CompletedProcess[str]:
    """Call tools/arsync, or a link to it, with its output kept."""
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=become_nobody if as_nobody else None,
    )


def make_newer(path: Path, than: Path) -> None:
    """Date a file after another one."""
    date_ns = than.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(date_ns, date_ns))


def test_a_call_after_the_set_up_only_runs_the_program(ready: Path, tmp_path: Path) -> None:
    """The second call sets nothing up; directory and arguments reach the program untouched."""
    link = tmp_path / "a link"
    link.symlink_to(ready / "tools/arsync")
    stamps = {path: path.stat().st_mtime_ns for path in (ready / ".venv").glob(".*")}
    work = tmp_path / "work"
    work.mkdir()
    done = run_arsync(link, "-a", "S R C/", "", "*", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(work), "-a", "S R C/", "", "*"]
    assert {path: path.stat().st_mtime_ns for path in (ready / ".venv").glob(".*")} == stamps


@pytest.mark.parametrize("name", [*INPUTS, "arsync/uring/src/arsync.h", "arsync/uring/src/hash.c"])
def test_a_newer_input_asks_for_a_new_set_up(ready: Path, name: str) -> None:
    """Whatever the installation was made from makes it stale when it changes."""
    assert is_ready(ready)
    make_newer(ready / name, than=ready / ".venv/.built")
    assert not is_ready(ready)


def add_source(checkout: Path) -> None:
    """Add a C file that is older than the build."""
    source = checkout / "arsync/uring/src/extra.c"
    source.touch()
    os.utime(source, (0, 0))
    make_newer(source.parent, than=checkout / ".venv/.built")


def remove_source(checkout: Path) -> None:
    """Remove a C file."""
    source = checkout / "arsync/uring/src/hash.c"
    source.unlink()
    make_newer(source.parent, than=checkout / ".venv/.built")


def remove_module(checkout: Path) -> None:
    """Remove the compiled module."""
    (checkout / "arsync/uring/_native.abi3.so").unlink()


def lose_python(checkout: Path) -> None:
    """Leave a link to a Python that was uninstalled."""
    python = checkout / ".venv/bin/python"
    python.unlink()
    python.symlink_to("python-of-last-year")


def lose_stamp(checkout: Path) -> None:
    """Leave what a set-up leaves that was killed."""
    (checkout / ".venv/.ready-run").unlink()


@pytest.mark.parametrize(
    "spoil", [add_source, remove_source, remove_module, lose_python, lose_stamp]
)
def test_a_damaged_set_up_does_not_count(ready: Path, spoil: Callable[[Path], None]) -> None:
    """Half an environment is never taken for a whole one."""
    assert is_ready(ready)
    spoil(ready)
    assert not is_ready(ready)


def test_a_moved_checkout_is_set_up_again(ready: Path, tmp_path: Path) -> None:
    """A virtual environment holds its own path in many files, so a move breaks it."""
    moved = ready.rename(tmp_path / "elsewhere")
    assert not is_ready(moved)


def test_the_tests_need_more_than_the_program(ready: Path) -> None:
    """What is enough to run arsync is not taken as enough to test it."""
    assert not is_ready(ready, "test")
    (ready / ".venv/.ready-test").touch()
    assert is_ready(ready, "test")


def hide_python(checkout: Path) -> None:
    """Leave a link to a Python that only its owner may reach."""
    home = checkout / "home"
    home.mkdir()
    python = checkout / ".venv/bin/python"
    python.rename(home / "python3.x")
    python.symlink_to(home / "python3.x")
    home.chmod(0o700)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lose_stamp, "cannot write '{}/.venv', where the set-up goes"),
        (hide_python, "this user cannot run '{}/home/python3.x'"),
    ],
)
def test_who_may_not_set_up_is_told_why(spoil: Callable[[Path], None], reason: str) -> None:
    """Another user's checkout: not set up, or set up with a Python that is not for everybody."""
    need_root()
    need_unprivileged()
    with tempfile.TemporaryDirectory(prefix="arsync-test-") as name:  # pytest's own are root's
        place = Path(name)
        checkout = make_checkout(place)
        finish_set_up(checkout)
        spoil(checkout)
        place.chmod(0o755)
        done = run_arsync(checkout / "tools/arsync", cwd=place, as_nobody=True)
    assert (done.returncode, done.stdout) == (SET_UP_FAILED, "")
    assert reason.format(checkout) in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_packages_are_named(checkout: Path, tmp_path: Path) -> None:
    """Without the right to install them, the packages are named and nothing is left half done."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in BASIC_COMMANDS:
        (commands / name).symlink_to(shutil.which(name) or name)
    done = run_arsync(checkout / "tools/arsync", "a", "b", cwd=tmp_path, path=str(commands))
    assert done.returncode == SET_UP_FAILED
    assert done.stdout == ""
    assert "apt-get install" in done.stderr
    for package in ("gcc", "libc6-dev", "liburing-dev", "libxxhash-dev"):
        assert package in done.stderr
    assert not is_ready(checkout)


def test_two_first_calls_take_turns(checkout: Path, tmp_path: Path) -> None:
    """The second waits for the first, then finds the work done and does not repeat it."""
    (checkout / ".venv").mkdir()
    with (checkout / ".venv/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [checkout / "tools/arsync", "x"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with second:
            assert second.stderr is not None
            assert "waiting for another set-up" in second.stderr.readline()
            finish_set_up(checkout)
            fcntl.flock(lock, fcntl.LOCK_UN)
            output, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert output.splitlines() == [str(tmp_path), "x"]


@pytest.mark.parametrize("tool", ["arsync", "test", "check", "coverage"])
def test_the_tools_are_valid_shell(tool: str) -> None:
    """Each tool is executable, and bash can read it to its end."""
    path = CHECKOUT / "tools" / tool
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_check_refuses_what_it_does_not_know() -> None:
    """A misspelt option of tools/check prints the usage and does nothing."""
    command = [CHECKOUT / "tools/check", "--sanitise"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--sanitize" in done.stderr
