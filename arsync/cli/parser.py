"""The click command of `arsync SRC... DST`, whose options are read in the order given.

Owns the bridge: click's own parser keeps one value a parameter and so loses the order in which
rsync folds; words.py reads instead. The parameters are still click's, for completion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from arsync.cli.option import Option, Value
from arsync.cli.table import OPTIONS
from arsync.cli.words import CommandLine, read_words

__all__ = ["SyncCommand"]


class SyncCommand(click.Command):
    """Read words with words.py and hand the result to `action`.

    Args:
        action: what runs the command line; returns the exit code.
    """

    def __init__(self, action: Callable[[CommandLine], int]) -> None:
        params = [_parameter(option) for option in OPTIONS]
        paths = click.Argument(["paths"], nargs=-1, type=click.Path())
        super().__init__("sync", params=[*params, paths], add_help_option=False)
        self.action = action

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; click's own parser serves completion only."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.obj = read_words(args)
        return []

    def invoke(self, ctx: click.Context) -> Any:
        """Run the action."""
        return self.action(ctx.obj)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete option names, and the --no- forms once --no is typed."""
        items = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("--no"):
            names = [f"--no-{name}" for option in OPTIONS if option.negate for name in option.names]
            items += [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return items


def _parameter(option: Option) -> click.Option:
    names = [f"--{name}" for name in option.names]
    names += [f"-{option.short}"] if option.short else []
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
