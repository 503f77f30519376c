"""The command `arsync doctor [PATH...]`.

Owns its printing only: what is looked at, and how it is worded, is arsync.doctor's.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import click

from arsync.cli.messages import show
from arsync.errors import FileError, describe

__all__ = ["command"]

HELP = """Say what this machine can do and what arsync will use.

Shows the kernel, the operations of its io_uring, the limits of this process, and for each PATH
what its filesystem can hold. With two paths, SRC and DST, it says how content would go from one
to the other, and why.
"""


@click.command("doctor", help=HELP)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(paths: tuple[str, ...], as_json: bool) -> int:
    """Say what this machine can do and what arsync will use."""
    from arsync.doctor import examine, render

    try:
        found = examine(paths)
    except OSError as error:
        raise FileError(_reason(error)) from None
    if as_json:
        show(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        show(render(found, shutil.get_terminal_size((80, 24)).columns))
    return 0


def _reason(error: OSError) -> str:
    name: Any = error.filename
    return describe("examine", name if isinstance(name, (str, bytes)) else "", error.errno or 0)
