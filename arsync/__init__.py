"""Keep large trees equal on one Linux machine: `sync(src, dst)` and what it needs.

The whole public API is here; everything else may change. Names are imported when they are first
used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from arsync.errors import ArsyncError, Interrupted
    from arsync.listener import Listener
    from arsync.model import Progress, Report
    from arsync.options import (
        EngineOptions,
        LinkPolicy,
        ManifestPolicy,
        OwnerPolicy,
        Preserve,
        SyncOptions,
        WritePolicy,
    )
    from arsync.stop import Stop
    from arsync.sync import sync

__all__ = [
    "ArsyncError",
    "EngineOptions",
    "Interrupted",
    "LinkPolicy",
    "Listener",
    "ManifestPolicy",
    "OwnerPolicy",
    "Preserve",
    "Progress",
    "Report",
    "Stop",
    "SyncOptions",
    "WritePolicy",
    "__version__",
    "sync",
]

_HOMES = {
    "ArsyncError": "arsync.errors",
    "Interrupted": "arsync.errors",
    "Progress": "arsync.model",
    "Report": "arsync.model",
    "EngineOptions": "arsync.options",
    "LinkPolicy": "arsync.options",
    "ManifestPolicy": "arsync.options",
    "OwnerPolicy": "arsync.options",
    "Preserve": "arsync.options",
    "SyncOptions": "arsync.options",
    "WritePolicy": "arsync.options",
    "Stop": "arsync.stop",
    "Listener": "arsync.listener",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for.

    Raises: AttributeError for a name that is not public.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'arsync' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those that nobody has asked for yet among them."""
    return list(__all__)


class _Package(ModuleType):
    """Let `arsync.sync` be the function, whoever has imported the module of that name before."""

    @property
    def sync(self) -> Any:
        """Return the function `sync` of the module `arsync.sync`."""
        from arsync.sync import sync

        return sync

    @sync.setter
    def sync(self, module: ModuleType) -> None:
        """Let the import system bind the module, to no effect: sys.modules has it."""


sys.modules[__name__].__class__ = _Package
