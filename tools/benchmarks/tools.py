"""The programs that are measured: how each is called, and where it comes from."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import BenchError
from .machine import first_line

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
COMPILER_OPTIONS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread")


@dataclass(frozen=True)
class Tool:
    """One way of calling one program.

    Attributes:
        name: as reports and targets spell it.
        program: key of the program, see `Programs`.
        options: its arguments before source and destination.
        slash: the source directory is named with a trailing slash, as rsync wants it.
        needs: what its --help must know; a program that does not is left out.
    """

    name: str
    program: str
    options: tuple[str, ...] = ()
    slash: bool = False
    needs: str = ""

    def shown(self) -> list[str]:
        """Return the command as it is kept in the raw runs, free of this machine's paths."""
        return [self.program, *self.options, "SRC/" if self.slash else "SRC", "DST"]


RSYNC = Tool("rsync -a", "rsync", ("-a",), slash=True)
CP = Tool("cp -a", "cp", ("-a",))
CP_REFLINK = Tool("cp --reflink", "cp", ("-a", "--reflink=always"))
FLOOR = Tool("floor", "floor")
FLOOR_ONE = Tool("floor, 1 thread", "floor", ("--threads", "1"))
FLOOR_16 = Tool("floor, 16 threads", "floor", ("--threads", "16"))
FLOOR_NO_RENAME = Tool("floor, no rename", "floor", ("--no-rename",))
ARSYNC = Tool("arsync", "arsync", ("-a",), slash=True)
ARSYNC_ONE = Tool("arsync, 1 lane", "arsync", ("-a", "--cpu-count", "1"), slash=True)
ARSYNC_TWO = Tool("arsync, 2 lanes", "arsync", ("-a", "--cpu-count", "2"), slash=True)
ARSYNC_JSON = Tool("arsync --json", "arsync", ("-a", "--json"), slash=True)
ARSYNC_TRUST = Tool(
    "arsync --trust-dst", "arsync", ("-a", "--trust-dst"), slash=True, needs="--trust-dst"
)
ARSYNC_NO_MANIFEST = Tool("arsync --no-manifest", "arsync", ("-a", "--no-manifest"), slash=True)
RSYNC_DELETE = Tool("rsync -a --delete", "rsync", ("-a", "--delete"), slash=True)
ARSYNC_DELETE = Tool("arsync --delete", "arsync", ("-a", "--delete"), slash=True)
RSYNC_INPLACE = Tool("rsync --inplace", "rsync", ("-a", "--inplace"), slash=True)
ARSYNC_INPLACE = Tool("arsync --inplace", "arsync", ("-a", "--inplace"), slash=True)
RSYNC_CHECKSUM = Tool("rsync -ac", "rsync", ("-ac",), slash=True)
ARSYNC_CHECKSUM = Tool("arsync -c", "arsync", ("-ac",), slash=True)


@dataclass(frozen=True)
class Programs:
    """Where the programs are; arsync may be absent, and its runs are left out then."""

    commands: Mapping[str, Sequence[str]]
    timed: Path

    def has(self, tool: Tool) -> bool:
        """Tell whether the tool's program was found, and knows what the tool needs."""
        command = self.commands.get(tool.program)
        return command is not None and (not tool.needs or tool.needs in _help_of(tuple(command)))

    def command(self, tool: Tool, src: Path, dst: Path) -> list[str]:
        """Return the full command line of one run."""
        slash = "/" if tool.slash and src.is_dir() else ""
        return [*self.commands[tool.program], *tool.options, f"{src}{slash}", str(dst)]

    def versions(self) -> dict[str, str]:
        """Ask each program for its version; the floor has the checkout's."""
        asked = (name for name in self.commands if name != "floor")
        return {name: first_line([*self.commands[name], "--version"]) for name in asked}


def find_programs(build: Path, arsync: str | None) -> Programs:
    """Find rsync, cp and arsync, and compile the floor and the stop-watch.

    Args:
        build: an existing directory for the two compiled programs.
        arsync: the command that the user gave, or None for the checkout's own.

    Raises:
        BenchError: a program is missing, or the compiler fails.
    """
    commands: dict[str, Sequence[str]] = {
        "rsync": (_require("rsync"),),
        "cp": (_require("cp"),),
        "floor": (str(_compile("floor", build)),),
    }
    found = _find_arsync(arsync)
    if found:
        commands["arsync"] = found
    return Programs(commands, _compile("timed", build))


def _find_arsync(given: str | None) -> Sequence[str]:
    if given is None:
        own = CHECKOUT / ".venv" / "bin" / "arsync"
        return (str(own),) if own.exists() else ()
    command = shlex.split(given)
    if not command or shutil.which(command[0]) is None:
        raise BenchError(f"there is no program '{given}' to take as arsync")
    return command


@cache
def _help_of(command: Sequence[str]) -> str:
    return subprocess.run([*command, "--help"], capture_output=True, text=True).stdout


def _require(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise BenchError(f"'{program}' is not installed: apt-get install {program}")
    return path


def _compile(name: str, build: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError(
            "there is no C compiler for the floor program: apt-get install gcc libc6-dev"
        )
    output = build / name
    command = [compiler, *COMPILER_OPTIONS, "-o", str(output), str(HERE / f"{name}.c")]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise BenchError(f"cannot compile '{name}.c': {result.stderr.strip()}")
    return output
