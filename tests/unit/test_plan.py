"""Which unit waits for which."""

from __future__ import annotations

from arsync.plan import Phase, Plan
from arsync.uring import Batch


def test_a_batch_without_parents_can_begin_at_once() -> None:
    """It is ready when it is added, with its batch and its phase."""
    batch = Batch()
    unit, ready = Plan().add(batch, (), Phase.LINK)
    assert ready
    assert (unit.batch, unit.phase, unit.pending) == (batch, Phase.LINK, 1)


def test_a_batch_waits_for_each_of_its_parents() -> None:
    """Only the last one that is executed lets it begin."""
    plan, one, other, child = Plan(), Batch(), Batch(), Batch()
    first, _ = plan.add(one, (), Phase.COPY)
    second, _ = plan.add(other, (), Phase.COPY)
    unit, ready = plan.add(child, (one, other), Phase.COPY)
    assert not ready
    assert plan.executed(second) == []
    assert plan.executed(first) == [unit]


def test_a_parent_named_twice_is_executed_once() -> None:
    """Two shares of one parent's directories in a batch count both, and both are answered."""
    plan, parent, child = Plan(), Batch(), Batch()
    above, _ = plan.add(parent, (), Phase.COPY)
    unit, ready = plan.add(child, (parent, parent), Phase.COPY)
    assert not ready
    assert set(plan.executed(above)) == {unit}
    assert unit.before == 0


def test_a_parent_that_was_executed_counts_no_more() -> None:
    """The walk may be behind the lanes."""
    plan, parent = Plan(), Batch()
    above, _ = plan.add(parent, (), Phase.COPY)
    assert plan.executed(above) == []
    assert plan.add(Batch(), (parent,), Phase.COPY)[1]
