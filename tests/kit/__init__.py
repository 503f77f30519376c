"""The test kit: trees as literals, snapshots, comparison, filesystems, strategies, programs.

It knows nothing of arsync but its command line.
"""

from tests.kit.attributes import acl, capability
from tests.kit.compare import Aspects, assert_same, differences
from tests.kit.snapshot import Entry, Snapshot, read
from tests.kit.tree import (
    Device,
    Dir,
    Fifo,
    File,
    HardLink,
    Node,
    Pattern,
    Socket,
    Sparse,
    Symlink,
    Tree,
    make,
)

__all__ = [
    "Aspects",
    "Device",
    "Dir",
    "Entry",
    "Fifo",
    "File",
    "HardLink",
    "Node",
    "Pattern",
    "Snapshot",
    "Socket",
    "Sparse",
    "Symlink",
    "Tree",
    "acl",
    "assert_same",
    "capability",
    "differences",
    "make",
    "read",
]
