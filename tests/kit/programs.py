"""The programs that are compared: the installed rsync, and arsync by its command line.

ARSYNC_UNDER_TEST selects how arsync runs: `inside` (in this process, the default: quick),
`process` (`python -m arsync`), or `rsync`, which puts rsync in arsync's place: every test of
tests/compat must pass then, or the test is wrong.
"""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

Argument = str | bytes

# rsync compares whole seconds unless told otherwise; arsync compares nanoseconds.
_NANOSECONDS = "--modify-window=-1"
_PLAIN_LOCALE = {"LC_ALL": "C.UTF-8", "RSYNC_RSH": "false"}
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@dataclass(frozen=True)
class Outcome:
    """Hold what a program left: exit code and both outputs."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def lines(self) -> list[bytes]:
        """Return the lines of the standard output, sorted: no program promises their order."""
        return sorted(self.stdout.splitlines())


def run_rsync(
    args: Sequence[Argument], *, cwd: Path | None = None, as_nobody: bool = False
) -> Outcome:
    """Run the installed rsync with nanosecond times.

    Args:
        args: options, sources, destination.
        cwd: the working directory, for relative paths.
        as_nobody: run without root's rights.
    """
    return _run(["rsync", _NANOSECONDS, *args], cwd, as_nobody)


def run_arsync(
    args: Sequence[Argument], *, cwd: Path | None = None, as_nobody: bool = False
) -> Outcome:
    """Run arsync, in the way ARSYNC_UNDER_TEST says; without root's rights always as a process.

    Args:
        args: options, sources, destination.
        cwd: the working directory, for relative paths.
        as_nobody: run without root's rights.
    """
    way = os.environ.get("ARSYNC_UNDER_TEST", "inside")
    if way == "rsync":
        return run_rsync([arg for arg in args if not _is_engine(arg)], cwd=cwd, as_nobody=as_nobody)
    if way == "process" or as_nobody:
        return _run([sys.executable, "-m", "arsync", *args], cwd, as_nobody)
    if way == "inside":
        return _run_inside(args, cwd)
    raise ValueError(f"ARSYNC_UNDER_TEST={way}: inside, process or rsync")


def _is_engine(arg: Argument) -> bool:
    return os.fsdecode(arg).startswith("--engine=")


def _run(command: Sequence[Argument], cwd: Path | None, as_nobody: bool) -> Outcome:
    prefix = _NOBODY if as_nobody else ()
    checkout = str(Path(__file__).parents[2])
    environment = {**os.environ, **_PLAIN_LOCALE, "PYTHONPATH": checkout}
    done = subprocess.run(
        [*prefix, *command], cwd=cwd, env=environment, capture_output=True, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def _run_inside(args: Sequence[Argument], cwd: Path | None) -> Outcome:
    """Run `python -m arsync` as a function: same entry, same exit, no new process."""
    out_bytes, err_bytes = io.BytesIO(), io.BytesIO()
    out, err = _text_stream(out_bytes), _text_stream(err_bytes)
    with ExitStack() as stack:
        stack.enter_context(_replaced_streams(out, err))
        stack.enter_context(_replaced_argv(["arsync", *map(os.fsdecode, args)]))
        stack.enter_context(_working_directory(cwd))
        try:
            runpy.run_module("arsync", run_name="__main__", alter_sys=False)
            code = 0
        except SystemExit as ended:
            code = _exit_code(ended, err)
    out.flush()
    err.flush()
    return Outcome(code, out_bytes.getvalue(), err_bytes.getvalue())


def _exit_code(ended: SystemExit, err: io.TextIOWrapper) -> int:
    if isinstance(ended.code, str):
        err.write(f"{ended.code}\n")
        return 1
    return ended.code or 0


def _text_stream(buffer: io.BytesIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="surrogateescape")


@contextmanager
def _replaced_streams(out: io.TextIOWrapper, err: io.TextIOWrapper) -> Iterator[None]:
    saved = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = saved


@contextmanager
def _replaced_argv(argv: list[str]) -> Iterator[None]:
    saved = sys.argv
    sys.argv = argv
    try:
        yield
    finally:
        sys.argv = saved


@contextmanager
def _working_directory(cwd: Path | None) -> Iterator[None]:
    saved = os.getcwd()
    os.chdir(cwd or saved)
    try:
        yield
    finally:
        os.chdir(saved)
