"""The kept record of a run, and the file of JSON lines it goes to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .measure import Timing

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """One run of one tool in one round of one case; the first round is kept, but not counted.

    Attributes:
        source_read_bytes: what came from the source's device; near zero in a warm run.
        others_seconds: what other programs computed meanwhile, in user mode; on a quiet machine
            next to nothing. Their work in the kernel cannot be told from the copy's own.
    """

    case: str
    tool: str
    command: Sequence[str]
    round: int
    discarded: bool
    state: str
    filesystem: str
    mkfs: Sequence[str]
    source: Mapping[str, int | str]
    source_read_bytes: int
    others_seconds: float
    date: str
    timing: Timing


class RunFile:
    """Append runs to a file, one JSON object a line, each with the facts of the session."""

    def __init__(self, path: Path, facts: Mapping[str, object]) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._facts = facts

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, run: Run) -> None:
        """Write one run at once, so that an interrupted benchmark keeps what it measured."""
        fields = asdict(run)
        timing = fields.pop("timing")
        line = {"schema": SCHEMA, **fields, **timing, **self._facts}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum of one figure over the counted rounds."""

    low: float
    median: float
    high: float

    def of(self, statistic: str) -> float:
        """Return the statistic that a case is judged by: `median` or `min`."""
        return self.low if statistic == "min" else self.median


def spread(runs: Iterable[Run], metric: str) -> Spread | None:
    """Condense one figure of the counted runs; None where no run has it."""
    values = [getattr(run.timing, metric) for run in runs if not run.discarded]
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(min(known), statistics.median(known), max(known))
