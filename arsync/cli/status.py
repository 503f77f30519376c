"""The command `arsync status [DST]`.

Owns its options and its printing; what a store's state is, and how it is worded, is the
inventory's.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from arsync.cli.messages import show
from arsync.cli.state import encoded, state_option, terminal_width

__all__ = ["command"]

HELP = """Say how the manifests are, or that of DST.

Shows the last runs, whether one is at work or has ended without closing the manifest, how much of
the destination is hashed, and what was verified longest ago.

DST is a destination, also one that is not mounted, or a directory below it. A run is not disturbed,
nor waited for.
"""


@click.command("status", help=HELP)
@click.argument("dst", metavar="[DST]", required=False, type=click.Path())
@state_option
@click.option(
    "--runs",
    "run_count",
    metavar="N",
    type=click.IntRange(min=0),
    default=3,
    help="How many of the last runs are shown; 3 if not given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(dst: str | None, state: Path, run_count: int, as_json: bool) -> int:
    """Say how the manifests are."""
    from arsync.events import named
    from arsync.inventory.report import status_object, status_text
    from arsync.inventory.stores import known_stores, locate
    from arsync.inventory.summary import describe_store

    located = known_stores(state) if dst is None else [locate(state, encoded(dst))]
    found = [describe_store(one, run_count) for one in located]
    if as_json:
        stores = [status_object(one) for one in found]
        document = {**named("state_dir", os.fsencode(state)), "stores": stores}
        show(json.dumps(document, indent=2) + "\n")
    elif found:
        show("\n".join(status_text(one, time.time(), terminal_width()) for one in found))
    else:
        from arsync.errors import quoted

        show(f"no manifests in {quoted(state)}\n")
    return max((one.exit_code for one in found), default=0)
