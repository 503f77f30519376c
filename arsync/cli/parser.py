"""The click command of what takes rsync's options, which are read in the order given.

Owns the bridge: click's own parser keeps one value a parameter and so loses the order in which
rsync folds; words.py reads instead. The parameters are still click's, for completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from arsync.cli.option import Option, Value
from arsync.cli.table import OPTIONS
from arsync.cli.words import CommandLine, read_words

__all__ = ["WordsCommand"]


class WordsCommand(click.Command):
    """Read words with words.py and hand the result to `action`.

    Args:
        name: of the command.
        action: what runs the command line; returns the exit code.
        text: returns its help.
        options: that are completed.
        reads: that are read; what is not to be there is for `action` to say.
    """

    def __init__(
        self,
        name: str,
        action: Callable[[CommandLine], int],
        text: Callable[[], str],
        options: Sequence[Option] = OPTIONS,
        reads: Sequence[Option] | None = None,
    ) -> None:
        params = [_parameter(option) for option in options]
        paths = click.Argument(["paths"], nargs=-1, type=click.Path())
        super().__init__(name, params=[*params, paths], add_help_option=False)
        self.action = action
        self.text = text
        self.options = options
        self.reads = reads or options

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; click's own parser serves completion only."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.obj = read_words(args, self.reads)
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """Run the action."""
        return self.action(ctx.obj)

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002 - as click calls it
        """Return the help, which click's own formatter would not group."""
        return self.text().rstrip("\n")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete option names, and the --no- forms once --no is typed."""
        items = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("--no"):
            negated = [option for option in self.options if option.negate]
            names = [f"--no-{name}" for option in negated for name in option.names]
            items += [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return items


def _parameter(option: Option) -> click.Option:
    names = [f"--{name}" for name in option.names]
    letter = option.short or option.alone
    names += [f"-{letter}"] if letter else []
    if option.value is Value.NONE:
        return click.Option(names, is_flag=True, help=option.help)
    kind: click.ParamType[Any] = click.STRING
    if option.choices:
        kind = click.Choice(option.choices)
    elif option.metavar in ("DIR", "FILE"):
        kind = click.Path(file_okay=option.metavar == "FILE")
    if option.value is Value.OPTIONAL:
        return click.Option(names, type=kind, is_flag=False, flag_value="", help=option.help)
    return click.Option(names, type=kind, help=option.help)
