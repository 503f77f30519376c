"""Laws of the plan's order, whatever the tree and whenever units are executed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from arsync.plan import Phase, Plan, Unit
from arsync.uring import Batch

# For each batch: the numbers of its parents, all of them added before it; some named twice.
PARENTS = st.lists(st.lists(st.integers(0, 1000), max_size=4), min_size=1, max_size=40).map(
    lambda rows: [[parent % at for parent in row] if at else [] for at, row in enumerate(rows)]
)


class Run:
    """Hold a plan in work, and note what is ready and what was executed."""

    def __init__(self, parents: list[list[int]]) -> None:
        self.parents = parents
        self.batches = [Batch() for _ in parents]
        self.plan = Plan()
        self.ready: list[Unit] = []
        self.executed: list[int] = []

    def add(self, number: int) -> None:
        """Add a batch."""
        above = [self.batches[parent] for parent in self.parents[number]]
        unit, ready = self.plan.add(self.batches[number], above, Phase.COPY)
        if ready:
            self.ready.append(unit)

    def execute(self, choice: int) -> None:
        """Execute one of the ready units, which must be allowed to."""
        unit = self.ready.pop(choice % len(self.ready))
        number = self.batches.index(unit.batch)
        assert set(self.parents[number]) <= set(self.executed)
        self.executed.append(number)
        self.ready.extend(self.plan.executed(unit))


@given(PARENTS, st.data())
def test_parents_come_first_and_each_unit_comes_once(
    parents: list[list[int]], data: st.DataObject
) -> None:
    """Adding and executing are mixed at will: no unit before its parents, none twice, none lost."""
    run = Run(parents)
    for number in range(len(parents)):
        run.add(number)
        while run.ready and data.draw(st.booleans()):
            run.execute(data.draw(st.integers(0, 1000)))
    while run.ready:
        run.execute(data.draw(st.integers(0, 1000)))
    assert Counter(run.executed) == Counter(range(len(parents)))


@given(PARENTS)
def test_what_can_begin_is_ready_at_once(parents: list[list[int]]) -> None:
    """At each moment the ready units are exactly those whose parents have all been executed."""
    run = Run(parents)
    for number in range(len(parents)):
        run.add(number)
    while run.ready:
        done = set(run.executed)
        allowed = {
            number
            for number, above in enumerate(parents)
            if set(above) <= done and number not in done
        }
        assert {run.batches.index(unit.batch) for unit in run.ready} == allowed
        run.execute(0)
