"""Make DST equal SRC: the stages wired together. Read this file first.

    roots -> walk (scan, recall, diff) -> plan -> lanes -> report
                                                  lanes -> settle -> commit

The walk's threads scan and compare batches of directories and hand each to the lanes, which
execute it as soon as its parents are there; what must wait for the whole tree is spooled and
follows as further batches: hard links, deletions, directories' times. A batch that is done is
recorded in the manifest (`checkpoint.py`) and comes back through `_Run._done`, from where its
outcome is counted and told (`account.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from arsync.account import Account
from arsync.checkpoint import RunManifest, manifest_directories, open_manifest
from arsync.clock import Ticker
from arsync.deletion import Found, why_kept, without_limits
from arsync.destination import open_target, open_temp_dir
from arsync.errors import ArsyncError, FileError, InternalError, Interrupted, describe
from arsync.execute import Lanes, run_on_threads
from arsync.listener import Listener
from arsync.model import Progress, Report, sum_tallies
from arsync.options import DeletePolicy, SyncOptions
from arsync.patterns import Side as RuleSide
from arsync.plan import Phase, Unit
from arsync.prune import Pruner
from arsync.refusal import refusal_text
from arsync.roots import Transfer, resolve
from arsync.scan import Named, Receiver, Walk
from arsync.settings import (
    choose_run_engine,
    explain_refusal,
    find_ctime_granule_ns,
    find_granule_ns,
    make_backup,
    make_settings,
    make_trash,
)
from arsync.sources import Sources, own_directories
from arsync.stop import Stop, ctrl_c
from arsync.uring import Batch, ExtrasPass, Identity, Later, LaterKind, Rules, Tally
from arsync.uring.executor import Backup, ExecutorSettings, WritingRefused
from arsync.uring.scanner import Root, Scanner
from arsync.uring.selection import Matcher

__all__ = ["sync"]

PathLike = bytes | str | os.PathLike[str] | os.PathLike[bytes]


def sync(  # noqa: PLR0913 - all but two have names
    src: PathLike | Sequence[PathLike],
    dst: PathLike,
    options: SyncOptions | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    listener: Listener | None = None,
    stop: Stop | None = None,
) -> Report:
    """Make the destination equal the source.

    Args:
        src: one path or several; with a slash at the end, the content of that directory.
        dst: a directory, or the new name of a single file.
        options: what to keep and how to work; without, `arsync -a`.
        progress: is called at most ten times a second, from a thread of its own.
        listener: hears of every change and problem; its progress gives way to `progress`.
        stop: ends the run when it is asked to. Without, Ctrl-C does, where the caller is the main
            thread and has not given SIGINT a handler.
    Returns: the report; its `exit_code` is not 0 where single files failed. A tree of 100,000
        small files takes a few seconds warm.
    Raises: SelectionError where the operands cannot be used together; FileError when nothing more
        can be written; Interrupted, a KeyboardInterrupt, after everything in flight has ended; all
        with what was done so far as `report`.
    Durability: what is in place is whole. What the manifest has recorded of it is on the disk; the
        rest the kernel writes back when it wants to.
    Source: rsync(1) for what the options mean.
    """
    sources = [src] if isinstance(src, bytes | str | os.PathLike) else src
    heard = listener or Listener()
    run = _Run(options or SyncOptions(), heard, progress or heard.progress)
    with ExitStack() as stack:
        if stop is None:
            stop = Stop()
            stack.enter_context(ctrl_c(stop))
        stack.enter_context(stop.heard_by(run.interrupt))
        return run.run([os.fsencode(one) for one in sources], os.fsencode(dst))


class _Run:
    """Hold what the stages of one run share."""

    def __init__(
        self,
        options: SyncOptions,
        listener: Listener,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._options = options
        self._account = Account(options, listener, progress)
        self._ticks = progress is not None
        self._plans_removals = listener.removals
        self._dry_run = options.write.dry_run
        self._identity = Identity.current()
        self._engine = choose_run_engine(options.engine)
        self._lock = threading.Lock()
        self._lanes: Lanes | None = None
        self._manifest: RunManifest | None = None
        self._walking: Walk | None = None
        self._dst = b""
        self._temp_dir: bytes | None = None
        self._trash: Backup | None = None
        self._links: Later | None = None
        self._sources: Later | None = None
        self._delete_policy = options.delete
        self._blocked: list[tuple[bytes, bytes]] = []
        self._error: BaseException | None = None

    def run(self, sources: Sequence[bytes], dst: bytes) -> Report:
        """Run all of it; see `sync`."""
        try:
            with ExitStack() as stack:
                if self._ticks:
                    stack.enter_context(Ticker(self._account.tell_progress, self._fail))
                self._sync_all(sources, dst, stack)
            self._raise_what_failed()
        except (KeyboardInterrupt, WritingRefused, ArsyncError) as error:
            ended = self._ended_by(error)
            ended.report = self._finished_report(ended)
            raise ended from error.__cause__
        return self._finished_report()

    def _ended_by(self, error: BaseException) -> ArsyncError | Interrupted:
        if isinstance(error, KeyboardInterrupt):
            return Interrupted("interrupted")
        if isinstance(error, WritingRefused):
            return self._refusal(error)
        return error if isinstance(error, ArsyncError) else InternalError(str(error))

    def _refusal(self, refused: WritingRefused) -> FileError:
        problem = refused.problem()
        if problem is None:
            return FileError(describe("write to the destination", self._dst, refused.errno))
        return FileError(refusal_text(problem, self._dst, self._temp_dir))

    def interrupt(self) -> None:
        """End what is in flight and nothing more; `run` then raises Interrupted."""
        self._fail(KeyboardInterrupt())

    def _fail(self, error: BaseException) -> None:
        """Stop the run from another thread than its own; the first error wins."""
        with self._lock:
            self._error = self._error or error
            if self._walking:
                self._walking.stop()
            if self._lanes:
                self._lanes.fail(error)

    def _raise_what_failed(self) -> None:
        if self._error:
            raise self._error

    def _sync_all(self, sources: Sequence[bytes], dst: bytes, stack: ExitStack) -> None:
        transfers, target, problems = resolve(sources, dst, self._options)
        if problems:
            self._account.tell_operands(problems)
        if not transfers:
            return
        self._dst = target.root
        self._account.roots(dst=self._dst)
        if self._options.write.temp_dir is not None:
            self._temp_dir = os.path.join(self._dst, self._options.write.temp_dir)
        temp_dir_fd = open_temp_dir(self._temp_dir, stack)
        self._trash = make_trash(self._options.delete, self._dst)
        dst_root = open_target(target, self._options.write)
        if dst_root:
            stack.enter_context(dst_root)
            self._manifest, note = open_manifest(self._options, dst_root, sources)
            self._account.manifest_note = note
        if self._manifest:
            stack.push(partial(self._close_manifest, self._manifest))
        if self._options.preserve.hard_links:
            self._links = stack.enter_context(Later(LaterKind.LINKS))
        roots = [stack.enter_context(Root(transfer.root)) for transfer in transfers]
        removals: list[tuple[Root, Later]] = []
        new_root = target.missing
        write = self._options.write
        spared = own_directories(self._options, self._dst)
        hidden = manifest_directories(self._options, self._manifest)
        every = Sources(transfers, roots, 0, target.missing, spared, hidden)
        if dst_root and self._delete_policy.is_limited and len(transfers) > 1:
            self._judge_all(every, dst_root)
        for index, transfer in enumerate(transfers):
            self._account.exact = False
            self._account.roots(src=transfer.root)
            if write.remove_source_files and (not self._dry_run or self._plans_removals):
                kind = LaterKind.PLANNED_SOURCES if self._dry_run else LaterKind.SOURCES
                self._sources = stack.enter_context(Later(kind))
                removals.append((roots[index], self._sources))
            self._sync_one(replace(every, index=index, new_root=new_root), dst_root, temp_dir_fd)
            new_root = new_root and not transfer.gives_root
        self._sources = None
        if self._dry_run:
            self._plan_removals(removals)
        elif dst_root:
            self._remove_sources(removals, dst_root)

    def _plan_removals(self, removals: Sequence[tuple[Root, Later]]) -> None:
        for root, later in removals:
            self._account.roots(src=root.path)
            self._run_phase(Phase.REMOVE, later)

    def _remove_sources(self, removals: Sequence[tuple[Root, Later]], dst: Root) -> None:
        """Remove from the sources what the destination has.

        It begins when all sources are done: an entry of one stands for those of its name in the
        next ones. And when everything is on the disk, because then there is one copy of it only.
        """
        waiting = [(root, later) for root, later in removals if later.count]
        if not waiting:
            return
        with self._account.timed(Phase.REMOVE.value):
            dst.sync()
            for root, later in waiting:
                self._account.roots(src=root.path)
                with ExitStack() as stack:
                    settings = make_settings(self._options, self._engine, root, dst, -1)
                    rules = Rules(self._options, 1, self._identity)
                    self._start_lanes(settings, rules, None, stack)
                    self._run_phase(Phase.REMOVE, later)

    def _open_scanner(self, sources: Sources, dst: Root | None, *, extras: bool) -> Scanner:
        as_root = self._identity.is_root
        return sources.open_scanner(dst, self._options, as_root=as_root, extras=extras)

    def _close_manifest(
        self, manifest: RunManifest, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        note = manifest.close(self._finished_report(self._ended_by(error) if error else None))
        self._account.manifest_note = note or self._account.manifest_note

    # ------------------------------------------------------------ one transfer

    def _sync_one(self, sources: Sources, dst: Root | None, temp_dir_fd: int) -> None:
        granule_ns = find_granule_ns(dst, may_write=not self._dry_run) if dst else 1
        make_rules = partial(Rules, self._options, granule_ns, self._identity)
        policy = self._delete_policy if dst else DeletePolicy()
        when = policy.when
        makes_way = policy.makes_way and when != "before"
        rules = make_rules(make_way=makes_way)
        scanner = self._open_scanner(sources, dst, extras=when == "after")
        scanner.map_acls(rules)
        checkpoint = None
        if self._manifest:
            granule = find_ctime_granule_ns(scanner.src, *([dst] if dst else []))
            checkpoint = self._manifest.checkpoint(scanner, rules, granule, sources)
        with ExitStack() as stack:
            extras = stack.enter_context(Later(LaterKind.EXTRAS)) if makes_way else None
            dirs = None if self._dry_run else stack.enter_context(Later(self._kind_of_dirs))
            reads = checkpoint or self._options.update.checksum
            if dst and (reads or not self._dry_run):
                settings = make_settings(self._options, self._engine, scanner.src, dst, temp_dir_fd)
                record = checkpoint.record if checkpoint and not self._dry_run else None
                self._start_lanes(settings, rules, record, stack)
            if when == "before":
                self._delete_first(sources, dst, make_rules(make_way=True))
            found = Tally()

            def take_in(batch: Batch, parents: Sequence[Batch]) -> None:
                self._take_in(batch, parents, found, dirs, extras)

            walk = Walk(
                scanner,
                rules,
                sources.transfer.starts,
                take_in,
                self._engine.scan_threads,
                self._make_pruner(sources.transfer, take_in),
            )
            if checkpoint:
                walk.remember(checkpoint)
            with self._account.timed(Phase.COPY.value):
                self._walk(walk)
                self._account.exact = sources.are_all
                self._drain()
            self._link()
            if extras and extras.count:
                self._delete(sources, extras, found, copied_to=dst)
            if self._blocked:
                self._copy_blocked(sources, dst, make_rules(), dirs)
                self._link()
            if dirs and dirs.count:
                with self._account.timed(Phase.FINISH.value):
                    # For who is not root the mode of one may shut those below it out.
                    self._run_phase(Phase.FINISH, dirs, in_order=not self._identity.is_root)

    def _link(self) -> None:
        if self._links and self._links.count:
            with self._account.timed(Phase.LINK.value):
                self._run_phase(Phase.LINK, self._links)

    def _copy_blocked(
        self, sources: Sources, dst: Root | None, rules: Rules, dirs: Later | None
    ) -> None:
        """Walk again to what directories were in the way of; those are empty now."""
        starts = [Named(path, (name,), implied=True) for path, name in self._blocked]
        self._blocked.clear()

        def take_in(batch: Batch, parents: Sequence[Batch]) -> None:
            batch.forget_found()
            self._take_in(batch, parents, Tally(), dirs, None)

        scanner = self._open_scanner(sources, dst, extras=False)
        scanner.map_acls(rules)
        with self._account.timed(Phase.COPY.value):
            self._walk(Walk(scanner, rules, starts, take_in, self._engine.scan_threads))
            self._drain()

    # --------------------------------------------------------------- deletions

    def _judge_all(self, first: Sources, dst: Root) -> None:
        """Find the extras of all sources, for limits that are to hold for all together."""
        extra = entries = 0
        rules = Rules(self._options, 1, self._identity, make_way=True)
        for index in range(len(first.transfers)):
            with Later(LaterKind.EXTRAS) as extras:
                found = self._find_extras(replace(first, index=index), dst, rules, extras)
                extra += sum_tallies([self._settle(extras).raw]).extra
                entries += sum_tallies([found.raw]).found_dst
        limits = replace(self._delete_policy, ignore_errors=True, allow_empty_source=True)
        self._account.kept_back = why_kept(limits, Found(src=b"", extra=extra, entries=entries))
        if self._account.kept_back:
            self._delete_policy = replace(self._delete_policy, when="never", force=False)
        self._delete_policy = without_limits(self._delete_policy)

    def _delete_first(self, sources: Sources, dst: Root | None, rules: Rules) -> None:
        """Walk to find extras, and delete them; what goes wrong is found again and told then."""
        with Later(LaterKind.EXTRAS) as extras, self._account.timed(Phase.DELETE.value):
            found = self._find_extras(sources, dst, rules, extras)
            self._delete(sources, extras, found)

    def _find_extras(
        self, sources: Sources, dst: Root | None, rules: Rules, extras: Later
    ) -> Tally:
        """Walk for nothing but extras; return what the walk found."""
        found = Tally()

        def receive(batch: Batch, _parents: Sequence[Batch]) -> None:
            self._raise_what_failed()
            found.add(batch.tally)
            self._note_read_errors(batch)
            extras.add(batch)

        extras_wanted = self._delete_policy.wanted
        scanner = self._open_scanner(sources, dst, extras=extras_wanted)
        scanner.map_acls(rules)
        starts = sources.transfer.starts
        self._walk(Walk(scanner, rules, starts, receive, self._engine.scan_threads))
        return found

    def _delete(
        self, sources: Sources, extras: Later, found: Tally, *, copied_to: Root | None = None
    ) -> None:
        """Delete what was found, all of it or nothing.

        Args:
            copied_to: what was copied there is to be on the disk first.
        """
        counts = sum_tallies([found.raw])
        settled = self._settle(extras)
        reason = why_kept(
            self._delete_policy,
            Found(
                src=sources.transfer.operand,
                extra=sum_tallies([settled.raw]).extra,
                entries=counts.found_dst,
                is_empty=counts.found - counts.found_dirs == 0
                and counts.found_dirs <= sources.transfer.start_count,
                had_read_errors=self._account.had_read_errors,
            ),
        )
        if reason:
            self._account.kept_back = reason
            return
        self._account.count_extras(settled)
        if copied_to and self._lanes and extras.count and self._account.counts().done_files:
            copied_to.sync()
        with self._account.timed(Phase.DELETE.value):
            parts = (ExtrasPass.FILES, ExtrasPass.DIRS)
            if self._delete_policy.trash_dir is not None:
                parts = (ExtrasPass.WHOLE, ExtrasPass.CARRIED)
            for part in parts:
                extras.start(part)
                # a directory is empty when those in it are gone
                self._run_phase(Phase.DELETE, extras, in_order=part is ExtrasPass.DIRS)

    def _settle(self, extras: Later) -> Tally:
        stay = self._options.write.backup and not self._keeps_elsewhere
        return extras.settle(backups_stay=stay)

    @property
    def _keeps_elsewhere(self) -> bool:
        """Tell whether what goes is kept in a directory for it, which may be one that is made."""
        return (self._options.write.backup_dir or self._delete_policy.trash_dir) is not None

    @property
    def _kind_of_dirs(self) -> LaterKind:
        return LaterKind.ALL_DIRS if self._keeps_elsewhere else LaterKind.DIRS

    def _note_read_errors(self, batch: Batch) -> None:
        if batch.problem_count and batch.has_read_errors():
            self._account.had_read_errors = True

    def _make_pruner(self, transfer: Transfer, receive: Receiver) -> Pruner | None:
        if not self._options.prune_empty_dirs:
            return None
        matcher = Matcher(self._options.filters.entries, transfer.root)

        def is_protected(path: bytes) -> bool:
            return matcher.check(path, is_dir=True, side=RuleSide.RECEIVER) is False

        return Pruner(receive, is_protected)

    def _start_lanes(
        self,
        settings: ExecutorSettings,
        rules: Rules,
        record: Callable[[Unit], None] | None,
        stack: ExitStack,
    ) -> None:
        backup = make_backup(self._options.write, self._dst)
        settings = replace(settings, backup=backup, trash=self._trash)
        self._lanes = Lanes(settings, rules, self._engine.lanes, self._done, record)
        self._account.begin_lanes(self._lanes)
        stack.callback(self._end_lanes)

    def _end_lanes(self) -> None:
        """End the threads of the lanes; after an error or Ctrl-C they stop where they are."""
        lanes = self._lanes
        if not lanes:
            return
        if not lanes.idle:
            lanes.stop()
        lanes.finish()
        self._account.end_lanes(lanes)
        with self._lock:
            self._lanes = None
        if lanes.refusal:
            note = f"io_uring is refused: {explain_refusal(lanes.refusal)}"
            self._engine = replace(self._engine, ring=False, note=note)

    def _walk(self, walk: Walk) -> None:
        """Walk on several threads; raise here what one of them raised."""

        def stop() -> None:
            walk.stop()
            if self._lanes:
                self._lanes.stop()

        with self._lock:
            self._walking = walk
        try:
            self._raise_what_failed()
            run_on_threads(walk.run, self._engine.scan_threads, "arsync-scan", stop)
        finally:
            with self._lock:
                self._walking = None

    def _take_in(
        self,
        batch: Batch,
        parents: Sequence[Batch],
        found: Tally,
        dirs: Later | None,
        extras: Later | None,
    ) -> None:
        """Take a compared batch from the walk: spool what waits, pass on the rest."""
        self._raise_what_failed()
        if extras:
            self._note_read_errors(batch)
            extras.add(batch)
            with self._lock:
                self._blocked += batch.blocked()
        if self._links:
            self._links.add(batch)
        if dirs:
            dirs.add(batch)
        self._account.count_found(batch)
        found.add(batch.tally)
        if self._lanes:
            self._lanes.add(batch, parents, Phase.COPY)
        else:
            with self._lock:
                self._done(Unit(batch, Phase.COPY))

    def _run_phase(self, phase: Phase, later: Later, *, in_order: bool = False) -> None:
        """Execute what was spooled, batch by batch.

        Args:
            in_order: a batch waits for the one before it. Directories come deepest first.
        """
        before: list[Batch] = []
        self._account.phase = phase
        while True:
            batch = Batch()
            if not later.next(batch):
                break
            if self._lanes:
                self._lanes.add(batch, before, phase)
            else:
                self._done(Unit(batch, phase))
            if in_order:
                before = [batch]
        self._drain()
        self._account.phase = Phase.COPY

    def _drain(self) -> None:
        if self._lanes:
            self._lanes.drain()
        self._raise_what_failed()

    def _done(self, unit: Unit) -> None:
        """Take back a unit with its outcome: everything a checkpoint needs is in it."""
        self._account.tell_unit(unit)
        if self._sources and unit.phase in (Phase.COPY, Phase.LINK):
            self._sources.add(unit.batch)

    def _finished_report(self, ended: ArsyncError | Interrupted | None = None) -> Report:
        return self._account.report(self._engine, ended)
