"""Shells that somebody types into: what they make of it, completion included, is what they run."""

from __future__ import annotations

import os
import pty
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

TAB = "\t"
ALL = "\x1b*"
"""readline's key for all that can be offered; the other shells have none."""

_SECONDS = 30.0
_CHECKOUT = Path(__file__).parents[2]

_COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"bash": ("bash", "--noprofile", "--norc", "-i"), "zsh": ("zsh", "-f", "-i")}
)
_START: Mapping[str, str] = MappingProxyType(
    {
        "bash": 'eval "$(arsync completion bash)"',
        "zsh": 'autoload -Uz compinit; compinit -u -D; eval "$(arsync completion zsh)"',
    }
)

# It stands for arsync: it completes as arsync does, and to a run it only says what it was given.
_PROGRAM = """#!/bin/sh
if [ -n "$_ARSYNC_COMPLETE" ] || [ "$1 $2" = "completion $TYPED_INTO" ]; then
    exec "{python}" -m arsync "$@"
fi
printf '%s\\n' "$@" '' >"{pipe}"
"""


class TypedInto:
    """Be an interactive shell on a terminal of its own, made by `typed_into`."""

    def __init__(self, terminal_fd: int, pipe_fd: int) -> None:
        self._terminal_fd = terminal_fd
        self._pipe_fd = pipe_fd

    def arguments(self, keys: str) -> list[str]:
        """Return what arsync is given when these keys and Enter are pressed.

        Raises: TimeoutError with what the shell has shown, when arsync was not run.
        """
        os.write(self._terminal_fd, f"{keys}\r".encode())
        shown, answer = b"", b""
        while not answer.endswith(b"\n\n"):
            ready, _, _ = select.select([self._terminal_fd, self._pipe_fd], [], [], _SECONDS)
            if not ready:
                raise TimeoutError(f"{keys!r} runs nothing: {shown!r}")
            if self._terminal_fd in ready:
                shown += os.read(self._terminal_fd, 4096)
            if self._pipe_fd in ready:
                answer += os.read(self._pipe_fd, 4096)
        return os.fsdecode(answer).splitlines()[:-1]


@contextmanager
def typed_into(shell: str, directory: Path, home: Path) -> Iterator[TypedInto]:
    """Lend a shell that completes for arsync.

    Args:
        shell: bash or zsh.
        directory: where it works.
        home: an empty directory for what it needs.
    """
    environment = _prepare(shell, home)
    os.mkfifo(home / "pipe")
    pipe_fd = os.open(home / "pipe", os.O_RDWR | os.O_NONBLOCK)
    pid, terminal_fd = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execvpe(_COMMANDS[shell][0], _COMMANDS[shell], environment)
    try:
        session = TypedInto(terminal_fd, pipe_fd)
        session.arguments(f"{_START[shell]}; arsync ready")
        yield session
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal_fd)
        os.close(pipe_fd)


def fish_offers(line: str, directory: Path, home: Path) -> list[str]:
    """Return what fish offers at the end of a line, without the descriptions."""
    script = "arsync completion fish | source; complete --do-complete $argv[1]"
    done = subprocess.run(
        ["fish", "--no-config", "--command", script, line],
        cwd=directory,
        env=_prepare("fish", home),
        capture_output=True,
        text=True,
        check=True,
    )
    return [offered.partition("\t")[0] for offered in done.stdout.splitlines()]


def _prepare(shell: str, home: Path) -> dict[str, str]:
    program = home / "bin" / "arsync"
    program.parent.mkdir(exist_ok=True)
    program.write_text(_PROGRAM.format(python=sys.executable, pipe=home / "pipe"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        **os.environ,
        "HOME": str(home),
        "INPUTRC": "/dev/null",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(_CHECKOUT),
        "TERM": "dumb",
        "TYPED_INTO": shell,
    }
