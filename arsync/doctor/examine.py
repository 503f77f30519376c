"""Say what this machine and these directories allow, and what arsync will therefore use.

Owns the picture that `arsync doctor` shows: facts about the process's limits, about io_uring and
about each path's filesystem, and the conclusions. It decides nothing itself: a run takes the same
conclusions from `arsync.uring.methods`. It must not print; `arsync.doctor.text` makes the text.

A path that can be written gets a scratch directory for some milliseconds. Of one that cannot, only
what the kernel tells without writing is known, and the picture says so.
"""

from __future__ import annotations

import dataclasses
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arsync.doctor.system import System, examine_system
from arsync.uring import methods, trials
from arsync.uring.methods import Choice
from arsync.uring.probe import (
    OPERATIONS,
    Filesystem,
    Ring,
    operation_name,
    probe_filesystem,
    probe_limits,
    why_refused,
)
from arsync.uring.trials import Abilities, Trial

__all__ = ["Doctor", "Engine", "Place", "examine"]

SCHEMA = 1

_BUFFERS_TRIED_BYTES = 64 << 20
_MULTIGRAIN = ("ext4", "xfs", "btrfs", "tmpfs")  # since Linux 6.13

# What a copy needs besides the ring's operations; the operation that would do it, where one exists.
_PLAIN_CALLS = {
    "getdents64": None,
    "copy_file_range": None,
    "ioctl FICLONE": None,
    "lseek SEEK_DATA": None,
    "ftruncate": "FTRUNCATE",
    "utimensat": None,
    "fchmod": None,
    "fchown": None,
    "readlinkat": None,
    "flistxattr": None,
    "fremovexattr": None,
    "mknodat": None,
    "syncfs": None,
}


@dataclass(frozen=True)
class Place:
    """Say what one path is on and what is possible there.

    Attributes:
        path: as it was given.
        examined: the directory that was looked at: the path, its directory or nearest parent.
        note: why it is another one, "" when it is not.
        untried: why nothing was written there, "" when it was.
    """

    path: bytes
    examined: bytes
    note: str
    untried: str
    filesystem: Filesystem
    abilities: Abilities
    trials: tuple[Trial, ...]
    multigrain: bool


@dataclass(frozen=True)
class Engine:
    """Say which engine a run takes by itself, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Doctor:
    """Hold all that was found.

    Attributes:
        plain_calls: what no operation of this kernel's ring does.
        choice: how content goes from the first path to the second, None with fewer paths.
    """

    system: System
    ring: Ring
    plain_calls: tuple[str, ...]
    places: tuple[Place, ...]
    engine: Engine
    choice: Choice | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it for json.dumps; a path that is no UTF-8 has its bytes in `path_b64`."""
        return {
            "schema": SCHEMA,
            "system": dataclasses.asdict(self.system),
            "ring": _ring_json(self.ring, self.system),
            "plain_calls": list(self.plain_calls),
            "paths": [_place_json(place) for place in self.places],
            "use": {
                "engine": dataclasses.asdict(self.engine),
                "copy": None if self.choice is None else _choice_json(self.choice),
            },
        }


def examine(paths: Sequence[str | bytes | os.PathLike[str]]) -> Doctor:
    """Look at this process, the kernel and the filesystem of each path.

    Takes some tens of milliseconds a path. A path that does not exist yet stands for its nearest
    parent; a file for its directory.

    Args:
        paths: SRC and DST come first when copying between them is of interest.

    Raises:
        OSError: not even a parent of a path can be reached.
    """
    system = examine_system()
    ring = probe_limits(_BUFFERS_TRIED_BYTES)
    places = tuple(_examine_place(os.fsencode(path), ring, system) for path in paths)
    return Doctor(
        system=system,
        ring=ring,
        plain_calls=_plain_calls(ring),
        places=places,
        engine=_engine(ring, system),
        choice=_choice(places, ring),
    )


# ---------------------------------------------------------------------------------- the paths


def _examine_place(path: bytes, ring: Ring, system: System) -> Place:
    fd, examined, note = _open_nearest(path)
    try:
        filesystem = _with_direct_alignment(fd, probe_filesystem(fd))
        abilities, ring_trials, untried = _try_all(fd, ring)
    finally:
        os.close(fd)
    return Place(
        path=path,
        examined=examined,
        note=note,
        untried=untried,
        filesystem=filesystem,
        abilities=abilities,
        trials=ring_trials,
        multigrain=system.version >= (6, 13) and filesystem.kind in _MULTIGRAIN,
    )


