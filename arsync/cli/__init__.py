"""The command line of arsync: the only package that prints, reads argv or exits.

Owns the entry point. Whatever is slow to import (rich, the compiled module) is imported by the
command that needs it, never here: `arsync --version` answers in a tenth of a second.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command that stands in sys.argv.

    Returns: the exit code.
    """
    from arsync.cli.run import run

    return run(sys.argv[1:])
