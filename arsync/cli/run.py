"""Choose the command, run it, and turn whatever ends it into an exit code and a sentence.

Owns the rule that a word is a command only as the first argument, and that nobody sees a traceback
for a mistake of his own. It must not know what a command does.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from arsync.cli.messages import (
    drop_output,
    open_missing_streams,
    say,
    say_bug,
    use_utf8,
)
from arsync.errors import (
    ArsyncError,
    FileError,
    InternalError,
    Interrupted,
    OutOfMemoryError,
    UsageError,
)

if TYPE_CHECKING:
    import click

__all__ = ["COMMANDS", "COMPLETE_VARIABLE", "load_command", "run"]

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sync": "make DST equal SRC; what arsync does without a command",
        "plan": "say what a run would do, and write that for apply",
        "apply": "do what a plan says, if nothing has changed since",
        "status": "say how the manifests are: last runs, what is hashed",
        "manifest": "show, export and measure what is remembered of DST",
        "doctor": "say what this machine can do and what arsync will use",
        "completion": "print the completion script of a shell",
        "help": "show the help of arsync or of a command",
    }
)
"""Each command, in a module of its name, with one line of help."""

_OBJECTS_A_COLLECTION: Final = 50_000
"""What a run keeps is in no cycles, and there is much of it: Python looks for them seldom."""

COMPLETE_VARIABLE: Final = "_ARSYNC_COMPLETE"
"""Set by the completion scripts; its value is click's instruction."""


def run(words: Sequence[str]) -> int:
    """Run a command line and return its exit code; never raise.

    Args:
        words: the arguments without the program's name.
    """
    open_missing_streams()
    use_utf8()
    try:
        code = _dispatch(words)
    except ArsyncError as error:
        code = _failed(error)
    except KeyboardInterrupt as error:
        say(str(error) or "interrupted")
        code = Interrupted.exit_code
    except MemoryError:
        say("out of memory")
        code = OutOfMemoryError.exit_code
    except BrokenPipeError:
        code = FileError.exit_code
    except Exception as error:
        code = say_bug(error)
    return _closed(code)


def load_command(name: str) -> click.Command:
    """Import a command.

    Args:
        name: a key of COMMANDS.
    """
    command: click.Command = importlib.import_module(f"arsync.cli.{name}").command
    return command


def _dispatch(words: Sequence[str]) -> int:
    if COMPLETE_VARIABLE in os.environ:
        from arsync.cli.completion import complete

        return complete(os.environ[COMPLETE_VARIABLE])
    if list(words) in (["--version"], ["-V"]):  # as quick as can be: without click
        from arsync.cli.messages import show_version

        return show_version()
    name, rest = ("sync", words) if not words or words[0] not in COMMANDS else (words[0], words[1:])
    return _invoke(name, rest)


def _invoke(name: str, words: Sequence[str]) -> int:
    import click

    command = load_command(name)
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION)
    prog = "arsync" if name == "sync" else f"arsync {name}"
    try:
        # Not command.main(): it has its own exit codes, 1 for a reader that went away among them.
        with command.make_context(prog, list(words)) as context:
            result = command.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        raise UsageError(f"{message[:1].lower()}{message[1:]}") from None
    return result if isinstance(result, int) else 0


def _failed(error: ArsyncError) -> int:
    if isinstance(error, InternalError):
        return say_bug(error)
    say(str(error))
    return error.exit_code


def _closed(code: int) -> int:
    """Flush standard output; a reader that went away is no reason to say anything."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        return code or FileError.exit_code
    except OSError as error:
        drop_output()
        if code == 0:
            say(f"cannot write to standard output: {error.strerror}")
        return code or FileError.exit_code
    return code
