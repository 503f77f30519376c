"""Put the sums of a store into text for people and objects for programs.

Owns words and layout of `arsync status` and `arsync manifest stat`. What a run has recorded of
itself may lack any field: an older arsync, or a newer one, wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from arsync.errors import escaped, quoted
from arsync.events import named
from arsync.figures import counted, grouped, seconds, size
from arsync.inventory.listing import moment
from arsync.inventory.rebuild import Rebuilt
from arsync.inventory.stores import Located
from arsync.inventory.summary import Content, Stat, Status, TreeSize, Verified
from arsync.labelled import Line, group
from arsync.manifest.lock import LockState

__all__ = ["rebuilt_text", "stat_object", "stat_text", "status_object", "status_text"]

_DAY_S = 86_400

_Run = Mapping[str, Any]


# ---------------------------------------------------------------------------- status


def status_text(status: Status, now_s: float, width: int) -> str:
    """Return how a store is, as text that ends in a newline.

    Args:
        now_s: what ages are counted from.
        width: columns of the terminal.
    """
    return group(_heading(status.located), _status_lines(status, now_s), width)


def _status_lines(status: Status, now_s: float) -> Iterator[Line]:
    yield Line("store", escaped(status.located.store))
    yield from _lock_lines(status.lock)
    if status.trouble:
        yield Line("trouble", escaped(status.trouble))
    runs = status.runs or []
    for index, run in enumerate(runs):
        yield Line("" if index else "last runs", _run_text(run))
    if status.runs is not None and not runs:
        yield Line("last runs", "none recorded")
    if status.content is not None:
        yield from _content_lines(status.content, now_s)


def status_object(status: Status) -> dict[str, Any]:
    """Return how a store is, as JSON has it."""
    found: dict[str, Any] = {**_located(status.located), **_lock(status.lock)}
    if status.trouble:
        found["trouble"] = status.trouble
    found["runs"] = status.runs
    found["content"] = None if status.content is None else _content(status.content)
    return found


def _lock_lines(state: LockState) -> Iterator[Line]:
    if state.is_held:
        yield Line("running", str(state.holder or "another run holds it"))
    if state.is_left:
        holder = state.holder
        who = f" (process {holder.pid}, begun {moment(holder.since_s)})" if holder else ""
        text = f"the last run ended without closing it{who}; the next one goes on from there"
        yield Line("unfinished", text)


def _run_text(run: _Run) -> str:
    end = run.get("end", run.get("start"))
    code = run.get("exit")
    parts = [_time(end), "done" if code == 0 else f"exit {escaped(str(code))}" if code else "ended"]
    for name, form in _RUN_FIGURES.items():
        value = run.get(name)
        if _is_number(value):
            parts.append(form(value))
    errors = run.get("errors")
    if isinstance(errors, int) and errors:
        parts.append(counted(errors, "error"))
    sources = run.get("sources")
    if isinstance(sources, list) and sources:
        parts.append("from " + " ".join(escaped(str(one)) for one in sources))
    return ", ".join(parts)


_RUN_FIGURES: Final[Mapping[str, Callable[[Any], str]]] = {
    "files": lambda count: counted(int(count), "file"),
    "bytes": lambda count: size(int(count)),
    "seconds": seconds,
}


def _time(value: Any) -> str:
    if _is_number(value):
        return moment(value)
    return escaped(value) if isinstance(value, str) else "at an unknown time"


def _is_number(value: object) -> bool:
    is_finite = isinstance(value, int | float) and value - value == 0
    return is_finite and not isinstance(value, bool)


def _content_lines(content: Content, now_s: float) -> Iterator[Line]:
    if not content.files:
        yield Line("hashed", "no files are recorded")
        return
    files = f"{grouped(content.hashed_files)} of {counted(content.files, 'file')}"
    share = f"{content.share:.0%}" if content.share in (0, 1) else f"{content.share:.1%}"
    sizes = f"{size(content.hashed_bytes)} of {size(content.bytes)}"
    yield Line("hashed", f"{files} ({share}), {sizes}")
    if content.marks:
        marks = sorted(content.marks.items())
        yield Line("marked", ", ".join(f"{grouped(count)} {name}" for name, count in marks))
    if content.never:
        yield Line("never verified", f"{counted(content.never, 'file')} since they were hashed")
    if content.oldest is not None:
        text = f"{_age(content.oldest, now_s)}: {escaped(content.oldest.path)}"
        yield Line("verified", f"longest ago {text}")


def _age(verified: Verified, now_s: float) -> str:
    days = int((now_s - verified.seconds) // _DAY_S)
    ago = "today" if days < 1 else f"{counted(days, 'day')} ago"
    return f"{moment(verified.seconds)}, {ago}"


# ------------------------------------------------------------------------------ stat


def stat_text(stat: Stat, now_s: float, width: int) -> str:
    """Return how much a store holds, as text that ends in a newline."""
    return group(_heading(stat.located), _stat_lines(stat, now_s), width)


def _stat_lines(stat: Stat, now_s: float) -> Iterator[Line]:
    yield Line("store", f"{escaped(stat.located.store)}, {size(stat.file_bytes)}")
    yield from _lock_lines(stat.lock)
    yield Line("rows", _rows_text(stat))
    for tree in stat.trees:
        yield Line("source" if tree.tree else "destination", _tree_text(tree))
    yield from _content_lines(stat.content, now_s)
    if stat.content.newest is not None:
        yield Line("", f"last {_age(stat.content.newest, now_s)}")
    if stat.runs:
        first, last = (_time((run or {}).get("end")) for run in (stat.first_run, stat.last_run))
        yield Line("runs", f"{grouped(stat.runs)}, the first {first}, the last {last}")


def _rows_text(stat: Stat) -> str:
    if not stat.rows:
        return "none"
    logical, stored = stat.page_bytes / stat.rows, stat.file_bytes / stat.rows
    return f"{grouped(stat.rows)}, {logical:.0f} bytes each, {stored:.0f} in the file"


def _tree_text(tree: TreeSize) -> str:
    counts = (
        f"{counted(tree.rows, 'row')} of {counted(tree.directories, 'directory', 'directories')}"
    )
    text = f"{counts}, {counted(tree.pages, 'page')}, {size(tree.bytes)}"
    if not tree.tree:
        return text
    path = str((tree.identity or {}).get("path", "unknown"))
    return f"{tree.tree}: {escaped(path)}, {text}, {grouped(tree.converged)} converged"


def stat_object(stat: Stat) -> dict[str, Any]:
    """Return how much a store holds, as JSON has it."""
    return {
        **_located(stat.located),
        **_lock(stat.lock),
        "file_bytes": stat.file_bytes,
        "rows": stat.rows,
        "page_bytes": stat.page_bytes,
        "trees": [
            {**vars(tree), "identity": tree.identity and _plain(tree.identity)}
            for tree in stat.trees
        ],
        "content": _content(stat.content),
        "runs": stat.runs,
        "first_run": stat.first_run,
        "last_run": stat.last_run,
    }


# ------------------------------------------------------------------------------ both


def _heading(located: Located) -> str:
    away = "" if located.root is not None else " (not there now)"
    return escaped(located.root or located.identity.path) + away


def rebuilt_text(located: Located, rebuilt: Rebuilt) -> str:
    """Return what became of a manifest that was made anew, as text that ends in a newline."""
    bare = rebuilt.files - rebuilt.hashed
    lines = [
        f"made the manifest of {quoted(located.root or b'')} anew: {counted(rebuilt.files, 'file')}"
    ]
    counts = {
        "kept their hashes": rebuilt.hashed,
        "have no hash": bare,
        "are read by the next run: their ctime or inode has moved": rebuilt.racy,
        "hashes are lost: of files that are gone, or not what they were": rebuilt.lost,
        "directories could not be read": rebuilt.unread,
    }
    lines += [f"  {grouped(count)} {text}" for text, count in counts.items() if count]
    if rebuilt.salvaged.damage:
        lines.append(f"  damaged: {escaped(rebuilt.salvaged.damage)}")
    if rebuilt.salvaged.lost:
        lines.append(f"  not all could be read of: {', '.join(rebuilt.salvaged.lost)}")
    if rebuilt.aside:
        lines.append(f"  what was there is now {quoted(rebuilt.aside)}")
    return "\n".join(lines) + "\n"


def _located(located: Located) -> dict[str, Any]:
    path = located.root or os.fsencode(located.identity.path)
    return {
        **named("destination", path),
        "present": located.root is not None,
        **named("store", os.fsencode(located.store)),
        "identity": _plain(located.identity.as_json()),
    }


def _plain(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity with its path as JSON has names."""
    return {**recorded, **named("path", os.fsencode(str(recorded.get("path", ""))))}


def _lock(state: LockState) -> dict[str, Any]:
    holder = None if state.holder is None else vars(state.holder)
    return {"held": state.is_held, "unfinished": state.is_left, "holder": holder}


def _content(content: Content) -> dict[str, Any]:
    return {
        "files": content.files,
        "bytes": content.bytes,
        "hashed_files": content.hashed_files,
        "hashed_bytes": content.hashed_bytes,
        "never_verified": content.never,
        "marks": dict(content.marks),
        "oldest": _verified(content.oldest),
        "newest": _verified(content.newest),
    }


def _verified(verified: Verified | None) -> dict[str, Any] | None:
    if verified is None:
        return None
    return {"verified_s": verified.seconds, **named("path", verified.path)}
