"""Run units of work on lanes: one thread and one executor a core.

Owns the threads, what is ready to run, and how much may be under way, so that memory stays flat
however far the walk could run ahead. It gives each unit back when everything in it is done, which
is the one place where a checkpoint can be taken.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from arsync.model import Counts, sum_tallies
from arsync.plan import Phase, Plan, Unit
from arsync.uring.batch import Batch
from arsync.uring.executor import BigFile, Executor, ExecutorSettings, Limit, RingRefused
from arsync.uring.rules import Rules

__all__ = ["Lanes", "Worker", "join_all", "run_on_threads"]

# What a lane takes of a big file at a time: a multiple of the hash chunk, a few milliseconds.
_STRETCH_BYTES: Final = 16 << 20
# Batches that are planned and not done. Each holds about 0.3 MB, and at least two a lane are
# needed so that none waits for the walk.
_UNITS_UNDER_WAY: Final = 48


@dataclass(eq=False, slots=True)
class _Big:
    """Hold a big file while lanes copy it."""

    unit: Unit
    file: BigFile
    size: int
    next_offset: int = 0
    running: int = 0
    failed: bool = False

    @property
    def has_more(self) -> bool:
        """Tell whether a stretch is left that nobody copies yet."""
        return not self.failed and self.next_offset < self.size


_Work = Callable[[Executor], None]


class Worker(threading.Thread):
    """Be a thread that says itself when it has ended.

    Python 3.11 takes a thread for ended when a signal interrupts a join of it.
    """

    def __init__(self, target: Callable[[], None], name: str = "") -> None:
        super().__init__(target=target, name=name or None)
        self.ended = threading.Event()

    def run(self) -> None:
        """Run the target."""
        try:
            super().run()
        finally:
            self.ended.set()


def join_all(workers: Sequence[Worker]) -> None:
    """Wait for the end of all that were started, and only then raise what interrupted the wait.

    Raises: KeyboardInterrupt.
    """
    interrupt: KeyboardInterrupt | None = None
    for worker in workers:
        while worker.ident and not worker.ended.is_set():
            try:
                worker.ended.wait()
            except KeyboardInterrupt as error:
                interrupt = error
    for worker in workers:
        if worker.is_alive():
            worker.join()
    if interrupt:
        raise interrupt


def run_on_threads(
    work: Callable[[], None], count: int, name: str, stop: Callable[[], None]
) -> None:
    """Do the same work on several threads, and wait for the end of all.

    Args:
        stop: makes every thread come to an end; called where the wait is interrupted.
    Raises: what the first thread that failed has raised; KeyboardInterrupt.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [Worker(run, f"{name}-{number}") for number in range(count)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.ended.wait()
        join_all(threads)
    except BaseException:
        stop()
        join_all(threads)
        raise
    if errors:
        raise errors[0]


class Lanes:
    """Execute units, in an order that the plan allows, until `finish`.

    Args:
        settings: of the run.
        rules: what is set.
        count: of lanes.
        receive: gets each unit when all of it is done, from the lane's thread, one at a time.
        record: gets it before, from several lanes at once.
    """

    def __init__(
        self,
        settings: ExecutorSettings,
        rules: Rules,
        count: int,
        receive: Callable[[Unit], None],
        record: Callable[[Unit], None] | None = None,
    ) -> None:
        self._record = record
        self._settings = settings
        self._rules = rules
        self._receive = receive
        self._limit = Limit(settings.bytes_per_s)
        self._lock = threading.Lock()
        self._work_is_there = threading.Condition(self._lock)
        self._room_is_there = threading.Condition(self._lock)
        self._all_is_done = threading.Condition(self._lock)
        self._receiving = threading.Lock()
        self._plan = Plan()
        self._ready: deque[Unit] = deque()
        self._bigs: deque[tuple[Unit, int, int]] = deque()
        self._copying: list[_Big] = []
        self._under_way = 0
        self._finished = False
        self._stopped = False
        self._executors: list[Executor] = []
        self._sums: list[Counts] = []
        self._error: BaseException | None = None
        self.refusal: int | None = None
        """The errno with which the kernel refused a ring, when it did."""
        cpus = sorted(os.sched_getaffinity(0))
        self._threads = [
            Worker(
                partial(self._run_lane, lane, cpus[lane % len(cpus)]),
                f"arsync-lane-{lane}",
            )
            for lane in range(count)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.stop()
            self.finish()
            raise

    # ------------------------------------------------------------- from outside

    def add(self, batch: Batch, parents: Sequence[Batch], phase: Phase) -> None:
        """Take a batch in; blocks while too much is under way.

        Args:
            parents: the batches that make the parents of its directories.
        Raises: what ended a lane, so that a walk does not go on for nothing; after `stop` the batch
            is dropped.
        """
        with self._lock:
            while self._under_way >= _UNITS_UNDER_WAY and not self._stopped:
                self._room_is_there.wait()
            if self._error:
                raise self._error
            if self._stopped:
                return
            self._under_way += 1
            unit, ready = self._plan.add(batch, parents, phase)
            if ready:
                self._ready.append(unit)
                self._work_is_there.notify()

    def drain(self) -> None:
        """Wait until everything added is done.

        Raises: what ended a lane.
        """
        with self._lock:
            self._all_is_done.wait_for(lambda: self._stopped or not self._under_way)
            if self._error:
                raise self._error

    @property
    def idle(self) -> bool:
        """Tell whether everything added is done."""
        with self._lock:
            return not self._under_way

    def stop(self) -> None:
        """Make every lane end what it has in flight and start nothing more."""
        with self._lock:
            self._stopped = True
            for executor in self._executors:
                executor.stop()
            self._room_is_there.notify_all()
            self._all_is_done.notify_all()
            self._work_is_there.notify_all()

    def finish(self) -> None:
        """End the threads; `stop` before it ends what is still to be done."""
        with self._lock:
            self._finished = True
            self._work_is_there.notify_all()
        join_all(self._threads)

    def fail(self, error: BaseException) -> None:
        """Stop, and have `drain` and `add` raise this; the first error wins."""
        with self._lock:
            self._error = self._error or error
        self.stop()

    def counts(self) -> Counts:
        """Return the sums over all lanes, as they are at this moment."""
        with self._lock:
            counts = sum_tallies([*self._sums, *(one.tally for one in self._executors)])
            # A lane knows only files of its own; those that all lanes copy are open here.
            return replace(counts, in_flight=counts.in_flight + len(self._copying))

    # ------------------------------------------------------------------- a lane

    def _run_lane(self, lane: int, cpu: int) -> None:
        try:
            os.sched_setaffinity(0, {cpu})
            with self._try_ring(lane) as executor:
                self._enter(executor)
                try:
                    self._work(executor)
                except BaseException as error:
                    self.fail(error)
                finally:
                    self._leave(executor)
        except BaseException as error:
            self.fail(error)

    def _enter(self, executor: Executor) -> None:
        with self._lock:
            self._executors.append(executor)
            if self._stopped:
                executor.stop()

    def _leave(self, executor: Executor) -> None:
        """Keep the lane's sums, and remove what stopped lanes leave of big files."""
        with self._lock:
            for big in [big for big in self._copying if not big.running]:
                self._copying.remove(big)
                executor.close_big(big.file, keep=False)
            self._executors.remove(executor)
            self._sums.append(sum_tallies([executor.tally]))

    def _try_ring(self, lane: int) -> Executor:
        try:
            return Executor(self._settings, self._rules, self._limit, lane)
        except RingRefused as refused:
            self.refusal = refused.errno
            plain = self._settings.without_ring()
            return Executor(plain, self._rules, self._limit, lane)

    def _work(self, executor: Executor) -> None:
        while True:
            with self._lock:
                while (work := self._next()) is None:
                    if self._stopped or (self._finished and not self._under_way):
                        return
                    self._work_is_there.wait()
            work(executor)

    def _next(self) -> _Work | None:
        """Choose what a lane does next: stretches of big files before further batches."""
        if self._stopped:
            return None
        for big in self._copying:
            if big.has_more:
                return self._take_stretch(big)
        if self._bigs:
            unit, pair, change = self._bigs.popleft()
            return lambda executor: self._open_big(executor, unit, pair, change)
        if self._ready:
            unit = self._ready.popleft()
            return lambda executor: self._run_unit(executor, unit)
        return None

    def _run_unit(self, executor: Executor, unit: Unit) -> None:
        if not executor.run(unit.batch):
            return
        bigs = executor.big_changes(unit.batch)
        with self._lock:
            unit.pending += len(bigs)
            self._bigs.extend((unit, pair, change) for pair, change in bigs)
            ready = self._plan.executed(unit)
            self._ready.extend(ready)
            self._work_is_there.notify(len(ready) + len(bigs))
        self._settle(unit)

    def _settle(self, unit: Unit) -> None:
        """Note that one piece of a unit is done; give the unit back after the last."""
        with self._lock:
            unit.pending -= 1
            if unit.pending:
                return
        if self._record:
            self._record(unit)
        with self._receiving:
            self._receive(unit)
        with self._lock:
            self._under_way -= 1
            self._room_is_there.notify()
            if not self._under_way:
                self._all_is_done.notify_all()
                self._work_is_there.notify_all()

    # ---------------------------------------------------------------- big files

    def _open_big(self, executor: Executor, unit: Unit, pair: int, change: int) -> None:
        file = executor.open_big(unit.batch, pair, change)
        if file is None:
            self._settle(unit)
            return
        big = _Big(unit, file, file.bytes)
        if not big.size:
            self._close_big(executor, big)
            return
        with self._lock:
            self._copying.append(big)
            self._work_is_there.notify_all()

    def _take_stretch(self, big: _Big) -> _Work:
        offset = big.next_offset
        big.next_offset += _STRETCH_BYTES
        big.running += 1
        return lambda executor: self._copy_stretch(executor, big, offset)

    def _copy_stretch(self, executor: Executor, big: _Big, offset: int) -> None:
        done = executor.copy_big(big.file, offset, _STRETCH_BYTES)
        with self._lock:
            big.running -= 1
            big.failed = big.failed or not done
            if big.running or big.has_more or self._stopped:
                return
            self._copying.remove(big)
        self._close_big(executor, big)

    def _close_big(self, executor: Executor, big: _Big) -> None:
        while not executor.close_big(big.file, keep=True):
            again = _Big(big.unit, big.file, big.file.bytes)
            if again.size:
                with self._lock:
                    self._copying.append(again)
                    self._work_is_there.notify_all()
                return
        self._settle(big.unit)