def _open_nearest(path: bytes) -> tuple[int, bytes, str]:
    """Open the directory that stands for a path; the note says why if it is another one."""
    examined = os.path.abspath(path)
    note = ""
    while True:
        try:
            return os.open(examined, os.O_PATH | os.O_DIRECTORY), examined, note
        except FileNotFoundError:
            if examined == os.path.dirname(examined):
                raise
            note = "the nearest parent: the path does not exist yet"
        except NotADirectoryError:
            note = note or "the directory it is in"
        examined = os.path.dirname(examined)


def _try_all(fd: int, ring: Ring) -> tuple[Abilities, tuple[Trial, ...], str]:
    """Try things in scratch directories; where none can be made, the third value says why."""
    try:
        with trials.scratch_directory(fd) as scratch_fd:
            abilities = trials.try_abilities(scratch_fd)
        with trials.scratch_directory(fd) as scratch_fd:
            return abilities, trials.try_ring(scratch_fd, ring), ""
    except OSError as error:
        why = f"not tried, nothing can be written there: {error.strerror}"
        return Abilities.unknown(why), (), why


def _with_direct_alignment(fd: int, filesystem: Filesystem) -> Filesystem:
    """Take the alignment for O_DIRECT from some file: the kernel tells it of files only."""
    for name in _some_files(fd):
        try:
            file_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
        except OSError:
            continue
        try:
            facts = probe_filesystem(file_fd)
        finally:
            os.close(file_fd)
        if facts.direct_known and facts.dev == filesystem.dev:
            return dataclasses.replace(
                filesystem,
                direct_known=True,
                direct_memory_bytes=facts.direct_memory_bytes,
                direct_offset_bytes=facts.direct_offset_bytes,
            )
    return filesystem


def _some_files(fd: int, most: int = 8) -> list[str]:
    """Return names of a few regular files in a directory opened with O_PATH."""
    try:
        with os.scandir(f"/proc/self/fd/{fd}") as entries:
            files = (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            return [name for name, _ in zip(files, range(most), strict=False)]
    except OSError:
        return []


# ---------------------------------------------------------------------------- the conclusions


def _engine(ring: Ring, system: System) -> Engine:
    refusal = (
        "" if ring.available else why_refused(ring.error, system.uring_disabled, system.seccomp)
    )
    name, why = methods.choose_engine(ring, refusal)
    return Engine(name, why)


def _plain_calls(ring: Ring) -> tuple[str, ...]:
    return tuple(
        call
        for call, operation in _PLAIN_CALLS.items()
        if operation is None or not ring.has(operation)
    )


def _choice(places: tuple[Place, ...], ring: Ring) -> Choice | None:
    if len(places) < 2:
        return None
    src, dst = (place.filesystem for place in places[:2])
    return methods.choose(src.kind, dst.kind, src.same_as(dst), ring=ring.available)


# ---------------------------------------------------------------------------------------- JSON


def _ring_json(ring: Ring, system: System) -> dict[str, Any]:
    return {
        **dataclasses.asdict(ring),
        "available": ring.available,
        "why_not": ""
        if ring.available
        else why_refused(ring.error, system.uring_disabled, system.seccomp),
        "operations": {operation_name(number): number for number in ring.operations},
        "missing": [
            name for number, name in enumerate(OPERATIONS) if number not in ring.operations
        ],
    }


def _choice_json(choice: Choice) -> dict[str, Any]:
    named = dataclasses.asdict(choice)
    for size in ("small", "big"):
        named[size]["method"] = methods.method_name(named[size]["method"])
    return {**named, "big_bytes": methods.BIG_BYTES}


def _place_json(place: Place) -> dict[str, Any]:
    return {
        **_path_json("path", place.path),
        **_path_json("examined", place.examined),
        "note": place.note,
        "untried": place.untried,
        "filesystem": dataclasses.asdict(place.filesystem),
        "abilities": dataclasses.asdict(place.abilities),
        "ring": [_trial_json(trial) for trial in place.trials],
        "multigrain_timestamps": place.multigrain,
    }


def _path_json(key: str, path: bytes) -> dict[str, str]:
    text = path.decode("utf-8", "replace")
    if text.encode() == path:
        return {key: text}
    return {key: text, f"{key}_b64": b64encode(path).decode("ascii")}


def _trial_json(trial: Trial) -> dict[str, Any]:
    inline, device, worker = trial.counts
    return {
        "operation": trial.name,
        "opcode": trial.opcode,
        "way": trial.way,
        "inline": inline,
        "device": device,
        "worker": worker,
        "error": os.strerror(trial.error) if trial.error else "",
    }
