"""The command `arsync completion SHELL`, and the answers to what its script asks.

Owns how click's completion is reached although the first word may be a command or an operand.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from arsync.cli.messages import show
from arsync.cli.run import COMMANDS, COMPLETE_VARIABLE, load_command
from arsync.errors import UsageError

__all__ = ["SHELLS", "command", "complete"]

SHELLS = ("bash", "zsh", "fish")


HELP = """Print the completion script of a shell.

\b
bash:  eval "$(arsync completion bash)"     in ~/.bashrc
zsh:   eval "$(arsync completion zsh)"      in ~/.zshrc
fish:  arsync completion fish | source      in config.fish
"""


@click.command("completion", help=HELP)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print the completion script of a shell."""
    show(_completer(shell).source() + "\n")
    return 0


def complete(instruction: str) -> int:
    """Answer a completion script.

    Args:
        instruction: `bash_complete` or `bash_source`, as click names them.
    Returns: 0.
    """
    shell, _, verb = instruction.partition("_")
    if shell not in SHELLS or verb not in ("complete", "source"):
        raise UsageError(f"{COMPLETE_VARIABLE}: {instruction!r} is no instruction")
    completer = _completer(shell)
    if verb == "source":
        show(completer.source() + "\n")
        return 0
    args, incomplete = completer.get_completion_args()
    for item in _items(shell, args, incomplete):
        show(completer.format_completion(item) + "\n")
    return 0


def _items(shell: str, args: list[str], incomplete: str) -> list[CompletionItem]:
    commands = [
        CompletionItem(name, help=text)
        for name, text in COMMANDS.items()
        if not args and name.startswith(incomplete)
    ]
    name, rest = (args[0], args[1:]) if args and args[0] in COMMANDS else ("sync", args)
    return commands + _completer(shell, load_command(name)).get_completions(rest, incomplete)


def _completer(shell: str, command: click.Command | None = None) -> ShellComplete:
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"click {click.__name__} cannot complete for {shell}")
    return kind(command or load_command("sync"), {}, "arsync", COMPLETE_VARIABLE)
