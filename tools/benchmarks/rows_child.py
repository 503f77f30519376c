"""Fill, open and read one synthetic manifest in a process of its own, and say what memory it took.

Called by `rows_command`: arguments are the number of rows and a directory for the store. The pages
are those of directories of 1,000 files with hashes, two a directory, one for each side; they go the
way that a run's go: ids and commits through `arsync.recorder`, checks through the C module.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arsync.manifest.contents import name_key
from arsync.manifest.format import SEEN, Page, Place, RowState, checksum_of
from arsync.manifest.records import ROOT
from arsync.manifest.store import Store
from arsync.model import PageFlag
from arsync.recorder import Recorder
from arsync.uring.recording import Kept
from arsync.uring.records import are_sound

FILES = 1_000
BATCH = 64
SUMMED_BYTES = 40
HEAD_BYTES = 48
TREES = (0, 1)


def main() -> None:
    """Do all of it and print one line of JSON."""
    rows, path = int(sys.argv[1]), Path(sys.argv[2])
    directories = rows // (len(TREES) * (FILES + 1))
    facts: dict[str, Any] = {"rows": directories * len(TREES) * (FILES + 1)}
    started = time.monotonic()
    with Store(path, b"synthetic") as store:
        facts["base_bytes"] = _anonymous_bytes()
        facts["commit_bytes"] = _fill(store, directories)
    facts["commit_s"] = round(time.monotonic() - started, 2)
    started = time.monotonic()
    with Store(path, b"synthetic") as store:
        facts["open_bytes"] = _anonymous_bytes()
        facts["open_s"] = round(time.monotonic() - started, 3)
        facts["recall_bytes"] = _recall(store, directories)
    facts["recall_s"] = round(time.monotonic() - started, 2)
    facts["file_bytes"] = (path / "data.mdb").stat().st_size
    print(json.dumps(facts))


def _fill(store: Store, directories: int) -> int:
    """Record all directories; return the peak of memory."""
    recorder = Recorder(store, lambda: None)
    templates = {tree: _template(tree) for tree in TREES}
    peak = 0
    for names in _batches(directories):
        ids = recorder.directory_ids([name_key((ROOT, name)) for name in names])
        pages = [
            Kept(directory, tree, 3, b"", _moved(templates[tree], Place(tree, directory)))
            for directory in ids
            for tree in TREES
        ]
        recorder.add(pages)
        peak = max(peak, _anonymous_bytes())
    recorder.close()
    return max(peak, _anonymous_bytes())


def _recall(store: Store, directories: int) -> int:
    """Read and check all pages as a walk asks for them; return the peak of memory."""
    recorder = Recorder(store, lambda: None)
    peak = 0
    for names in _batches(directories):
        ids = recorder.directory_ids([name_key((ROOT, name)) for name in names])
        for tree in TREES:
            pages = [page for chain in recorder.pages_of(tree, ids) for page in chain]
            if not all(are_sound([(tree, one) for one in ids], pages)):
                raise SystemExit("a page is damaged")
        peak = max(peak, _anonymous_bytes())
    recorder.close()
    return peak


def _batches(directories: int) -> Iterator[Sequence[bytes]]:
    for first in range(0, directories, BATCH):
        yield [b"directory%08d" % one for one in range(first, min(first + BATCH, directories))]


def _template(tree: int) -> bytes:
    names = (b"", *(b"file%07d.data" % one for one in range(FILES)))
    numbers = range(len(names))
    seen = {name: (0,) * len(names) for name in SEEN}
    seen |= {
        "type": (4, *[8] * FILES),
        "mode": (0o40755, *[0o100644] * FILES),
        "nlink": (2, *[1] * FILES),
        "size": tuple(4096 + 31 * one for one in numbers),
        "ino": tuple(10_000 + one for one in numbers),
        "mtime_n": tuple(one * 977 % 10**9 for one in numbers),
        "ctime_n": tuple(one * 1009 % 10**9 for one in numbers),
        "mtime_s": tuple(1_700_000_000 + one for one in numbers),
    }
    page = Page(
        PageFlag.FIRST | PageFlag.LAST,
        names,
        (b"",) * len(names),
        seen,
        (0, *[int(RowState.HASHED)] * FILES),
        (bytes(16), *(one.to_bytes(16, "little") for one in range(1, FILES + 1))),
        (0, *[1_700_000_000] * FILES),
    )
    return page.encode(Place(tree, ROOT))


def _moved(page: bytes, place: Place) -> bytes:
    """Return a page as it is kept at another place."""
    total = checksum_of(page, place).to_bytes(8, "little")
    return page[:SUMMED_BYTES] + total + page[HEAD_BYTES:]


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/smaps_rollup has no Anonymous")


if __name__ == "__main__":
    main()
