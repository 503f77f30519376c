"""What the other stages use of the compiled module: batches, rules, spools.

The only package that imports `_native`. Its modules turn a C struct into something that Python can
hold and pass on; what happens to files happens in C.
"""

from arsync.uring.batch import Batch, Tally
from arsync.uring.later import ExtrasPass, Later, LaterKind
from arsync.uring.rules import Identity, Rules

__all__ = ["Batch", "ExtrasPass", "Identity", "Later", "LaterKind", "Rules", "Tally"]
