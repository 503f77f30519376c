"""The command `arsync completion SHELL`, and the answers to what its script asks.

Owns how click's completion is reached although the first word may be a command or an operand, and
the scripts: those of click lose what is typed before the = of --option=value, and in bash they take
files for all that can be offered wherever a file may stand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from arsync.cli.messages import show
from arsync.cli.run import COMMANDS, COMPLETE_VARIABLE, load_command
from arsync.errors import UsageError

__all__ = ["SHELLS", "command", "complete"]

# readline takes = and : for the ends of words, so the line is passed on, not bash's COMP_WORDS.
_BASH = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
        plain) COMPREPLY+=("$value") ;;
        dir) compopt -o dirnames ;;
        file)
            if ((${#COMPREPLY[@]})); then
                compopt -o plusdirs
            else
                compopt -o default
            fi
            ;;
        esac
    done < <(%(complete_var)s=bash_complete COMP_WORDS="${COMP_LINE:0:COMP_POINT}" "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local kind value text
    local -a answers described bare
    answers=("${(@f)$(%(complete_var)s=zsh_complete COMP_WORDS="${words[*]}" \\
        COMP_CWORD=$((CURRENT - 1)) "${(Q)words[1]}")}")
    [[ $PREFIX == --*=* ]] && compset -P '*='
    for kind value text in $answers; do
        case $kind in
        plain)
            if [[ $text == _ ]]; then
                bare+=("$value")
            else
                described+=("$value:$text")
            fi
            ;;
        dir) _files -/ ;;
        file) _files ;;
        esac
    done
    (($#described)) && _describe -V arsync described
    (($#bare)) && compadd -V arsync -a bare
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi"""

_FISH = """\
function %(complete_func)s
    set -l token (commandline -ct)
    set -l option (string match -r -- '^--[^=]+=' $token)
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \\
            COMP_CWORD=$token %(prog_name)s)
        set -l answer (string split -m 1 , -- $line)
        switch $answer[1]
            case plain
                printf '%%s\\n' "$option$answer[2]"
            case dir
                for path in (__fish_complete_directories "$answer[2]")
                    printf '%%s\\n' "$option$path"
                end
            case file
                for path in (__fish_complete_path "$answer[2]")
                    printf '%%s\\n' "$option$path"
                end
        end
    end
end

complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'"""


class _Bash(BashComplete):
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Split the line up to the cursor; a mark there makes a word also where none has begun."""
        *args, incomplete = split_arg_string(os.environ["COMP_WORDS"] + "|")
        return args[1:], incomplete[:-1]


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


_COMPLETERS: Final[Mapping[str, type[ShellComplete]]] = MappingProxyType(
    {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
)

SHELLS: Final = tuple(_COMPLETERS)

HELP = """Print the completion script of a shell.

\b
bash:  eval "$(arsync completion bash)"     in ~/.bashrc
zsh:   eval "$(arsync completion zsh)"      in ~/.zshrc
fish:  arsync completion fish | source      in config.fish
"""


@click.command("completion", help=HELP)
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
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
    return _COMPLETERS[shell](command or load_command("sync"), {}, "arsync", COMPLETE_VARIABLE)
