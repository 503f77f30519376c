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
    from arsync.errors import escaped, quoted
    from arsync.events import named
    from arsync.inventory.report import status_object, status_text
    from arsync.inventory.stores import known_stores, locate
    from arsync.inventory.summary import describe_store
    from arsync.manifest.places import damaged_stores

    located = known_stores(state) if dst is None else [locate(state, encoded(dst))]
    found = [describe_store(one, run_count) for one in located]
    damaged = damaged_stores(state) if dst is None else []
    if as_json:
        stores = [status_object(one) for one in found]
        unknown = [
            {**named("store", os.fsencode(path)), "trouble": str(error)} for path, error in damaged
        ]
        document = {**named("state_dir", os.fsencode(state)), "stores": stores, "damaged": unknown}
        show(json.dumps(document, indent=2) + "\n")
    elif found or damaged:
        texts = [status_text(one, time.time(), terminal_width()) for one in found]
        texts += [f"{quoted(path)}\n  damaged: {escaped(str(error))}\n" for path, error in damaged]
        show("\n".join(texts))
    else:
        show(f"no manifests in {quoted(state)}\n")
    codes = [one.exit_code for one in found]
    return max([*codes, *(error.exit_code for _, error in damaged)], default=0)
