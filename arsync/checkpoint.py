"""Know what earlier runs left in the manifest, and record what this one does.

    scan -> recall -> diff -> plan -> lanes -> settle -> commit

Owns the way to a destination's store, what is fetched from it for a batch and what goes into it. A
directory that is not complete when its batch is done, because its times come last, is recorded at
once and refreshed then; one of many pages is recorded when all of them are there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import xxhash

from arsync.errors import (
    FileError,
    InternalError,
    NotSupportedError,
    PartialTransferError,
    SelectionError,
    VanishedError,
    quoted,
)
from arsync.manifest import lock
from arsync.manifest.contents import name_key
from arsync.manifest.format import destination_of
from arsync.manifest.identity import Identity, identify
from arsync.manifest.places import STATE_VARIABLE, Found, find, state_directory
from arsync.manifest.places import settle as settle_place
from arsync.manifest.reader import Reader
from arsync.manifest.records import ROOT
from arsync.manifest.store import Store
from arsync.model import PageFlag, Report
from arsync.options import EngineOptions, ManifestPolicy, SyncOptions
from arsync.plan import Phase, Unit
from arsync.recorder import Known, Recorder
from arsync.renames import Renames
from arsync.settings import clones_old_files
from arsync.sources import Sources
from arsync.uring import Batch
from arsync.uring import Identity as UserIdentity
from arsync.uring.moves import Moving
from arsync.uring.recording import (
    Keeping,
    Kept,
    child_keys,
    give_chunks,
    place,
    recall,
    refresh,
    settle,
    wanted_chunks,
)
from arsync.uring.rules import Rules
from arsync.uring.scanner import Root, Scanner

__all__ = ["Checkpoint", "RunManifest", "manifest_directories", "open_manifest"]


_GOOD_ENDS: Final = frozenset({0, PartialTransferError.exit_code, VanishedError.exit_code})
"""Exit codes of runs that have recorded all that they did."""

_WHOLE: Final = int(PageFlag.FIRST | PageFlag.LAST)


def open_manifest(
    options: SyncOptions, dst: Root, sources: Sequence[bytes]
) -> tuple[RunManifest | None, str]:
    """Open a destination's manifest for a run; where nobody said where it is, one can do without.

    Nothing is recorded of single files, so they get no manifest: it would be the one of every
    destination below theirs.

    Returns: None where there is to be none; what somebody may wonder about, else "".
    Raises: SelectionError where the destination is the state directory; as `RunManifest` does.
    """
    policy = options.manifest
    try:
        _refuse_state_directory(policy, dst)
        if not policy.manifest:
            return None, ""
        state = state_directory(policy.state_dir)
        found = find(state, dst.path, make=not options.write.dry_run)
        if found.is_new and not any(map(os.path.isdir, sources)):
            return None, ""
        manifest = RunManifest(options, dst, sources, found)
        return manifest, manifest.note
    except (FileError, NotSupportedError) as error:
        if _is_wanted(policy):
            raise
        return None, f"none: {error}"


def _is_wanted(policy: ManifestPolicy) -> bool:
    """Tell whether somebody said where manifests are; else a run can do without."""
    return bool(policy.state_dir or os.environ.get(STATE_VARIABLE))


def manifest_directories(
    options: SyncOptions, manifest: RunManifest | None
) -> tuple[tuple[int, int], ...]:
    """Return device and inode of the directories in which manifests are: they belong to no tree.

    Also without a manifest: what earlier runs have recorded is not to be deleted either. The store
    itself is one of them, because the source may be the state directory.
    """
    own = [manifest.store] if manifest else []
    with suppress(NotSupportedError):
        own.append(state_directory(options.manifest.state_dir))
    found = []
    for path in own:
        with suppress(OSError):
            info = path.stat()
            found.append((info.st_dev, info.st_ino))
    return tuple(found)


def _refuse_state_directory(policy: ManifestPolicy, dst: Root) -> None:
    state = state_directory(policy.state_dir)
    if os.path.isdir(state) and os.path.samestat(os.stat(state), os.stat(dst.fd)):
        raise SelectionError(
            f"DST {quoted(dst.path)} is where manifests are kept (--state-dir puts them elsewhere)"
        )


class RunManifest:
    """Hold the store of a destination for one run; in a dry run it is only read.

    Args:
        options: of the run.
        dst: the destination's root, which is there already.
        sources: as they were given.
        found: where it is.
    Raises: LockHeldError while another run has it; ManifestCorruptError; ManifestError where two
        stores match; FileError.
    """

    def __init__(
        self, options: SyncOptions, dst: Root, sources: Sequence[bytes], found: Found
    ) -> None:
        self._options = options
        self._sources = [os.fsdecode(one) for one in sources]
        self._equality = _digest(options, UserIdentity.current())
        self._was_clean = True
        self._doubt = "no run has recorded it yet"
        self._found = found
        self._started = time.time()
        self._known: Known | None = None
        self._trees: list[int] = []
        self._seen_trees: list[int] = []
        with ExitStack() as stack:
            if not options.write.dry_run:
                self._keep_others_out(dst, stack)
                store = self._store = stack.enter_context(Store(self._found.store, dst.path))
                settle_place(self._found)
                self._was_clean = store.was_clean
                self._doubt = self._doubt_of(store.runs())
                may_give_up = not _is_wanted(options.manifest)
                self._known = Recorder(store, dst.sync, may_give_up=may_give_up)
            elif not self._found.is_new:
                self._reader = stack.enter_context(Reader(self._found.store))
                self._was_clean = not self._reader.lock.is_left
                self._doubt = self._doubt_of(self._reader.runs())
                self._known = Known(self._reader)
            self._stack = stack.pop_all()

    def _doubt_of(self, runs: Sequence[tuple[int, Any]]) -> str:
        """Return why what is recorded need not be what is there; "" where it is.

        A run that walked the same by the same options has seen all of it; since then none may have
        ended but well, and none of another source may have been where this one is.
        """
        if self._found.above or self._found.inside:
            return "another manifest is of a part of it, or of more"
        others: list[Any] = []
        if not self._was_clean:
            return "the last run did not end by itself"
        for _, line in reversed(runs):
            if line.get("exit") not in _GOOD_ENDS:
                return f"a run ended with exit code {line.get('exit')}"
            trees = line.get("trees", [])
            if not line.get("trusted") and self._walks_as(line):
                self._seen_trees = trees
                is_alone = all(one == trees for one in others)
                return "" if is_alone else "another source was synced into it since"
            if _overlap(self._below, str(line.get("below"))):
                others.append(trees)
            if line.get("unclean"):
                return "a run before the last one did not end by itself"
        return "no run of these operands and options has looked at it yet"

    def _keep_others_out(self, dst: Root, stack: ExitStack) -> None:
        """Lock the destination and, beside its store, those above it; see that none below is."""
        for store in self._found.inside:
            lock.refuse_held(store / "lock", dst.path)
        for store in self._found.above:
            stack.callback(os.close, lock.share(store / "lock", dst.path))
        stack.callback(os.close, lock.hold_tree(dst.fd, dst.path))

    def _walks_as(self, line: Any) -> bool:
        own = (self._sources, self._below, f"{self._equality:016x}")
        return (line.get("sources"), line.get("below"), line.get("equality")) == own

    @property
    def _below(self) -> str:
        return os.fsdecode(self._found.below)

    @property
    def _is_trusted(self) -> bool:
        return self._options.manifest.trust_dst and not self._doubt

    @property
    def note(self) -> str:
        """Return why the destination is looked at though it is to be trusted; else ""."""
        if not self._options.manifest.trust_dst or self._is_trusted:
            return ""
        return f"--trust-dst: DST is looked at all the same, because {self._doubt}"

    @property
    def store(self) -> Path:
        """Return the directory of the store."""
        return self._found.store

    def checkpoint(
        self, scanner: Scanner, rules: Rules, granule_ns: int, sources: Sources
    ) -> Checkpoint | None:
        """Return what stands between the walk of one source and the manifest.

        Args:
            rules: by which it is compared with the destination.
            granule_ns: how long two changes may have the same ctime, 0: never.
            sources: of the run.
        Returns: None in a dry run for a source that no run has seen.
        """
        if self._known is None:
            return None
        source = identify(scanner.src.path)
        tree = self._tree_of(source)
        if tree is None:
            return None
        start = ROOT
        for name in filter(None, self._found.below.split(b"/")):
            (start,) = self._known.directory_ids([name_key((start, name))])
        compares_all = self._options.manifest.rehash or self._options.update.ignore_times
        dst_tree = destination_of(tree)
        keeping = Keeping(tree, dst_tree, self._equality, granule_ns, rules, compares_all)
        self._known.share(dst_tree)
        self._trees.append(tree)
        if self._is_trusted and tree in self._seen_trees:
            scanner.trust_destination()
        renames = self._look_for_renames(scanner, tree, start, sources)
        return Checkpoint(self._known, scanner, keeping, self._options, start, renames)

    def _look_for_renames(
        self, scanner: Scanner, tree: int, start: int, sources: Sources
    ) -> Renames | None:
        """Return what finds them, where anything is recorded and moving is as good as copying."""
        update = self._options.update
        by_time = self._options.preserve.times and not (update.checksum or update.ignore_times)
        if not (self._known and self._options.manifest.detect_renames and by_time):
            return None
        is_read = self._options.write.dry_run
        snapshot = self._reader.snapshot() if is_read else self._store.snapshot()
        if not snapshot.has_pages(tree):
            snapshot.close()
            return None
        clones = scanner.dst is not None and clones_old_files(
            self._options, scanner.src, scanner.dst
        )
        moving = _moving(self._options, sources, clones=clones)
        trees = tree, destination_of(tree)
        renames = Renames(snapshot, self._known, scanner, trees, start, moving)
        self._stack.callback(renames.close)
        return renames

    def _tree_of(self, source: Identity) -> int | None:
        def same(recorded: Any) -> bool:
            return Identity.from_json(recorded).is_same(source)

        if isinstance(self._known, Recorder):
            try:
                return self._store.tree_of(source.as_json(), same=same)
            except FileError as error:
                if _is_wanted(self._options.manifest):
                    raise
                self._known.give_up(error)
                return None
        trees = self._reader.trees()
        return next((number for number, recorded in trees if same(recorded)), None)

    def close(self, report: Report) -> str:
        """Commit what is left, with a line of the history, and give the store back.

        Returns: why not all of it is recorded, where somebody may wonder; else "".

        Durability: what was recorded is on disk, and so is what it speaks of.
        Raises: FileError for a full disk; ManifestCorruptError.
        """
        with self._stack:
            if isinstance(self._known, Recorder):
                self._known.close(self._line(report))
                if self._known.given_up:
                    self._store.close(clean=False)  # the next run sees that one is missing
                    return f"not all is recorded: {self._known.given_up}"
        return ""

    def _line(self, report: Report) -> dict[str, Any]:
        return {
            "start": int(self._started),
            "end": int(time.time()),
            "sources": self._sources,
            "trees": self._trees,
            "below": self._below,
            "equality": f"{self._equality:016x}",
            "trusted": self._is_trusted,
            "unclean": not self._was_clean,
            "exit": report.exit_code,
            "files": report.counts.done_files,
            "bytes": report.counts.done_bytes,
            "seconds": round(report.elapsed_s, 3),
            "errors": report.failure_count,
        }


def _overlap(one: str, other: str) -> bool:
    """Tell whether one of two paths below a root is the other, or holds it."""
    first, second = (f"{path}/" if path else "" for path in (one, other))
    return first.startswith(second) or second.startswith(first)


def _moving(options: SyncOptions, sources: Sources, *, clones: bool) -> Moving:
    """Say when an old name may go: where its deletion is in force, and nothing is to be kept."""
    paths = sources.transfer.paths or frozenset()
    update = options.update
    as_usual = not (update.update or update.existing or update.ignore_existing or update.size_only)
    # Limits are judged before the first of several sources is walked, moves or not.
    is_limited = options.delete.max_delete is not None or options.delete.max_percent is not None
    # What an earlier source does not have either has been deleted with it.
    before = sources.transfers[: sources.index]
    is_there = not any(sources.transfer.may_meet(other) for other in before)
    when = options.delete.when
    return Moving(
        deletes=when == "after"
        and is_there
        and (len(sources.transfers) == 1 or not is_limited)
        and options.files_from is None
        and options.preserve.recursive
        and not options.write.backup,
        below=sorted(paths),
        backs_up=options.write.backup,
        in_place=options.write.inplace,
        keeps_times=options.preserve.times and not options.preserve.omit_dir_times,
        directories=as_usual and not options.prune_empty_dirs,
        clones=clones and (when == "never" or (when == "after" and is_there)),
    )


def _digest(options: SyncOptions, identity: UserIdentity) -> int:
    """Return a digest of all that decides whether two entries are equal.

    It may tell apart what is the same: then a directory is compared once more.
    """
    write = replace(options.write, dry_run=False)
    own = replace(options, write=write, engine=EngineOptions(), manifest=ManifestPolicy())
    text = repr((own, identity))
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogateescape"))


class Checkpoint:
    """Stand between one walk with its lanes and the manifest.

    Args:
        known: what is recorded; a Recorder where this run records.
        scanner: of the walk.
        keeping: how rows are recorded, and of which source.
        options: of the run.
        start: id of the destination's directory.
        renames: finds what has moved; None to look for nothing.
    """

    def __init__(  # noqa: PLR0913 (one argument a thing that it stands between)
        self,
        known: Known,
        scanner: Scanner,
        keeping: Keeping,
        options: SyncOptions,
        start: int = ROOT,
        renames: Renames | None = None,
    ) -> None:
        self._renames = renames
        self._accepted = options.manifest.accept_source
        self._inplace = options.write.inplace
        self._uses_chunks = options.updates_chunks and not (
            options.write.dry_run or keeping.compares_all
        )
        self._known = known
        self._scanner = scanner
        self._keeping = keeping
        self._start = start
        self._lock = threading.Lock()
        self._long: dict[int, _LongDirectory] = {}

    # ------------------------------------------------------------- ids of directories

    def place_path(self, batch: Batch, first_pair: int, path: bytes) -> None:
        """Say that the pairs from one on are the directory at a path below the roots."""
        directory = self._start
        for name in path.split(b"/") if path else ():
            key = name_key((directory, name.replace(b"\0", b"")))
            (directory,) = self._known.directory_ids([key])
        place(batch, first_pair, [directory])

    def place_children(
        self, batch: Batch, first_pair: int, parent: Batch, first_child: int
    ) -> None:
        """Say that the pairs from one on are child directories of a compared batch."""
        keys = child_keys(parent, first_child, batch, first_pair)
        place(batch, first_pair, self._known.directory_ids(keys))

    def place_rest(self, batch: Batch, first_pair: int, parent: Batch, pair: int) -> None:
        """Say that a pair is a further page of the directory that another pair begins."""
        place(batch, first_pair, [int(parent.raw.pairs[pair].directory)])

    # ----------------------------------------------------------------------- recall

    def recall(self, batch: Batch) -> None:
        """Tell a scanned batch what is recorded of it, before it is compared.

        Raises: ManifestCorruptError, OutOfMemoryError.
        """
        directories = batch.directories()
        parts = batch.parts()
        whole = [0 if pair in parts else one for pair, one in enumerate(directories)]
        tree, dst_tree = self._keeping.trees
        src = self._known.pages_of(tree, whole)
        dst = self._known.recalled(dst_tree, whole)
        for pair, names in parts.items():
            directory = directories[pair]
            src[pair] = self._known.pages_between(tree, directory, *names)
            dst[pair] = self._known.recalled_between(dst_tree, directory, *names)
            self._expect(directory, is_last=batch.ends_directory(pair))
        recall(self._scanner, batch, src, dst, self._keeping)
        for path in self._accepted:
            batch.forget(path)

    def find_moves(self, batch: Batch, rules: Rules) -> None:
        """Find what a compared batch has that the destination has under another name.

        Raises: ManifestCorruptError, OutOfMemoryError.
        """
        if self._renames:
            self._renames.find(batch, rules)

    def recall_chunks(self, batch: Batch) -> None:
        """Give a compared batch the chunk hashes of the big files that it replaces.

        A file that is written into has none any more before the first byte of it is: after a crash
        nothing would tell that its chunks are half new.

        Durability: what is forgotten is so when this returns.
        Raises: OutOfMemoryError.
        """
        files = wanted_chunks(batch) if self._uses_chunks else []
        if not files:
            return
        directories = batch.directories()
        keys = [(directories[one.pair], one.name) for one in files]
        for one, hashes in zip(files, self._known.chunks_of(keys), strict=True):
            give_chunks(batch, one, hashes or b"")
        if self._inplace:
            self._recorder.forget_chunks(keys)

    def _expect(self, directory: int, *, is_last: bool) -> None:
        """Count a page of a directory of many."""
        with self._lock:
            long = self._long.setdefault(directory, _LongDirectory())
            long.expected += 1
            long.is_complete = is_last

    # ----------------------------------------------------------------------- record

    def record(self, unit: Unit) -> None:
        """Record what a unit has done; any thread may call it.

        Raises: as `settle` and `refresh` do.
        """
        if unit.phase is Phase.COPY:
            self.settle(unit.batch)
        elif unit.phase is Phase.FINISH:
            self.refresh(unit.batch)

    def settle(self, batch: Batch) -> None:
        """Record what an executed batch left behind.

        Raises: OutOfMemoryError, and what ended an earlier commit.
        """
        whole: list[Kept] = []
        for one in settle(self._scanner, batch, self._keeping):
            if one.flags & _WHOLE == _WHOLE:
                whole.append(one)
            else:
                self._keep_part(one)
        if whole:
            self._recorder.add(whole)

    def _keep_part(self, page: Kept) -> None:
        with self._lock:
            long = self._long[page.directory]
            long.pages.append(page)
            if not long.is_whole:
                return
            del self._long[page.directory]
        if long.is_recorded or not long.ends:
            return
        for tree in reversed(self._keeping.trees):
            pages = [one for one in long.pages if one.tree == tree and one.data]
            self._recorder.add_long(sorted(pages, key=lambda one: one.key))

    def refresh(self, batch: Batch) -> None:
        """Record directories again that are complete now: a batch of Phase.FINISH.

        Raises: ManifestCorruptError, OutOfMemoryError, and what ended an earlier commit.
        """
        directories = batch.directories()
        sides = [
            [chain[:1] for chain in self._known.pages_of(tree, directories)]
            for tree in self._keeping.trees
        ]
        pages = refresh(self._scanner, batch, sides[0], sides[1], self._keeping)
        self._recorder.add(pages, only_beginnings=True)

    @property
    def _recorder(self) -> Recorder:
        if not isinstance(self._known, Recorder):
            raise InternalError("a dry run records nothing")
        return self._known


class _LongDirectory:
    """Hold the pages of a directory of many until all are there."""

    def __init__(self) -> None:
        self.pages: list[Kept] = []
        self.expected = 0
        self.is_complete = False  # its last page was scanned

    @property
    def is_whole(self) -> bool:
        """Tell whether every page is there, of both sides."""
        return self.is_complete and len(self.pages) == 2 * self.expected

    @property
    def is_recorded(self) -> bool:
        """Tell whether every page is recorded like this already."""
        return all(one.flags & PageFlag.CONVERGED for one in self.pages)

    @property
    def ends(self) -> bool:
        """Tell whether something is left in the last page of both sides.

        Directories are made after it: where it holds nothing else, the next run records it.
        """
        return all(one.data for one in self.pages if one.flags & PageFlag.LAST)
